//! What the node has, what of it is kept, and what pods can have: computed once, for everybody who asks.
//! Rule: upstream `pkg/kubelet/cm/node_container_manager_linux.go`, `pkg/kubelet/cadvisor/util.go`, and
//! `pkg/kubelet/nodestatus/setters.go` `MachineInfo`.

use std::collections::BTreeMap;

use kube_model::k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::facts::{Facts, Limits, Signal};

/// A resource list.
pub type Resources = BTreeMap<String, Quantity>;

/// Amounts by resource: thousandths of a core for `cpu`, else bytes or a count.
pub type Amounts = BTreeMap<String, i64>;

const CPU: &str = "cpu";
const MEMORY: &str = "memory";
const STORAGE: &str = "ephemeral-storage";
const PODS: &str = "pods";
const PIDS: &str = "pid";
const HUGEPAGES: &str = "hugepages-";

/// The node's resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeResources {
    /// All that there is.
    pub capacity: Amounts,
    /// What of it pods do not get: `systemReserved`, `kubeReserved`, and what has to be left lest pods be evicted.
    pub reserved: Amounts,
    /// What pods can have, each by its requests. From memory huge pages are taken, which the kernel has set apart.
    pub allocatable: Amounts,
    /// What all pods together may use where that is enforced. Unlike `allocatable` it has what is left against
    /// eviction, which is there to be noticed; and process ids, of which the Node does not tell.
    pub for_pods: Amounts,
    /// The same where nothing is enforced: all that there is.
    pub unenforced: Amounts,
}

impl NodeResources {
    /// What a node of these facts has, and what of it is left with these limits.
    pub fn new(limits: &Limits, facts: &Facts) -> Self {
        let hardware = &facts.hardware;
        let pods = match limits.pods_per_core {
            0 => limits.max_pods,
            each => limits.max_pods.min(each.saturating_mul(hardware.cores)),
        };
        let mut capacity = Amounts::from([
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
        let configured = |name: &str| limits.reserved.get(name).copied().unwrap_or_default();
        let against_eviction = |name: &str| {
            let signal = match name {
                MEMORY => Signal::MemoryAvailable,
                STORAGE => Signal::NodefsAvailable,
                _ => return 0,
            };
            let threshold = limits.thresholds.iter().find(|t| t.signal == signal);
            threshold.map_or(0, |t| t.least.of(capacity[name]))
        };
        let reserved =
            capacity.keys().map(|name| (name, configured(name).saturating_add(against_eviction(name))));
        let reserved: Amounts = reserved
            .filter(|(_, amount)| *amount != 0)
            .map(|(name, amount)| (name.clone(), amount))
            .collect();
        let huge: i64 = hardware.hugepages.values().sum();
        let left = |name: &str, amount: i64| {
            let set_apart = if name == MEMORY { huge } else { 0 };
            let kept = reserved.get(name).copied().unwrap_or_default();
            amount.saturating_sub(kept).saturating_sub(set_apart).max(0)
        };
        let allocatable = capacity.iter().map(|(name, amount)| (name.clone(), left(name, *amount))).collect();
        let mut unenforced = capacity.clone();
        unenforced.remove(PODS);
        unenforced.remove(STORAGE);
        if let Some(pids) = facts.stocks.get(&Signal::PidAvailable) {
            unenforced.insert(PIDS.to_owned(), pids.capacity);
        }
        let for_pods = unenforced
            .iter()
            .map(|(name, amount)| (name.clone(), amount.saturating_sub(configured(name)).max(0)))
            .collect();
        Self { capacity, reserved, allocatable, for_pods, unenforced }
    }

    /// `status.capacity` of the Node.
    pub fn capacity_list(&self) -> Resources {
        list(&self.capacity)
    }

    /// `status.allocatable` of the Node.
    pub fn allocatable_list(&self) -> Resources {
        list(&self.allocatable)
    }
}

fn list(amounts: &Amounts) -> Resources {
    amounts.iter().map(|(name, amount)| (name.clone(), quantity(name, *amount))).collect()
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

    fn lists(limits: &Limits, facts: &Facts) -> (Resources, Resources) {
        let resources = NodeResources::new(limits, facts);
        (resources.capacity_list(), resources.allocatable_list())
    }

    #[test]
    fn pods_together_may_use_what_is_not_reserved_and_each_less() {
        let mut limits = settings().limits;
        limits.reserved = Amounts::from([
            ("cpu".to_owned(), 500),
            ("memory".to_owned(), 100 << 20),
            ("pid".to_owned(), 1000),
            ("ephemeral-storage".to_owned(), 1 << 20),
        ]);
        limits.thresholds =
            vec![Threshold { signal: Signal::MemoryAvailable, least: Least::Amount(24 << 20) }];
        let mut facts = facts();
        facts.hardware.hugepages = BTreeMap::from([("2Mi".to_owned(), 4 << 20)]);
        facts.stocks.insert(Signal::PidAvailable, Stock { capacity: 32_768, available: 30_000 });
        facts.stocks.insert(Signal::NodefsAvailable, Stock { capacity: 1 << 30, available: 1 << 29 });
        let resources = NodeResources::new(&limits, &facts);
        let text = |amounts: &Amounts| {
            amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
        };
        let memory = |mib: i64| mib << 20;
        assert_eq!(
            text(&resources.for_pods),
            format!("cpu=1500 hugepages-2Mi={} memory={} pid=31768", memory(4), memory(924))
        );
        assert_eq!(
            text(&resources.unenforced),
            format!("cpu=2000 hugepages-2Mi={} memory={} pid=32768", memory(4), memory(1024))
        );
        assert_eq!(
            text(&resources.reserved),
            format!("cpu=500 ephemeral-storage={} memory={}", memory(1), memory(124))
        );
        assert_eq!(resources.allocatable[MEMORY], memory(1024 - 124 - 4));
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
        let (capacity, allocatable) = lists(&limits, &facts);
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
        let (capacity, allocatable) = lists(&limits, &facts);
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
        let (capacity, allocatable) = lists(&limits, &facts);
        assert_eq!(text(&capacity), "cpu=2 hugepages-2Mi=4Mi memory=1Gi pods=20");
        assert_eq!(text(&allocatable), "cpu=1750m hugepages-2Mi=4Mi memory=0 pods=19");
    }
}
