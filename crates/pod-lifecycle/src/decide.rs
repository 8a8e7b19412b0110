//! The plan: one decision after the other, from the whole pod to single containers (upstream
//! `pkg/kubelet/kuberuntime/kuberuntime_manager.go` `computePodActions`).

use kube_model::Monotonic;
use kube_model::core::Container;
use kube_model::k8s_openapi::jiff::SignedDuration;
use kube_model::observed::{self, ContainerState, Sandbox, SandboxState};
use kube_model::pod::{self, ContainerKind};
use kube_model::view::Wait;

use crate::context::{Context, Index};
use crate::inputs::{FailedStatus, Failure, FailureReason, Grace, Inputs, Intent};
use crate::plan::{Action, Plan, Progress, StopCause};
use crate::restart::{self, Verdict};
use crate::{
    container_status, deadline, ephemeral, garbage, init, phase, precondition, sandbox, termination, waiting,
};

/// What to do next for a pod. Pure: the same inputs give the same plan.
///
/// A plan goes as far as can be known without looking at the pod again. Any part of it may have been executed
/// when the next plan is made.
pub fn plan(inputs: &Inputs<'_>) -> Plan {
    let mut draft = Draft::default();
    let index = Index::new(inputs);
    let progress = match (Context::new(inputs, &index), inputs.intent) {
        (Some(cx), Intent::Run | Intent::Terminate { .. }) => run(cx, &mut draft),
        (Some(cx), Intent::Remove { since, grace_seconds }) => remove(cx, &mut draft, *since, *grace_seconds),
        (None, _) => {
            draft.waits.push(wait(None, "Unsupported", "the pod has no spec".to_owned()));
            Progress::Going
        }
    };
    draft.waits.append(&mut draft.garbage);
    Plan {
        actions: draft.actions,
        wake_at: draft.wake_at.filter(|at| *at > inputs.now.mono),
        waits: draft.waits,
        progress,
    }
}

#[derive(Default)]
struct Draft {
    actions: Vec<Action>,
    wake_at: Option<Monotonic>,
    waits: Vec<Wait<Monotonic>>,
    /// Waits of what is only to be removed: nothing else depends on them.
    garbage: Vec<Wait<Monotonic>>,
}

impl Draft {
    fn wake(&mut self, at: Monotonic) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }

    /// Waits, and looks again when the wait is over.
    fn wait(&mut self, wait: Wait<Monotonic>) {
        if let Some(until) = wait.until {
            self.wake(until);
        }
        self.waits.push(wait);
    }

    /// Removes what is dead, but for what could not be removed a moment ago.
    fn clear_away(&mut self, cx: Context<'_>, dead: Vec<Action>) {
        for action in dead {
            let failure = match &action {
                Action::RemoveContainer { id, .. } | Action::RemoveSandbox { id } => garbage::pending(cx, id),
                _ => None,
            };
            match failure {
                Some(failure) => {
                    self.wake(failure.retry_at);
                    self.garbage.push(after_failure(failure, None));
                }
                None => self.actions.push(action),
            }
        }
    }
}

fn run(cx: Context<'_>, draft: &mut Draft) -> Progress {
    let outcome = phase::outcome(cx, &container_status::all(cx));
    if outcome.phase.is_terminal() {
        return end(cx, draft, outcome.termination.as_ref());
    }
    if let Some(at) = deadline::at(cx) {
        draft.wake(at);
    }
    let progress = go_on(cx, draft);
    draft.waits.extend(ephemeral::waits(cx));
    progress
}

