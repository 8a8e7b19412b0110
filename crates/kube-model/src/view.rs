//! The agent's own view of its pods, as data: what the local socket serves and `node-agent pods` and
//! `node-agent explain` show. Only the agent writes these; a reader may rely on the field names.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde::{Deserialize, Serialize};

use crate::{Monotonic, Now, PodKey, PodUid};

/// Everything that the local view shows at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ViewSnapshot {
    /// The node's name.
    pub node: String,
    /// All pods that the agent has or is removing, by namespace and name.
    pub pods: Vec<Arc<PodView>>,
    /// What is wrong with manifests at this moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// How it stands with the container runtime.
    pub runtime: RuntimeView,
    /// The volumes of pods that have some, by the pod's UID.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Vec<VolumeView>>,
}

/// One volume of a pod as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeView {
    /// Its name in the pod.
    pub name: String,
    /// The field that says what it is: `emptyDir`.
    pub kind: String,
    /// How far it is.
    pub state: VolumeState,
    /// Since when: it is mounted, it is being worked on, or it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What went wrong last; empty if nothing did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it is tried again, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// How far a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumeState {
    /// It is not there.
    Missing,
    /// It is being made.
    SettingUp,
    /// It is there.
    Mounted,
}

/// The container runtime as the agent sees it; in memory with [`Monotonic`] time, as a [`Wait`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeView<T = Timestamp> {
    /// Where it is reached: `unix:///run/containerd/containerd.sock`.
    pub endpoint: String,
    /// Its name (`containerd`); empty until it answered once.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its version; empty until it answered once.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Whether it answers and says that it can run pods.
    pub ready: bool,
    /// Whether it answered when it was last asked.
    #[serde(default)]
    pub answers: bool,
    /// Why it is not ready; empty when it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Since when it is ready, or is not.
    pub since: T,
}

impl RuntimeView<Monotonic> {
    /// With its time as the wall clock goes `now`.
    pub fn shown(&self, now: Now) -> RuntimeView {
        RuntimeView {
            endpoint: self.endpoint.clone(),
            name: self.name.clone(),
            version: self.version.clone(),
            ready: self.ready,
            answers: self.answers,
            message: self.message.clone(),
            since: now.shown(self.since),
        }
    }
}

/// One pod as the agent sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodView {
    /// The desired pod; its own `status` is not used.
    pub pod: Arc<Pod>,
    /// Its status now.
    pub status: Arc<PodStatus>,
    /// Whether it is being removed.
    pub removing: bool,
    /// Whether it was deleted and nothing of it is left: what its source waits for before it drops the pod.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub finished: bool,
    /// What it waits for, most important first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<Wait>,
    /// What is being done for it at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<Activity>,
    /// What happened lately, oldest first; repeated events are one entry with a count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
}

/// What of a [`PodView`] those need who follow statuses only: all of it is shared, so it costs next to nothing.
#[derive(Debug, Clone)]
pub struct PodState {
    /// The pod's UID.
    pub uid: PodUid,
    /// Its namespace and name.
    pub key: PodKey,
    /// See [`PodView::pod`].
    pub pod: Arc<Pod>,
    /// See [`PodView::status`].
    pub status: Arc<PodStatus>,
    /// See [`PodView::removing`].
    pub removing: bool,
    /// See [`PodView::finished`].
    pub finished: bool,
}

/// Something that a pod waits for. In memory its times are [`Monotonic`], so that it stays the same when the
/// clock is set; they become wall time when it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wait<T = Timestamp> {
    /// The container concerned, or `None` for the whole pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// One word, Kubernetes' own where it has one: `CrashLoopBackOff`, `ImagePullBackOff`, `NetworkNotReady`.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Since when, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<T>,
    /// When it is tried again, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<T>,
}

impl Wait<Monotonic> {
    /// With its times as the wall clock goes `now`.
    pub fn shown(&self, now: Now) -> Wait {
        Wait {
            container: self.container.clone(),
            reason: self.reason.clone(),
            message: self.message.clone(),
            since: self.since.map(|at| now.shown(at)),
            until: self.until.map(|at| now.shown(at)),
        }
    }
}

/// A step that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// What, for example `creating container app`.
    pub what: String,
    /// Since when.
    pub since: Timestamp,
}

/// Kubernetes' two kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventType {
    /// As it should be.
    Normal,
    /// Somebody may have to act.
    Warning,
}

/// Something that happened to a pod; reasons and texts are the kubelet's (upstream `pkg/kubelet/events/event.go`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Normal or warning.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// One word: `Started`, `Killing`, `Unhealthy`, ...
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// The container concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// When it first happened.
    pub first: Timestamp,
    /// When it last happened.
    pub last: Timestamp,
    /// How often.
    pub count: u32,
}

/// Where the pods come from at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourcesSnapshot {
    /// The node's name.
    pub node: String,
    /// All sources that are configured.
    pub sources: Vec<SourceView>,
}

/// How it stands with a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceCondition {
    /// It has not told its pods yet: nothing is cleaned up before.
    Waiting,
    /// What it said last holds, whatever is wrong with single manifests.
    Ready,
    /// It can not be read. What it said last goes on.
    Failing,
}

/// One source of pods as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceView {
    /// `file`, `http`, `push` or `api`.
    pub name: String,
    /// Where it reads or listens, without credentials.
    pub location: String,
    /// How it stands with it.
    pub condition: SourceCondition,
    /// Since when.
    pub since: Timestamp,
    /// Why it is failing; empty when it is not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it last gave a usable answer; `None`: never since the agent started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Timestamp>,
    /// How many pods it wants. Those that have to stand back for a pod of another source count too.
    pub pods: usize,
    /// What is wrong now, with the source itself and with single manifests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

/// Something wrong with a manifest or configuration file: where, and what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The file (or the URL) that it stands in.
    pub path: PathBuf,
    /// Line, counted from 1; `None` when the whole file is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in characters, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// Path of the field as Kubernetes writes it: `spec.containers[0].image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong and what was expected.
    pub message: String,
    /// Whether the rest can be used all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warning: bool,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        f.write_str(if self.warning { ": warning: " } else { ": " })?;
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)
    }
}
