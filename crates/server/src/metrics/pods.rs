//! What is counted about pods when somebody asks: desired ones by the view, running ones by the runtime.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube_model::observed::{ContainerState, ObservedPod};
use kube_model::pod::{has_ended, is_static};
use kube_model::view::{PodView, ViewSnapshot};

use super::{Kind, Text};

/// `running` is `None` when the runtime does not answer: better no number than a wrong one.
pub(crate) fn write(out: &mut Text, view: &ViewSnapshot, running: Option<&[Arc<ObservedPod>]>) {
    let by_static = |out: &mut Text, name: &str, help: &str, counted: &dyn Fn(&PodView) -> bool| {
        out.metric(name, Kind::Gauge, help);
        for (label, wanted) in [("", false), ("true", true)] {
            let count = view.pods.iter().filter(|pod| counted(pod) && is_static(&pod.pod) == wanted).count();
            out.sample(name, &[("static", label)], count);
        }
    };
    by_static(
        out,
        "kubelet_active_pods",
        "[ALPHA] Pods that have not ended; static is true if they are not from the API server",
        &|pod| !pod.removing && !has_ended(&pod.status),
    );
    by_static(
        out,
        "kubelet_desired_pods",
        "[ALPHA] Pods that should run; static is true if they are not from the API server",
        &|pod| crate::kubelet::is_desired(pod),
    );
    let name = "kubelet_node_name";
    out.metric(name, Kind::Gauge, "[ALPHA] The node's name; always 1");
    out.sample(name, &[("node", &view.node)], 1);
    let Some(running) = running else { return };
    let mut states = BTreeMap::<_, u32>::new();
    for container in running.iter().flat_map(|pod| &pod.containers) {
        *states.entry(state(container.state)).or_default() += 1;
    }
    let name = "kubelet_running_containers";
    out.metric(name, Kind::Gauge, "[ALPHA] Containers by state");
    for (state, count) in states {
        out.sample(name, &[("container_state", state)], count);
    }
    let name = "kubelet_running_pods";
    out.metric(name, Kind::Gauge, "[ALPHA] Pods with a running sandbox");
    out.sample(name, &[], running.len());
}

fn state(state: ContainerState) -> &'static str {
    match state {
        ContainerState::Created => "created",
        ContainerState::Running => "running",
        ContainerState::Exited => "exited",
        ContainerState::Unknown => "unknown",
    }
}