/// Stops what still runs of a pod that has ended, or that is terminated.
fn end(cx: Context<'_>, draft: &mut Draft, termination: Option<&Intent>) -> Progress {
    let (grace, status) = match termination {
        Some(Intent::Terminate { grace, status }) => (*grace, Some(status)),
        _ => (Grace::OfPod, None),
    };
    stop_all(cx, draft, grace, StopCause::PodEnded);
    if let Some(FailedStatus { reason, message }) = status.filter(|_| cx.inputs.observed.any_running()) {
        let until = match grace {
            Grace::OfPod => None,
            Grace::Until(end) => Some(end),
        };
        draft.waits.push(Wait { until, ..terminating(&format!("{reason}: {message}; ")) });
    }
    draft.clear_away(cx, garbage::of_living(cx));
    let ended = draft.actions.is_empty() && draft.waits.is_empty();
    if ended { Progress::Ended } else { Progress::Going }
}

fn go_on(cx: Context<'_>, draft: &mut Draft) -> Progress {
    if !cx.inputs.preconditions.is_empty() {
        return keep_what_runs(cx, draft);
    }
    match sandbox::usable(cx) {
        Err(attempt) => replace_sandbox(cx, draft, attempt),
        Ok(sandbox) => run_containers(cx, draft, sandbox),
    }
}

/// The pod lacks something: what runs stays as it is, whoever started it, until the pod ends by itself.
fn keep_what_runs(cx: Context<'_>, draft: &mut Draft) -> Progress {
    if restart::all_done(cx) {
        stop_pod(cx, draft, StopCause::PodEnded);
    } else {
        // No wake-up of its own: who works on it tells when it is there.
        draft.waits.extend(precondition::waits(cx));
    }
    Progress::Going
}

/// Stops what runs, takes the network down, and creates a new sandbox: each when what comes before is seen to
/// be done.
fn replace_sandbox(cx: Context<'_>, draft: &mut Draft, attempt: u32) -> Progress {
    if !sandbox::may_be_created(cx, attempt) {
        stop_pod(cx, draft, StopCause::PodEnded);
        if draft.actions.is_empty() && draft.waits.is_empty() {
            let message = "the sandbox is gone, and the restart policy allows no new one".to_owned();
            draft.waits.push(wait(None, "SandboxChanged", message));
        }
        return Progress::Going;
    }
    stop_pod(cx, draft, StopCause::SandboxChanged);
    if draft.actions.is_empty() && draft.waits.is_empty() && may_start(cx, draft) {
        // One that died by itself still holds its network; before another attempt that has been done.
        if cx.inputs.memory.pod_failure.is_none() {
            draft.actions.extend(cx.inputs.observed.sandboxes.first().map(stop_sandbox));
        }
        draft.actions.push(Action::CreateSandbox { attempt });
    }
    Progress::Going
}

fn run_containers(cx: Context<'_>, draft: &mut Draft, sandbox: &Sandbox) -> Progress {
    let with_verdict = |(kind, container)| (kind, container, restart::verdict(cx, kind, container));
    let regular: Vec<_> =
        cx.containers().filter(|(kind, _)| *kind == ContainerKind::Regular).map(with_verdict).collect();
    if regular.iter().all(|(.., verdict)| *verdict == Verdict::Done) {
        // Sidecars alone do not keep a pod alive, and there is nothing to initialise it for.
        stop_pod(cx, draft, StopCause::PodEnded);
        return Progress::Going;
    }
    let init = init::progress(cx);
    let regular = if init.initialized { regular } else { Vec::new() };
    let due: Vec<_> = init.due.into_iter().map(with_verdict).chain(regular).collect();

    for (kind, container, verdict) in &due {
        let cause = match verdict {
            Verdict::Stop(cause) => *cause,
            Verdict::Replace => StopCause::StateUnknown,
            Verdict::Keep | Verdict::Start | Verdict::Done => continue,
        };
        if let Some(instance) = cx.instance(*kind, &container.name) {
            draft.actions.push(termination::stop(cx, instance, Some(container), cause));
        }
    }
    for instance in cx.inputs.observed.containers.iter().filter(|i| i.state == ContainerState::Running) {
        if let Some(cause) = stray(cx, instance) {
            draft.actions.push(termination::stop(cx, instance, None, cause));
        }
    }
    if hold_after_failure(cx, draft, Stopping::Yes) {
        draft.actions.clear();
        return Progress::Going;
    }
    for (kind, container, _) in due.iter().filter(|(.., verdict)| *verdict == Verdict::Keep) {
        resume_hook(cx, draft, *kind, container);
    }
    let starting: Vec<_> =
        due.iter().filter(|(.., verdict)| matches!(verdict, Verdict::Start | Verdict::Replace)).collect();
    if !starting.is_empty() && may_start(cx, draft) {
        for (kind, container, _) in starting {
            start(cx, draft, *kind, container, sandbox);
        }
    }
    draft.clear_away(cx, garbage::of_living(cx));
    if !init.initialized {
        draft
            .waits
            .extend(due.last().and_then(|(kind, container, verdict)| waits_for(*kind, container, *verdict)));
    }
    let settled = init.initialized && draft.actions.is_empty() && draft.waits.is_empty();
    if settled { Progress::Settled } else { Progress::Going }
}

