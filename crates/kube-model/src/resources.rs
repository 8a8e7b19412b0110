//! What a pod asks for and may use, summed over its containers, and what the kernel is told for it.
//!
//! All functions expect requests defaulted from limits, as sources publish pods. A quantity that does not
//! parse counts as not given: validation has refused it before.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use crate::core::{Container, Pod, PodSpec, ResourceRequirements};
use crate::pod::{self, ContainerKind};
use crate::qos::QosClass;
use crate::quantity::Quantity;

/// The resource `cpu`.
pub const CPU: &str = "cpu";
/// The resource `memory`.
pub const MEMORY: &str = "memory";
/// What names of huge page resources begin with; a page size such as `2Mi` follows.
pub const HUGEPAGES_PREFIX: &str = "hugepages-";

/// Resources of a container or pod: name to amount.
pub type ResourceMap = BTreeMap<String, ApiQuantity>;

/// The amount of one resource in a list; `None` when it is not there or does not parse.
pub fn amount(list: Option<&ResourceMap>, name: &str) -> Option<Quantity> {
    Quantity::try_from(list?.get(name)?).ok()
}

/// `spec.resources` if it sets CPU, memory or huge pages for the pod as a whole.
pub fn pod_level(spec: &PodSpec) -> Option<&ResourceRequirements> {
    spec.resources.as_ref().filter(|r| r.requests.iter().chain(&r.limits).flatten().any(|(n, _)| shared(n)))
}

/// Whether a pod can have this resource as a whole, for its containers to share.
pub fn shared(name: &str) -> bool {
    name == CPU || name == MEMORY || name.starts_with(HUGEPAGES_PREFIX)
}

/// Sums by resource name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals<'a>(BTreeMap<&'a str, Quantity>);

impl<'a> Totals<'a> {
    /// CPU in thousandths of a core, rounded up; `None` when nothing named it.
    pub fn milli_cpu(&self) -> Option<i64> {
        self.0.get(CPU).map(|amount| round_up(amount.nanos(), 1_000_000))
    }

    /// Memory in bytes, rounded up; `None` when nothing named it.
    pub fn memory(&self) -> Option<i64> {
        self.0.get(MEMORY).map(|amount| round_up(amount.nanos(), 1_000_000_000))
    }

    /// Huge pages in bytes by page size in bytes.
    pub fn hugepages(&self) -> BTreeMap<u64, i64> {
        let size = |name: &str| {
            let size: Quantity = name.strip_prefix(HUGEPAGES_PREFIX)?.parse().ok()?;
            u64::try_from(size.value()).ok()
        };
        let all = self.0.iter();
        all.filter_map(|(name, amount)| Some((size(name)?, round_up(amount.nanos(), 1_000_000_000))))
            .collect()
    }

    /// Every sum by resource name, in billionths.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, i128)> + '_ {
        self.amounts().map(|(name, amount)| (name, amount.nanos()))
    }

    /// Every sum by resource name, to be printed as Go prints it.
    pub fn amounts(&self) -> impl Iterator<Item = (&'a str, &Quantity)> + '_ {
        self.0.iter().map(|(name, amount)| (*name, amount))
    }

    fn read(list: Option<&'a ResourceMap>) -> Self {
        let parsed = list.into_iter().flatten();
        Self(parsed.filter_map(|(n, q)| Some((n.as_str(), Quantity::try_from(q).ok()?))).collect())
    }

    fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            match self.0.entry(name) {
                Entry::Occupied(mut sum) => *sum.get_mut() += amount,
                Entry::Vacant(empty) => {
                    empty.insert(amount.clone());
                }
            }
        }
    }

    fn raise(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let most = self.0.entry(name).or_insert_with(|| amount.clone());
            if *most < *amount {
                *most = amount.clone();
            }
        }
    }
}

