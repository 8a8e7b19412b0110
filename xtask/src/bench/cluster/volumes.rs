//! `cargo xtask bench --cluster --volumes`: what volumes add to pods, each with a token of its service account, a
//! ConfigMap, a Secret and an `emptyDir`. All pods have the same ConfigMap and Secret, large enough to be seen if they
//! were held more than once.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testkit::env::{Agent, until_every};

use super::agent::{self, use_of};
use super::pods::Pods;
use super::{Bench, MINUTE, SETTLE};
use crate::bench::report::Report;
use crate::bench::sources::millis;
use crate::bench::trace::Mark;
use crate::bench::{SINGLES, pid};
use crate::ui;

/// Bytes of ConfigMap and Secret.
const CONTENT: usize = 64 << 10;
/// How long a change of all pods may take until it counts as lost.
const PATIENCE: Duration = Duration::from_secs(60);
const OBJECTS: &str = "/api/v1/namespaces/default";

impl Bench<'_> {
    /// The phases, each with an agent of its own: memory that was given back by one tells nothing of the next.
    pub(super) fn volumes(&self, report: &mut Report) -> Result<()> {
        self.make("serviceaccounts", "bench", &json!({}))?;
        let text = "x".repeat(CONTENT);
        self.make("configmaps", "bench", &json!({"data": {"key": "one", "large": text}}))?;
        self.make("secrets", "bench", &json!({"stringData": {"key": "one", "large": text}}))?;

        ui::step(&format!("{} pods without volumes", self.count));
        let agent = self.node(&self.cluster.url())?;
        let pods = Pods::new(&self.cluster)?;
        pods.bind(0..self.count, &Mark::now(&self.containerd.log()))?;
        pods.wait_ready(self.count)?;
        agent::watch(&agent, SETTLE)?;
        let without = agent::watch(&agent, SETTLE)?.resident_mib;
        report.add("rssWithout", "volumes: resident without them", without, "MiB");
        pods.delete_all()?;
        self.bare.wait_gone()?;
        drop(agent);

        ui::step(&format!("{SINGLES} pods with volumes one after the other"));
        let agent = self.node(&self.cluster.url())?;
        let log = Mark::now(&self.containerd.log());
        for number in 0..SINGLES {
            pods.bind_with(number..number + 1, &log, &spec())?;
            pods.wait_ready(1)?;
        }
        let traces = log.traces()?;
        let what = "volumes: single pod: the agent's own share, p50";
        report.add("volumeShareP50", what, traces.own_share(50), "ms");
        let what = "volumes: single pod: the agent's own share, p99";
        report.add("volumeShareP99", what, traces.own_share(99), "ms").budget(35.0);
        pods.delete_all()?;
        self.bare.wait_gone()?;
        drop(agent);

        let agent = self.node(&self.cluster.url())?;
        self.all_at_once(&agent, &pods, without, report)
    }

    fn all_at_once(&self, agent: &Agent, pods: &Pods<'_>, without: f64, report: &mut Report) -> Result<()> {
        ui::step(&format!("{} pods with volumes at once", self.count));
        let before = use_of(agent)?;
        pods.bind_with(0..self.count, &Mark::now(&self.containerd.log()), &spec())?;
        pods.wait_ready(self.count)?;
        let cpu = use_of(agent)?.cpu.saturating_sub(before.cpu);
        report.add("volumeCpu", "volumes: CPU to start all", cpu.as_secs_f64(), "s");
        let made = mounts(agent)?;
        // Token and Secret lie in memory.
        ensure!(made == 2 * self.count, "{made} mounts below the agent's folder");

        ui::step("a minute at rest");
        agent::watch(agent, SETTLE)?;
        let rest = agent::watch(agent, MINUTE)?;
        report.add("volumeRestCpu", "volumes: CPU at rest", rest.cpu_percent, "% of a core");
        report.add("volumeRestSwitches", "volumes: context switches at rest", rest.switches_per_second, "/s");
        let threads = fs::read_dir(format!("/proc/{}/task", pid(agent)?))?.count();
        report.add("volumeThreads", "volumes: threads at rest", threads as f64, "");
        let more = rest.resident_mib - without;
        report.add("volumeRss", "volumes: resident, more than without", more, "MiB").budget(12.0);

        ui::step("the ConfigMap of all pods changes");
        let begin = Instant::now();
        let (code, answer) = self.cluster.request(
            "PUT",
            &format!("{OBJECTS}/configmaps/bench"),
            Some(&object("configmaps", "bench", &json!({"data": {"key": "two"}}))),
        )?;
        ensure!(code == 200, "the ConfigMap was not changed: {code} {answer}");
        let shows = || {
            let found = with_content(&agent.root().join("pods"), "two").map_err(|error| error.to_string())?;
            if found == self.count { Ok(()) } else { Err(format!("{found} of {} pods have it", self.count)) }
        };
        until_every(Duration::from_millis(10), "all pods have the change", PATIENCE, shows)?;
        report
            .add("volumeChange", "volumes: a ConfigMap changed in all pods", millis(begin.elapsed()), "ms")
            .budget(1000.0);

        ui::step("all pods deleted");
        let deleted = pods.delete_all()?;
        report.add("volumeDelete", "volumes: all pods deleted", deleted.as_secs_f64(), "s");
        self.bare.wait_gone()?;
        report
            .add("volumeMountsLeft", "volumes: mounts that are left", mounts(agent)? as f64, "")
            .budget(0.0);
        Ok(())
    }

    fn make(&self, plural: &str, name: &str, more: &Value) -> Result<()> {
        let path = format!("{OBJECTS}/{plural}");
        let (code, answer) = self.cluster.request("POST", &path, Some(&object(plural, name, more)))?;
        ensure!(code == 201, "{plural} {name} was not made: {code} {answer}");
        Ok(())
    }
}

fn object(plural: &str, name: &str, more: &Value) -> Value {
    let kind = match plural {
        "configmaps" => "ConfigMap",
        "secrets" => "Secret",
        _ => "ServiceAccount",
    };
    let mut object =
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default"}});
    for (field, value) in more.as_object().into_iter().flatten() {
        object[field] = value.clone();
    }
    object
}

/// What the spec of each pod has beside its container.
fn spec() -> Value {
    let expires = json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}});
    json!({
        "serviceAccountName": "bench",
        "mounts": [
            {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true},
            {"name": "config", "mountPath": "/config"},
            {"name": "secret", "mountPath": "/secret"},
            {"name": "data", "mountPath": "/data"},
        ],
        "volumes": [
            {"name": "token", "projected": {"sources": [expires, {"downwardAPI": {"items":
                [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}},
            {"name": "config", "configMap": {"name": "bench"}},
            {"name": "secret", "secret": {"secretName": "bench"}},
            {"name": "data", "emptyDir": {}},
        ],
    })
}

/// Mounts below the agent's folder.
fn mounts(agent: &Agent) -> Result<usize> {
    let (table, root) = (fs::read_to_string("/proc/self/mountinfo")?, agent.root().join("pods"));
    let root = root.to_string_lossy();
    Ok(table
        .lines()
        .filter(|line| line.split(' ').nth(4).is_some_and(|point| point.starts_with(&*root)))
        .count())
}

/// How many pods have this in their ConfigMap's volume.
fn with_content(pods: &Path, content: &str) -> std::io::Result<usize> {
    let has = |pod: &fs::DirEntry| {
        let file = pod.path().join("volumes/kubernetes.io~configmap/config/key");
        fs::read_to_string(file).is_ok_and(|found| found == content)
    };
    Ok(fs::read_dir(pods)?.flatten().filter(has).count())
}
