//! What a container that does not run waits for, in the kubelet's words (upstream `pkg/kubelet/kubelet_pods.go`).

use kube_model::Monotonic;
use kube_model::core::{Container, ContainerState, ContainerStateWaiting};
use kube_model::k8s_openapi::jiff::SignedDuration;
use kube_model::view::Wait;

use crate::backoff::CrashWait;
use crate::context::Context;
use crate::inputs::{Failure, FailureReason};

/// For this long after a failed pull its own error is shown, then `ImagePullBackOff`, in seconds. The kubelet
/// changes at its next sync, 10 to 15 s later.
const SHOW_PULL_ERROR_SECONDS: i64 = 5;

/// The state of a container that waits.
pub(crate) fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..ContainerState::default()
    }
}

/// When what is shown of a failed pull changes without a new attempt.
pub(crate) fn pull_error_shown_until(failure: &Failure) -> Option<Monotonic> {
    if !failure.reason.is_pull() || failure.reason == FailureReason::ImagePullBackOff {
        return None;
    }
    let until = failure.at + SignedDuration::from_secs(SHOW_PULL_ERROR_SECONDS);
    (until < failure.retry_at).then_some(until)
}

/// Reason and message of a failed attempt as shown at `now`.
pub(crate) fn describe_failure(
    container: &Container,
    failure: &Failure,
    now: Monotonic,
) -> (&'static str, String) {
    let reason = failure.reason.as_str();
    if pull_error_shown_until(failure).is_some_and(|t| t <= now) {
        let image = container.image.as_deref().unwrap_or_default();
        let message = format!("Back-off pulling image \"{image}\": {reason}: {}", failure.message);
        return (FailureReason::ImagePullBackOff.as_str(), message);
    }
    (reason, failure.message.clone())
}

/// Reason and message of a crash back-off.
pub(crate) fn describe_crash(
    cx: Context<'_>,
    container: &Container,
    wait: CrashWait,
) -> (&'static str, String) {
    let meta = &cx.inputs.pod.metadata;
    let message = format!(
        "back-off {} restarting failed container={} pod={}_{}({})",
        go_duration(wait.delay_seconds),
        container.name,
        meta.name.as_deref().unwrap_or_default(),
        meta.namespace.as_deref().unwrap_or_default(),
        meta.uid.as_deref().unwrap_or_default(),
    );
    ("CrashLoopBackOff", message)
}

/// What keeps a container that is due from being started at this moment.
pub(crate) fn back_off(cx: Context<'_>, container: &Container) -> Option<Wait<Monotonic>> {
    let now = cx.inputs.now.mono;
    let memory = cx.inputs.memory;
    let crash = memory.crash_backoff.get(&container.name).and_then(|b| b.pending(now));
    let failure = memory.failures.get(&container.name).filter(|f| f.retry_at > now);
    let (reason, message, since, until) = match (failure, crash) {
        (Some(f), crash) => {
            let (reason, message) = describe_failure(container, f, now);
            (reason, message, f.at, crash.map_or(f.retry_at, |c| c.until.max(f.retry_at)))
        }
        (None, Some(c)) => {
            let (reason, message) = describe_crash(cx, container, c);
            (reason, message, c.since, c.until)
        }
        (None, None) => return None,
    };
    Some(Wait {
        container: Some(container.name.clone()),
        reason: reason.to_owned(),
        message,
        since: Some(since),
        until: Some(until),
    })
}

/// Whole seconds as Go prints a duration: `10s`, `1m20s`, `5m0s`.
fn go_duration(seconds: i64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}
