//! How a pod resolves names. Rule: upstream `pkg/kubelet/network/dns/dns.go`.

use std::collections::{BTreeMap, BTreeSet};

use kube_model::core::{Pod, PodDNSConfig};
use kube_model::pod::host_network;
use node_proto::cri::v1::DnsConfig;

use crate::settings::Settings;

/// Most name servers that a resolver reads.
const MAX_SERVERS: usize = 3;
/// Most search domains.
const MAX_SEARCHES: usize = 32;
/// Most bytes of all search domains with the blanks between them.
const MAX_SEARCH_LINE: usize = 2048;
/// Longest search domain; resolvers abort on longer ones.
const MAX_SEARCH: usize = 253;

/// A resolver configuration as a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// In the order of the file.
    pub servers: Vec<String>,
    /// Of the last `search` line, without trailing dots; the root alone is none.
    pub searches: Vec<String>,
    /// Of all `options` lines; of two with one name the last.
    pub options: Vec<String>,
}

/// A line of a resolver configuration that says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: nameserver without an address")]
pub struct ResolvConfError {
    /// Counted from 1.
    pub line: usize,
}

impl ResolvConf {
    /// Parses the text of a `resolv.conf`. Lines that are not known are skipped, as resolvers do.
    ///
    /// # Errors
    /// A `nameserver` line has no address.
    pub fn parse(text: &str) -> Result<Self, ResolvConfError> {
        let mut conf = Self::default();
        let mut options = Options::default();
        for (i, line) in text.lines().enumerate() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().ok_or(ResolvConfError { line: i + 1 })?;
                    conf.servers.push(server.to_owned());
                }
                Some("search") => {
                    // With and without a dot it is one domain, and counts once.
                    let domains = words.filter(|word| *word != ".");
                    conf.searches = domains.map(|w| w.strip_suffix('.').unwrap_or(w).to_owned()).collect();
                }
                Some("options") => options.set(words.map(|word| (option_name(word), word.to_owned()))),
                _ => {}
            }
        }
        conf.options = options.list;
        Ok(conf)
    }
}

/// Something about a pod's name resolution that its owner should know; an event of the type Warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsWarning {
    /// Reason of the event: `DNSConfigForming` or `MissingClusterDNS`.
    pub reason: &'static str,
    /// The kubelet's sentence.
    pub message: String,
}

/// Whether the node's own resolver configuration is part of the pod's.
pub fn needs_host(pod: &Pod) -> bool {
    policy(pod) != "None"
}

fn policy(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst")
}

/// The resolver configuration of a pod, with what was left out or replaced to make it.
pub fn pod_dns(pod: &Pod, settings: &Settings) -> (DnsConfig, Vec<DnsWarning>) {
    let dns = &settings.dns;
    let mut warnings = Vec::new();
    let spec = pod.spec.as_ref();
    let mut config = match policy(pod) {
        "None" => DnsConfig::default(),
        "Default" => host(settings),
        "ClusterFirst" if spec.is_some_and(host_network) => host(settings),
        _ if dns.servers.is_empty() => {
            warnings.push(DnsWarning {
                reason: "MissingClusterDNS",
                message: "kubelet does not have ClusterDNS IP configured and cannot create Pod using \
                          \"ClusterFirst\" policy. Falling back to \"Default\" policy."
                    .into(),
            });
            host(settings)
        }
        _ => cluster_first(pod.metadata.namespace.as_deref().unwrap_or_default(), settings),
    };
    if let Some(own) = spec.and_then(|s| s.dns_config.as_ref()) {
        merge(&mut config, own);
    }
    fit(&mut config, &mut warnings);
    (config, warnings)
}

fn cluster_first(namespace: &str, settings: &Settings) -> DnsConfig {
    let domain = &settings.dns.domain;
    let mut searches = Vec::new();
    if !domain.is_empty() {
        searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
    }
    searches.extend(settings.dns.host.iter().flat_map(|h| h.searches.iter().cloned()));
    DnsConfig {
        servers: settings.dns.servers.iter().map(ToString::to_string).collect(),
        searches: unique(searches),
        options: vec!["ndots:5".into()],
    }
}

/// As the node resolves. Where it is configured not to, the pod asks itself and so nobody.
fn host(settings: &Settings) -> DnsConfig {
    if let Some(conf) = &settings.dns.host {
        let ResolvConf { servers, searches, options } = conf.clone();
        return DnsConfig { servers, searches, options };
    }
    let loopback = |ip: &std::net::IpAddr| if ip.is_ipv6() { "::1" } else { "127.0.0.1" }.to_owned();
    let mut servers: Vec<String> = settings.node_ips.iter().map(loopback).collect();
    if servers.is_empty() {
        servers.push("127.0.0.1".into());
    }
    DnsConfig { servers, searches: vec![".".into()], options: Vec::new() }
}

