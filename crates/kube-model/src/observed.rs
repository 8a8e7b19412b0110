//! What the container runtime reports about one pod: the "observed" half of every decision.
//!
//! A snapshot is complete for its pod: what is not in it does not exist. It is compared with the previous one
//! to see whether anything happened, so it holds no field that changes by itself.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::{PodKey, PodUid};

/// All sandboxes and containers of one pod, dead ones too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedPod {
    /// From the label `io.kubernetes.pod.uid`.
    pub uid: PodUid,
    /// From the labels `io.kubernetes.pod.namespace` and `.name`.
    pub key: PodKey,
    /// Newest first.
    pub sandboxes: Vec<Sandbox>,
    /// Newest first of each name: by restart count.
    pub containers: Vec<Container>,
}

impl ObservedPod {
    /// A pod of which the runtime knows nothing.
    pub fn empty(uid: PodUid, key: PodKey) -> Self {
        Self { uid, key, sandboxes: Vec::new(), containers: Vec::new() }
    }

    /// Whether the runtime knows nothing of this pod any more.
    pub fn is_gone(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty()
    }

    /// The newest instance of the named container.
    pub fn newest(&self, container: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.name == container)
    }

    /// Whether any container of the pod is running.
    pub fn any_running(&self) -> bool {
        self.containers.iter().any(|c| c.state == ContainerState::Running)
    }

    /// Brings sandboxes and containers into the documented order. Their numbers go before their times: the clock may
    /// have been set back between two of them.
    pub fn sort(&mut self) {
        self.sandboxes
            .sort_by(|a, b| (b.attempt, b.created_at, &b.id).cmp(&(a.attempt, a.created_at, &a.id)));
        self.containers.sort_by(|a, b| {
            (b.restart_count, b.created_at, &b.id).cmp(&(a.restart_count, a.created_at, &a.id))
        });
    }
}

/// State of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxState {
    /// Its namespaces are up.
    Ready,
    /// Stopped, or its pause process died.
    NotReady,
}

/// One pod sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The runtime's ID.
    pub id: String,
    /// `metadata.attempt`: counts sandboxes of this pod from 0.
    pub attempt: u32,
    /// Whether it is up.
    pub state: SandboxState,
    /// When it was created.
    pub created_at: Timestamp,
    /// Whether it shares the node's network namespace.
    pub host_network: bool,
    /// Pod IPs, the primary one first; empty for the node's network or when the network is not set up.
    pub ips: Vec<IpAddr>,
    /// The annotation `kubernetes.io/config.source`: marks a sandbox that a kubelet or this agent created.
    pub config_source: Option<String>,
}

/// State of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Created, not started.
    Created,
    /// Running.
    Running,
    /// Ended.
    Exited,
    /// The runtime lost track of it.
    Unknown,
}

/// One container instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The runtime's ID, without the `containerd://` prefix.
    pub id: String,
    /// ID of the sandbox that it lives in.
    pub sandbox_id: String,
    /// Name in the pod spec.
    pub name: String,
    /// From the annotation `io.kubernetes.container.restartCount`, else `metadata.attempt`.
    pub restart_count: u32,
    /// From the annotation `io.kubernetes.container.hash`.
    pub hash: Option<String>,
    /// What it is doing.
    pub state: ContainerState,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was started; `None` if it never was.
    pub started_at: Option<Timestamp>,
    /// When it ended; `None` while it has not.
    pub finished_at: Option<Timestamp>,
    /// Exit code; meaningful when `state` is `Exited`.
    pub exit_code: i32,
    /// The runtime's reason (`Completed`, `Error`, `OOMKilled`, ...).
    pub reason: String,
    /// The runtime's message, with the termination message already appended (upstream
    /// `pkg/kubelet/kuberuntime/kuberuntime_container.go`).
    pub message: String,
    /// Image as the user wrote it.
    pub image: String,
    /// The runtime's ID of the image.
    pub image_id: String,
    /// `image_ref`: what `status.imageID` shows.
    pub image_ref: String,
    /// Path of the log file on the node.
    pub log_path: String,
    /// The user that its first process runs as, where the runtime tells.
    pub user: Option<ContainerUser>,
    /// What the runtime grants it, where it tells.
    pub resources: Option<ContainerResources>,
}

/// What a runtime grants a container, in the units of the API. `None` is what it does not limit or tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainerResources {
    /// CPU request in thousandths of a core, from its share.
    pub milli_cpu_request: Option<i64>,
    /// CPU limit in thousandths of a core, from its quota.
    pub milli_cpu_limit: Option<i64>,
    /// Memory limit in bytes.
    pub memory_limit: Option<i64>,
}

/// User of a container's first process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerUser {
    /// Primary user ID.
    pub uid: i64,
    /// Primary group ID.
    pub gid: i64,
    /// Supplementary groups.
    pub supplemental_groups: Vec<i64>,
}