fn round_up(nanos: i128, unit: i128) -> i64 {
    let value = nanos / unit + i128::from(nanos % unit > 0);
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// What the pod requests: regular containers and sidecars together, or what the greediest init container needs
/// beside the sidecars before it, whichever is more; pod-level requests instead where given; plus overhead.
/// Rule: upstream `component-helpers/resource` `PodRequests`.
pub fn requests(spec: &PodSpec) -> Totals<'_> {
    let mut totals = over_containers(spec, |r| r.requests.as_ref());
    override_shared(&mut totals, pod_level(spec).and_then(|r| r.requests.as_ref()));
    totals.add(&Totals::read(spec.overhead.as_ref()));
    totals
}

/// The requests of the pod's containers alone, summed as [`requests`].
/// Rule: upstream `component-helpers/resource` `AggregateContainerRequests`.
pub fn container_requests(spec: &PodSpec) -> Totals<'_> {
    over_containers(spec, |r| r.requests.as_ref())
}

/// The limits of the pod's containers alone, summed as [`requests`].
/// Rule: upstream `component-helpers/resource` `AggregateContainerLimits`.
pub fn container_limits(spec: &PodSpec) -> Totals<'_> {
    over_containers(spec, |r| r.limits.as_ref())
}

/// What the pod may use: summed as [`requests`]; overhead counts only where there is a limit.
///
/// A container without a limit adds nothing, so the sum bounds the pod only if all have one: see
/// [`all_limited`]. Rule: upstream `component-helpers/resource` `PodLimits`.
pub fn limits(spec: &PodSpec) -> Totals<'_> {
    let mut totals = over_containers(spec, |r| r.limits.as_ref());
    override_shared(&mut totals, pod_level(spec).and_then(|r| r.limits.as_ref()));
    let mut overhead = Totals::read(spec.overhead.as_ref());
    overhead.0.retain(|name, _| totals.0.get(name).is_some_and(|amount| amount.nanos() != 0));
    totals.add(&overhead);
    totals
}

/// Whether the limits of this resource bound the whole pod: every container has one, or the pod itself.
pub fn all_limited(spec: &PodSpec, name: &str) -> bool {
    let limit = |r: Option<&ResourceRequirements>| {
        amount(r.and_then(|r| r.limits.as_ref()), name).is_some_and(|q| q.nanos() != 0)
    };
    limit(pod_level(spec)) || pod::containers(spec).all(|(_, c)| limit(c.resources.as_ref()))
}

fn over_containers<'a>(
    spec: &'a PodSpec,
    list: impl Fn(&'a ResourceRequirements) -> Option<&'a ResourceMap>,
) -> Totals<'a> {
    let (mut running, mut sidecars, mut starting) = (Totals::default(), Totals::default(), Totals::default());
    for (kind, container) in pod::containers(spec) {
        let own = Totals::read(container.resources.as_ref().and_then(&list));
        match kind {
            ContainerKind::Regular => running.add(&own),
            ContainerKind::Sidecar => {
                running.add(&own);
                sidecars.add(&own);
                starting.raise(&sidecars);
            }
            ContainerKind::Init => {
                let mut beside = sidecars.clone();
                beside.add(&own);
                starting.raise(&beside);
            }
        }
    }
    running.raise(&starting);
    running
}

fn override_shared<'a>(totals: &mut Totals<'a>, pod_level: Option<&'a ResourceMap>) {
    let given = Totals::read(pod_level).0;
    totals.0.extend(given.into_iter().filter(|(name, _)| shared(name)));
}

