//! What is left of a pod's past and not needed any more (reference 4.14).

use std::collections::BTreeSet;

use kube_model::observed::{self, ContainerState, SandboxState};

use crate::context::Context;
use crate::plan::Action;

/// Removes ended instances other than the newest ended one of each container, those of containers that the
/// spec does not have, and stopped sandboxes that are not the newest and have no containers.
pub(crate) fn collect(cx: Context<'_>, actions: &mut Vec<Action>) {
    let observed = cx.inputs.observed;
    let mut kept = BTreeSet::new();
    for instance in &observed.containers {
        let known = cx.is_known(&instance.name);
        let newest = || observed.newest(&instance.name).is_some_and(|n| n.id == instance.id);
        let needless = match instance.state {
            ContainerState::Running => false,
            ContainerState::Exited => !known || !kept.insert(instance.name.as_str()),
            ContainerState::Created | ContainerState::Unknown => !known || !newest(),
        };
        if needless {
            actions.push(remove(instance));
        }
    }
    let unused = observed.sandboxes.iter().skip(1).filter(|s| {
        s.state == SandboxState::NotReady && !observed.containers.iter().any(|c| c.sandbox_id == s.id)
    });
    actions.extend(unused.map(|s| Action::RemoveSandbox { id: s.id.clone() }));
}

pub(crate) fn remove(instance: &observed::Container) -> Action {
    Action::RemoveContainer { id: instance.id.clone(), name: instance.name.clone() }
}
