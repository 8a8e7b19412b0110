//! What probes found out, as the planner and the pod status read it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which of a container's three probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProbeKind {
    /// A failure restarts the container.
    Liveness,
    /// A failure takes the container out of service.
    Readiness,
    /// Holds the other two back until it succeeds once; a failure restarts the container.
    Startup,
}

/// The settled outcome of one probe, after its thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeOutcome {
    /// `successThreshold` reached.
    Success,
    /// `failureThreshold` reached.
    Failure,
}

/// The settled outcomes of one container instance. `None`: not settled yet, so the initial value of the kind
/// holds: readiness fails, liveness succeeds, startup is unknown (upstream `pkg/kubelet/prober/prober_manager.go`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerProbes {
    /// Outcome of the liveness probe.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub liveness: Option<ProbeOutcome>,
    /// Outcome of the readiness probe.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub readiness: Option<ProbeOutcome>,
    /// Outcome of the startup probe.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub startup: Option<ProbeOutcome>,
}

/// The probe outcomes of one pod, by container ID: a restarted container starts afresh.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PodProbes(pub BTreeMap<String, ContainerProbes>);

impl PodProbes {
    /// Outcomes of the container with this ID; all `None` if nothing is known.
    pub fn of(&self, container_id: &str) -> ContainerProbes {
        self.0.get(container_id).copied().unwrap_or_default()
    }
}
