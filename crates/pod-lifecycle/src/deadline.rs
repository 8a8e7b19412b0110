//! When a pod started, and `spec.activeDeadlineSeconds` (reference 4.7).

use kube_model::Timestamp;
use kube_model::k8s_openapi::jiff::SignedDuration;

use crate::context::Context;

/// `status.reason` of a pod that ran too long.
pub const REASON: &str = "DeadlineExceeded";
/// `status.message` of a pod that ran too long.
pub(crate) const MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

/// `status.startTime`: when the agent first saw the pod. After a restart of the agent its oldest sandbox tells.
pub(crate) fn start_time(cx: Context<'_>) -> Timestamp {
    let known = cx.previous().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
    let oldest = || cx.inputs.observed.sandboxes.last().map(|s| s.created_at);
    known.or_else(oldest).unwrap_or(cx.inputs.now)
}

/// When the pod has to end; `None` without a deadline, or with one beyond all time.
pub(crate) fn at(cx: Context<'_>) -> Option<Timestamp> {
    let seconds = cx.spec.active_deadline_seconds?;
    start_time(cx).checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// Whether the deadline ended the pod: it has passed, and the pod had not ended by itself before.
pub(crate) fn exceeded(cx: Context<'_>, ended: bool) -> bool {
    let Some(deadline) = at(cx).filter(|d| *d <= cx.inputs.now) else { return false };
    let late = || cx.inputs.observed.containers.iter().any(|c| c.finished_at.is_some_and(|t| t >= deadline));
    !ended || late()
}
