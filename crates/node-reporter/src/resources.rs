//! Capacity and allocatable. Rule: reference 6.2; upstream `pkg/kubelet/nodestatus/setters.go` `MachineInfo`.

use std::collections::BTreeMap;

use kube_model::k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::facts::{Facts, Limits, Signal};

/// A resource list.
pub type Resources = BTreeMap<String, Quantity>;

const CPU: &str = "cpu";
const MEMORY: &str = "memory";
const STORAGE: &str = "ephemeral-storage";
const PODS: &str = "pods";
const HUGEPAGES: &str = "hugepages-";

/// What the node has, and what of it pods can have.
pub fn resources(limits: &Limits, facts: &Facts) -> (Resources, Resources) {
    let hardware = &facts.hardware;
    let pods = match limits.pods_per_core {
        0 => limits.max_pods,
        each => limits.max_pods.min(each.saturating_mul(hardware.cores)),
    };
    let mut capacity = BTreeMap::from([
        (CPU.to_owned(), hardware.cores.saturating_mul(1000)),
        (MEMORY.to_owned(), hardware.memory),
        (PODS.to_owned(), pods),
    ]);
    if limits.ephemeral_storage
        && let Some(disk) = facts.stocks.get(&Signal::NodefsAvailable)
    {
        capacity.insert(STORAGE.to_owned(), disk.capacity);
    }
    for (size, bytes) in &hardware.hugepages {
        capacity.insert(format!("{HUGEPAGES}{size}"), *bytes);
    }
    let huge: i64 = hardware.hugepages.values().sum();
    let kept_for_eviction = |resource: &str| {
        let signal = match resource {
            MEMORY => Signal::MemoryAvailable,
            STORAGE => Signal::NodefsAvailable,
            _ => return 0,
        };
        let threshold = limits.thresholds.iter().find(|t| t.signal == signal);
        threshold.map_or(0, |t| t.least.of(capacity[resource]))
    };
    let allocatable = capacity.iter().map(|(name, amount)| {
        let mut left =
            amount - limits.reserved.get(name).copied().unwrap_or_default() - kept_for_eviction(name);
        if name == MEMORY {
            // The kernel has set these pages apart.
            left -= huge;
        }
        (name.clone(), quantity(name, left.max(0)))
    });
    let allocatable = allocatable.collect();
    let capacity = capacity.iter().map(|(name, amount)| (name.clone(), quantity(name, *amount))).collect();
    (capacity, allocatable)
}

/// The canonical text: whole cores where it comes out even, memory in the largest binary unit that does.
fn quantity(name: &str, amount: i64) -> Quantity {
    let text = match name {
        CPU if amount % 1000 == 0 => (amount / 1000).to_string(),
        CPU => format!("{amount}m"),
        PODS => amount.to_string(),
        _ => binary(amount),
    };
    Quantity(text)
}

fn binary(amount: i64) -> String {
    let mut amount = amount;
    let mut unit = 0;
    while amount != 0 && amount % 1024 == 0 && unit < UNITS.len() - 1 {
        amount /= 1024;
        unit += 1;
    }
    format!("{amount}{}", UNITS[unit])
}

const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Least, Stock, Threshold};
    use crate::testing::{facts, settings};

    fn text(list: &Resources) -> String {
        list.iter().map(|(name, q)| format!("{name}={}", q.0)).collect::<Vec<_>>().join(" ")
    }

    /// The recorded node: `evictionHard` had memory at 100Mi and the disk at 3 %.
    #[test]
    fn it_agrees_with_the_recorded_node() {
        let mut limits = settings().limits;
        limits.max_pods = 200;
        limits.thresholds = vec![
            Threshold { signal: Signal::MemoryAvailable, least: Least::Amount(100 << 20) },
            Threshold { signal: Signal::NodefsAvailable, least: Least::Part(0.03) },
        ];
        let mut facts = facts();
        facts.hardware.memory = 24_684_084 << 10;
        facts.hardware.hugepages = BTreeMap::from([("1Gi".to_owned(), 0), ("2Mi".to_owned(), 0)]);
        let disk = Stock { capacity: 264_212_084 << 10, available: 1 << 36 };
        facts.stocks.insert(Signal::NodefsAvailable, disk);
        let (capacity, allocatable) = resources(&limits, &facts);
        assert_eq!(
            text(&capacity),
            "cpu=2 ephemeral-storage=264212084Ki hugepages-1Gi=0 hugepages-2Mi=0 memory=24684084Ki pods=200"
        );
        assert_eq!(
            text(&allocatable),
            "cpu=2 ephemeral-storage=262436578977 hugepages-1Gi=0 hugepages-2Mi=0 memory=24581684Ki pods=200"
        );
    }

    #[test]
    fn ephemeral_storage_is_left_out_where_it_is_not_isolated() {
        let mut limits = settings().limits;
        limits.ephemeral_storage = false;
        limits.reserved = BTreeMap::from([("ephemeral-storage".to_owned(), 1 << 20)]);
        let mut facts = facts();
        facts.stocks.insert(Signal::NodefsAvailable, Stock { capacity: 1 << 30, available: 1 << 29 });
        let (capacity, allocatable) = resources(&limits, &facts);
        assert_eq!(text(&capacity), "cpu=2 memory=1Gi pods=110");
        assert_eq!(capacity, allocatable);
    }

    #[test]
    fn what_is_reserved_is_not_for_pods() {
        let mut limits = settings().limits;
        limits.pods_per_core = 10;
        limits.reserved =
            BTreeMap::from([("cpu".to_owned(), 250), ("memory".to_owned(), 1 << 40), ("pods".to_owned(), 1)]);
        let mut facts = facts();
        facts.hardware.hugepages = BTreeMap::from([("2Mi".to_owned(), 4 << 20)]);
        let (capacity, allocatable) = resources(&limits, &facts);
        assert_eq!(text(&capacity), "cpu=2 hugepages-2Mi=4Mi memory=1Gi pods=20");
        assert_eq!(text(&allocatable), "cpu=1750m hugepages-2Mi=4Mi memory=0 pods=19");
    }
}