fn merge(config: &mut DnsConfig, own: &PodDNSConfig) {
    config.servers.extend(own.nameservers.iter().flatten().cloned());
    config.servers = unique(std::mem::take(&mut config.servers));
    config.searches.extend(own.searches.iter().flatten().cloned());
    config.searches = unique(std::mem::take(&mut config.searches));
    let mut options = Options::default();
    options.set(config.options.iter().map(|option| (option_name(option), option.clone())));
    options.set(own.options.iter().flatten().map(|option| {
        let name = option.name.as_deref().unwrap_or_default();
        let value = option.value.as_deref().filter(|value| !value.is_empty());
        (name, value.map_or_else(|| name.to_owned(), |value| format!("{name}:{value}")))
    }));
    config.options = options.list;
}

/// Options of a resolver, of each name one: a later one takes the place of the one before.
#[derive(Default)]
struct Options {
    list: Vec<String>,
    /// Where in the list a name stands: nobody bounds how many a pod has.
    at: BTreeMap<String, usize>,
}

impl Options {
    /// Takes names and the options themselves.
    fn set<'a>(&mut self, options: impl Iterator<Item = (&'a str, String)>) {
        for (name, option) in options {
            match self.at.get(name) {
                Some(&at) => self.list[at] = option,
                None => {
                    self.at.insert(name.to_owned(), self.list.len());
                    self.list.push(option);
                }
            }
        }
    }
}

fn option_name(option: &str) -> &str {
    option.split_once(':').map_or(option, |(name, _)| name)
}

/// Leaves out what resolvers would not read.
fn fit(config: &mut DnsConfig, warnings: &mut Vec<DnsWarning>) {
    let mut warn = |message: &str, line: &[String]| {
        warnings.push(DnsWarning {
            reason: "DNSConfigForming",
            message: format!("{message} line is: {}", line.join(" ")),
        });
    };
    if config.servers.len() > MAX_SERVERS {
        config.servers.truncate(MAX_SERVERS);
        warn(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver",
            &config.servers,
        );
    }
    let before = config.searches.len();
    config.searches.truncate(MAX_SEARCHES);
    config.searches.retain(|s| s.len() <= MAX_SEARCH);
    let mut used = 0;
    let fits = |s: &String| {
        used += s.len() + usize::from(used > 0);
        used <= MAX_SEARCH_LINE
    };
    let kept = config.searches.iter().map(fits).take_while(|f| *f).count();
    config.searches.truncate(kept);
    if config.searches.len() < before {
        warn(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search",
            &config.searches,
        );
    }
}

