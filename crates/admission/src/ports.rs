//! Ports of the node. Rule: upstream `pkg/scheduler/framework/plugins/nodeports`.

use kube_model::core::{Pod, PodSpec};
use kube_model::pod::{ContainerKind, containers};

const EVERYWHERE: &str = "0.0.0.0";

/// Protocol, port and address of the node's ports that a pod takes as long as it runs.
fn ports(spec: &PodSpec) -> impl Iterator<Item = (&str, i32, &str)> {
    let lasting = containers(spec).filter(|(kind, _)| *kind != ContainerKind::Init);
    lasting.flat_map(|(_, container)| container.ports.iter().flatten()).filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        let address = port.host_ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or(EVERYWHERE);
        Some((port.protocol.as_deref().unwrap_or("TCP"), number, address))
    })
}

/// Whether the pod asks for a port that one of the others has.
pub(crate) fn conflict(spec: &PodSpec, others: &[&Pod]) -> bool {
    let meet = |a: &str, b: &str| a == b || a == EVERYWHERE || b == EVERYWHERE;
    ports(spec).any(|(protocol, number, address)| {
        let mut taken = others.iter().filter_map(|other| other.spec.as_ref()).flat_map(ports);
        taken.any(|(p, n, a)| p == protocol && n == number && meet(a, address))
    })
}
