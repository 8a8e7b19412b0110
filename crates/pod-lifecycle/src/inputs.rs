//! What a decision is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kube_model::core::{Pod, PodStatus};
use kube_model::observed::{Container, ObservedPod};
use kube_model::probe::PodProbes;
use kube_model::{Monotonic, Now};

use crate::precondition::Unmet;

/// Everything that [`plan`](crate::plan()) and [`status`](crate::status()) may look at.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The desired pod, defaulted and validated by its source.
    pub pod: &'a Pod,
    /// What is to become of it.
    pub intent: &'a Intent,
    /// What the runtime reports.
    pub observed: &'a ObservedPod,
    /// Settled probe outcomes. Those of an instance that has ended must stay until a newer one is seen: an
    /// instance that was stopped because of a probe is restarted though it may have ended with exit code 0.
    pub probes: &'a PodProbes,
    /// What the pod's actor remembers; may be empty after a restart of the agent.
    pub memory: &'a Memory,
    /// Facts of the node.
    pub node: &'a NodeFacts,
    /// What the pod needs and does not have; empty when nothing is missing. A pod that is removed needs nothing.
    pub preconditions: &'a [Unmet],
    /// The present.
    pub now: Now,
}

/// What is to become of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// Keep it running by its restart policy.
    Run,
    /// Stop it, whatever its restart policy, and let it stay `Failed`: its object and what tells how its containers
    /// ended are kept. A pod that had ended before stays as it ended (upstream `pkg/kubelet/pod_workers.go`
    /// `KillPodOptions`).
    Terminate {
        /// How long its containers have.
        grace: Grace,
        /// Why: what the pod's status says of it, and what it is shown to wait for until they have ended.
        status: FailedStatus,
    },
    /// Stop it gracefully, then remove all that the runtime has of it.
    Remove {
        /// When the removal was asked for: the grace period counts from here.
        since: Monotonic,
        /// Overrides the pod's own grace period, in seconds.
        grace_seconds: Option<i64>,
    },
}

/// How long the containers of a pod that is stopped have to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grace {
    /// The pod's own grace period, from when its containers are stopped.
    OfPod,
    /// What is left until then: whoever wants the pod stopped has set the time.
    Until(Monotonic),
}

/// Reason and message of a pod that is stopped and has failed by that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedStatus {
    /// `status.reason`, such as `DeadlineExceeded`.
    pub reason: String,
    /// `status.message`
    pub message: String,
}

/// What an actor remembers between plans. Nothing in it must survive a restart of the agent: each part is
/// rebuilt from the runtime or only repeats an attempt.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Crash back-off per container name.
    pub crash_backoff: BTreeMap<String, crate::backoff::CrashBackoff>,
    /// When a pod with `spec.activeDeadlineSeconds` started.
    pub started: Option<Monotonic>,
    /// The instance that ended before the newest one, per container name: the runtime may have it no more.
    pub(crate) older: BTreeMap<String, Container>,
    /// Names of containers whose postStart hook has not ended: see [`Memory::counted`].
    pub(crate) hooks: BTreeSet<String>,
    /// The last failed attempt per container name; an entry goes when an attempt succeeds.
    pub failures: BTreeMap<String, Failure>,
    /// The last failed attempt of the pod as a whole (sandbox, directories, cgroup, ...).
    pub pod_failure: Option<Failure>,
    /// What could not be removed the last time, by the ID of the container or sandbox. It holds back nothing else.
    pub(crate) removals: BTreeMap<String, Failure>,
    /// Set when the node does not take the pod: then nothing of it is started, ever.
    pub rejection: Option<crate::Rejection>,
    /// The status of the previous round: condition times, sticky phase and `startTime` come from it.
    pub last_status: Option<std::sync::Arc<PodStatus>>,
}

/// A failed attempt, kept until one succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure: the waiting reason of the container status.
    pub reason: FailureReason,
    /// The whole message, runtime's words included.
    pub message: String,
    /// When it failed.
    pub at: Monotonic,
    /// When the next attempt is due.
    pub retry_at: Monotonic,
    /// How many attempts have failed in a row.
    pub attempts: u32,
}

/// Waiting reasons for failed attempts; names are the kubelet's (upstream `pkg/kubelet/container/sync_result.go`,
/// `pkg/kubelet/images/types.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the Kubernetes reason of the same name")]
pub enum FailureReason {
    ErrImagePull,
    ImagePullBackOff,
    ErrImageNeverPull,
    InvalidImageName,
    ImageInspectError,
    RegistryUnavailable,
    SignatureValidationFailed,
    CreateContainerConfigError,
    CreateContainerError,
    RunContainerError,
    PostStartHookError,
    /// Sandbox could not be created; containers show `ContainerCreating` with this message.
    FailedCreatePodSandBox,
    /// Pod directories, logs or cgroup could not be made or removed.
    FailedPrepare,
    /// Stopping or removing something failed.
    FailedKillPod,
}

impl FailureReason {
    /// Whether an image could not be fetched, so that the pull backs off.
    pub fn is_pull(self) -> bool {
        matches!(
            self,
            Self::ErrImagePull
                | Self::ImagePullBackOff
                | Self::RegistryUnavailable
                | Self::SignatureValidationFailed
        )
    }

    /// The Kubernetes reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ErrImagePull => "ErrImagePull",
            Self::ImagePullBackOff => "ImagePullBackOff",
            Self::ErrImageNeverPull => "ErrImageNeverPull",
            Self::InvalidImageName => "InvalidImageName",
            Self::ImageInspectError => "ImageInspectError",
            Self::RegistryUnavailable => "RegistryUnavailable",
            Self::SignatureValidationFailed => "SignatureValidationFailed",
            Self::CreateContainerConfigError => "CreateContainerConfigError",
            Self::CreateContainerError => "CreateContainerError",
            Self::RunContainerError => "RunContainerError",
            Self::PostStartHookError => "PostStartHookError",
            Self::FailedCreatePodSandBox => "FailedCreatePodSandBox",
            Self::FailedPrepare => "FailedPrepare",
            Self::FailedKillPod => "FailedKillPod",
        }
    }
}

/// Facts of the node that decisions depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// `None` while the pod network is up, else the runtime's reason and message.
    pub network_not_ready: Option<String>,
    /// The node's addresses: what host-network pods and `status.hostIPs` show.
    pub host_ips: Vec<IpAddr>,
    /// The runtime's name, the scheme of container IDs in a status (`containerd`).
    pub runtime_name: String,
    /// Whether the runtime can make a mount read-only with all that is mounted below it.
    pub recursive_read_only_mounts: bool,
}
