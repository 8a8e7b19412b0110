//! What all pods of a class share. Counterpart: upstream `pkg/kubelet/cm/qos_container_manager_linux.go`.

use std::time::Duration;

use pod_workers::{Probes, Workers};
use tokio::time::Instant;

use super::{CriRuntime, NodeInfo};

/// Pause after a failure (upstream `periodicQOSCgroupUpdateInterval`).
const RETRY: Duration = Duration::from_secs(60);

impl CriRuntime {
    /// Keeps the CPU weight of the burstable class at what its active pods request together. Never ends while there are
    /// pods' cgroups.
    pub async fn share_burstable_cpu<P: Probes>(&self, workers: &Workers<Self, P>, node: &NodeInfo) {
        let Some(cgroups) = &self.cgroups else { return };
        let mut changes = workers.status_changes();
        let mut shared = None;
        loop {
            // Before the look at the pods, so that what changes meanwhile is looked at again.
            changes.mark_unchanged();
            let wanted = workers.active_pods().map(|active| node.burstable_milli_cpu(&active));
            if let Some(milli_cpu) = wanted.filter(|_| wanted != shared) {
                let began = Instant::now();
                let written = cgroups.run(move |cgroups| cgroups.set_burstable_shares(milli_cpu)).await;
                self.metrics.cgroup("update", began);
                if let Err(error) = written {
                    let causes = util::causes(&error);
                    tracing::error!("the CPU shares of burstable pods are not up to date: {causes}");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                shared = wanted;
            }
            // The sender lives as long as `workers`.
            let _ = changes.changed().await;
        }
    }
}
