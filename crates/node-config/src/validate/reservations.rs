//! Rules for what is kept from pods: it must fit into the machine, and the managers' static policies need some.
//! Upstream `pkg/kubelet/cm/node_container_manager_linux.go`, `cpumanager`, `memorymanager`; the words are its own.

use std::collections::{BTreeMap, BTreeSet};

use kube_model::quantity::Quantity;

use super::Check;
use super::resources::cpu_ranges;
use crate::config::KubeletConfiguration;

/// The resources of a machine that can be kept from pods, and the eviction signal that keeps some of each.
const RESOURCES: &[(&str, Option<&str>)] =
    &[("cpu", None), ("ephemeral-storage", Some("nodefs.available")), ("memory", Some("memory.available"))];

pub(super) fn within_capacity(check: &mut Check<'_>) {
    for &(resource, _) in RESOURCES {
        let Some(&capacity) = check.facts.capacity.get(resource) else { continue };
        if resource == "ephemeral-storage" && !check.config.local_storage_capacity_isolation {
            continue;
        }
        let Some(reserved) = reserved(check, resource) else { continue };
        if reserved > capacity {
            let (reserved, capacity) = (shown(resource, reserved), shown(resource, capacity));
            let rule = format!(
                "is an invalid Node Allocatable configuration. Resource {resource:?} has a reservation of {reserved} \
                 but capacity of {capacity}. Expected capacity >= reservation."
            );
            let (field, value) = blamed(check.config, resource);
            check.error(field, &value, rule);
        }
    }
}

pub(super) fn static_cpus(check: &mut Check<'_>) {
    let config = check.config;
    if config.cpu_manager_policy == "static" && reserved(check, "cpu") == Some(0) {
        let rule = "needs systemReserved or kubeReserved for cpu, or reservedSystemCPUs: [cpumanager] unable to \
                    determine reserved CPU resources for static policy";
        check.error("cpuManagerPolicy", &config.cpu_manager_policy, rule);
    }
}

pub(super) fn static_memory(check: &mut Check<'_>) {
    let config = check.config;
    if config.memory_manager_policy != "Static" {
        return;
    }
    for (index, reservation) in config.reserved_memory.iter().enumerate() {
        let node = reservation.numa_node;
        if check.facts.numa_nodes.as_ref().is_some_and(|nodes| !nodes.contains(&node)) {
            let rule = format!(
                "is not there: the reserved memory configuration references a NUMA node {node} that does not exist on \
                 this machine"
            );
            check.error(format!("reservedMemory[{index}].numaNode"), &node, rule);
        }
    }
    let total = |resource: &str| -> i64 {
        let limits = config.reserved_memory.iter().filter_map(|reservation| reservation.limits.get(resource));
        limits.fold(0, |sum, quantity| sum.saturating_add(quantity.value()))
    };
    let kinds: BTreeSet<&str> = config
        .reserved_memory
        .iter()
        .flat_map(|reservation| reservation.limits.keys().map(String::as_str))
        .chain(["memory"])
        .collect();
    for kind in kinds {
        let wanted = if kind == "memory" { reserved(check, kind) } else { Some(0) };
        let (got, Some(wanted)) = (total(kind), wanted) else { continue };
        if got != wanted {
            let (got, wanted) = (shown(kind, got), shown(kind, wanted));
            let rule = format!(
                "must sum up to what is reserved: the total amount {got:?} of type {kind:?} is not equal to the value \
                 {wanted:?} determined by Node Allocatable feature"
            );
            check.error("reservedMemory", &config.reserved_memory, rule);
            return;
        }
    }
    if total("memory") == 0 {
        let rule = "needs reservedMemory: [memorymanager] you should specify the system reserved memory";
        check.error("memoryManagerPolicy", &config.memory_manager_policy, rule);
    }
}

/// What is kept of a resource: thousandths of a core, or bytes. `None` when the machine would have to be known.
fn reserved(check: &Check<'_>, resource: &str) -> Option<i64> {
    let config = check.config;
    let amount = |map: &BTreeMap<String, String>| {
        let quantity = map.get(resource).and_then(|text| text.parse::<Quantity>().ok());
        quantity.map_or(0, |q| if resource == "cpu" { q.milli_value() } else { q.value() })
    };
    if resource == "cpu"
        && let Some(ranges) = cpu_ranges(&config.reserved_system_cpus)
    {
        let cpus: i64 = ranges.iter().map(|&(from, to)| i64::from(to - from) + 1).sum();
        return Some(cpus.saturating_mul(1000));
    }
    let kept = amount(&config.system_reserved).saturating_add(amount(&config.kube_reserved));
    let signal = RESOURCES.iter().find(|(name, _)| *name == resource).and_then(|(_, signal)| *signal);
    let Some(threshold) = signal.and_then(|signal| config.eviction_hard.get(signal)) else {
        return Some(kept);
    };
    let evicted = match threshold.strip_suffix('%') {
        Some("0" | "100") => 0,
        Some(percent) => {
            // In 32 bits, as Go reads it: the message shows it.
            let part: f32 = percent.parse::<f32>().ok()? / 100.0;
            (*check.facts.capacity.get(resource)? as f64 * f64::from(part)) as i64
        }
        None => threshold.parse::<Quantity>().ok()?.value(),
    };
    Some(kept.saturating_add(evicted))
}