/// What initialisation waits for when everything that is due runs.
fn waits_for(kind: ContainerKind, container: &Container, verdict: Verdict) -> Option<Wait<Monotonic>> {
    let what = match (verdict, kind) {
        (Verdict::Keep, ContainerKind::Sidecar) => "its startup probe has not succeeded",
        (Verdict::Keep, _) => "the init container has not ended",
        _ => return None,
    };
    Some(wait(Some(container), "PodInitializing", what.to_owned()))
}

/// Runs the hook of a container that was cut off in it, unless a failed attempt to stop that container holds it back.
fn resume_hook(cx: Context<'_>, draft: &mut Draft, kind: ContainerKind, container: &Container) {
    let Some(instance) = cx.instance(kind, &container.name) else { return };
    if !cx.inputs.memory.is_hooked(&container.name) {
        return;
    }
    match waiting::back_off(cx, container) {
        Some(wait) => draft.wait(wait),
        None => draft
            .actions
            .push(Action::RunPostStartHook { id: instance.id.clone(), name: container.name.clone() }),
    }
}

/// Starts a container unless its own back-off forbids it.
fn start(cx: Context<'_>, draft: &mut Draft, kind: ContainerKind, container: &Container, sandbox: &Sandbox) {
    if let Some(failure) = cx.inputs.memory.failures.get(&container.name)
        && let Some(at) = waiting::pull_error_shown_until(failure)
        && at > cx.inputs.now.mono
    {
        draft.wake(at);
    }
    if let Some(wait) = waiting::back_off(cx, container) {
        draft.wait(wait);
        return;
    }
    let never_ran = cx.instance(kind, &container.name).filter(|i| i.state == ContainerState::Created);
    let never_ran = never_ran.filter(|instance| !garbage::is_kept(cx, &instance.id));
    if let Some(failure) = never_ran.and_then(|instance| garbage::pending(cx, &instance.id)) {
        return draft.wait(after_failure(failure, Some(container)));
    }
    draft.actions.extend(never_ran.map(garbage::remove));
    draft.actions.push(Action::StartContainer {
        name: container.name.clone(),
        restart_count: restart::next_restart_count(cx, &container.name),
        sandbox_id: sandbox.id.clone(),
    });
}

