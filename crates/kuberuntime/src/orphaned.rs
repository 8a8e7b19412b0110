//! Orphaned pods, of which earlier runs of the agent left files or cgroups on the node.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use cgroups::Cgroups;
use kube_model::PodUid;
use pod_workers::{Probes, Workers};

use super::{CriRuntime, Files};

/// Pause between two looks for empty cgroups.
const SWEEP: Duration = Duration::from_secs(20);

impl CriRuntime {
    /// Removes directories, logs and cgroups of pods that nobody wants and the runtime does not know: the agent
    /// was killed after the runtime had forgotten the pod and before the files were gone.
    pub async fn remove_orphaned_pods<P: Probes>(&self, workers: &Workers<Self, P>) {
        workers.ready().await;
        // What is on disk is read first: whatever comes later belongs to a pod that is known by then.
        let found = self.files.run(|files| Ok(files.found())).await.unwrap_or_default();
        for uid in self.unknown_cgroups(workers).await {
            tracing::info!(%uid, "removing the cgroup of a pod that is gone");
            let (workers, of) = (workers.clone(), uid.clone());
            if let Some(cgroups) = &self.cgroups
                && let Err(error) = cgroups.remove_pod_unless(&uid, move || workers.is_known(&of)).await
            {
                tracing::warn!(%uid, err = &error as &dyn Error, "a cgroup is left");
            }
        }
        for (uid, dir) in found.into_iter().filter(|(uid, _)| !workers.is_known(uid)) {
            self.remove_left(workers, &uid, dir).await;
        }
        if let Err(error) = self.files.run(Files::remove_dangling_links).await {
            tracing::warn!("a link to a log that is gone is left: {}", util::causes(&error));
        }
    }

    /// A directory of a pod that is gone, with its volumes.
    async fn remove_left<P: Probes>(&self, workers: &Workers<Self, P>, uid: &PodUid, dir: PathBuf) {
        let path = dir.display().to_string();
        let (workers, of, files) = (workers.clone(), uid.clone(), self.files.clone());
        let is_gone = move || !workers.is_known(&of);
        match self.volumes.remove_left(uid, is_gone, move || files.remove_found(&dir)).await {
            Ok(Some(Ok(()))) => tracing::info!(%uid, "removed {path} of a pod that is gone"),
            Ok(None) => {}
            Ok(Some(Err(error))) => tracing::warn!(%uid, err = &error as &dyn Error, "a directory is left"),
            Err(error) => tracing::warn!(%uid, "{}; its directory is left", util::causes(&error)),
        }
    }

    /// Removes directories and empty cgroups of pods that nobody knows, again and again: a runtime that was making a
    /// sandbox while its pod was removed makes cgroups once more after the clean-up, and what was mounted in a directory
    /// may be gone by now. Only what was so at two looks goes, so that a runtime may do what it is at. Never ends.
    pub async fn sweep<P: Probes>(&self, workers: &Workers<Self, P>) {
        let (mut cgroups, mut dirs) = (BTreeSet::new(), BTreeSet::new());
        loop {
            tokio::time::sleep(SWEEP).await;
            cgroups = self.sweep_cgroups(workers, &cgroups).await;
            dirs = self.sweep_dirs(workers, &dirs).await;
            if let Err(error) = self.volumes.take_down_unused().await {
                tracing::warn!("a volume of the node is left: {}", util::causes(&error));
            }
        }
    }

    async fn sweep_dirs<P: Probes>(
        &self,
        workers: &Workers<Self, P>,
        before: &BTreeSet<(PodUid, PathBuf)>,
    ) -> BTreeSet<(PodUid, PathBuf)> {
        let found = self.files.run(|files| Ok(files.found())).await.unwrap_or_default();
        let unknown: BTreeSet<_> = found.into_iter().filter(|(uid, _)| !workers.is_known(uid)).collect();
        for (uid, dir) in unknown.intersection(before) {
            self.remove_left(workers, uid, dir.clone()).await;
        }
        unknown
    }

    async fn sweep_cgroups<P: Probes>(
        &self,
        workers: &Workers<Self, P>,
        before: &BTreeSet<PodUid>,
    ) -> BTreeSet<PodUid> {
        let Some(cgroups) = &self.cgroups else { return BTreeSet::new() };
        let unknown = self.unknown_cgroups(workers).await;
        for uid in unknown.intersection(before) {
            let (workers, of) = (workers.clone(), uid.clone());
            // A pod that comes back is known before its cgroup is made, and that waits for this.
            let remove =
                move |cgroups: &Cgroups| Ok(!workers.is_known(&of) && cgroups.remove_empty_pod(&of)?);
            match cgroups.run(remove).await {
                Ok(true) => tracing::info!(%uid, "removed the empty cgroup of a pod that is gone"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%uid, err = &error as &dyn Error, "a cgroup is left"),
            }
        }
        unknown
    }

    /// The pods that have a cgroup, and that nobody knows.
    async fn unknown_cgroups<P: Probes>(&self, workers: &Workers<Self, P>) -> BTreeSet<PodUid> {
        let Some(cgroups) = &self.cgroups else { return BTreeSet::new() };
        let found = cgroups.run(Cgroups::pods).await.unwrap_or_else(|error| {
            tracing::warn!(err = &error as &dyn Error, "cannot look for cgroups of pods that are gone");
            Vec::new()
        });
        found.into_iter().filter(|uid| !workers.is_known(uid)).collect()
    }
}
