//! What goes in: how the node is configured, and what was measured.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use kube_model::core::{ContainerImage, NodeRuntimeHandler, Taint};
use kube_model::view::EventType;

use crate::resources::{Amounts, NodeResources};

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

/// Something that runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Memory of the node that pods could still get, in bytes.
    MemoryAvailable,
    /// Bytes free on the file system of the root folder.
    NodefsAvailable,
    /// Inodes free there.
    NodefsInodesFree,
    /// Bytes free on the file system of the images.
    ImagefsAvailable,
    /// Inodes free there.
    ImagefsInodesFree,
    /// Process ids that are left.
    PidAvailable,
}

impl Signal {
    /// As configuration names it.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "memory.available" => Self::MemoryAvailable,
            "nodefs.available" => Self::NodefsAvailable,
            "nodefs.inodesFree" => Self::NodefsInodesFree,
            "imagefs.available" => Self::ImagefsAvailable,
            "imagefs.inodesFree" => Self::ImagefsInodesFree,
            "pid.available" => Self::PidAvailable,
            _ => return None,
        })
    }
}

/// From where on something is scarce.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// Of what.
    pub signal: Signal,
    /// At least this much has to be left.
    pub least: Least,
}

/// An amount, on its own or of the whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Least {
    /// In the unit of the signal.
    Amount(i64),
    /// A part of the capacity, 0 to 1.
    Part(f32),
}

impl Least {
    /// In the unit of the signal. Rule: upstream `GetThresholdQuantity`; it counts in 32 bits, and the node's
    /// allocatable shows it.
    pub fn of(self, capacity: i64) -> i64 {
        match self {
            Self::Amount(amount) => amount,
            #[expect(clippy::cast_possible_truncation, reason = "Go cuts it off, too")]
            #[expect(clippy::cast_precision_loss, reason = "Go computes it in 64 bits of floating point")]
            Self::Part(part) => (capacity as f64 * f64::from(part)) as i64,
        }
    }
}

/// How much there is of something, and how much of it is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stock {
    /// In all.
    pub capacity: i64,
    /// Left.
    pub available: i64,
}

/// What was measured of the node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Its addresses, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// The machine.
    pub hardware: Hardware,
    /// What runs out. Signals that could not be measured are missing.
    pub stocks: BTreeMap<Signal, Stock>,
    /// The container runtime.
    pub runtime: RuntimeFacts,
    /// The images on the node.
    pub images: Vec<ContainerImage>,
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
