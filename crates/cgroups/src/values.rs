//! Which value goes into which file: pure, for both versions.

use std::collections::BTreeMap;

use kube_model::core::Pod;
use kube_model::qos::QosClass;
use kube_model::resources;

use crate::{Settings, Version};

/// A value for a file of a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) controller: &'static str,
    pub(crate) file: String,
    pub(crate) text: String,
}

impl Value {
    fn new(controller: &'static str, file: impl Into<String>, text: impl ToString) -> Self {
        Self { controller, file: file.into(), text: text.to_string() }
    }

    pub(crate) fn cpu_shares(version: Version, shares: u64) -> Self {
        match version {
            Version::V1 => Self::new("cpu", "cpu.shares", shares),
            Version::V2 => Self::new("cpu", "cpu.weight", resources::weight(shares)),
        }
    }

    fn memory(version: Version, bytes: i64) -> Self {
        let file = match version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        // The kernel counts whole pages: written like this, it reads back as it was written.
        Self::new("memory", file, bytes - bytes.rem_euclid(4096))
    }

    fn pids(limit: i64) -> Self {
        Self::new("pids", "pids.max", limit)
    }
}

/// What the pods of a node may use together: `kubepods`. `None` where there is no limit.
/// Rule: upstream `pkg/kubelet/cm/node_container_manager_linux.go` `enforceNodeAllocatableCgroups`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeLimits {
    /// CPU in thousandths of a core; a share, not a limit.
    pub milli_cpu: Option<i64>,
    /// Memory in bytes.
    pub memory: Option<i64>,
    /// Processes.
    pub pids: Option<i64>,
    /// Huge pages in bytes by page size in bytes; sizes not named get none. `None`: not limited.
    pub hugepages: Option<BTreeMap<u64, i64>>,
    /// The CPUs that they may run on, as the kernel writes lists of them (`0-3,8`): all of the node's.
    pub cpus: Option<String>,
}

impl NodeLimits {
    /// `page_sizes`: what the node has, in the kernel's spelling.
    pub(crate) fn values(&self, version: Version, page_sizes: &[String]) -> Vec<Value> {
        let cpu = self.milli_cpu.map(|m| Value::cpu_shares(version, resources::shares(m)));
        let memory = self.memory.map(|m| Value::memory(version, m));
        let hugepages = self.hugepages.iter().flat_map(|limits| hugetlb(version, limits, page_sizes));
        // With v1 a cgroup has its parent's CPUs from the beginning, and cannot have more.
        let cpus = self.cpus.as_ref().filter(|_| version == Version::V2);
        let cpus = cpus.map(|cpus| Value::new("cpuset", "cpuset.cpus", cpus));
        cpu.into_iter().chain(memory).chain(self.pids.map(Value::pids)).chain(hugepages).chain(cpus).collect()
    }
}

/// What a pod may use as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodLimits {
    /// CPU shares, 2..=262144.
    pub cpu_shares: u64,
    /// CPU limit in thousandths of a core; `None` when not every container has one.
    pub milli_cpu: Option<i64>,
    /// Memory limit in bytes; `None` when not every container has one.
    pub memory: Option<i64>,
    /// Huge pages in bytes by page size in bytes; sizes not named get none.
    pub hugepages: BTreeMap<u64, i64>,
}

impl PodLimits {
    /// The limits of a pod. Rule: upstream `pkg/kubelet/cm` `ResourceConfigForPod`.
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self { cpu_shares: 2, ..Self::default() } };
        let (requests, limits) = (resources::requests(spec), resources::limits(spec));
        let hugepages = requests.hugepages();
        if QosClass::of(pod) == QosClass::BestEffort {
            return Self { cpu_shares: 2, hugepages, ..Self::default() };
        }
        let limited = |name| resources::all_limited(spec, name);
        Self {
            cpu_shares: resources::shares(requests.milli_cpu().unwrap_or(0)),
            milli_cpu: limits.milli_cpu().filter(|_| limited(resources::CPU)),
            memory: limits.memory().filter(|_| limited(resources::MEMORY)),
            hugepages,
        }
    }

    /// `page_sizes`: what the node has, in the kernel's spelling.
    pub(crate) fn values(&self, version: Version, settings: &Settings, page_sizes: &[String]) -> Vec<Value> {
        let mut values = vec![Value::cpu_shares(version, self.cpu_shares)];
        if let Some(quota) = self.milli_cpu.and_then(|m| resources::quota(m, settings.cpu_period_us)) {
            let quota = settings.cpu_cfs_quota.then_some(quota);
            let period = settings.cpu_period_us;
            match version {
                // The period first: the quota is checked against it.
                Version::V1 => values.extend([
                    Value::new("cpu", "cpu.cfs_period_us", period),
                    Value::new("cpu", "cpu.cfs_quota_us", quota.unwrap_or(-1)),
                ]),
                Version::V2 => {
                    let quota = quota.map_or("max".to_owned(), |q| q.to_string());
                    values.push(Value::new("cpu", "cpu.max", format!("{quota} {period}")));
                }
            }
        }
        values.extend(self.memory.map(|m| Value::memory(version, m)));
        if settings.pod_pids_limit > 0 {
            values.push(Value::pids(settings.pod_pids_limit));
        }
        values.extend(hugetlb(version, &self.hugepages, page_sizes));
        values
    }
}

/// A limit for each page size of the node: none of those that are not named.
fn hugetlb<'a>(
    version: Version,
    limits: &'a BTreeMap<u64, i64>,
    page_sizes: &'a [String],
) -> impl Iterator<Item = Value> + 'a {
    page_sizes.iter().map(move |size| {
        let bytes = limits.iter().find(|(page, _)| kernel_name(**page) == *size);
        let file = format!("hugetlb.{size}{}", hugetlb_suffix(version));
        Value::new("hugetlb", file, bytes.map_or(0, |(_, bytes)| *bytes))
    })
}

/// How the file with the limit of a huge page size ends.
pub(crate) fn hugetlb_suffix(version: Version) -> &'static str {
    match version {
        Version::V1 => ".limit_in_bytes",
        Version::V2 => ".max",
    }
}

/// How the kernel writes a huge page size: `2MB`.
fn kernel_name(bytes: u64) -> String {
    match bytes {
        0x4000_0000.. => format!("{}GB", bytes >> 30),
        0x10_0000.. => format!("{}MB", bytes >> 20),
        _ => format!("{}KB", bytes >> 10),
    }
}
