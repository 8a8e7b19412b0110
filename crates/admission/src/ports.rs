//! Ports of the node. Rule: upstream `pkg/scheduler/framework/plugins/nodeports`.

use std::collections::BTreeMap;

use kube_model::core::PodSpec;
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

/// The ports that pods have: by number, protocol and address, how often.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taken(BTreeMap<i32, BTreeMap<(String, String), usize>>);

impl Taken {
    pub(crate) fn add(&mut self, spec: &PodSpec) {
        for (protocol, number, address) in ports(spec) {
            let at = (protocol.to_owned(), address.to_owned());
            *self.0.entry(number).or_default().entry(at).or_default() += 1;
        }
    }

    /// What was added for the same spec.
    pub(crate) fn remove(&mut self, spec: &PodSpec) {
        for (protocol, number, address) in ports(spec) {
            let Some(all) = self.0.get_mut(&number) else { continue };
            let at = (protocol.to_owned(), address.to_owned());
            match all.get_mut(&at) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(all.remove(&at)),
            }
            if all.is_empty() {
                self.0.remove(&number);
            }
        }
    }

    /// Whether the pod asks for a port that one of the others has.
    pub(crate) fn conflict(&self, spec: &PodSpec) -> bool {
        let meet = |a: &str, b: &str| a == b || a == EVERYWHERE || b == EVERYWHERE;
        ports(spec).any(|(protocol, number, address)| {
            let taken = self.0.get(&number);
            taken.into_iter().flat_map(BTreeMap::keys).any(|(p, a)| p == protocol && meet(a, address))
        })
    }
}
