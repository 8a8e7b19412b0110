//! postStart hooks: until its hook has ended a container does not count as running, neither in a status nor for probes,
//! readiness or initialisation.
//!
//! The kubelet has no rule for that: it runs a hook in the middle of a sync (upstream
//! `pkg/kubelet/kuberuntime/kuberuntime_container.go` `startContainer`), and the status, which probes go by, was made at
//! the beginning of that sync. A hook that a restart of the kubelet cut off is forgotten there; here it runs again, as
//! the API promises: hooks are delivered at least once.

use std::borrow::Cow;

use kube_model::core::{Container, Pod};
use kube_model::observed::{self, ContainerState, ObservedPod};
use kube_model::pod;

use crate::inputs::{FailureReason, Intent, Memory};
use crate::plan::Action;

/// Whether a container of the spec has a postStart hook.
pub fn has_hook(container: &Container) -> bool {
    container.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.post_start.is_some())
}

impl Memory {
    /// The hooks of these containers were cut off by the end of an earlier run of the agent.
    pub fn hooks_were_cut_off(&mut self, containers: impl IntoIterator<Item = String>) {
        self.hooks.extend(containers);
    }

    /// These steps are about to be taken.
    pub fn before_steps(&mut self, pod: &Pod, steps: &[Action]) {
        let Some(spec) = &pod.spec else { return };
        let hooked =
            started(steps).filter(|name| pod::container(spec, name).is_some_and(|(_, c)| has_hook(c)));
        self.hooks.extend(hooked.map(str::to_owned));
    }

    /// No more of these steps will be taken. A hook that began has told how it ended, unless the pod is to be removed.
    pub fn after_steps(&mut self, steps: &[Action]) {
        started(steps).for_each(|name| {
            self.hooks.remove(name);
        });
    }

    /// A step that includes a container's hook failed.
    pub(crate) fn hook_failed(&mut self, container: &str, reason: FailureReason) {
        // One that could not be stopped after its hook failed still runs, and its hook with the next attempt.
        if reason != FailureReason::FailedKillPod {
            self.hooks.remove(container);
        }
    }

    /// Whether the hook of the container that is to run by now has not ended.
    pub(crate) fn is_hooked(&self, container: &str) -> bool {
        self.hooks.contains(container)
    }

    /// What counts of a pod: all but containers whose postStart hook has not ended. Once the pod is to end, its
    /// hooks are not waited for, and what runs runs.
    pub fn counted<'a>(&self, observed: &'a ObservedPod, intent: &Intent) -> Cow<'a, ObservedPod> {
        let hooked = |c: &observed::Container| {
            self.is_hooked(&c.name) && matches!(c.state, ContainerState::Created | ContainerState::Running)
        };
        if *intent != Intent::Run || !observed.containers.iter().any(hooked) {
            return Cow::Borrowed(observed);
        }
        let mut counted = observed.clone();
        counted.containers.retain(|c| !hooked(c));
        Cow::Owned(counted)
    }
}

fn started(steps: &[Action]) -> impl Iterator<Item = &str> {
    steps.iter().filter_map(|step| match step {
        Action::StartContainer { name, .. } => Some(name.as_str()),
        _ => None,
    })
}
