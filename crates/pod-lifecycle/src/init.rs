//! How far the initialisation of a pod is: init containers one after the other, sidecars kept running
//! (upstream `pkg/kubelet/kuberuntime/kuberuntime_manager.go`).

use kube_model::core::Container;
use kube_model::observed::ContainerState;
use kube_model::pod::ContainerKind;

use crate::context::Context;

/// The state of initialisation.
pub(crate) struct Progress<'a> {
    /// Whether regular containers may run.
    pub(crate) initialized: bool,
    /// The init containers and sidecars that have to run now, in the order of the spec.
    pub(crate) due: Vec<(ContainerKind, &'a Container)>,
}

/// The last init container with an instance in the newest sandbox tells how far initialisation is, because
/// earlier ones may have been removed. Once a regular container exists there only sidecars matter.
pub(crate) fn progress(cx: Context<'_>) -> Progress<'_> {
    let all: Vec<_> = cx.containers().filter(|(kind, _)| *kind != ContainerKind::Regular).collect();
    let sidecars =
        |upto: usize| all[..upto].iter().copied().filter(|(kind, _)| *kind == ContainerKind::Sidecar);
    if all.is_empty() || cx.has_regular_instance() {
        return Progress { initialized: true, due: sidecars(all.len()).collect() };
    }
    let Some(last) = all.iter().rposition(|(kind, c)| cx.instance(*kind, &c.name).is_some()) else {
        return Progress { initialized: false, due: vec![all[0]] };
    };
    let mut due: Vec<_> = sidecars(last).collect();
    let (kind, container) = all[last];
    let complete = is_complete(cx, kind, container);
    if !complete || kind == ContainerKind::Sidecar {
        due.push((kind, container));
    }
    if complete && let Some(next) = all.get(last + 1) {
        due.push(*next);
        return Progress { initialized: false, due };
    }
    Progress { initialized: complete, due }
}

/// Whether the next one may start: an init container has succeeded, a sidecar has started, its hook included
/// (its liveness does not matter).
fn is_complete(cx: Context<'_>, kind: ContainerKind, container: &Container) -> bool {
    cx.instance(kind, &container.name).is_some_and(|instance| match kind {
        ContainerKind::Sidecar => {
            cx.is_started(container, instance) && !cx.inputs.memory.is_hooked(&container.name)
        }
        _ => instance.state == ContainerState::Exited && instance.exit_code == 0,
    })
}
