//! The phase of a pod, and reason and message that go with it (upstream `pkg/kubelet/kubelet_pods.go` `getPhase`).

use kube_model::core::{ContainerState, ContainerStatus, PodStatus};
use kube_model::observed;
use kube_model::pod::{self, ContainerKind};

use crate::container_status::Statuses;
use crate::context::Context;
use crate::inputs::{FailedStatus, Intent};
use crate::{deadline, precondition, restart};

/// `status.phase`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }

    pub(crate) fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }

    fn terminal(text: &str) -> Option<Self> {
        match text {
            "Succeeded" => Some(Self::Succeeded),
            "Failed" => Some(Self::Failed),
            _ => None,
        }
    }
}

/// Phase, reason and message of a pod.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) phase: Phase,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
    /// [`Intent::Terminate`] of a pod that does not end by itself.
    pub(crate) termination: Option<Intent>,
}

/// The status with which the pod has ended, if it has: ours, or the server's copy.
pub(crate) fn terminal_status(cx: Context<'_>) -> Option<&PodStatus> {
    cx.previous().into_iter().chain(&cx.inputs.pod.status).find(|status| pod::has_ended(status))
}

/// A terminal phase stays, whoever wrote it: ours, or the server's copy of the pod (upstream
/// `pkg/kubelet/kubelet_pods.go` `generateAPIPodStatus`). Else who terminates the pod decides, be it its deadline, then
/// the containers; reason and message stay as long as the phase does.
pub(crate) fn outcome(cx: Context<'_>, statuses: &Statuses) -> Outcome {
    let wanted = Some(cx.inputs.intent).filter(|intent| matches!(intent, Intent::Terminate { .. })).cloned();
    if let Some(rejection) = precondition::rejection(cx) {
        return Outcome {
            phase: Phase::Failed,
            reason: Some(rejection.reason.clone()),
            message: Some(rejection.status_message()),
            termination: wanted,
        };
    }
    let previous = terminal_status(cx).or(cx.previous());
    let previous_phase = previous.and_then(|s| s.phase.as_deref());
    let sticky = previous_phase.and_then(Phase::terminal);
    let phase = sticky.unwrap_or_else(|| match by_containers(cx, statuses) {
        // Of one that never got to run nobody can say that it succeeded.
        phase if cx.is_over() && !phase.is_terminal() => Phase::Failed,
        phase => phase,
    });
    let termination = wanted.or_else(|| deadline::intent(cx, phase.is_terminal()));
    if sticky.is_none()
        && let Some(Intent::Terminate { status: FailedStatus { reason, message }, .. }) = &termination
    {
        let (reason, message) = (Some(reason.clone()), Some(message.clone()));
        return Outcome { phase: Phase::Failed, reason, message, termination };
    }
    let kept = previous.filter(|_| previous_phase == Some(phase.as_str()));
    let (reason, message) = (kept.and_then(|s| s.reason.clone()), kept.and_then(|s| s.message.clone()));
    Outcome { phase, reason, message, termination }
}

fn by_containers(cx: Context<'_>, statuses: &Statuses) -> Phase {
    let (mut initializing, mut waiting, mut running, mut stopped, mut failed, mut restarting) =
        (0, 0, 0, 0, 0, false);
    let mut regular_ran = false;
    for ((kind, container), status) in cx.containers().zip(statuses.iter()) {
        let is_running = status.state.as_ref().is_some_and(|s| s.running.is_some());
        let exit_code = exit_code(status);
        match kind {
            ContainerKind::Init => match exit_code {
                Some(code) if !is_running => {
                    if code != 0 && !restart::by_policy(container, cx.spec, code) {
                        return Phase::Failed;
                    }
                }
                _ => initializing += 1,
            },
            ContainerKind::Sidecar if is_running => {
                running += 1;
                initializing += usize::from(status.started != Some(true));
            }
            ContainerKind::Sidecar if exit_code.is_none() => {
                initializing += 1;
                waiting += 1;
            }
            // One that ended says nothing about the pod.
            ContainerKind::Sidecar => {}
            ContainerKind::Regular => {
                regular_ran |= is_running || exit_code.is_some();
                match exit_code {
                    _ if is_running => running += 1,
                    Some(code) => {
                        stopped += 1;
                        failed += usize::from(code != 0);
                        restarting |= match cx.newest(&container.name) {
                            Some(i) if i.state == observed::ContainerState::Created => true,
                            Some(i) if i.state == observed::ContainerState::Exited => {
                                restart::restarts(cx, kind, container, i)
                            }
                            _ => restart::by_policy(container, cx.spec, code),
                        };
                    }
                    None => waiting += 1,
                }
            }
        }
    }
    // Restarting sidecars do not take an initialised pod back to Pending.
    if (initializing > 0 && !regular_ran) || waiting > 0 {
        return Phase::Pending;
    }
    if running > 0 {
        return Phase::Running;
    }
    if stopped == 0 {
        return Phase::Pending;
    }
    match () {
        // A pod that is deleted restarts nothing; the phase of one whose manifest is gone stays as it was.
        () if restarting && !cx.ends_by_removal() => Phase::Running,
        () if failed == 0 => Phase::Succeeded,
        () => Phase::Failed,
    }
}

/// How the container ended the last time, if it does not run: also one that waits for its restart has ended.
fn exit_code(status: &ContainerStatus) -> Option<i32> {
    let ended = |state: &Option<ContainerState>| state.as_ref()?.terminated.as_ref().map(|t| t.exit_code);
    ended(&status.state).or_else(|| ended(&status.last_state))
}
