//! What all pods together may use, enforced on the cgroup that they are all in.
//! Rule: upstream `pkg/kubelet/cm/node_container_manager_linux.go` `enforceNodeAllocatableCgroups`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use admission::{Amounts, NodeResources};
use cgroups::{Cgroups, NodeLimits};
use kube_model::quantity::Quantity;
use kube_model::resources::{CPU, HUGEPAGES_PREFIX, MEMORY};
use kube_model::view::EventType;

/// Time between two tries: pods that use more than they may have to go first.
const RETRY: Duration = Duration::from_secs(60);

/// Something to be told of the node.
pub(crate) type NodeEvent = (EventType, &'static str, String);

/// The limits of the pods' cgroup.
pub(crate) struct Enforcement {
    cgroups: Arc<Cgroups>,
    limits: NodeLimits,
    /// Whether pods are kept from what is reserved.
    enforced: bool,
}

impl Enforcement {
    /// Limits to what is not reserved if that is `enforced`, else to all that there is: shares of a fresh cgroup would
    /// be too low for it.
    pub(crate) fn new(
        cgroups: Arc<Cgroups>,
        resources: &NodeResources,
        cpus: Option<String>,
        enforced: bool,
    ) -> Self {
        let amounts = if enforced { &resources.for_pods } else { &resources.unenforced };
        Self { cgroups, limits: limits(amounts, cpus), enforced }
    }

    /// Writes the limits; blocks while memory beyond them is freed. Answers with what is to be told of it.
    ///
    /// # Errors
    /// What is to be told when it failed.
    pub(crate) fn apply(&self) -> Result<Option<NodeEvent>, NodeEvent> {
        match self.cgroups.limit_pods(&self.limits) {
            Ok(()) => {
                let done = "Updated Node Allocatable limit across pods".to_owned();
                Ok(self.enforced.then_some((EventType::Normal, "NodeAllocatableEnforced", done)))
            }
            Err(error) => {
                let cgroup = self.cgroups.pods_cgroup();
                let parts: Vec<String> = cgroup.split('/').map(|part| format!("{part:?}")).collect();
                let (cgroup, cause) = (parts.join(" "), util::causes(&error));
                let text = format!("Failed to update Node Allocatable Limits [{cgroup}]: {cause}");
                Err((EventType::Warning, "FailedNodeAllocatableEnforcement", text))
            }
        }
    }

    /// Tries each minute until it succeeds, after a first try that failed.
    pub(crate) async fn keep_trying(self, tell: impl Fn(NodeEvent)) {
        let enforcement = Arc::new(self);
        loop {
            tokio::time::sleep(RETRY).await;
            let enforcement = Arc::clone(&enforcement);
            // Not in its turn with the pods' cgroups: those need not wait for it.
            let applied = tokio::task::spawn_blocking(move || enforcement.apply());
            // It fails only when the agent is going down.
            let Ok(applied) = applied.await else { return };
            match applied {
                Ok(event) => return event.into_iter().for_each(tell),
                Err(event) => {
                    tracing::warn!("{}", event.2);
                    tell(event);
                }
            }
        }
    }
}

fn limits(amounts: &Amounts, cpus: Option<String>) -> NodeLimits {
    let page = |name: &str| {
        let size: Quantity = name.strip_prefix(HUGEPAGES_PREFIX)?.parse().ok()?;
        u64::try_from(size.value()).ok()
    };
    let hugepages: BTreeMap<u64, i64> =
        amounts.iter().filter_map(|(name, bytes)| Some((page(name)?, *bytes))).collect();
    NodeLimits {
        milli_cpu: amounts.get(CPU).copied(),
        memory: amounts.get(MEMORY).copied(),
        pids: amounts.get("pid").copied(),
        hugepages: Some(hugepages),
        cpus,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroups() -> (tempfile::TempDir, Arc<Cgroups>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cgroup.controllers"), "cpuset cpu memory hugetlb pids\n").unwrap();
        let cgroups = Cgroups::detect(dir.path(), cgroups::Settings::default()).unwrap();
        cgroups.ensure_base().unwrap();
        (dir, Arc::new(cgroups))
    }

    fn resources() -> NodeResources {
        let amounts = |cpu: i64, memory: i64| {
            let all = [("cpu", cpu), ("memory", memory), ("pid", 1000), ("hugepages-2Mi", 4 << 20)];
            Amounts::from(all.map(|(name, amount)| (name.to_owned(), amount)))
        };
        NodeResources {
            for_pods: amounts(1500, 1 << 30),
            unenforced: amounts(2000, 2 << 30),
            ..NodeResources::default()
        }
    }

    #[test]
    fn pods_are_kept_from_what_is_reserved_and_told_of_only_where_that_is_enforced() {
        for (enforced, memory, weight, reason) in
            [(true, "1073741824", "59", Some("NodeAllocatableEnforced")), (false, "2147483648", "79", None)]
        {
            let (dir, cgroups) = cgroups();
            std::fs::write(dir.path().join("kubepods/hugetlb.2MB.max"), "max").unwrap();
            let enforcement = Enforcement::new(cgroups, &resources(), Some("0-1".to_owned()), enforced);
            let event = enforcement.apply().unwrap();
            assert_eq!(event.map(|event| event.1), reason);
            for (file, want) in [
                ("memory.max", memory),
                ("cpu.weight", weight),
                ("pids.max", "1000"),
                ("hugetlb.2MB.max", "4194304"),
                ("cpuset.cpus", "0-1"),
            ] {
                let text = std::fs::read_to_string(dir.path().join("kubepods").join(file)).unwrap();
                assert_eq!(text, want, "{file}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_told_and_tried_again() {
        let (dir, cgroups) = cgroups();
        let file = dir.path().join("kubepods/memory.max");
        std::fs::create_dir(&file).unwrap();
        let enforcement = Enforcement::new(cgroups, &resources(), None, true);
        let (kind, reason, message) = enforcement.apply().unwrap_err();
        assert_eq!((kind, reason), (EventType::Warning, "FailedNodeAllocatableEnforcement"));
        assert!(
            message.starts_with("Failed to update Node Allocatable Limits [\"kubepods\"]: reading "),
            "{message}"
        );
        let events = std::sync::Mutex::new(Vec::new());
        enforcement
            .keep_trying(|(_, reason, _)| {
                // Mended after the second failure.
                let _ = std::fs::remove_dir(&file);
                events.lock().unwrap().push(reason);
            })
            .await;
        assert_eq!(*events.lock().unwrap(), ["FailedNodeAllocatableEnforcement", "NodeAllocatableEnforced"]);
    }
}
