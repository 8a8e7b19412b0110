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
        let begin = Instant::now();
        for name in numbers.map(pod_name) {
            log.want(&name);
            let container = json!({"name": "pause", "image": PAUSE, "imagePullPolicy": "IfNotPresent"});
            self.create(&name, container)?;
        }
        Ok(begin.elapsed())
    }

    /// Creates a pod of one container that is bound already.
    pub(super) fn create(&self, name: &str, container: Value) -> Result<()> {
        let pod = json!({
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

/// By how much statuses were later than the runtime's word, p50 and p99 in ms.
pub(super) fn late(traces: &Traces, ready: &Times) -> (f64, f64) {
    let late = || traces.started().filter_map(|(pod, started)| between(started, *ready.get(pod)?));
    (percentile(late(), 50), percentile(late(), 99))
}
