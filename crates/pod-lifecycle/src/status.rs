//! The status of a pod as the API has it (upstream `pkg/kubelet/kubelet_pods.go` `generateAPIPodStatus`).

use std::net::IpAddr;

use kube_model::core::{HostIP, PodIP, PodStatus};
use kube_model::pod;
use kube_model::qos::QosClass;

use crate::container_status::{self, time};
use crate::context::{Context, Index};
use crate::inputs::Inputs;
use crate::phase::{self, Phase};
use crate::{conditions, deadline, ephemeral, precondition, rejection, resources};

/// The status of a pod now.
///
/// It follows from the runtime alone, except for times, sticky phases and what the runtime has forgotten: those
/// come from [`Memory::last_status`](crate::Memory::last_status). Times are cut to seconds.
pub fn status(inputs: &Inputs<'_>) -> PodStatus {
    let counted = inputs.memory.counted(inputs.observed, inputs.intent);
    let inputs = &Inputs { observed: &counted, ..*inputs };
    let index = Index::new(inputs);
    let Some(cx) = Context::new(inputs, &index) else {
        return PodStatus { phase: Some(Phase::Pending.as_str().to_owned()), ..PodStatus::default() };
    };
    if let Some(rejection) = precondition::rejection(cx).filter(|_| !rejection::has_run(cx)) {
        return rejection::status(cx, rejection);
    }
    let mut statuses = container_status::all(cx);
    let outcome = phase::outcome(cx, &statuses);
    if !outcome.phase.is_terminal() {
        statuses.show_waits(cx);
    } else if !inputs.observed.any_running() {
        statuses.close();
    }
    let conditions = conditions::all(cx, &statuses, outcome.phase);
    let pod_ips = pod_ips(cx);
    let host_ips: Vec<_> = inputs.node.host_ips.iter().map(ToString::to_string).collect();
    statuses.regular.sort_by(|a, b| a.name.cmp(&b.name));
    let (resources, allocated_resources) = resources::of_pod(cx.spec);
    PodStatus {
        phase: Some(outcome.phase.as_str().to_owned()),
        reason: outcome.reason,
        message: outcome.message,
        conditions: Some(conditions),
        start_time: Some(time(deadline::start_time(cx))),
        pod_ip: pod_ips.first().cloned(),
        pod_ips: list(pod_ips.into_iter().map(|ip| PodIP { ip })),
        host_ip: host_ips.first().cloned(),
        host_ips: list(host_ips.into_iter().map(|ip| HostIP { ip })),
        init_container_statuses: list(statuses.init.into_iter()),
        container_statuses: list(statuses.regular.into_iter()),
        ephemeral_container_statuses: list(ephemeral::statuses(cx).into_iter()),
        qos_class: Some(QosClass::of(inputs.pod).as_str().to_owned()),
        resources: Some(resources),
        allocated_resources,
        observed_generation: inputs.pod.metadata.generation.filter(|g| *g != 0),
        ..PodStatus::default()
    }
}

/// The pod's addresses: of its newest sandbox, the node's with `hostNetwork`. A sandbox that is down may have
/// lost them; then they stay as they were.
fn pod_ips(cx: Context<'_>) -> Vec<String> {
    let node = &cx.inputs.node.host_ips;
    if pod::host_network(cx.spec) {
        return one_of_each_family(node, node);
    }
    let sandboxes = &cx.inputs.observed.sandboxes;
    let known = sandboxes.first().map(|s| one_of_each_family(&s.ips, node)).unwrap_or_default();
    let any_ready = sandboxes.iter().any(|s| s.state == kube_model::observed::SandboxState::Ready);
    if !known.is_empty() || any_ready {
        return known;
    }
    let previous = cx.previous().and_then(|s| s.pod_ips.as_ref());
    previous.into_iter().flatten().map(|ip| ip.ip.clone()).collect()
}

/// The first address of the node's primary family, then the first of the other one.
fn one_of_each_family(ips: &[IpAddr], node: &[IpAddr]) -> Vec<String> {
    let primary_is_v4 = node.first().is_none_or(IpAddr::is_ipv4);
    let first = |v4: bool| ips.iter().find(|ip| ip.is_ipv4() == v4);
    first(primary_is_v4).into_iter().chain(first(!primary_is_v4)).map(ToString::to_string).collect()
}

fn list<T>(items: impl Iterator<Item = T>) -> Option<Vec<T>> {
    let items: Vec<_> = items.collect();
    (!items.is_empty()).then_some(items)
}
