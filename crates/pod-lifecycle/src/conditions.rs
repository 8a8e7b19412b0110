//! The conditions of a pod (upstream `pkg/kubelet/status/generate.go`).

use kube_model::core::{ContainerStatus, PodCondition};
use kube_model::pod::{self, ContainerKind};

use crate::container_status::{Statuses, time};
use crate::context::Context;
use crate::phase::Phase;
use crate::sandbox;

/// Those that every status has.
const OWN: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// What is found out about one condition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Finding {
    fn bare(holds: bool) -> Self {
        Self { holds, reason: None, message: None }
    }

    fn because(holds: bool, reason: &'static str) -> Self {
        Self { holds, reason: Some(reason), message: None }
    }

    fn no(reason: &'static str, message: String) -> Self {
        Self { holds: false, reason: Some(reason), message: Some(message) }
    }
}

/// All conditions: those of others as the pod's source has them, then ours. The time of the last transition stays as
/// long as the status does.
pub(crate) fn all(cx: Context<'_>, statuses: &Statuses, phase: Phase) -> Vec<PodCondition> {
    let previous: &[PodCondition] = cx.previous().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let mut conditions: Vec<_> = pod::foreign_conditions(cx.inputs.pod.status.as_ref()).cloned().collect();
    let containers_ready = containers_ready(cx, statuses, phase);
    let findings = [
        Finding::bare(sandbox::usable(cx).is_ok()),
        initialized(cx, statuses, phase),
        ready(cx, &containers_ready, &conditions),
        containers_ready,
        Finding::bare(true),
    ];
    let generation = cx.inputs.pod.metadata.generation.filter(|g| *g != 0);
    for (type_, finding) in OWN.into_iter().zip(findings) {
        let status = if finding.holds { "True" } else { "False" };
        let since = previous.iter().find(|c| c.type_ == type_ && c.status == status);
        conditions.push(PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: finding.reason.map(str::to_owned),
            message: finding.message,
            last_transition_time: since
                .and_then(|c| c.last_transition_time.clone())
                .or_else(|| Some(time(cx.inputs.now.wall))),
            last_probe_time: None,
            observed_generation: generation,
        });
    }
    conditions
}

fn initialized(cx: Context<'_>, statuses: &Statuses, phase: Phase) -> Finding {
    if phase == Phase::Succeeded {
        return Finding::because(true, "PodCompleted");
    }
    let ran = |s: &ContainerStatus| {
        let ran =
            |state: &kube_model::core::ContainerState| state.running.is_some() || state.terminated.is_some();
        s.state.as_ref().is_some_and(ran) || s.last_state.as_ref().is_some_and(ran)
    };
    if statuses.regular.iter().any(ran) {
        return Finding::bare(true);
    }
    let incomplete = cx.containers().zip(statuses.iter()).filter(|((kind, _), status)| match kind {
        ContainerKind::Init => !status.ready,
        ContainerKind::Sidecar => status.started != Some(true),
        ContainerKind::Regular => false,
    });
    match names(incomplete.map(|(_, status)| status)) {
        None => Finding::bare(true),
        Some(names) => {
            Finding::no("ContainersNotInitialized", format!("containers with incomplete status: [{names}]"))
        }
    }
}

fn containers_ready(cx: Context<'_>, statuses: &Statuses, phase: Phase) -> Finding {
    match phase {
        Phase::Succeeded => return Finding::because(false, "PodCompleted"),
        Phase::Failed => return Finding::because(false, "PodFailed"),
        Phase::Pending | Phase::Running => {}
    }
    let unready = cx
        .containers()
        .zip(statuses.iter())
        .filter(|((kind, _), s)| *kind != ContainerKind::Init && !s.ready);
    match names(unready.map(|(_, status)| status)) {
        None => Finding::bare(true),
        Some(names) => {
            Finding::no("ContainersNotReady", format!("containers with unready status: [{names}]"))
        }
    }
}

/// As `ContainersReady`, and every readiness gate is open.
fn ready(cx: Context<'_>, containers_ready: &Finding, others: &[PodCondition]) -> Finding {
    if !containers_ready.holds {
        return containers_ready.clone();
    }
    let closed: Vec<_> = cx
        .spec
        .readiness_gates
        .iter()
        .flatten()
        .filter_map(|gate| {
            let gate = &gate.condition_type;
            match others.iter().find(|c| c.type_ == *gate) {
                None => {
                    Some(format!("corresponding condition of pod readiness gate \"{gate}\" does not exist."))
                }
                Some(c) if c.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{gate}\" is not \"True\", but {}",
                    c.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if closed.is_empty() {
        Finding::bare(true)
    } else {
        Finding::no("ReadinessGatesNotReady", closed.join(", "))
    }
}

/// Names separated by blanks, as Go prints a list; `None` without any.
fn names<'a>(statuses: impl Iterator<Item = &'a ContainerStatus>) -> Option<String> {
    let names: Vec<_> = statuses.map(|s| s.name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(" "))
}
