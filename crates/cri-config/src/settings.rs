//! What the node gives to every message: set once, read by all.

use std::net::IpAddr;
use std::path::PathBuf;

use kube_model::cgroup::Driver;
use kube_model::downward::Allocatable;

use crate::dns::ResolvConf;

/// Facts and choices of the node that do not depend on the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `--root-dir`; `/var/lib/kubelet` by default. UTF-8, as all that goes into a message.
    pub root_dir: PathBuf,
    /// `podLogsDir`; `/var/log/pods` by default. UTF-8.
    pub pod_logs_dir: PathBuf,
    /// Addresses of the node, the primary one first: the IPs of pods in the node's network.
    pub node_ips: Vec<IpAddr>,
    /// Name resolution.
    pub dns: Dns,
    /// Control groups.
    pub cgroups: Cgroups,
    /// Period of the CPU quota in microseconds, 100 000 by default; `None` with `cpuCFSQuota: false`, where no
    /// CPU limit is enforced.
    pub cpu_cfs_quota_period: Option<u64>,
    /// `seccompDefault`: a container that names no profile gets the runtime's, not none. Off by default.
    pub seccomp_default: bool,
    /// Whether SELinux is enabled on the node: files that the agent makes are relabelled for the container.
    pub selinux: bool,
    /// Memory of the node in bytes; 0 if not known, which gives Burstable containers one score.
    pub memory_capacity: u64,
    /// Sizes of huge pages that the node has, as the cgroup files spell them (`2MB`), in their order.
    pub hugepage_sizes: Vec<String>,
    /// What pods may use of the node: limits of containers that have none, as `resourceFieldRef` shows them.
    pub allocatable: Allocatable,
}

impl Default for Settings {
    /// The kubelet's defaults on a node of which nothing is known.
    fn default() -> Self {
        Self {
            root_dir: "/var/lib/kubelet".into(),
            pod_logs_dir: "/var/log/pods".into(),
            node_ips: Vec::new(),
            dns: Dns::default(),
            cgroups: Cgroups::default(),
            cpu_cfs_quota_period: Some(100_000),
            seccomp_default: false,
            selinux: false,
            memory_capacity: 0,
            hugepage_sizes: Vec::new(),
            allocatable: Allocatable::default(),
        }
    }
}

/// Name resolution of the cluster and of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// `clusterDNS`; empty: pods resolve as the node does.
    pub servers: Vec<IpAddr>,
    /// `clusterDomain`; may be empty.
    pub domain: String,
    /// The node's `resolvConf`, parsed; `None` if that is set to "", which disables look-ups.
    pub host: Option<ResolvConf>,
}

/// How control groups are named and what the kernel offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    /// `cgroupRoot`, absolute; `/` by default.
    pub root: String,
    /// `cgroupDriver`
    pub driver: Driver,
    /// Which hierarchy is mounted.
    pub version: Version,
    /// Whether the kernel accounts swap (`memory.swap.max`, or `memory.memsw.limit_in_bytes` on v1).
    pub swap_accounting: bool,
    /// `memorySwap.swapBehavior`; no swap by default.
    pub swap: Swap,
    /// `singleProcessOOMKill`: the kernel kills one process of a container, not all. Only on v2 can it be
    /// `false`, and there that is the default.
    pub single_process_oom_kill: bool,
}

impl Default for Cgroups {
    fn default() -> Self {
        Self {
            root: "/".into(),
            driver: Driver::Cgroupfs,
            version: Version::V2,
            swap_accounting: false,
            swap: Swap::None,
            single_process_oom_kill: false,
        }
    }
}

/// What containers may swap, where swap is accounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// Nothing.
    None,
    /// Those of Burstable pods a part of the node's swap, as their memory request is a part of its memory; only on v2.
    Limited {
        /// The node's swap in bytes.
        capacity: u64,
    },
}

/// Version of the control group hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy a controller.
    V1,
    /// The unified hierarchy.
    V2,
}
