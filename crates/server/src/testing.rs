//! Pods and views for this crate's tests.

use std::sync::{Arc, Mutex};

use kube_model::Timestamp;
use kube_model::view::{
    PodView, Problem, RuntimeView, SourceCondition, SourceView, SourcesSnapshot, ViewSnapshot,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::View;

/// The present of all rendering tests.
pub(crate) fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// A static pod `name`-node1 with one container `app` and this status.
pub(crate) fn pod(name: &str, status: Value) -> PodView {
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

pub(crate) fn view(pod: Value, status: Value) -> PodView {
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
pub(crate) fn container(name: &str, ready: bool, restarts: i32, state: Value) -> Value {
    json!({
        "name": name, "ready": ready, "restartCount": restarts, "image": "busybox:1", "imageID": "", "state": state
    })
}

/// The status of a running pod with one ready container.
pub(crate) fn running() -> Value {
    json!({
        "phase": "Running", "podIP": "10.88.0.5",
        "containerStatuses": [container("app", true, 0, json!({ "running": { "startedAt": "2026-11-23T11:55:00Z" } }))]
    })
}

pub(crate) fn snapshot(pods: Vec<PodView>) -> ViewSnapshot {
    ViewSnapshot {
        node: "node1".into(),
        pods: pods.into_iter().map(Arc::new).collect(),
        problems: vec![],
        runtime: RuntimeView {
            endpoint: "unix:///run/containerd/containerd.sock".into(),
            name: "containerd".into(),
            version: "2.1.9".into(),
            ready: true,
            message: String::new(),
            since: now(),
        },
    }
}

/// A view that a test changes.
pub(crate) struct FakeView {
    snapshot: Mutex<ViewSnapshot>,
    changes: watch::Sender<u64>,
}

impl FakeView {
    pub(crate) fn new(snapshot: ViewSnapshot) -> Arc<Self> {
        Arc::new(Self { snapshot: Mutex::new(snapshot), changes: watch::channel(0).0 })
    }

    pub(crate) fn set(&self, snapshot: ViewSnapshot) {
        *self.snapshot.lock().unwrap() = snapshot;
        self.changes.send_modify(|count| *count += 1);
    }

    /// How many clients watch.
    pub(crate) fn watches(&self) -> usize {
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

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// A source that is ready, one that fails and one that waits.
pub(crate) fn sources_snapshot() -> SourcesSnapshot {
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
