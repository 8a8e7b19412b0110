//! Stopping containers: grace periods and the order of sidecars (reference 4.6).

use kube_model::Monotonic;
use kube_model::core::{Container, Probe};
use kube_model::k8s_openapi::jiff::SignedDuration;
use kube_model::observed::{self, ContainerState};
use kube_model::pod::{self, ContainerKind};

use crate::context::Context;
use crate::plan::{Action, StopCause};

/// The runtime is never given less time than this between SIGTERM and SIGKILL, in seconds (Top 40 #13).
const MIN_GRACE_SECONDS: i64 = 2;

/// Stops one container while its pod lives on.
pub(crate) fn stop(
    cx: Context<'_>,
    instance: &observed::Container,
    container: Option<&Container>,
    cause: StopCause,
) -> Action {
    let own = |probe: Option<&Probe>| probe.and_then(|p| p.termination_grace_period_seconds);
    let by_probe = container.and_then(|c| match cause {
        StopCause::LivenessFailed => own(c.liveness_probe.as_ref()),
        StopCause::StartupFailed => own(c.startup_probe.as_ref()),
        _ => None,
    });
    let grace = by_probe.unwrap_or_else(|| pod::termination_grace_seconds(cx.inputs.pod));
    action(instance, grace, cause)
}

/// The next containers to stop when all have to.
pub(crate) struct Wave {
    pub(crate) stops: Vec<Action>,
    /// Whether nothing runs once they have stopped.
    pub(crate) is_last: bool,
}

/// Regular and init containers side by side, then sidecars one by one, the last one in the spec first, as long
/// as the grace period lasts; then all that is left at once.
pub(crate) fn wave(cx: Context<'_>, grace_ends: Monotonic, cause: StopCause) -> Wave {
    let running: Vec<_> =
        cx.inputs.observed.containers.iter().filter(|c| c.state == ContainerState::Running).collect();
    let sidecar_position = |instance: &observed::Container| {
        cx.containers().position(|(kind, c)| kind == ContainerKind::Sidecar && c.name == instance.name)
    };
    let left = grace_ends.since(cx.inputs.now.mono);
    let mut now: Vec<_> = running.iter().copied().filter(|c| sidecar_position(c).is_none()).collect();
    if left <= SignedDuration::ZERO {
        now.clone_from(&running);
    } else if now.is_empty() {
        let last = running.iter().copied().max_by_key(|c| sidecar_position(c));
        now.extend(last);
    }
    let grace = left.as_secs() + i64::from(left.subsec_nanos() > 0);
    let stops = now.iter().map(|c| action(c, grace, cause)).collect();
    Wave { stops, is_last: now.len() == running.len() }
}

fn action(instance: &observed::Container, grace_seconds: i64, cause: StopCause) -> Action {
    Action::StopContainer {
        id: instance.id.clone(),
        name: instance.name.clone(),
        grace_seconds: grace_seconds.max(MIN_GRACE_SECONDS),
        cause,
    }
}