/// The field that keeps the most of a resource, and its value.
fn blamed(config: &KubeletConfiguration, resource: &str) -> (String, String) {
    let of = |field: &'static str, map: &BTreeMap<String, String>| {
        let text = map.get(resource)?;
        Some((text.parse::<Quantity>().ok()?, (format!("{field}.{resource}"), text.clone())))
    };
    let maps = [of("systemReserved", &config.system_reserved), of("kubeReserved", &config.kube_reserved)];
    let most = maps.into_iter().flatten().max_by(|a, b| a.0.cmp(&b.0)).map(|(_, found)| found);
    let signal = RESOURCES.iter().find(|(name, _)| *name == resource).and_then(|(_, signal)| *signal);
    let evicted = signal.and_then(|signal| Some((signal, config.eviction_hard.get(signal)?)));
    most.or(evicted.map(|(signal, text)| (format!("evictionHard[{signal}]"), text.clone())))
        .unwrap_or_else(|| ("reservedSystemCPUs".to_owned(), config.reserved_system_cpus.clone()))
}

/// As Go writes such a quantity.
fn shown(resource: &str, amount: i64) -> String {
    if resource == "cpu" {
        return if amount % 1000 == 0 { (amount / 1000).to_string() } else { format!("{amount}m") };
    }
    let (mut amount, mut power) = (amount, 0);
    while amount != 0 && amount % 1024 == 0 && power < 6 {
        (amount, power) = (amount / 1024, power + 1);
    }
    format!("{amount}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{Facts, validate};
    use super::*;

    fn errors(value: Value) -> Vec<String> {
        let config = KubeletConfiguration::from_value(value, &BTreeMap::new()).unwrap().config;
        let facts = Facts {
            capacity: [("cpu", 2000), ("memory", 1 << 30), ("ephemeral-storage", 10 << 30)]
                .map(|(name, amount)| (name.to_owned(), amount))
                .into(),
            numa_nodes: Some(BTreeSet::from([0])),
            ..Facts::default()
        };
        let report = validate(&config, &facts, |_| "default");
        report
            .errors
            .into_iter()
            .map(|found| format!("{} {}: {}", found.field, found.value, found.rule))
            .collect()
    }

    #[test]
    fn reservations_fit_and_static_policies_have_some() {
        for (value, error) in [
            (json!({"systemReserved": {"cpu": "1", "memory": "512Mi"}}), ""),
            (
                json!({"kubeReserved": {"cpu": "3"}}),
                r#"Resource "cpu" has a reservation of 3 but capacity of 2. Expected capacity >= reservation."#,
            ),
            (
                json!({"kubeReserved": {"memory": "600Mi"}, "systemReserved": {"memory": "500Mi"}}),
                r#"Resource "memory" has a reservation of 1100Mi but capacity of 1Gi. Expected capacity"#,
            ),
            (
                json!({"kubeReserved": {"memory": "1000Mi"}, "evictionHard": {"memory.available": "10%"}}),
                r#"Resource "memory" has a reservation of"#,
            ),
            (
                json!({"kubeReserved": {"ephemeral-storage": "11Gi"}, "localStorageCapacityIsolation": false}),
                "",
            ),
            (
                json!({"kubeReserved": {"ephemeral-storage": "11Gi"}}),
                r#""ephemeral-storage" has a reservation of 11Gi"#,
            ),
            (json!({"reservedSystemCPUs": "0-3"}), r#"has a reservation of 4 but capacity of 2"#),
            (
                json!({"cpuManagerPolicy": "static"}),
                "unable to determine reserved CPU resources for static policy",
            ),
            (
                json!({"cpuManagerPolicy": "static", "kubeReserved": {"cpu": "0"}}),
                "unable to determine reserved CPU",
            ),
            (json!({"cpuManagerPolicy": "static", "kubeReserved": {"cpu": "100m"}}), ""),
            (json!({"cpuManagerPolicy": "static", "reservedSystemCPUs": "0"}), ""),
            (json!({"memoryManagerPolicy": "Static"}), "you should specify the system reserved memory"),
            (
                json!({"memoryManagerPolicy": "Static", "evictionHard": {"memory.available": "100Mi"}}),
                r#"the total amount "0" of type "memory" is not equal to the value "100Mi" determined by"#,
            ),
            (
                json!({"memoryManagerPolicy": "Static", "kubeReserved": {"memory": "1Mi"}, "reservedMemory": [{"numaNode": 0, "limits": {"memory": "1Mi"}}]}),
                "",
            ),
            (
                json!({"memoryManagerPolicy": "Static", "kubeReserved": {"memory": "1Mi"}, "reservedMemory": [{"numaNode": 7, "limits": {"memory": "1Mi"}}]}),
                "references a NUMA node 7 that does not exist on this machine",
            ),
        ] {
            let found = errors(value.clone());
            assert_eq!(found.is_empty(), error.is_empty(), "{value}: {found:?}");
            assert!(found.iter().all(|found| found.contains(error)), "{value}: {found:?}");
        }
    }

    #[test]
    fn what_is_not_known_of_the_machine_refuses_nothing() {
        let mut config = KubeletConfiguration::default();
        config.kube_reserved.insert("cpu".into(), "1000".into());
        config.memory_manager_policy = "Static".into();
        config.eviction_hard.insert("memory.available".into(), "10%".into());
        let errors = validate(&config, &Facts::default(), |_| "").errors;
        let fields: Vec<_> = errors.iter().map(|found| found.field.as_str()).collect();
        assert_eq!(fields, ["memoryManagerPolicy"], "{errors:?}");
    }
}