fn unique(list: Vec<String>) -> Vec<String> {
    let mut known = BTreeSet::new();
    list.into_iter().filter(|item| known.insert(item.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Dns;
    use crate::test_pods::pod;

    fn settings() -> Settings {
        Settings {
            node_ips: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            dns: Dns {
                servers: vec!["10.96.0.10".parse().unwrap()],
                domain: "c.local".into(),
                host: Some(ResolvConf {
                    servers: vec!["1.1.1.1".into()],
                    searches: vec!["corp".into(), "c.local".into()],
                    options: vec!["rotate".into()],
                }),
            },
            ..Settings::default()
        }
    }

    /// Servers, searches, options, then reasons of the warnings.
    fn lines(spec: &str, settings: &Settings) -> String {
        let (config, warnings) = pod_dns(&pod(spec), settings);
        let reasons: Vec<_> = warnings.iter().map(|w| w.reason).collect();
        let parts = [config.servers.join(" "), config.searches.join(" "), config.options.join(" ")];
        format!("{} | {}", parts.join(" | "), reasons.join(" "))
    }

    #[test]
    fn each_policy_gives_what_it_says() {
        let node = settings();
        let cluster = "10.96.0.10 | ns.svc.c.local svc.c.local c.local corp | ndots:5 | ";
        let as_node = "1.1.1.1 | corp c.local | rotate | ";
        for (spec, want) in [
            ("{}", cluster),
            (r#"{"dnsPolicy":"ClusterFirst"}"#, cluster),
            (r#"{"dnsPolicy":"ClusterFirst","hostNetwork":true}"#, as_node),
            (r#"{"dnsPolicy":"ClusterFirstWithHostNet","hostNetwork":true}"#, cluster),
            (r#"{"dnsPolicy":"Default"}"#, as_node),
            (r#"{"dnsPolicy":"None"}"#, " |  |  | "),
            (
                r#"{"dnsPolicy":"Default","dnsConfig":{"nameservers":["1.1.1.1","2.2.2.2"],"searches":["corp","x"],
                    "options":[{"name":"rotate","value":"no"},{"name":"ndots","value":"2"},{"name":"edns0"}]}}"#,
                "1.1.1.1 2.2.2.2 | corp c.local x | rotate:no ndots:2 edns0 | ",
            ),
        ] {
            assert_eq!(lines(spec, &node), want, "{spec}");
        }
    }

    #[test]
    fn without_cluster_dns_the_pod_resolves_as_the_node_and_is_told() {
        let mut node = settings();
        node.dns.servers.clear();
        assert_eq!(lines("{}", &node), "1.1.1.1 | corp c.local | rotate | MissingClusterDNS");
        node.dns.host = None;
        assert_eq!(lines("{}", &node), "127.0.0.1 ::1 | . |  | MissingClusterDNS");
        node.node_ips.clear();
        assert_eq!(lines(r#"{"dnsPolicy":"Default"}"#, &node), "127.0.0.1 | . |  | ");
    }

    #[test]
    fn what_resolvers_would_not_read_is_left_out() {
        let searches = |n: usize, len: usize| {
            let all: Vec<String> = (0..n).map(|i| format!("\"{i:0len$}\"")).collect();
            format!(r#"{{"dnsPolicy":"None","dnsConfig":{{"searches":[{}]}}}}"#, all.join(","))
        };
        let count = |spec: &str| {
            let (config, warnings) = pod_dns(&pod(spec), &settings());
            (config.searches.len(), config.searches.join(" ").len(), warnings.len())
        };
        assert_eq!(count(&searches(32, 5)), (32, 32 * 6 - 1, 0));
        assert_eq!(count(&searches(33, 5)), (32, 32 * 6 - 1, 1));
        assert_eq!(count(&searches(2, 254)), (0, 0, 1));
        // 2049 bytes to a line make nine of these one byte too many.
        assert_eq!(count(&searches(9, 227)), (8, 8 * 228 - 1, 1));
        assert_eq!(count(&searches(8, 253)), (8, 8 * 254 - 1, 0));
        let four =
            r#"{"dnsPolicy":"None","dnsConfig":{"nameservers":["1.1.1.1","1.1.1.2","1.1.1.3","1.1.1.4"]}}"#;
        assert_eq!(lines(four, &settings()), "1.1.1.1 1.1.1.2 1.1.1.3 |  |  | DNSConfigForming");
    }

    #[test]
    fn a_node_that_searches_nowhere_gives_its_pods_no_empty_domain() {
        let mut node = settings();
        node.dns.host = Some(ResolvConf::parse("nameserver 1.1.1.1\nsearch .\n").unwrap());
        assert_eq!(lines(r#"{"dnsPolicy":"Default"}"#, &node), "1.1.1.1 |  |  | ");
        assert_eq!(lines("{}", &node), "10.96.0.10 | ns.svc.c.local svc.c.local c.local | ndots:5 | ");
    }

    #[test]
    fn options_without_number_take_no_time() {
        let options: Vec<_> = (0..100_000).map(|i| format!(r#"{{"name":"o{i}"}}"#)).collect();
        let spec = format!(r#"{{"dnsPolicy":"None","dnsConfig":{{"options":[{}]}}}}"#, options.join(","));
        let (config, _) = pod_dns(&pod(&spec), &settings());
        assert_eq!(config.options.len(), options.len());
    }

    #[test]
    fn a_resolv_conf_is_read_as_resolvers_do() {
        let text = "# nameserver 9.9.9.9\n;x\nnameserver 1.1.1.1\n\tnameserver  ::1 # v6\nsearch a b.\nsearch c. d\n\
                    options ndots:2 rotate\nsortlist 1.2.3.4\n";
        let want = ResolvConf {
            servers: vec!["1.1.1.1".into(), "::1".into()],
            searches: vec!["c".into(), "d".into()],
            options: vec!["ndots:2".into(), "rotate".into()],
        };
        assert_eq!(ResolvConf::parse(text), Ok(want));
        let searches = |text: &str| ResolvConf::parse(text).unwrap().searches.join("|");
        for (line, want) in [("search .", ""), ("search . a.", "a"), ("search a . b", "a|b"), ("search", "")]
        {
            assert_eq!(searches(line), want, "{line}");
        }
        let options = ResolvConf::parse("options ndots:2 rotate\noptions ndots:5 edns0\n").unwrap().options;
        assert_eq!(options, ["ndots:5", "rotate", "edns0"]);
        assert_eq!(ResolvConf::parse("search a\nnameserver\n"), Err(ResolvConfError { line: 2 }));
    }
}
