//! What the runtime is told to grant a sandbox and a container.
//! Rule: upstream `pkg/kubelet/kuberuntime/kuberuntime_container_linux.go`.

use std::collections::BTreeMap;

use kube_model::core::{Container, Pod, PodSpec};
use kube_model::qos::QosClass;
use kube_model::quantity::Quantity;
use kube_model::resources::{self, CPU, HUGEPAGES_PREFIX, MEMORY, ResourceMap, amount};
use node_proto::cri::v1::{HugepageLimit, LinuxContainerResources};

use crate::settings::{Settings, Swap, Version};

/// The sums over the pod: what its sandbox is shown, in case the runtime sizes something by them.
pub(crate) fn of_sandbox(spec: &PodSpec, settings: &Settings) -> LinuxContainerResources {
    let limits = resources::limits(spec);
    linux(
        resources::requests(spec).milli_cpu(),
        limits.milli_cpu().unwrap_or(0),
        limits.memory().unwrap_or(0),
        settings,
    )
}

/// What one container is granted. Limits that it lacks come from the pod as a whole, where that has them.
pub(crate) fn of_container(
    pod: &Pod,
    spec: &PodSpec,
    container: &Container,
    settings: &Settings,
) -> LinuxContainerResources {
    let own = container.resources.as_ref();
    let limits = own.and_then(|r| r.limits.as_ref());
    let shared = resources::pod_level(spec).and_then(|r| r.limits.as_ref());
    let limit = |name| amount(limits, name).filter(|q| q.nanos() != 0).or_else(|| amount(shared, name));
    let mut linux = linux(
        amount(own.and_then(|r| r.requests.as_ref()), CPU).map(|q| q.milli_value()),
        limit(CPU).map_or(0, |q| q.milli_value()),
        limit(MEMORY).map_or(0, |q| q.value()),
        settings,
    );
    let capacity = i64::try_from(settings.memory_capacity).unwrap_or(i64::MAX);
    linux.oom_score_adj = resources::oom_score_adj(pod, container, capacity).into();
    linux.hugepage_limits = hugepages(limits, shared, &settings.hugepage_sizes);
    swap(&mut linux, pod, container, settings);
    linux
}

fn linux(
    milli_cpu_request: Option<i64>,
    milli_cpu_limit: i64,
    memory_limit: i64,
    settings: &Settings,
) -> LinuxContainerResources {
    let mut linux = LinuxContainerResources {
        cpu_shares: resources::shares(milli_cpu_request.unwrap_or(milli_cpu_limit)).cast_signed(),
        memory_limit_in_bytes: memory_limit,
        ..LinuxContainerResources::default()
    };
    if let Some(period) = settings.cpu_cfs_quota_period {
        linux.cpu_period = period.cast_signed();
        linux.cpu_quota = resources::quota(milli_cpu_limit, period).unwrap_or(0);
    }
    let cgroups = &settings.cgroups;
    if cgroups.version == Version::V2 && !cgroups.single_process_oom_kill {
        linux.unified.insert("memory.oom.group".into(), "1".into());
    }
    linux
}

/// What the container may swap. On v1 the limit covers memory and swap together, and only where there is one.
/// Rule: upstream `configureContainerSwapResources`, KEP-2400.
fn swap(linux: &mut LinuxContainerResources, pod: &Pod, container: &Container, settings: &Settings) {
    match settings.cgroups.version {
        _ if !settings.cgroups.swap_accounting => {}
        Version::V1 => linux.memory_swap_limit_in_bytes = linux.memory_limit_in_bytes,
        Version::V2 => {
            let bytes = match settings.cgroups.swap {
                Swap::Limited { capacity } => {
                    limited_swap(pod, container, settings.memory_capacity, capacity)
                }
                Swap::None => 0,
            };
            linux.unified.insert("memory.swap.max".into(), bytes.to_string());
        }
    }
}

