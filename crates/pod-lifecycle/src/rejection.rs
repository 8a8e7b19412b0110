//! A pod that its node does not take (upstream `pkg/kubelet/kubelet.go` `rejectPod`).

use kube_model::core::{ContainerStatus, PodStatus};
use kube_model::qos::QosClass;

use crate::container_status::time;
use crate::context::Context;
use crate::deadline;
use crate::phase::Phase;

/// What the message of such a pod's status begins with.
const PREFIX: &str = "Pod was rejected: ";

/// Why the node does not take a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// `status.reason`
    pub reason: String,
    /// What the node lacks.
    pub message: String,
}

impl Rejection {
    /// The rejection that a status tells of: that of an earlier run of the agent.
    pub fn from_status(status: &PodStatus) -> Option<Self> {
        let message = status.message.as_deref()?.strip_prefix(PREFIX)?.to_owned();
        let failed = status.phase.as_deref() == Some(Phase::Failed.as_str());
        failed.then(|| Self { reason: status.reason.clone().unwrap_or_default(), message })
    }

    pub(crate) fn status_message(&self) -> String {
        format!("{PREFIX}{}", self.message)
    }
}

/// Whether containers of the pod have run, so that there is something to tell of them.
pub(crate) fn has_run(cx: Context<'_>) -> bool {
    let began = |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.waiting.is_none());
    let previous = cx
        .previous()
        .into_iter()
        .flat_map(|status| status.container_statuses.iter().chain(&status.init_container_statuses).flatten());
    !cx.inputs.observed.containers.is_empty() || previous.into_iter().any(began)
}

/// The status says that and nothing else: there are no containers to tell of.
pub(crate) fn status(cx: Context<'_>, rejection: &Rejection) -> PodStatus {
    PodStatus {
        phase: Some(Phase::Failed.as_str().to_owned()),
        reason: Some(rejection.reason.clone()),
        message: Some(rejection.status_message()),
        start_time: Some(time(deadline::start_time(cx))),
        qos_class: Some(QosClass::of(cx.inputs.pod).as_str().to_owned()),
        observed_generation: cx.inputs.pod.metadata.generation.filter(|g| *g != 0),
        ..PodStatus::default()
    }
}
