//! What is asked of the API server, by verb and resource.

use std::collections::BTreeMap;

use anyhow::Result;
use testkit::env::Cluster;
use testkit::proxy::HttpProxy;

use crate::bench::report::Report;

/// Requests of the node up to some time, by what they ask: `patch pods/status`.
#[derive(Default)]
pub(super) struct Traffic {
    asked: BTreeMap<String, Asked>,
    /// Status patches by pod.
    patches: BTreeMap<String, u64>,
}

/// Requests of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Asked {
    requests: u64,
    /// Bytes of bodies, sent and received, where they are known.
    sent: u64,
    received: u64,
}

impl Traffic {
    /// As the server's audit has it: without sizes, and watches once they end.
    pub(super) fn audited(cluster: &Cluster) -> Result<Self> {
        let mut traffic = Self::default();
        for request in cluster.audit()? {
            traffic.add(&request.verb, &request.uri, Asked { requests: 1, ..Asked::default() });
        }
        Ok(traffic)
    }

    /// As a proxy has seen it: with the sizes of bodies, without headers.
    pub(super) fn proxied(proxy: &HttpProxy) -> Self {
        let mut traffic = Self::default();
        for exchange in proxy.exchanges() {
            let verb = if exchange.is_watch() { "watch".to_owned() } else { exchange.method.to_lowercase() };
            let asked = Asked { requests: 1, sent: exchange.sent(), received: exchange.received() };
            traffic.add(&verb, &exchange.path, asked);
        }
        traffic
    }

    fn add(&mut self, verb: &str, uri: &str, more: Asked) {
        let (resource, name) = resource(uri);
        // The audit's words for the methods.
        let verb = match verb {
            "create" => "post",
            "update" => "put",
            "list" => "get",
            other => other,
        };
        let what = format!("{verb} {resource}");
        if what == "patch pods/status" {
            *self.patches.entry(name.to_owned()).or_default() += 1;
        }
        let asked = self.asked.entry(what).or_default();
        asked.requests += more.requests;
        asked.sent += more.sent;
        asked.received += more.received;
    }

    /// What was asked after `before`.
    pub(super) fn since(mut self, before: &Self) -> Self {
        for (what, then) in &before.asked {
            if let Some(now) = self.asked.get_mut(what) {
                now.requests -= then.requests;
                now.sent -= then.sent;
                now.received -= then.received;
            }
        }
        for (pod, then) in &before.patches {
            if let Some(now) = self.patches.get_mut(pod) {
                *now -= then;
            }
        }
        self.asked.retain(|_, asked| *asked != Asked::default());
        self
    }

    fn count(&self, which: impl Fn(&str) -> bool) -> u64 {
        self.asked.iter().filter(|(what, _)| which(what)).map(|(_, asked)| asked.requests).sum()
    }

    /// Tells of it by pod start.
    pub(super) fn per_start(&self, pods: usize, how: &str, report: &mut Report) {
        let each = |count: u64| count as f64 / pods as f64;
        for (what, asked) in self.asked.iter().filter(|(what, _)| !is_heartbeat(what)) {
            let key = |kind: &str| format!("{how} {kind} {what}");
            let name = |kind: &str| format!("{how}: {what} per start{kind}");
            report.add(&key("requests"), &name(""), each(asked.requests), "");
            if asked.sent + asked.received > 0 {
                report.add(&key("sent"), &name(", sent"), each(asked.sent) / 1e3, "KB");
                report.add(&key("received"), &name(", received"), each(asked.received) / 1e3, "KB");
            }
        }
        let patches = self.patches.values().copied().max().unwrap_or_default();
        let mut bounded = |key: &str, what: &str, value: f64, most: f64| {
            report.add(&format!("{how} {key}"), &format!("{how}: {what}"), value, "").budget(most);
        };
        bounded("patches", "status patches of one pod, at most", patches as f64, 3.0);
        bounded(
            "gets",
            "pods asked for before a patch, per start",
            each(self.count(|w| w == "get pods")),
            0.0,
        );
        bounded(
            "events",
            "requests for events, per start",
            each(self.count(|w| w.ends_with(" events"))),
            3.0,
        );
    }

    /// Tells of it for a time in which nothing happens.
    pub(super) fn of_rest(&self, report: &mut Report) {
        for (what, asked) in &self.asked {
            report.add(&format!("rest {what}"), &format!("rest: {what}"), asked.requests as f64, "");
        }
        // A watch is told of when it ends, and the next one is its heir.
        let others = self.count(|what| !is_heartbeat(what) && !what.starts_with("watch "));
        report.add("restOthers", "rest: requests but lease and node status", others as f64, "").budget(0.0);
    }
}

/// What shows that the node lives.
fn is_heartbeat(what: &str) -> bool {
    ["put leases", "patch nodes/status"].contains(&what)
}

/// The resource, with the sub-resource, and the object's name, if any, that a path is about.
fn resource(uri: &str) -> (String, &str) {
    let path = uri.split('?').next().unwrap_or(uri);
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let version = if parts.first() == Some(&"apis") { 3 } else { 2 };
    parts.drain(..version.min(parts.len()));
    if parts.len() > 2 && parts[0] == "namespaces" {
        parts.drain(..2);
    }
    match parts[..] {
        [] => (path.to_owned(), ""),
        [resource] => (resource.to_owned(), ""),
        [resource, name] => (resource.to_owned(), name),
        [resource, name, sub, ..] => (format!("{resource}/{sub}"), name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_the_resource_and_the_object() {
        for (uri, what, name) in [
            ("/api/v1/namespaces/default/pods/web/status", "pods/status", "web"),
            ("/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dnode1", "pods", ""),
            ("/api/v1/nodes/node1", "nodes", "node1"),
            ("/api/v1/namespaces/default", "namespaces", "default"),
            ("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node1", "leases", "node1"),
            ("/api/v1/namespaces/default/events", "events", ""),
            ("/readyz", "/readyz", ""),
        ] {
            assert_eq!(resource(uri), (what.to_owned(), name), "{uri}");
        }
    }

    #[test]
    fn only_what_came_later_counts_and_heartbeats_are_no_news() {
        let one = Asked { requests: 1, sent: 10, received: 100 };
        let mut before = Traffic::default();
        before.add("patch", "/api/v1/namespaces/default/pods/web/status", one);
        let mut after = Traffic::default();
        for (verb, uri) in [
            ("patch", "/api/v1/namespaces/default/pods/web/status"),
            ("patch", "/api/v1/namespaces/default/pods/web/status"),
            ("create", "/api/v1/namespaces/default/events"),
            ("update", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node1"),
        ] {
            after.add(verb, uri, one);
        }
        let since = after.since(&before);
        assert_eq!(since.patches, BTreeMap::from([("web".to_owned(), 1)]));
        assert_eq!(since.asked["patch pods/status"], one);
        assert_eq!(since.count(|what| what.ends_with(" events")), 1);
        assert_eq!(since.count(|what| !is_heartbeat(what)), 2);
    }
}
