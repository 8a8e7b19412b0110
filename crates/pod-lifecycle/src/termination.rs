//! Stopping containers: grace periods and the order of sidecars (upstream
//! `pkg/kubelet/kuberuntime/kuberuntime_termination_order.go`).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use kube_model::Monotonic;
use kube_model::core::{Container, Probe};
use kube_model::k8s_openapi::jiff::SignedDuration;
use kube_model::observed::{self, ContainerState};
use kube_model::pod::{self, ContainerKind};

use crate::context::Context;
use crate::plan::{Action, StopCause};

/// The runtime is never given less time than this between SIGTERM and SIGKILL, in seconds (upstream
/// `minimumGracePeriodInSeconds`).
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
    action(cx, instance, grace, cause, 0)
}

/// Stops all containers side by side: regular and init containers at once, then sidecars in turn, the last one in the
/// spec first; all at once when the grace period is over. Rule: upstream
/// `pkg/kubelet/kuberuntime/kuberuntime_termination_order.go`, but for sidecars that have ended: they put no other out
/// of its turn.
pub(crate) fn stop_all(cx: Context<'_>, grace_ends: Monotonic, cause: StopCause) -> Vec<Action> {
    let left = grace_ends.since(cx.inputs.now.mono);
    let sidecars = cx.containers().enumerate().filter(|(_, (kind, _))| *kind == ContainerKind::Sidecar);
    let positions: BTreeMap<_, _> = sidecars.map(|(at, (_, c))| (c.name.as_str(), at)).collect();
    let sidecar_position = |instance: &observed::Container| positions.get(instance.name.as_str()).copied();
    let running = cx.inputs.observed.containers.iter().filter(|c| c.state == ContainerState::Running);
    let mut running: Vec<_> = running.map(|c| (sidecar_position(c), c)).collect();
    running.sort_by_key(|(position, _)| position.map(Reverse));
    let grace = left.as_secs() + i64::from(left.subsec_nanos() > 0);
    let mut turn = 0;
    let stops = running.into_iter().map(|(position, instance)| {
        turn += u32::from(position.is_some() && left > SignedDuration::ZERO);
        action(cx, instance, grace, cause, turn)
    });
    stops.collect()
}

fn action(
    cx: Context<'_>,
    instance: &observed::Container,
    grace_seconds: i64,
    cause: StopCause,
    turn: u32,
) -> Action {
    let grace_seconds = if cx.inputs.memory.stops_in_vain() { 0 } else { grace_seconds };
    Action::StopContainer {
        id: instance.id.clone(),
        name: instance.name.clone(),
        grace_seconds: grace_seconds.max(MIN_GRACE_SECONDS),
        cause,
        turn,
    }
}
