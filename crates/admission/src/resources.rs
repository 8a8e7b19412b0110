//! What the node has, what of it is kept, and what pods can have: computed once, for everybody who asks.
//! Rule: upstream `pkg/kubelet/cm/node_container_manager_linux.go`, `pkg/kubelet/cadvisor/util.go`, and
//! `pkg/kubelet/nodestatus/setters.go` `MachineInfo`.

use std::collections::BTreeMap;

use kube_model::k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube_model::resources::{CPU, HUGEPAGES_PREFIX, MEMORY};

use crate::fit::{PODS, STORAGE};

/// A resource list.
pub type Resources = BTreeMap<String, Quantity>;

/// Amounts by resource: thousandths of a core for `cpu`, else bytes or a count.
pub type Amounts = BTreeMap<String, i64>;

const PIDS: &str = "pid";

/// What was measured of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// Cores that are online.
    pub cores: i64,
    /// Memory, in bytes.
    pub memory: i64,
    /// Huge pages: bytes in all by size, which is spelt as a quantity: `2Mi`.
    pub hugepages: BTreeMap<String, i64>,
    /// Bytes of the file system of the root folder; `None` where pods' use of it cannot be told apart.
    pub ephemeral_storage: Option<i64>,
    /// Process ids; `None`: not known.
    pub pids: Option<i64>,
}

/// What of it pods do not get.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reservations {
    /// Most pods.
    pub max_pods: i64,
    /// Most pods for each core; 0: no limit.
    pub pods_per_core: i64,
    /// `systemReserved` and `kubeReserved` together.
    pub reserved: Amounts,
    /// What has to be left lest pods be evicted.
    pub against_eviction: Amounts,
}

/// The node's resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeResources {
    /// All that there is.
    pub capacity: Amounts,
    /// What pods can have, each by its requests: not what is reserved, nor what has to be left lest pods be evicted. From
    /// memory huge pages are taken, too, which the kernel has set apart.
    pub allocatable: Amounts,
    /// What all pods together may use where that is enforced. Unlike `allocatable` it has what is left against
    /// eviction, which is there to be noticed; and process ids, of which the Node does not tell.
    pub for_pods: Amounts,
    /// The same where nothing is enforced: all that there is.
    pub unenforced: Amounts,
}

impl NodeResources {
    /// What a machine has, and what of it is left for pods.
    pub fn new(measured: &Measured, kept: &Reservations) -> Self {
        let pods = match kept.pods_per_core {
            0 => kept.max_pods,
            each => kept.max_pods.min(each.saturating_mul(measured.cores)),
        };
        let mut capacity = Amounts::from([
            (CPU.to_owned(), measured.cores.saturating_mul(1000)),
            (MEMORY.to_owned(), measured.memory),
            (PODS.to_owned(), pods),
        ]);
        capacity.extend(measured.ephemeral_storage.map(|bytes| (STORAGE.to_owned(), bytes)));
        for (size, bytes) in &measured.hugepages {
            capacity.insert(format!("{HUGEPAGES_PREFIX}{size}"), *bytes);
        }
        let of = |amounts: &Amounts, name: &str| amounts.get(name).copied().unwrap_or_default();
        let huge: i64 = measured.hugepages.values().sum();
        let left = |name: &str, amount: i64| {
            let set_apart = if name == MEMORY { huge } else { 0 };
            let withheld = of(&kept.reserved, name).saturating_add(of(&kept.against_eviction, name));
            amount.saturating_sub(withheld).saturating_sub(set_apart).max(0)
        };
        let allocatable = capacity.iter().map(|(name, amount)| (name.clone(), left(name, *amount))).collect();
        let mut unenforced = capacity.clone();
        unenforced.remove(PODS);
        unenforced.remove(STORAGE);
        unenforced.extend(measured.pids.map(|pids| (PIDS.to_owned(), pids)));
        let for_pods = unenforced
            .iter()
            .map(|(name, amount)| (name.clone(), amount.saturating_sub(of(&kept.reserved, name)).max(0)))
            .collect();
        Self { capacity, allocatable, for_pods, unenforced }
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

    fn measured() -> Measured {
        Measured { cores: 2, memory: 1 << 30, ..Measured::default() }
    }

    fn amounts<const N: usize>(all: [(&str, i64); N]) -> Amounts {
        all.map(|(name, amount)| (name.to_owned(), amount)).into()
    }

    fn text(amounts: &Amounts) -> String {
        amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
    }

    fn lists(measured: &Measured, kept: &Reservations) -> [String; 2] {
        let resources = NodeResources::new(measured, kept);
        [resources.capacity_list(), resources.allocatable_list()]
            .map(|list| list.iter().map(|(name, q)| format!("{name}={}", q.0)).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn pods_together_may_use_what_is_not_reserved_and_each_less() {
        let mib = |n: i64| n << 20;
        let kept = Reservations {
            max_pods: 110,
            reserved: amounts([
                ("cpu", 500),
                ("memory", mib(100)),
                ("pid", 1000),
                ("ephemeral-storage", mib(1)),
            ]),
            against_eviction: amounts([("memory", mib(24))]),
            ..Reservations::default()
        };
        let measured = Measured {
            hugepages: amounts([("2Mi", mib(4))]),
            pids: Some(32_768),
            ephemeral_storage: Some(1 << 30),
            ..measured()
        };
        let resources = NodeResources::new(&measured, &kept);
        assert_eq!(
            text(&resources.for_pods),
            format!("cpu=1500 hugepages-2Mi={} memory={} pid=31768", mib(4), mib(924))
        );
        assert_eq!(
            text(&resources.unenforced),
            format!("cpu=2000 hugepages-2Mi={} memory={} pid=32768", mib(4), mib(1024))
        );
        assert_eq!(
            text(&resources.allocatable),
            format!(
                "cpu=1500 ephemeral-storage={} hugepages-2Mi={} memory={} pods=110",
                mib(1023),
                mib(4),
                mib(1024 - 124 - 4)
            )
        );
    }

    #[test]
    fn ephemeral_storage_is_left_out_where_it_is_not_isolated() {
        let kept = Reservations {
            max_pods: 110,
            reserved: amounts([("ephemeral-storage", 1 << 20)]),
            ..Reservations::default()
        };
        let both = lists(&measured(), &kept);
        assert_eq!(both, ["cpu=2 memory=1Gi pods=110"; 2]);
    }

    #[test]
    fn what_is_reserved_is_not_for_pods() {
        let kept = Reservations {
            max_pods: 110,
            pods_per_core: 10,
            reserved: amounts([("cpu", 250), ("memory", 1 << 40), ("pods", 1)]),
            ..Reservations::default()
        };
        let measured = Measured { hugepages: amounts([("2Mi", 4 << 20)]), ..measured() };
        let [capacity, allocatable] = lists(&measured, &kept);
        assert_eq!(capacity, "cpu=2 hugepages-2Mi=4Mi memory=1Gi pods=20");
        assert_eq!(allocatable, "cpu=1750m hugepages-2Mi=4Mi memory=0 pods=19");
    }
}
