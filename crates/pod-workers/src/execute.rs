//! Carries out the steps of a plan against the runtime.

use std::sync::Arc;

use kube_model::core::Pod;
use kube_model::observed::ObservedPod;
use kube_model::view::EventType;
use pod_lifecycle::{Action, FailureReason};
use tokio::sync::mpsc;

use crate::pod_status::{Reporter, SharedStatus};
use crate::traits::{Runtime, StartContainer, StepError};

mod stop;

/// Whom a step's failure holds back.
pub(crate) enum Step {
    /// One container, its hook included; the others go on.
    Start(String),
    /// The whole pod: the steps after it are void.
    Pod,
    /// Stopping anything: as for the whole pod.
    Stop,
    /// What has this ID and is dead. The steps after it are void: they may build on it.
    Remove(String),
}

/// How a step ended.
pub(crate) struct Done {
    pub(crate) step: Step,
    pub(crate) outcome: Result<(), StepError>,
}

/// Runs `actions` in order, neighbouring stops side by side. Ends early when a step fails that the rest of the
/// plan builds on.
pub(crate) async fn run<R: Runtime>(
    runtime: &R,
    status: &Arc<SharedStatus>,
    pod: &Arc<Pod>,
    observed: &ObservedPod,
    actions: Vec<Action>,
    results: mpsc::Sender<Done>,
) {
    let mut rest = actions.as_slice();
    while let Some(first) = rest.first() {
        let stops = rest.iter().take_while(|a| matches!(a, Action::StopContainer { .. })).count();
        let ended = if stops > 0 {
            status.doing(Some(describe_stops(&rest[..stops])));
            let outcome = stop::side_by_side(runtime, status, pod, observed, &rest[..stops]).await;
            rest = &rest[stops..];
            Done { step: Step::Stop, outcome }
        } else {
            status.doing(Some(describe(first)));
            let done = one(runtime, status, pod, observed, first).await;
            rest = &rest[1..];
            done
        };
        let void = ended.outcome.is_err() && !matches!(ended.step, Step::Start(_));
        // The channel holds as many as there are actions; it is closed only when nobody asks any more.
        let _ = results.send(ended).await;
        if void {
            return;
        }
    }
}

async fn one<R: Runtime>(
    runtime: &R,
    status: &Arc<SharedStatus>,
    pod: &Arc<Pod>,
    observed: &ObservedPod,
    action: &Action,
) -> Done {
    let reporter = |container: Option<&str>| Reporter::new(Arc::clone(status), container);
    let (step, outcome) = match action {
        Action::CreateSandbox { attempt } => {
            if !observed.sandboxes.is_empty() {
                // The kubelet's text, though what is killed has been.
                let text = "Pod sandbox changed, it will be killed and re-created.";
                status.event(EventType::Normal, "SandboxChanged", None, text.to_owned());
            }
            let result = runtime.create_sandbox(pod, *attempt, &reporter(None)).await;
            if let Err(e) = &result {
                let event = e.reason.as_str();
                status.event(EventType::Warning, event, None, format!("Failed to create pod sandbox: {e}"));
            }
            (Step::Pod, result)
        }
        Action::StopSandbox { id } => (Step::Stop, runtime.stop_sandbox(&observed.uid, id).await),
        Action::RemoveSandbox { id } => {
            (Step::Remove(id.clone()), runtime.remove_sandbox(&observed.uid, id).await)
        }
        Action::StartContainer { name, restart_count, sandbox_id } => {
            let outcome = match observed.sandboxes.iter().find(|s| s.id == *sandbox_id) {
                Some(sandbox) => {
                    let request = StartContainer { pod, name, restart_count: *restart_count, sandbox };
                    runtime.start_container(request, &reporter(Some(name))).await
                }
                None => Err(StepError::new(
                    FailureReason::CreateContainerError,
                    format!("sandbox {sandbox_id} is not in the observation that the plan was made from"),
                )),
            };
            (Step::Start(name.clone()), outcome)
        }
        Action::RunPostStartHook { id, name } => {
            let container = observed.containers.iter().find(|c| c.id == *id);
            let running =
                container.and_then(|c| Some((c, observed.sandboxes.iter().find(|s| s.id == c.sandbox_id)?)));
            let outcome = match running {
                Some((container, sandbox)) => {
                    runtime.post_start(pod, container, sandbox, &reporter(Some(name))).await
                }
                None => Ok(()),
            };
            (Step::Start(name.clone()), outcome)
        }
        // A stop alone is one side by side with nothing.
        Action::StopContainer { .. } => {
            let stop = std::slice::from_ref(action);
            (Step::Stop, stop::side_by_side(runtime, status, pod, observed, stop).await)
        }
        Action::RemoveContainer { id, .. } => {
            let outcome = match observed.containers.iter().find(|c| c.id == *id) {
                Some(container) => runtime.remove_container(observed, container).await,
                None => Ok(()),
            };
            (Step::Remove(id.clone()), outcome)
        }
    };
    Done { step, outcome }
}

fn describe_stops(stops: &[Action]) -> String {
    let mut text = String::from("stopping");
    for stop in stops {
        if let Action::StopContainer { name, grace_seconds, .. } = stop {
            let comma = if text.ends_with("stopping") { "" } else { "," };
            text.push_str(&format!("{comma} container {name} (up to {grace_seconds} s)"));
        }
    }
    text
}

fn describe(action: &Action) -> String {
    match action {
        Action::CreateSandbox { attempt } => format!("creating sandbox (attempt {attempt})"),
        Action::StopSandbox { id } => format!("stopping sandbox {id}"),
        Action::RemoveSandbox { id } => format!("removing sandbox {id}"),
        Action::StartContainer { name, .. } => format!("starting container {name}"),
        Action::RunPostStartHook { name, .. } => {
            format!("running the postStart hook of container {name} again: the agent was cut off in it")
        }
        Action::StopContainer { name, .. } => format!("stopping container {name}"),
        Action::RemoveContainer { name, id } => format!("removing dead container {name} ({id})"),
    }
}
