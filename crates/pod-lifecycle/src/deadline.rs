//! When a pod started, and `spec.activeDeadlineSeconds` (upstream `pkg/kubelet/active_deadline.go`).

use kube_model::core::PodStatus;
use kube_model::k8s_openapi::jiff::SignedDuration;
use kube_model::observed::ObservedPod;
use kube_model::{Monotonic, Timestamp};

use crate::context::Context;
use crate::inputs::{FailedStatus, Grace, Intent};

/// `status.reason` of a pod that ran too long.
pub const REASON: &str = "DeadlineExceeded";
/// `status.message` of a pod that ran too long.
const MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

/// `status.startTime`: when the agent first saw the pod. After a restart of the agent its oldest sandbox tells.
pub(crate) fn start_time(cx: Context<'_>) -> Timestamp {
    started(cx.previous(), cx.inputs.observed).unwrap_or(cx.inputs.now.wall)
}

/// The start time of a pod that was seen before.
pub(crate) fn started(previous: Option<&PodStatus>, observed: &ObservedPod) -> Option<Timestamp> {
    let known = previous.and_then(|s| s.start_time.as_ref()).map(|t| t.0);
    known.or_else(|| observed.sandboxes.last().map(|s| s.created_at))
}

/// The same on the timeline that does not jump.
pub(crate) fn started_at(cx: Context<'_>) -> Monotonic {
    cx.inputs.memory.started.unwrap_or_else(|| cx.inputs.now.placed(start_time(cx)))
}

/// When the pod has to end; `None` without a deadline, or with one beyond all time.
pub(crate) fn at(cx: Context<'_>) -> Option<Monotonic> {
    let seconds = cx.spec.active_deadline_seconds?;
    Some(started_at(cx) + SignedDuration::from_secs(seconds))
}

/// What becomes of the pod once its deadline has passed, as long as it says so; nothing if it had ended by itself before.
pub(crate) fn intent(cx: Context<'_>, ended: bool) -> Option<Intent> {
    let deadline = at(cx).filter(|d| *d <= cx.inputs.now.mono)?;
    let late = || cx.inputs.memory.crash_backoff.values().any(|b| b.ended().is_some_and(|t| t >= deadline));
    let shown = || cx.previous().is_some_and(|status| status.reason.as_deref() == Some(REASON));
    (!ended || late() || shown()).then(|| Intent::Terminate {
        grace: Grace::OfPod,
        status: FailedStatus { reason: REASON.to_owned(), message: MESSAGE.to_owned() },
    })
}
