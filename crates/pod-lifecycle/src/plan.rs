//! What to do next for one pod.

use kube_model::Monotonic;
use kube_model::view::Wait;

/// The answer of [`plan`](crate::plan()).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What to do now, in order. Consecutive [`Action::StopContainer`]s run side by side, each with its turn. After the last one
    /// the pod is observed and planned again.
    pub actions: Vec<Action>,
    /// When to plan again if nothing happens before.
    pub wake_at: Option<Monotonic>,
    /// Everything that the pod waits for, most important first: what `node-agent explain` shows.
    pub waits: Vec<Wait<Monotonic>>,
    /// How far the pod is.
    pub progress: Progress,
}

/// How far a pod is on the way to its intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is more to do, now or later.
    Going,
    /// It runs as desired.
    Settled,
    /// It ended by itself (`Succeeded` or `Failed`) and nothing of it runs.
    Ended,
    /// Intent `Remove`: the runtime knows nothing of it any more.
    Removed,
    /// Intent `Remove`: nothing of it runs, and what the runtime still has of it cannot be removed for now.
    Left,
}

/// One step against the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Create and start a sandbox.
    CreateSandbox {
        /// `metadata.attempt`
        attempt: u32,
    },
    /// Stop a sandbox: its network goes down.
    StopSandbox {
        /// Sandbox ID
        id: String,
    },
    /// Remove a stopped sandbox.
    RemoveSandbox {
        /// Sandbox ID
        id: String,
    },
    /// Fetch the image as its pull policy says, create and start a container, run its postStart hook.
    StartContainer {
        /// Name in the spec
        name: String,
        /// What the restart count annotation will say
        restart_count: u32,
        /// The sandbox it goes into
        sandbox_id: String,
    },
    /// Run the postStart hook of a container that runs: an earlier run of the agent was cut off in it.
    RunPostStartHook {
        /// Container ID
        id: String,
        /// Name in the spec
        name: String,
    },
    /// Stop a running container: SIGTERM, wait, SIGKILL.
    StopContainer {
        /// Container ID
        id: String,
        /// Name in the spec
        name: String,
        /// Time for the preStop hook, for its turn to come, and between SIGTERM and SIGKILL, in seconds; at least 2
        /// (upstream `pkg/kubelet/kuberuntime/kuberuntime_container.go` `killContainer`).
        grace_seconds: i64,
        /// The signal waits, as long as the grace period lasts, for those beside it that have an earlier turn to
        /// end. The preStop hook does not.
        turn: u32,
        /// Why
        cause: StopCause,
    },
    /// Remove a dead container.
    RemoveContainer {
        /// Container ID
        id: String,
        /// Name in the spec
        name: String,
    },
}

/// Why a container is stopped; shown as the `Killing` event's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// The pod is being removed.
    PodRemoved,
    /// The pod ended, or cannot go on (failed init container, `Never`).
    PodEnded,
    /// Its sandbox is gone or is being replaced.
    SandboxChanged,
    /// Name or image changed.
    DefinitionChanged,
    /// The liveness probe failed.
    LivenessFailed,
    /// The startup probe failed.
    StartupFailed,
    /// The runtime lost track of it, so it must be gone before a new one starts.
    StateUnknown,
    /// It is not in the spec.
    NotInSpec,
}
