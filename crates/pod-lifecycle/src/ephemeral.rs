//! Ephemeral containers: nobody starts them yet. They hold up nothing else of their pod, and one that another kubelet
//! started goes on.

use kube_model::Monotonic;
use kube_model::core::{Container, ContainerStatus, EphemeralContainer};
use kube_model::view::Wait;

use crate::container_status;
use crate::context::Context;
use crate::precondition::UNSUPPORTED;
use crate::waiting::waiting;

const WHY: &str = "ephemeral containers are not supported yet";

fn all(cx: Context<'_>) -> impl Iterator<Item = &EphemeralContainer> {
    cx.spec.ephemeral_containers.iter().flatten()
}

/// One for each that was never started.
pub(crate) fn waits(cx: Context<'_>) -> impl Iterator<Item = Wait<Monotonic>> {
    all(cx).filter(move |c| cx.newest(&c.name).is_none()).map(|c| Wait {
        container: Some(c.name.clone()),
        reason: UNSUPPORTED.to_owned(),
        message: WHY.to_owned(),
        since: None,
        until: None,
    })
}

/// Their statuses: neither ready nor started, as the kubelet has them.
pub(crate) fn statuses(cx: Context<'_>) -> Vec<ContainerStatus> {
    let one = |ephemeral: &EphemeralContainer| {
        let (name, image) = (ephemeral.name.clone(), ephemeral.image.clone());
        let container = Container { name, image, ..Container::default() };
        let mut status = container_status::by_instances(cx, &container);
        (status.ready, status.started) = (false, None);
        if status.state.as_ref().is_some_and(|state| state.waiting.is_some()) {
            status.state = Some(waiting(UNSUPPORTED, Some(WHY.to_owned())));
        }
        status
    };
    all(cx).map(one).collect()
}
