//! What is dead and not needed any more. A removal that fails holds back nothing else, and in the end
//! not even the end of the pod, as in the kubelet, whose garbage collector comes later: upstream
//! `pkg/kubelet/kuberuntime/kuberuntime_gc.go`.

use std::collections::BTreeSet;

use kube_model::observed::{self, ContainerState, Sandbox, SandboxState};

use crate::context::Context;
use crate::inputs::Failure;
use crate::memory::ATTEMPTS;
use crate::plan::Action;

/// Ended instances other than the newest ended one of each container, those of containers that the spec does not have,
/// and stopped sandboxes that are not the newest and have no containers.
pub(crate) fn of_living(cx: Context<'_>) -> Vec<Action> {
    let observed = cx.inputs.observed;
    let mut kept = BTreeSet::new();
    let needless = observed.containers.iter().filter(|instance| {
        let known = cx.is_known(&instance.name);
        let newest = || cx.newest(&instance.name).is_some_and(|n| n.id == instance.id);
        match instance.state {
            ContainerState::Running => false,
            ContainerState::Exited => !known || !kept.insert(instance.name.as_str()),
            ContainerState::Created | ContainerState::Unknown => !known || !newest(),
        }
    });
    let needless: Vec<_> = needless.map(remove).collect();
    let unused =
        observed.sandboxes.iter().skip(1).filter(|s| s.state == SandboxState::NotReady && is_empty(cx, s));
    needless.into_iter().chain(unused.map(remove_sandbox)).collect()
}

/// Everything, of a pod of which nothing runs.
pub(crate) fn of_removed(cx: Context<'_>) -> Vec<Action> {
    let observed = cx.inputs.observed;
    let held = |s: &&Sandbox| {
        observed.containers.iter().any(|c| c.sandbox_id == s.id && pending(cx, &c.id).is_some())
    };
    let sandboxes = observed.sandboxes.iter().filter(|s| !held(s)).map(remove_sandbox);
    observed.containers.iter().map(remove).chain(sandboxes).collect()
}

/// The last attempt to remove this container or sandbox, while it is not yet to be tried again.
pub(crate) fn pending<'a>(cx: Context<'a>, id: &str) -> Option<&'a Failure> {
    cx.inputs.memory.removals.get(id).filter(|failure| failure.retry_at > cx.inputs.now.mono)
}

/// Whether this container or sandbox could not be removed, each time that it was tried.
pub(crate) fn is_kept(cx: Context<'_>, id: &str) -> bool {
    cx.inputs.memory.removals.get(id).is_some_and(|failure| failure.attempts >= ATTEMPTS)
}

/// Whether nothing of the pod runs and all that there is of it could not be removed, each time that it was tried.
pub(crate) fn is_left(cx: Context<'_>) -> bool {
    let observed = cx.inputs.observed;
    !observed.is_gone()
        && !observed.any_running()
        && observed.containers.iter().all(|c| is_kept(cx, &c.id))
        && observed
            .sandboxes
            .iter()
            .all(|s| s.state == SandboxState::NotReady && (is_kept(cx, &s.id) || !is_empty(cx, s)))
}

fn is_empty(cx: Context<'_>, sandbox: &Sandbox) -> bool {
    !cx.inputs.observed.containers.iter().any(|c| c.sandbox_id == sandbox.id)
}

pub(crate) fn remove(instance: &observed::Container) -> Action {
    Action::RemoveContainer { id: instance.id.clone(), name: instance.name.clone() }
}

fn remove_sandbox(sandbox: &Sandbox) -> Action {
    Action::RemoveSandbox { id: sandbox.id.clone() }
}
