//! Rules for how the node's resources are divided: cgroups, reservations, resource managers.

use std::collections::BTreeSet;

use kube_model::quantity::Quantity;

use super::{Check, any_of};
use crate::config::join;
use crate::gates::Gate;

pub(super) fn cgroups(check: &mut Check<'_>) {
    let config = check.config;
    let root = &config.cgroup_root;
    if !config.system_cgroups.is_empty() && root.is_empty() {
        check.error("systemCgroups", &config.system_cgroups, "must not be set unless cgroupRoot is");
    }
    if !root.is_empty() && (!root.starts_with('/') || root.split('/').any(|part| matches!(part, "." | "..")))
    {
        check.error("cgroupRoot", root, "must be an absolute path without . and ..");
    }
    if config.cgroups_per_qos
        && let Some(missing) = check.facts.missing_cgroup.map(|missing| missing(root))
        && !missing.is_empty()
    {
        let rule = format!("must be there: cgroup {root:?} has some missing paths: {}", missing.join(", "));
        check.error("cgroupRoot", root, rule);
    }
    if check.facts.cgroup_version != Some(1) {
        return;
    }
    if config.fail_cgroup_v1 {
        let rule = "does not allow cgroup v1, which this machine has; it must be false to run here";
        check.error("failCgroupV1", &true, rule);
    }
    if config.single_process_oom_kill == Some(false) {
        check.error("singleProcessOOMKill", &false, "needs cgroup v2, and this machine has v1");
    }
}

pub(super) fn enforcement(check: &mut Check<'_>) {
    const FIELD: &str = "enforceNodeAllocatable";
    const VALUES: &[&str] = &[
        "none",
        "pods",
        "system-reserved",
        "system-reserved-compressible",
        "kube-reserved",
        "kube-reserved-compressible",
    ];
    let config = check.config;
    let list = &config.enforce_node_allocatable;
    for (name, cgroup, cgroup_field) in [
        ("system-reserved", &config.system_reserved_cgroup, "systemReservedCgroup"),
        ("kube-reserved", &config.kube_reserved_cgroup, "kubeReservedCgroup"),
    ] {
        let compressible = format!("{name}-compressible");
        let has = |wanted: &str| list.iter().any(|value| value == wanted);
        if has(name) && has(&compressible) {
            check.error(FIELD, list, format!("must not have both {name:?} and {compressible:?}"));
        }
        if (has(name) || has(&compressible)) && cgroup.is_empty() {
            check.error(
                cgroup_field,
                cgroup,
                format!("must be set when {FIELD} has {name:?} in either form"),
            );
        }
    }
    let mut seen = BTreeSet::new();
    for (index, value) in list.iter().enumerate() {
        let rule = if !seen.insert(value) {
            "must not stand twice".to_owned()
        } else if !VALUES.contains(&value.as_str()) {
            format!("must be {}", any_of(VALUES))
        } else if value == "none" {
            if list.len() == 1 {
                continue;
            }
            "must stand alone".to_owned()
        } else if !config.cgroups_per_qos {
            "needs cgroupsPerQOS; with that off it must be \"none\"".to_owned()
        } else {
            continue;
        };
        check.error(format!("{FIELD}[{index}]"), value, rule);
    }
}

pub(super) fn reserved(check: &mut Check<'_>) {
    const RESOURCES: &[&str] = &["cpu", "memory", "ephemeral-storage", "pid"];
    let config = check.config;
    for (field, map) in [("systemReserved", &config.system_reserved), ("kubeReserved", &config.kube_reserved)]
    {
        for (resource, text) in map {
            let rule = if !RESOURCES.contains(&resource.as_str()) {
                format!("reserves a resource that cannot be: it must be {}", any_of(RESOURCES))
            } else {
                match text.parse::<Quantity>() {
                    Err(error) => format!("must be a quantity such as 500m or 1Gi: {error}"),
                    Ok(quantity) if quantity.nanos() < 0 => "must not be negative".to_owned(),
                    Ok(_) => continue,
                }
            };
            check.error(join(field, resource), text, rule);
        }
    }
}

pub(super) fn reserved_cpus(check: &mut Check<'_>) {
    const FIELD: &str = "reservedSystemCPUs";
    let config = check.config;
    let text = &config.reserved_system_cpus;
    if text.is_empty() {
        return;
    }
    for (field, cgroup) in [
        ("systemReservedCgroup", &config.system_reserved_cgroup),
        ("kubeReservedCgroup", &config.kube_reserved_cgroup),
    ] {
        if !cgroup.is_empty() {
            check.error(FIELD, text, format!("must not be set beside {field}"));
        }
    }
    let Some(ranges) = cpu_ranges(text) else {
        check.error(FIELD, text, "must be a list of CPUs such as 0-3,8");
        return;
    };
    if let Some(online) = &check.facts.online_cpus
        && let Some(cpu) = ranges.iter().find_map(|&(from, to)| (from..=to).find(|cpu| !online.contains(cpu)))
    {
        check.error(FIELD, text, format!("must name CPUs that are online, and {cpu} is not"));
    }
}

