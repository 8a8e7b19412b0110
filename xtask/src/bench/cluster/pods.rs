//! Pods at the API server: bound, watched until another client sees them ready, deleted.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use testkit::env::{Cluster, PAUSE, until};

use crate::bench::pod_name;
use crate::bench::report::Report;
use crate::bench::trace::{Mark, Traces, between, percentile};

/// How long all pods may take for anything.
const PATIENCE: Duration = Duration::from_secs(300);
/// Where the pods are.
const PODS: &str = "/api/v1/namespaces/default/pods";

/// When each pod was first seen ready.
pub(super) type Times = BTreeMap<String, Timestamp>;

/// The pods of the cluster and a watch of them.
pub(super) struct Pods<'a> {
    cluster: &'a Cluster,
    watch: Receiver<(SystemTime, String)>,
}

impl<'a> Pods<'a> {
    /// Begins to watch.
    pub(super) fn new(cluster: &'a Cluster) -> Result<Self> {
        Ok(Self { cluster, watch: cluster.watch(PODS)? })
    }

    /// Creates pods that are bound already and only sleep; returns how long that took.
    pub(super) fn bind(&self, numbers: Range<usize>, log: &Mark) -> Result<Duration> {
        self.bind_with(numbers, log, &Value::Null)
    }

    /// The same with `volumes`, which the container has at `mounts`, and a `serviceAccountName`.
    pub(super) fn bind_with(&self, numbers: Range<usize>, log: &Mark, more: &Value) -> Result<Duration> {
        let begin = Instant::now();
        for name in numbers.map(pod_name) {
            log.want(&name);
            let mut container = json!({"name": "pause", "image": PAUSE, "imagePullPolicy": "IfNotPresent"});
            container["volumeMounts"] = more["mounts"].clone();
            self.create_with(&name, container, more)?;
        }
        Ok(begin.elapsed())
    }

    /// Creates a pod of one container that is bound already.
    pub(super) fn create(&self, name: &str, container: Value) -> Result<()> {
        self.create_with(name, container, &Value::Null)
    }

    fn create_with(&self, name: &str, container: Value, more: &Value) -> Result<()> {
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "nodeName": "node1",
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 2,
                "containers": [container],
            },
        });
        for field in ["serviceAccountName", "volumes"] {
            pod["spec"][field] = more[field].clone();
        }
        let (code, answer) = self.cluster.request("POST", PODS, Some(&pod))?;
        ensure!(code == 201, "pod {name} was not created: {code} {answer}");
        Ok(())
    }

    /// Waits until so many pods have become ready.
    pub(super) fn wait_ready(&self, count: usize) -> Result<Times> {
        let deadline = Instant::now() + PATIENCE;
        let mut ready = Times::new();
        while ready.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok((at, line)) = self.watch.recv_timeout(left) else {
                bail!("{} of {count} pods were seen ready within {PATIENCE:?}", ready.len());
            };
            let event: Value = serde_json::from_str(&line).context("the watch of the pods")?;
            let pod = &event["object"];
            let Some(name) = pod["metadata"]["name"].as_str().filter(|_| is_ready(pod)) else { continue };
            if event["type"] == "MODIFIED" {
                ready.entry(name.to_owned()).or_insert(Timestamp::try_from(at)?);
            }
        }
        Ok(ready)
    }

    /// Deletes all pods and waits until they are gone; returns how long that took.
    pub(super) fn delete_all(&self) -> Result<Duration> {
        let begin = Instant::now();
        let (code, answer) = self.cluster.request("DELETE", PODS, None)?;
        ensure!(code == 200, "the pods were not deleted: {code} {answer}");
        self.cluster.wait_for("no pod is left", PODS, PATIENCE, |list| {
            match list["items"].as_array().map_or(0, Vec::len) {
                0 => Ok(()),
                some => Err(format!("{some} are")),
            }
        })?;
        // The watch has told of it by now, too.
        while self.watch.try_recv().is_ok() {}
        Ok(begin.elapsed())
    }

    /// The container of a pod with one container, as the runtime knows it.
    pub(super) fn container(&self, name: &str) -> Result<String> {
        let (_, pod) = self.cluster.request("GET", &format!("{PODS}/{name}"), None)?;
        let id = pod["status"]["containerStatuses"][0]["containerID"].as_str();
        let id =
            id.and_then(|id| id.split_once("://")).with_context(|| format!("pod {name} has no container"))?;
        Ok(id.1.to_owned())
    }
}

/// Waits for the node.
pub(super) fn wait_node(cluster: &Cluster) -> Result<()> {
    until("the node is ready", PATIENCE, || {
        let node = cluster.request("GET", "/api/v1/nodes/node1", None).map_err(|e| e.to_string())?.1;
        if condition(&node) { Ok(()) } else { Err(node["status"]["conditions"].to_string()) }
    })?;
    Ok(())
}

/// Whether a pod is Running and Ready.
fn is_ready(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running" && condition(pod)
}

/// The Ready condition of a pod or a node.
fn condition(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

/// How the runtime's word that a container runs became a status that others see, in ms: p50 and p99 of the whole
/// way and of its parts.
pub(super) struct Late {
    pub(super) total: (f64, f64),
    /// Until the server had the patch.
    pub(super) ours: (f64, f64),
    /// Until the server had answered it; a watcher may see it earlier.
    pub(super) servers: (f64, f64),
}

/// Compares the runtime's log with the server's and with what a watcher saw.
pub(super) fn late(cluster: &Cluster, traces: &Traces, ready: &Times) -> Result<Late> {
    let mut patches: BTreeMap<String, Vec<(Timestamp, Timestamp)>> = BTreeMap::new();
    for request in cluster.audit()?.iter().filter(|r| r.verb == "patch") {
        let name =
            request.uri.strip_prefix(PODS).and_then(|uri| uri.strip_prefix('/')?.split_once("/status"));
        if let Some((name, _)) = name {
            let at = (request.received.parse()?, request.answered.parse()?);
            patches.entry(name.to_owned()).or_default().push(at);
        }
    }
    // The patch that made it ready is the last that came before it was seen so.
    let delays = |(pod, started): (&str, Timestamp)| {
        let seen = *ready.get(pod)?;
        let of_pod = patches.get(pod)?.iter().filter(|(received, _)| *received <= seen);
        let (received, answered) = *of_pod.max()?;
        // The event is told before the call is answered, so the patch may come first.
        let ours = between(started, received).unwrap_or_default();
        Some((between(started, seen)?, ours, between(received, answered)?))
    };
    let all: Vec<_> = traces.started().filter_map(delays).collect();
    let both = |part: fn(&(Duration, Duration, Duration)) -> Duration| {
        (percentile(all.iter().map(part), 50), percentile(all.iter().map(part), 99))
    };
    Ok(Late { total: both(|w| w.0), ours: both(|w| w.1), servers: both(|w| w.2) })
}

impl Late {
    /// Tells of it.
    pub(super) fn tell(&self, key: &str, how: &str, report: &mut Report) {
        let mut add = |part: &str, what: &str, (p50, p99): (f64, f64), most: Option<f64>| {
            report.add(&format!("{key}{part}P50"), &format!("{how}: {what}, p50"), p50, "ms");
            let row = report.add(&format!("{key}{part}P99"), &format!("{how}: {what}, p99"), p99, "ms");
            if let Some(most) = most {
                row.budget(most);
            }
        };
        add("", "status, from the runtime's word to Ready at a watcher", self.total, Some(100.0));
        add("Ours", "of it until the server had the patch", self.ours, None);
        add("Servers", "of it the server's work on the patch", self.servers, None);
    }
}