/// Whether anything may be created for the pod now; says why if not.
fn may_start(cx: Context<'_>, draft: &mut Draft) -> bool {
    if hold_after_failure(cx, draft, Stopping::No) {
        return false;
    }
    match &cx.inputs.node.network_not_ready {
        // No wake-up of its own: the node tells when its network is there.
        Some(why) if !pod::host_network(cx.spec) => {
            draft.waits.push(wait(None, "NetworkNotReady", format!("network is not ready: {why}")));
            false
        }
        _ => true,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopping {
    Yes,
    No,
}

/// Whether the last failure of the pod as a whole keeps it from going on. Only a failure to stop delays stopping.
fn hold_after_failure(cx: Context<'_>, draft: &mut Draft, stopping: Stopping) -> bool {
    let failure = cx.inputs.memory.pod_failure.as_ref().filter(|f| f.retry_at > cx.inputs.now.mono);
    let Some(failure) =
        failure.filter(|f| stopping == Stopping::No || f.reason == FailureReason::FailedKillPod)
    else {
        return false;
    };
    draft.wait(after_failure(failure, None));
    true
}

/// The wait for the next attempt.
fn after_failure(failure: &Failure, container: Option<&Container>) -> Wait<Monotonic> {
    Wait {
        since: Some(failure.at),
        until: Some(failure.retry_at),
        ..wait(container, failure.reason.as_str(), failure.message.clone())
    }
}

/// Stops all containers, and then the sandboxes, with the whole grace period from now on.
fn stop_pod(cx: Context<'_>, draft: &mut Draft, cause: StopCause) {
    stop_all(cx, draft, Grace::OfPod, cause);
}

fn stop_all(cx: Context<'_>, draft: &mut Draft, grace: Grace, cause: StopCause) {
    let grace_ends = match grace {
        Grace::OfPod => {
            cx.inputs.now.mono + SignedDuration::from_secs(pod::termination_grace_seconds(cx.inputs.pod))
        }
        Grace::Until(end) => end,
    };
    let stops = termination::stop_all(cx, grace_ends, cause);
    let mut ready = cx
        .inputs
        .observed
        .sandboxes
        .iter()
        .filter(|s| s.state == SandboxState::Ready)
        .map(stop_sandbox)
        .peekable();
    if (stops.is_empty() && ready.peek().is_none()) || hold_after_failure(cx, draft, Stopping::Yes) {
        return;
    }
    draft.actions.extend(stops);
    draft.actions.extend(ready);
}

/// Stops, then removes all. Containers are removed when they are seen to have ended, so that how they ended is
/// known.
fn remove(cx: Context<'_>, draft: &mut Draft, since: Monotonic, grace_seconds: Option<i64>) -> Progress {
    let observed = cx.inputs.observed;
    if observed.is_gone() {
        return Progress::Removed;
    }
    if garbage::is_left(cx) {
        return Progress::Left;
    }
    let grace = grace_seconds.unwrap_or_else(|| pod::termination_grace_seconds(cx.inputs.pod));
    let grace_ends = since + SignedDuration::from_secs(grace);
    let waits = draft.waits.len();
    stop_all(cx, draft, Grace::Until(grace_ends), StopCause::PodRemoved);
    if observed.any_running() || draft.waits.len() > waits {
        draft.waits.push(Wait { since: Some(since), until: Some(grace_ends), ..terminating("") });
        return Progress::Going;
    }
    draft.clear_away(cx, garbage::of_removed(cx));
    Progress::Going
}

fn terminating(why: &str) -> Wait<Monotonic> {
    wait(None, "Terminating", format!("{why}containers have the grace period to end"))
}

fn stop_sandbox(sandbox: &Sandbox) -> Action {
    Action::StopSandbox { id: sandbox.id.clone() }
}

/// Why a running instance that decides about no container has to stop.
fn stray(cx: Context<'_>, running: &observed::Container) -> Option<StopCause> {
    let Some(kind) = cx.kind(&running.name) else {
        return (!cx.is_known(&running.name)).then_some(StopCause::NotInSpec);
    };
    if cx.instance(kind, &running.name).is_some_and(|deciding| deciding.id == running.id) {
        return None;
    }
    Some(if cx.in_newest_sandbox(running) { StopCause::StateUnknown } else { StopCause::SandboxChanged })
}

fn wait(container: Option<&Container>, reason: &str, message: String) -> Wait<Monotonic> {
    Wait {
        container: container.map(|c| c.name.clone()),
        reason: reason.to_owned(),
        message,
        since: None,
        until: None,
    }
}