/// Nothing for pods that are critical or not Burstable, and for containers without a memory request or with the request
/// as their limit.
fn limited_swap(pod: &Pod, container: &Container, memory: u64, swap: u64) -> u64 {
    let resources = container.resources.as_ref();
    let bytes =
        |list: Option<&ResourceMap>| amount(list, MEMORY).map_or(0, |q| q.value().max(0).unsigned_abs());
    let request = bytes(resources.and_then(|r| r.requests.as_ref()));
    let limit = bytes(resources.and_then(|r| r.limits.as_ref()));
    if resources::is_critical(pod)
        || QosClass::of(pod) != QosClass::Burstable
        || request == limit
        || request > memory
    {
        return 0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "cut off, as Go does; never negative"
    )]
    #[expect(clippy::cast_precision_loss, reason = "Go computes it in 64 bits of floating point")]
    let part = (request as f64 / memory as f64 * swap as f64) as u64;
    part
}

/// A limit for each size that the node has: 0 where the pod asks for none.
fn hugepages(
    own: Option<&ResourceMap>,
    pod_level: Option<&ResourceMap>,
    sizes: &[String],
) -> Vec<HugepageLimit> {
    let mut wanted = BTreeMap::new();
    for (name, quantity) in pod_level.into_iter().chain(own).flatten() {
        let size = name.strip_prefix(HUGEPAGES_PREFIX).and_then(|s| s.parse::<Quantity>().ok());
        if let (Some(size), Ok(quantity)) = (size, Quantity::try_from(quantity)) {
            wanted.insert(size_name(size.value()), quantity.value().max(0).unsigned_abs());
        }
    }
    let limit = |size: &String| HugepageLimit {
        page_size: size.clone(),
        limit: wanted.get(size.as_str()).copied().unwrap_or(0),
    };
    sizes.iter().map(limit).collect()
}