/// The ranges, both ends included, of a list such as `0-3,8`.
pub(crate) fn cpu_ranges(text: &str) -> Option<Vec<(u32, u32)>> {
    text.split(',')
        .map(|range| {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            let (from, to) = (from.parse().ok()?, to.parse().ok()?);
            (from <= to).then_some((from, to))
        })
        .collect()
}

pub(super) fn reserved_memory(check: &mut Check<'_>) {
    let mut seen = BTreeSet::new();
    for (index, reservation) in check.config.reserved_memory.iter().enumerate() {
        let node = reservation.numa_node;
        let limits = format!("reservedMemory[{index}].limits");
        for (resource, quantity) in &reservation.limits {
            let field = join(&limits, resource);
            if resource != "memory" && !resource.starts_with("hugepages-") {
                check.error(&field, quantity, "reserves what is neither memory nor hugepages-<size>");
            }
            if quantity.nanos() == 0 {
                check.error(&field, quantity, "must not be zero");
            }
            if !seen.insert((node, resource)) {
                check.error(&field, quantity, format!("must stand once only for NUMA node {node}"));
            }
        }
    }
}

pub(super) fn qos_reserved(check: &mut Check<'_>) {
    for (resource, text) in &check.config.qos_reserved {
        let percent = text.strip_suffix('%').and_then(|number| number.parse::<i64>().ok());
        let rule = if resource != "memory" {
            "reserves a resource that cannot be: it must be \"memory\""
        } else if !percent.is_some_and(|percent| (0..=100).contains(&percent)) {
            "must be a percentage from 0% to 100%"
        } else {
            continue;
        };
        check.error(join("qosReserved", resource), text, rule);
    }
}

/// An option of a manager's policy, the gate without which it cannot be given, and its syntax.
type PolicyOption = (&'static str, Option<Gate>, fn(&str) -> Option<&'static str>);

const CPU_OPTIONS: &[PolicyOption] = &[
    ("full-pcpus-only", None, boolean),
    ("strict-cpu-reservation", None, boolean),
    ("prefer-align-cpus-by-uncorecache", None, boolean),
    ("distribute-cpus-across-numa", Some(Gate::CPUManagerPolicyBetaOptions), boolean),
    ("align-by-socket", Some(Gate::CPUManagerPolicyAlphaOptions), boolean),
    ("distribute-cpus-across-cores", Some(Gate::CPUManagerPolicyAlphaOptions), boolean),
];

const TOPOLOGY_OPTIONS: &[PolicyOption] =
    &[("prefer-closest-numa-nodes", None, boolean), ("max-allowable-numa-nodes", None, numa_nodes)];

fn boolean(text: &str) -> Option<&'static str> {
    let go = ["1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"];
    (!go.contains(&text)).then_some("must be true or false")
}

fn numa_nodes(text: &str) -> Option<&'static str> {
    (!text.parse::<i64>().is_ok_and(|nodes| nodes >= 8)).then_some("must be a number, 8 or more")
}

pub(super) fn manager_options(check: &mut Check<'_>) {
    let config = check.config;
    // The kubelet looks at the options of a policy only when it uses that policy.
    for (field, used, given, known) in [
        (
            "cpuManagerPolicyOptions",
            config.cpu_manager_policy == "static",
            &config.cpu_manager_policy_options,
            CPU_OPTIONS,
        ),
        (
            "topologyManagerPolicyOptions",
            config.topology_manager_policy != "none",
            &config.topology_manager_policy_options,
            TOPOLOGY_OPTIONS,
        ),
    ] {
        for (name, value) in given {
            let path = join(field, name);
            let rule = match known.iter().find(|(option, ..)| option == name) {
                None => {
                    let names: Vec<_> = known.iter().map(|(option, ..)| *option).collect();
                    format!("is no option: there are {}", any_of(&names))
                }
                Some((_, Some(gate), _)) if !check.enabled(*gate) => format!("needs the feature gate {gate}"),
                Some((.., syntax)) => match syntax(value) {
                    Some(rule) => rule.to_owned(),
                    None => continue,
                },
            };
            if used {
                check.error(path, value, rule);
            } else {
                check.warn(path, value, format!("{rule}; it counts once the policy is set"));
            }
        }
    }
}

pub(super) fn memory_qos(check: &mut Check<'_>) {
    let factor = check.config.memory_throttling_factor;
    if !(factor > 0.0 && factor <= 1.0) {
        check.error("memoryThrottlingFactor", &factor, "must be greater than 0 and no more than 1");
    }
    let policy = &check.config.memory_reservation_policy;
    if policy == "TieredReservation" && !check.enabled(Gate::MemoryQoS) {
        check.error("memoryReservationPolicy", policy, "needs the feature gate MemoryQoS");
    }
}
