//! What goes in: how the node is configured, and what was measured.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use admission::{Amounts, Measured, NodeResources, Reservations};
use kube_model::core::{ContainerImage, NodeRuntimeHandler, Taint};
use kube_model::eviction::{Signal, SignalObservations, Threshold};
use kube_model::view::EventType;

/// How the node is to present itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// What is told of the node when it starts, after "Starting kubelet.": kind, reason and message.
    pub at_start: Vec<(EventType, &'static str, String)>,
    /// Whether a Node that is not there is created.
    pub register: bool,
    /// Further labels of a Node that is created, and default labels that are overridden.
    pub labels: BTreeMap<String, String>,
    /// Taints of a Node that is created.
    pub taints: Vec<Taint>,
    /// Whether volumes are attached to the node by the cluster's controller.
    pub controller_attach_detach: bool,
    /// Whether addresses, provider id and the like are another controller's business.
    pub external_cloud: bool,
    /// The addresses that the node was given by its configuration; told to the cloud's controller, if there is one.
    pub provided_ips: Vec<IpAddr>,
    /// `spec.providerID`; may be empty.
    pub provider_id: String,
    /// Port of the agent's own server; `None`: it has none.
    pub port: Option<u16>,
    /// What the node has, as measured at start: it is told of as it is enforced.
    pub resources: NodeResources,
    /// What of the node is for pods.
    pub limits: Limits,
    /// How long a pressure is told of after it has gone.
    pub pressure_transition: Duration,
    /// Time between two looks at the node.
    pub update_frequency: Duration,
    /// Longest time between two reports of an unchanged status.
    pub report_frequency: Duration,
    /// How long the lease holds.
    pub lease_duration: Duration,
    /// What the node declares to be there, by the names of Kubernetes' feature gates, sorted.
    pub declared_features: Vec<String>,
    /// Most images that are named; `None`: all.
    pub max_images: Option<usize>,
    /// The Kubernetes version whose kubelet this agent stands for, as `nodeInfo.kubeletVersion`.
    pub version: String,
}

/// What of a node is for pods.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Most pods.
    pub max_pods: i64,
    /// Most pods for each core; 0: no limit.
    pub pods_per_core: i64,
    /// Kept for the system and for Kubernetes itself.
    pub reserved: Amounts,
    /// From where on a condition tells of pressure.
    pub thresholds: Vec<Threshold>,
    /// Whether ephemeral storage is told of at all: not where the root file system cannot be measured.
    pub ephemeral_storage: bool,
}

impl Limits {
    /// What a node of these facts has, and what of it is left for pods.
    pub fn resources(&self, facts: &Facts) -> NodeResources {
        let Hardware { cores, memory, hugepages, .. } = &facts.hardware;
        let capacity = |signal| facts.observations.get(&signal).map(|observed| observed.capacity);
        let storage = capacity(Signal::NodefsAvailable).filter(|_| self.ephemeral_storage);
        let left = |(name, signal, capacity): (&str, Signal, Option<i64>)| {
            let threshold = self.thresholds.iter().find(|t| t.signal == signal)?;
            Some((name.to_owned(), threshold.value.of(capacity?)))
        };
        let against_eviction = [
            ("memory", Signal::MemoryAvailable, Some(*memory)),
            ("ephemeral-storage", Signal::NodefsAvailable, storage),
        ];
        let measured = Measured {
            cores: *cores,
            memory: *memory,
            hugepages: hugepages.clone(),
            ephemeral_storage: storage,
            pids: capacity(Signal::PidAvailable),
        };
        let kept = Reservations {
            max_pods: self.max_pods,
            pods_per_core: self.pods_per_core,
            reserved: self.reserved.clone(),
            against_eviction: against_eviction.into_iter().filter_map(left).collect(),
        };
        NodeResources::new(&measured, &kept)
    }
}

/// What was measured of the node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Its addresses, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// The machine.
    pub hardware: Hardware,
    /// What runs out.
    pub observations: SignalObservations,
    /// The container runtime.
    pub runtime: RuntimeFacts,
    /// What keeps volumes from being used.
    pub storage: Option<String>,
    /// The images on the node.
    pub images: Vec<ContainerImage>,
    /// The volumes that the cluster is not to detach.
    pub volumes_in_use: VolumesInUse,
}

/// Volumes that are, or may be, mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumesInUse {
    /// Their names.
    pub names: BTreeSet<String>,
    /// Whether these are all; else what was told before stays, too: an earlier run may have mounted it.
    pub all: bool,
    /// Counts up with each change.
    pub revision: u64,
}

/// The machine and its system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hardware {
    /// Cores.
    pub cores: i64,
    /// Memory, in bytes.
    pub memory: i64,
    /// Swap space, in bytes; 0 without.
    pub swap: i64,
    /// Huge pages: bytes in all by size, which is spelt as a quantity: `2Mi`.
    pub hugepages: BTreeMap<String, i64>,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// What the firmware calls the machine; else the machine id.
    pub system_uuid: String,
    /// Changes with each boot.
    pub boot_id: String,
    /// `uname -r`.
    pub kernel_version: String,
    /// `PRETTY_NAME` of os-release.
    pub os_image: String,
    /// As Go calls it: `amd64`.
    pub architecture: String,
}

/// The container runtime, as far as the Node tells of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuntimeFacts {
    /// `containerd`; empty until it answered once.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What keeps the node from running pods, most important first; empty: it is ready.
    pub problems: Vec<String>,
    /// Its handlers.
    pub handlers: Vec<NodeRuntimeHandler>,
    /// Whether it knows `supplementalGroupsPolicy`; `None`: it does not say.
    pub supplemental_groups_policy: Option<bool>,
}

#[cfg(test)]
mod tests {
    use kube_model::eviction::{SignalObservation, ThresholdValue};

    use super::*;
    use crate::testing::{facts, settings};

    /// The recorded node: `evictionHard` had memory at 100Mi and the disk at 3 %.
    #[test]
    fn resources_agree_with_the_recorded_node() {
        let mut limits = settings().limits;
        limits.max_pods = 200;
        limits.thresholds = vec![
            Threshold { signal: Signal::MemoryAvailable, value: ThresholdValue::Quantity(100 << 20) },
            Threshold { signal: Signal::NodefsAvailable, value: ThresholdValue::Percentage(0.03) },
        ];
        let mut facts = facts();
        facts.hardware.memory = 24_684_084 << 10;
        facts.hardware.hugepages = BTreeMap::from([("1Gi".to_owned(), 0), ("2Mi".to_owned(), 0)]);
        let disk = SignalObservation { capacity: 264_212_084 << 10, available: 1 << 36 };
        facts.observations.insert(Signal::NodefsAvailable, disk);
        let resources = limits.resources(&facts);
        let text = |list: admission::Resources| {
            list.iter().map(|(name, q)| format!("{name}={}", q.0)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            text(resources.capacity_list()),
            "cpu=2 ephemeral-storage=264212084Ki hugepages-1Gi=0 hugepages-2Mi=0 memory=24684084Ki pods=200"
        );
        assert_eq!(
            text(resources.allocatable_list()),
            "cpu=2 ephemeral-storage=262436578977 hugepages-1Gi=0 hugepages-2Mi=0 memory=24581684Ki pods=200"
        );
        limits.ephemeral_storage = false;
        assert!(!limits.resources(&facts).capacity.contains_key("ephemeral-storage"));
    }
}
