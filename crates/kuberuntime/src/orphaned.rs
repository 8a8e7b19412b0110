//! Orphaned pods, of which earlier runs of the agent left files or cgroups on the node.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use cgroups::Cgroups;
use kube_model::PodUid;
use pod_workers::{Probes, Workers};

use super::{CriRuntime, Files};

/// Pause between two looks for empty cgroups.
const SWEEP: Duration = Duration::from_secs(20);

/// What could not be removed, by what it is, with what was said of it last: each is told of once, and again when there
/// is something else to say.
#[derive(Default)]
struct LeftOver(BTreeMap<String, String>);

impl LeftOver {
    fn gone(&mut self, what: &str) {
        self.0.remove(what);
    }

    /// Whether that is to be told.
    fn is_news(&mut self, what: &str, why: &str) -> bool {
        if self.0.get(what).is_some_and(|told| told == why) {
            return false;
        }
        self.0.insert(what.to_owned(), why.to_owned());
        true
    }

    fn stays(&mut self, uid: &PodUid, what: &str, error: &dyn Error) {
        let why = util::causes(error);
        if self.is_news(what, &why) {
            tracing::warn!(%uid, "{what} of a pod that is gone is left: {why}");
        }
    }
}

impl CriRuntime {
    /// Removes directories, logs and cgroups of pods that nobody wants and the runtime does not know: the agent
    /// was killed after the runtime had forgotten the pod and before the files were gone.
    ///
    /// Then looks for directories and empty cgroups of such pods again and again: a runtime that was making a sandbox
    /// while its pod was removed makes cgroups once more after the clean-up, and what was mounted in a directory may be
    /// gone by now. Only what was so at two looks goes, so that a runtime may do what it is at. Never ends.
    pub async fn remove_orphaned_pods<P: Probes>(&self, workers: &Workers<Self, P>) {
        workers.ready().await;
        let mut left = LeftOver::default();
        // What is on disk is read first: whatever comes later belongs to a pod that is known by then.
        let found = self.files.run(|files| Ok(files.found())).await.unwrap_or_default();
        for uid in self.unknown_cgroups(workers).await {
            tracing::info!(%uid, "removing the cgroup of a pod that is gone");
            let (workers, of) = (workers.clone(), uid.clone());
            if let Some(cgroups) = &self.cgroups
                && let Err(error) = cgroups.remove_pod_unless(&uid, move || workers.is_known(&of)).await
            {
                left.stays(&uid, &cgroup_of(&uid), &error);
            }
        }
        for (uid, dir) in found.into_iter().filter(|(uid, _)| !workers.is_known(uid)) {
            self.remove_left(workers, &uid, dir, &mut left).await;
        }
        if let Err(error) = self.files.run(Files::remove_dangling_links).await {
            tracing::warn!("a link to a log that is gone is left: {}", util::causes(&error));
        }
        Box::pin(self.sweep(workers, &mut left)).await;
    }

    /// A directory of a pod that is gone, with its volumes.
    async fn remove_left<P: Probes>(
        &self,
        workers: &Workers<Self, P>,
        uid: &PodUid,
        dir: PathBuf,
        left: &mut LeftOver,
    ) {
        let path = dir.display().to_string();
        let (workers, of, files) = (workers.clone(), uid.clone(), self.files.clone());
        let is_gone = move || !workers.is_known(&of);
        match self.volumes.remove_left(uid, is_gone, move || files.remove_found(&dir)).await {
            Ok(Some(Ok(()))) => {
                left.gone(&path);
                tracing::info!(%uid, "removed {path} of a pod that is gone");
            }
            Ok(None) => left.gone(&path),
            Ok(Some(Err(error))) => left.stays(uid, &path, &error),
            Err(error) => left.stays(uid, &path, &error),
        }
    }

    async fn sweep<P: Probes>(&self, workers: &Workers<Self, P>, left: &mut LeftOver) {
        let (mut cgroups, mut dirs) = (BTreeSet::new(), BTreeSet::new());
        loop {
            tokio::time::sleep(SWEEP).await;
            cgroups = self.sweep_cgroups(workers, &cgroups, left).await;
            dirs = self.sweep_dirs(workers, &dirs, left).await;
            const UNUSED: &str = "volumes of the node that no pod uses";
            match self.volumes.take_down_unused().await {
                Ok(()) => left.gone(UNUSED),
                Err(error) => {
                    let why = util::causes(&error);
                    if left.is_news(UNUSED, &why) {
                        tracing::warn!("a volume of the node is left: {why}");
                    }
                }
            }
        }
    }

    async fn sweep_dirs<P: Probes>(
        &self,
        workers: &Workers<Self, P>,
        before: &BTreeSet<(PodUid, PathBuf)>,
        left: &mut LeftOver,
    ) -> BTreeSet<(PodUid, PathBuf)> {
        let found = self.files.run(|files| Ok(files.found())).await.unwrap_or_default();
        let unknown: BTreeSet<_> = found.into_iter().filter(|(uid, _)| !workers.is_known(uid)).collect();
        for (uid, dir) in unknown.intersection(before) {
            self.remove_left(workers, uid, dir.clone(), left).await;
        }
        unknown
    }

    async fn sweep_cgroups<P: Probes>(
        &self,
        workers: &Workers<Self, P>,
        before: &BTreeSet<PodUid>,
        left: &mut LeftOver,
    ) -> BTreeSet<PodUid> {
        let Some(cgroups) = &self.cgroups else { return BTreeSet::new() };
        let unknown = self.unknown_cgroups(workers).await;
        for uid in unknown.intersection(before) {
            let (workers, of) = (workers.clone(), uid.clone());
            // A pod that comes back is known before its cgroup is made, and that waits for this.
            let remove =
                move |cgroups: &Cgroups| Ok(!workers.is_known(&of) && cgroups.remove_empty_pod(&of)?);
            match cgroups.run(remove).await {
                Ok(removed) => {
                    left.gone(&cgroup_of(uid));
                    if removed {
                        tracing::info!(%uid, "removed the empty cgroup of a pod that is gone");
                    }
                }
                Err(error) => left.stays(uid, &cgroup_of(uid), &error),
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

fn cgroup_of(uid: &PodUid) -> String {
    format!("cgroup {uid}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_of_once_and_again_when_it_changes() {
        let mut left = LeftOver::default();
        let told: Vec<_> = [("a", "x"), ("a", "x"), ("b", "x"), ("a", "y"), ("a", "y")]
            .map(|(what, why)| left.is_news(what, why))
            .into();
        assert_eq!(told, [true, false, true, true, false]);
        left.gone("a");
        assert!(left.is_news("a", "y") && !left.is_news("b", "x"));
    }
}
