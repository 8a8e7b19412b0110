//! Pods, views and an agent for tests: of this crate, and of those that read its socket.
#![allow(clippy::unwrap_used, missing_docs, missing_debug_implementations, reason = "for tests")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use kube_model::observed::ObservedPod;
use kube_model::stats::Summary;
use kube_model::view::{
    PodView, Problem, RuntimeView, SourceCondition, SourceView, SourcesSnapshot, ViewSnapshot,
};
use kube_model::{PodUid, Timestamp};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::View;
use crate::host::{Answer, HostError, Node, Output, Stats, Streaming, Streams};
use crate::metrics::{Page, Text};
use crate::pod_streams::PodStreams;

/// Wall time, for what is not about rendering.
#[allow(clippy::disallowed_methods, reason = "for tests")]
pub fn wall() -> Timestamp {
    Timestamp::now()
}

/// The present of all rendering tests.
pub fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// A static pod `name`-node1 with one container `app` and this status.
pub fn pod(name: &str, status: Value) -> PodView {
    view(
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("{name}-node1"), "namespace": "default", "uid": format!("{name}-uid"),
                "annotations": { "kubernetes.io/config.source": "file", "kubernetes.io/config.seen": "2026-11-23T11:50:00Z" }
            },
            "spec": { "nodeName": "node1", "containers": [{ "name": "app", "image": "busybox:1" }] }
        }),
        status,
    )
}

pub fn view(pod: Value, status: Value) -> PodView {
    PodView {
        pod: Arc::new(serde_json::from_value(pod).unwrap()),
        status: Arc::new(serde_json::from_value(status).unwrap()),
        removing: false,
        finished: false,
        waits: vec![],
        doing: None,
        events: vec![],
    }
}

/// A container status with this state.
pub fn container(name: &str, ready: bool, restarts: i32, state: Value) -> Value {
    json!({
        "name": name, "ready": ready, "restartCount": restarts, "image": "busybox:1", "imageID": "", "state": state
    })
}

/// The status of a running pod with one ready container.
pub fn running() -> Value {
    json!({
        "phase": "Running", "podIP": "10.88.0.5",
        "containerStatuses": [container("app", true, 0, json!({ "running": { "startedAt": "2026-11-23T11:55:00Z" } }))]
    })
}

pub fn snapshot(pods: Vec<PodView>) -> ViewSnapshot {
    ViewSnapshot {
        node: "node1".into(),
        pods: pods.into_iter().map(Arc::new).collect(),
        problems: vec![],
        runtime: RuntimeView {
            answers: true,
            endpoint: "unix:///run/containerd/containerd.sock".into(),
            name: "containerd".into(),
            version: "2.1.9".into(),
            ready: true,
            message: String::new(),
            since: now(),
        },
        volumes: Default::default(),
    }
}

/// A view that a test changes.
pub struct FakeView {
    snapshot: Mutex<ViewSnapshot>,
    changes: watch::Sender<u64>,
}

impl FakeView {
    pub fn new(snapshot: ViewSnapshot) -> Arc<Self> {
        Arc::new(Self { snapshot: Mutex::new(snapshot), changes: watch::channel(0).0 })
    }

    pub fn set(&self, snapshot: ViewSnapshot) {
        *self.snapshot.lock().unwrap() = snapshot;
        self.changes.send_modify(|count| *count += 1);
    }

    /// How many clients watch.
    pub fn watches(&self) -> usize {
        self.changes.receiver_count()
    }
}

impl View for FakeView {
    fn snapshot(&self) -> ViewSnapshot {
        self.snapshot.lock().unwrap().clone()
    }

    fn sources(&self) -> SourcesSnapshot {
        sources_snapshot()
    }

