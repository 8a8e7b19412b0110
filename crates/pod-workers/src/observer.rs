//! What is worth counting, for those who count it.

use std::time::Duration;

use kube_model::core::Pod;
use kube_model::observed::{Container, ContainerState, ObservedPod};
use kube_model::pod::ContainerKind;

/// Hears what the actors do. Called by them, some of it under their locks: must neither block nor call back.
pub trait Observer: Send + Sync + 'static {
    /// The actor of a pod that is to run begins, so long after the pod came.
    fn started(&self, _pod: &Pod, _waited: Duration) {}
    /// The node does not take a pod, for this Kubernetes reason.
    fn rejected(&self, _reason: &str) {}
    /// A pod that was pending runs, so long after it came.
    fn runs(&self, _took: Duration) {}
    /// A container that was seen before has ended, or one that nobody saw run. `None`: its pod's spec does not have
    /// it.
    fn ended(&self, _kind: Option<ContainerKind>, _container: &Container) {}
    /// The runtime has a pod that no source wants.
    fn orphaned(&self) {}
    /// A pod was wanted again while it was being removed, and starts anew.
    fn restarted(&self, _pod: &Pod) {}
}

/// Counts nothing.
impl Observer for () {}

/// The containers that have ended from one observation of a pod to the next.
pub(crate) fn ends<'a>(
    before: &'a ObservedPod,
    after: &'a ObservedPod,
) -> impl Iterator<Item = &'a Container> {
    after.containers.iter().filter(|container| {
        let known = before.containers.iter().find(|known| known.id == container.id);
        container.state == ContainerState::Exited
            && known.is_none_or(|known| known.state != ContainerState::Exited)
    })
}
