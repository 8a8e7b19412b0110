//! Whether a container is kept, started, stopped or left alone (upstream
//! `pkg/kubelet/kuberuntime/kuberuntime_manager.go`).

use kube_model::core::{Container, ContainerRestartRule, PodSpec};
use kube_model::observed::{self, ContainerState};
use kube_model::pod::ContainerKind;
use kube_model::probe::ProbeOutcome;

use crate::context::Context;
use crate::garbage;
use crate::plan::StopCause;

/// Exit code of a container of which nobody knows how it ended.
pub(crate) const EXIT_UNKNOWN: i32 = 137;

/// What is to become of a container whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It runs as desired.
    Keep,
    /// It is to run and does not.
    Start,
    /// It has to stop; what then follows from how it ended.
    Stop(StopCause),
    /// It may or may not run: it has to be gone before a new instance starts.
    Replace,
    /// It ended and stays so.
    Done,
}

/// Decides about one container by its deciding instance, see [`Context::instance`].
pub(crate) fn verdict(cx: Context<'_>, kind: ContainerKind, container: &Container) -> Verdict {
    let Some(instance) = cx.instance(kind, &container.name) else {
        let lost = lost_exit_code(cx, kind, &container.name);
        return if lost.is_none_or(|code| by_policy(container, cx.spec, code)) {
            Verdict::Start
        } else {
            Verdict::Done
        };
    };
    match instance.state {
        ContainerState::Running => match stop_cause(cx, kind, container, instance) {
            Some(cause) => Verdict::Stop(cause),
            None => Verdict::Keep,
        },
        // The runtime failed to start it, or the agent ended in between.
        ContainerState::Created => Verdict::Start,
        ContainerState::Exited if restarts(cx, kind, container, instance) => Verdict::Start,
        ContainerState::Unknown if by_policy(container, cx.spec, EXIT_UNKNOWN) => Verdict::Replace,
        ContainerState::Exited | ContainerState::Unknown => Verdict::Done,
    }
}

/// Whether every regular container has ended for good: then the pod has, for sidecars alone do not keep it alive.
pub(crate) fn all_done(cx: Context<'_>) -> bool {
    let regular = |(kind, _): &(ContainerKind, _)| *kind == ContainerKind::Regular;
    cx.containers().filter(regular).all(|(kind, container)| verdict(cx, kind, container) == Verdict::Done)
}

/// Whether an ended instance is followed by another one.
pub(crate) fn restarts(
    cx: Context<'_>,
    kind: ContainerKind,
    container: &Container,
    ended: &observed::Container,
) -> bool {
    match kind {
        ContainerKind::Init => ended.exit_code != 0 && by_policy(container, cx.spec, ended.exit_code),
        ContainerKind::Sidecar => true,
        ContainerKind::Regular => {
            cx.definition_changed(container, ended)
                || failed_probe(cx, container, ended).is_some() && policy(container, cx.spec) != "Never"
                || by_policy(container, cx.spec, ended.exit_code)
        }
    }
}

/// Whether the policies restart a container that ended with this code: `restartPolicyRules`, then the
/// container's `restartPolicy`, then the pod's. Rules count only beside a `restartPolicy` of the container.
///
/// A matching rule with action `RestartAllContainers` restarts only this container.
pub(crate) fn by_policy(container: &Container, spec: &PodSpec, exit_code: i32) -> bool {
    let ruled = container.restart_policy.is_some()
        && container.restart_policy_rules.iter().flatten().any(|rule| matches(rule, exit_code));
    ruled
        || match policy(container, spec) {
            "Never" => false,
            "OnFailure" => exit_code != 0,
            _ => true,
        }
}

/// Whether any container of the pod may ever run a second time.
pub(crate) fn any_may_restart(spec: &PodSpec) -> bool {
    spec.init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .any(|c| policy(c, spec) != "Never" || c.restart_policy.is_some() && c.restart_policy_rules.is_some())
}

fn policy<'a>(container: &'a Container, spec: &'a PodSpec) -> &'a str {
    container.restart_policy.as_deref().or(spec.restart_policy.as_deref()).unwrap_or("Always")
}

fn matches(rule: &ContainerRestartRule, exit_code: i32) -> bool {
    rule.exit_codes.as_ref().is_some_and(|codes| {
        let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
        match codes.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    })
}

/// Why a running instance has to stop.
fn stop_cause(
    cx: Context<'_>,
    kind: ContainerKind,
    container: &Container,
    running: &observed::Container,
) -> Option<StopCause> {
    if !cx.in_newest_sandbox(running) {
        return Some(StopCause::SandboxChanged);
    }
    if kind == ContainerKind::Init {
        return None;
    }
    if cx.definition_changed(container, running) {
        return Some(StopCause::DefinitionChanged);
    }
    failed_probe(cx, container, running)
}

fn failed_probe(cx: Context<'_>, container: &Container, instance: &observed::Container) -> Option<StopCause> {
    let outcomes = cx.inputs.probes.of(&instance.id);
    if container.liveness_probe.is_some() && outcomes.liveness == Some(ProbeOutcome::Failure) {
        Some(StopCause::LivenessFailed)
    } else if container.startup_probe.is_some() && outcomes.startup == Some(ProbeOutcome::Failure) {
        Some(StopCause::StartupFailed)
    } else {
        None
    }
}

/// How a regular container ended that has run and that the runtime no longer knows.
pub(crate) fn lost_exit_code(cx: Context<'_>, kind: ContainerKind, name: &str) -> Option<i32> {
    if kind != ContainerKind::Regular {
        return None;
    }
    let state = cx.previous_container(name)?.state.as_ref()?;
    match (&state.terminated, &state.running) {
        (Some(terminated), _) => Some(terminated.exit_code),
        (None, Some(_)) => Some(EXIT_UNKNOWN),
        (None, None) => None,
    }
}

/// The restart count of the next instance: one more than that of the newest that ran. With no instance left
/// the previous status tells.
pub(crate) fn next_restart_count(cx: Context<'_>, name: &str) -> u32 {
    if let Some(newest) = cx.newest(name) {
        // One that never ran is removed, and its number used again; if it can be.
        return match newest.state {
            ContainerState::Created if !garbage::is_kept(cx, &newest.id) => newest.restart_count,
            _ => newest.restart_count.saturating_add(1),
        };
    }
    let Some(previous) = cx.previous_container(name) else { return 0 };
    let count = u32::try_from(previous.restart_count).unwrap_or(0);
    let state = previous.state.as_ref();
    // A lost instance has already been counted: it is the only ended one without an ID.
    let counted = previous.container_id.is_none();
    let ran = state.is_some_and(|s| s.running.is_some() || s.terminated.is_some());
    if ran && !counted { count.saturating_add(1) } else { count }
}