    /// The pod `static` has a mirror pod.
    fn mirror_uid(&self, namespace: &str, name: &str) -> Option<PodUid> {
        ((namespace, name) == ("default", "static")).then(|| PodUid::from("mirror-uid"))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// The way into the pods of this view, with nothing behind it.
pub fn pod_streams(view: &Arc<FakeView>) -> Arc<PodStreams> {
    PodStreams::new(Arc::clone(view) as _, Arc::<FakeAgent>::default(), wall)
}

/// The agent behind the server.
#[derive(Default)]
pub struct FakeAgent {
    pub running: Mutex<Vec<Arc<ObservedPod>>>,
    pub stuck: Mutex<Option<String>>,
    pub logs: Mutex<BTreeMap<String, PathBuf>>,
    /// What exec, attach and port-forward answer.
    pub url: Mutex<Option<Result<String, HostError>>>,
    pub output: Mutex<Output>,
    /// What the runtime was asked for.
    pub calls: Mutex<Vec<String>>,
}

impl FakeAgent {
    fn asked<T>(&self, call: String, answer: Result<T, HostError>) -> Answer<'static, T>
    where
        T: Send + 'static,
    {
        self.calls.lock().unwrap().push(call);
        std::future::ready(answer).boxed()
    }

    fn url(&self) -> Result<String, HostError> {
        self.url.lock().unwrap().clone().unwrap_or(Err(HostError::Failed("no streaming server".into())))
    }

    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

impl Node for FakeAgent {
    fn running_pods(&self) -> Answer<'_, Vec<Arc<ObservedPod>>> {
        std::future::ready(Ok(self.running.lock().unwrap().clone())).boxed()
    }

    fn sync_loop(&self) -> Result<(), String> {
        self.stuck.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn configuration(&self) -> Value {
        json!({ "kind": "KubeletConfiguration", "port": 10250 })
    }

    fn set_verbosity(&self, level: u32) -> Result<(), String> {
        if level > 10 { Err("too much".to_owned()) } else { Ok(()) }
    }

    fn write_metrics(&self, page: Page, out: &mut Text) {
        // Names that no agent has: what the agent writes is its own affair.
        let name = match page {
            Page::Main => "agents_own",
            Page::Probes => "agents_probes",
            Page::Slis => "agents_slis",
        };
        out.sample(name, &[], 1);
    }
}

impl Streaming for FakeAgent {
    fn log_path<'a>(&'a self, container: &'a str) -> Answer<'a, PathBuf> {
        let path = self.logs.lock().unwrap().get(container).cloned();
        std::future::ready(path.ok_or(HostError::NotFound("no such container".into()))).boxed()
    }

    fn exec<'a>(&'a self, container: &'a str, command: Vec<String>, streams: Streams) -> Answer<'a, String> {
        self.asked(format!("exec {container} {command:?} {streams:?}"), self.url())
    }

    fn attach<'a>(&'a self, container: &'a str, streams: Streams) -> Answer<'a, String> {
        self.asked(format!("attach {container} {streams:?}"), self.url())
    }

    fn port_forward<'a>(&'a self, pod: &'a PodUid, ports: Vec<i32>) -> Answer<'a, String> {
        self.asked(format!("port-forward {pod} {ports:?}"), self.url())
    }

    fn exec_sync<'a>(&'a self, container: &'a str, command: Vec<String>) -> Answer<'a, Output> {
        self.asked(format!("exec-sync {container} {command:?}"), Ok(self.output.lock().unwrap().clone()))
    }
}

impl Stats for FakeAgent {
    fn summary(&self, only_cpu_and_memory: bool) -> Answer<'_, Arc<Summary>> {
        let recorded = include_str!("../../../tests/fixtures/server/stats-summary.json");
        let mut summary: Summary = serde_json::from_str(recorded).unwrap();
        if only_cpu_and_memory {
            summary.node.network = None;
        }
        std::future::ready(Ok(Arc::new(summary))).boxed()
    }
}

/// A source that is ready, one that fails and one that waits.
pub fn sources_snapshot() -> SourcesSnapshot {
    let ago = |seconds| now() - std::time::Duration::from_secs(seconds);
    let problem = |path: &str, at: Option<(u32, u32)>, field: Option<&str>, message: &str| Problem {
        path: path.into(),
        line: at.map(|at| at.0),
        column: at.map(|at| at.1),
        field: field.map(str::to_owned),
        message: message.to_owned(),
        warning: message.contains("further"),
    };
    let source = |name: &str, location: &str, condition| SourceView {
        name: name.to_owned(),
        location: location.to_owned(),
        condition,
        since: ago(180),
        message: String::new(),
        read_at: None,
        pods: 0,
        problems: vec![],
    };
    let file = SourceView {
        read_at: Some(ago(5)),
        pods: 2,
        problems: vec![
            problem("/etc/m/a.yaml", Some((3, 9)), Some("spec.containers[0].image"), "Required value"),
            problem("/etc/m/b.yaml", Some((1, 1)), None, "further documents are not read"),
        ],
        ..source("file", "/etc/m", SourceCondition::Ready)
    };
    let http = SourceView {
        read_at: Some(ago(240)),
        pods: 1,
        message: "connection refused".to_owned(),
        problems: vec![problem("http://x/pods", None, None, "connection refused")],
        ..source("http", "http://x/pods", SourceCondition::Failing)
    };
    let push = source("push", "unix:/run/pods.sock", SourceCondition::Waiting);
    SourcesSnapshot { node: "node1".to_owned(), sources: vec![file, http, push] }
}