/// A page size as the files of the hugetlb controller spell it: 2097152 is `2MB`.
fn size_name(bytes: i64) -> String {
    let (mut size, mut unit) = (bytes, 0);
    const UNITS: [&str; 6] = ["B", "KB", "MB", "GB", "TB", "PB"];
    while size >= 1024 && unit + 1 < UNITS.len() {
        size /= 1024;
        unit += 1;
    }
    format!("{size}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Cgroups;
    use crate::test_pods::{pod, spec};

    fn container(json: &str, settings: &Settings) -> LinuxContainerResources {
        let pod = pod(json);
        of_container(&pod, spec(&pod), &spec(&pod).containers[0], settings)
    }

    #[test]
    fn a_limit_that_a_container_lacks_is_the_pods() {
        let settings = Settings::default();
        let pod_limits = r#"{"limits":{"cpu":"400m","memory":"128Mi"}}"#;
        for (own, quota, shares, memory) in [
            ("{}", 40_000, 409, 128 << 20),
            (r#"{"limits":{"cpu":"0"}}"#, 40_000, 409, 128 << 20),
            (r#"{"limits":{"memory":"1Mi"},"requests":{"cpu":"1"}}"#, 40_000, 1024, 1 << 20),
            (r#"{"limits":{"cpu":"1m"}}"#, 1000, 2, 128 << 20),
        ] {
            let json =
                format!(r#"{{"resources":{pod_limits},"containers":[{{"name":"a","resources":{own}}}]}}"#);
            let got = container(&json, &settings);
            assert_eq!(
                (got.cpu_quota, got.cpu_shares, got.memory_limit_in_bytes),
                (quota, shares, memory),
                "{own}"
            );
        }
    }

    #[test]
    fn without_cfs_quota_neither_period_nor_quota_is_said() {
        let settings = Settings { cpu_cfs_quota_period: None, ..Settings::default() };
        let got = container(r#"{"containers":[{"name":"a","resources":{"limits":{"cpu":"1"}}}]}"#, &settings);
        assert_eq!((got.cpu_period, got.cpu_quota, got.cpu_shares), (0, 0, 1024));
    }

    #[test]
    fn swap_and_group_kill_follow_the_cgroup_version() {
        let json = r#"{"containers":[{"name":"a","resources":{"limits":{"memory":"1Ki"}}}]}"#;
        for (version, swap_accounting, single, swap_limit, unified) in [
            (Version::V1, true, true, 1024, ""),
            (Version::V1, false, true, 0, ""),
            (Version::V2, true, false, 0, "memory.oom.group=1 memory.swap.max=0"),
            (Version::V2, false, false, 0, "memory.oom.group=1"),
            (Version::V2, true, true, 0, "memory.swap.max=0"),
        ] {
            let cgroups =
                Cgroups { version, swap_accounting, single_process_oom_kill: single, ..Cgroups::default() };
            let got = container(json, &Settings { cgroups, ..Settings::default() });
            let all: Vec<String> = got.unified.iter().map(|(k, v)| format!("{k}={v}")).collect();
            assert_eq!((got.memory_swap_limit_in_bytes, all.join(" ")), (swap_limit, unified.to_owned()));
        }
    }

    #[test]
    fn limited_swap_is_for_burstable_containers_in_proportion_to_their_request() {
        let with = |version, spec: &str, critical: bool| {
            let mut json: serde_json::Value = serde_json::from_str(spec).unwrap();
            if critical {
                json["priority"] = 2_000_000_000.into();
            }
            let cgroups = Cgroups {
                version,
                swap_accounting: true,
                swap: Swap::Limited { capacity: 4 << 30 },
                ..Cgroups::default()
            };
            let got = container(
                &json.to_string(),
                &Settings { cgroups, memory_capacity: 8 << 30, ..Settings::default() },
            );
            got.unified.get("memory.swap.max").cloned().unwrap_or_default()
        };
        let app = |resources: &str| format!(r#"{{"containers":[{{"name":"a","resources":{resources}}}]}}"#);
        let burstable = app(r#"{"requests":{"memory":"1Gi"},"limits":{"memory":"2Gi"}}"#);
        for (version, spec, critical, want) in [
            (Version::V2, burstable.clone(), false, "536870912"),
            (Version::V2, app(r#"{"requests":{"memory":"1Gi"}}"#), false, "536870912"),
            (Version::V2, app(r#"{"requests":{"memory":"3"}}"#), false, "1"),
            (Version::V2, burstable.clone(), true, "0"),
            (Version::V2, app(r#"{"requests":{"cpu":"1"}}"#), false, "0"),
            (Version::V2, app(r#"{"requests":{"memory":"1Gi"},"limits":{"memory":"1Gi"}}"#), false, "0"),
            (Version::V2, app(r#"{"requests":{"memory":"9Gi"}}"#), false, "0"),
            (Version::V2, app("{}"), false, "0"),
            (Version::V1, burstable, false, ""),
        ] {
            assert_eq!(with(version, &spec, critical), want, "{version:?} {spec} {critical}");
        }
    }

    #[test]
    fn huge_pages_are_limited_for_each_size_of_the_node() {
        let settings = Settings {
            hugepage_sizes: vec!["2MB".into(), "1GB".into(), "64KB".into()],
            ..Settings::default()
        };
        let json = r#"{"resources":{"limits":{"hugepages-2Mi":"8Mi","hugepages-64Ki":"128Ki"}},
            "containers":[{"name":"a","resources":{"limits":{"hugepages-2Mi":"4Mi","hugepages-16Gi":"16Gi"}}}]}"#;
        let got = container(json, &settings).hugepage_limits;
        let got: Vec<_> = got.iter().map(|l| (l.page_size.as_str(), l.limit)).collect();
        assert_eq!(got, [("2MB", 4 << 20), ("1GB", 0), ("64KB", 128 << 10)]);
    }
}