/// CPU shares for a CPU request in thousandths: 1024 a core, within 2..=262144. Rule: upstream
/// `pkg/kubelet/cm/helpers_linux.go`.
pub fn shares(milli_cpu: i64) -> u64 {
    (milli_cpu.max(0).unsigned_abs().saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// The CPU request in thousandths that [shares] of v1 stand for, rounded up; `None` below the kernel's least.
/// Rule: upstream `pkg/kubelet/cm` `SharesToMilliCPU`.
///
/// [shares]: shares()
pub fn milli_cpu_of_shares(shares: i64) -> Option<i64> {
    (shares >= 2).then(|| shares.saturating_mul(1000).saturating_add(1023) / 1024)
}

/// The CPU limit in thousandths that a CFS quota stands for; `None` without a limit.
/// Rule: upstream `pkg/kubelet/cm` `QuotaToMilliCPU`.
pub fn milli_cpu_of_quota(quota: i64, period: i64) -> Option<i64> {
    (quota > 0 && period > 0).then(|| quota.saturating_mul(1000) / period).filter(|milli| *milli > 0)
}

/// CFS quota in microseconds for each period of `period_us`, for a CPU limit in thousandths; at least 1000,
/// and `None` without a limit. Rule: upstream `pkg/kubelet/cm/helpers_linux.go`.
pub fn quota(milli_cpu: i64, period_us: u64) -> Option<i64> {
    let period = i64::try_from(period_us).unwrap_or(i64::MAX);
    (milli_cpu > 0).then(|| (milli_cpu.saturating_mul(period) / 1000).max(1000))
}

/// `cpu.weight` of cgroup v2 for CPU shares of v1: 2..=262144 becomes 1..=10000. Rule: upstream
/// `pkg/kubelet/cm/helpers_linux.go`.
pub fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// `oom_score_adj` of a container: the smaller its memory request, the sooner the kernel kills it. Guaranteed
/// and node-critical pods have -997, BestEffort 1000, Burstable 3..=999; a sidecar never dies before the
/// regular container with the smallest request. `memory_capacity` is the node's memory in bytes.
/// Rule: upstream `pkg/kubelet/qos`.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i32 {
    const PROTECTED: i32 = -997;
    let class = QosClass::of(pod);
    let Some(spec) = pod.spec.as_ref().filter(|_| class != QosClass::BestEffort) else {
        return if is_node_critical(pod) { PROTECTED } else { 1000 };
    };
    if class == QosClass::Guaranteed || is_node_critical(pod) {
        return PROTECTED;
    }
    let request = |c: &Container| {
        let requests = c.resources.as_ref().and_then(|r| r.requests.as_ref());
        amount(requests, MEMORY).map_or(0, |q| q.value())
    };
    // What the pod requests and no container does is divided equally over the containers.
    let pod_request = pod_level(spec).and_then(|r| amount(r.requests.as_ref(), MEMORY));
    let rest = pod_request.filter(|q| q.nanos() != 0).map_or(0, |q| {
        let taken = over_containers(spec, |r| r.requests.as_ref()).memory().unwrap_or(0);
        q.value().saturating_sub(taken) / (pod::containers(spec).count().max(1) as i64)
    });
    let mut memory = request(container);
    if container.restart_policy.as_deref() == Some("Always")
        && spec.init_containers.iter().flatten().any(|c| c.name == container.name)
    {
        memory = memory.max(spec.containers.iter().map(request).min().unwrap_or(0));
    }
    let share = 1000 * i128::from(memory.saturating_add(rest)) / i128::from(memory_capacity.max(1));
    i32::try_from(1000 - share).unwrap_or(0).clamp(3, 999)
}

fn is_node_critical(pod: &Pod) -> bool {
    let class = pod.spec.as_ref().and_then(|s| s.priority_class_name.as_deref());
    class == Some("system-node-critical") && is_critical(pod)
}

/// Whether the node gives up other pods for this one: static pods, mirror pods and priorities from 2000000000
/// on. Rule: upstream `pkg/kubelet/lifecycle/predicate.go`.
pub fn is_critical(pod: &Pod) -> bool {
    let priority = pod.spec.as_ref().and_then(|s| s.priority);
    pod::is_static(pod)
        || pod::annotation(pod, crate::labels::CONFIG_MIRROR).is_some()
        || priority.is_some_and(|p| p >= 2_000_000_000)
}

#[cfg(test)]
mod tests;
