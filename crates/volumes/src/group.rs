//! The files of a volume are made those of the pod's group (`fsGroup`; upstream `pkg/volume/volume_linux.go`), and what
//! takes long is told of.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kube_model::PodUid;
use kube_model::view::EventType;
use tokio::time::Instant;
use volume_fs::ownership::{self, Ownership};

use crate::manager::News;
use crate::set_up::Job;

/// When it is told of first, and how long after that again.
const TOLD: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(60));

/// How far it is; nothing as long as it has not begun.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    began: OnceLock<(Instant, PathBuf)>,
    seen: AtomicU64,
}

impl Progress {
    /// Makes all files below `path` the group's, of what the pod has at `volume`. One that cannot be changed holds up
    /// nothing, as upstream, and is told of.
    pub(crate) fn give(
        &self,
        path: &Path,
        volume: &Path,
        ownership: Ownership,
    ) -> Result<(), volume_fs::Error> {
        let _ = self.began.set((Instant::now(), volume.to_owned()));
        let report = ownership::set_group(path, ownership, &self.seen)?;
        if let Some(error) = &report.first_failure {
            let (volume, failed) = (volume.display(), report.failed);
            tracing::warn!(%volume, failed, "not all files could be made the group's: {}", util::causes(error));
        }
        Ok(())
    }

    /// How long nobody has to be told from now on, if that is so; else what there is to tell.
    fn news(&self, told: u32, uid: &PodUid) -> Result<String, Duration> {
        let Some((began, path)) = self.began.get() else { return Err(TOLD.0) };
        let due = TOLD.0 + TOLD.1 * told;
        let left = due.saturating_sub(began.elapsed());
        if !left.is_zero() {
            return Err(left);
        }
        let path = path.display().to_string();
        let path = path.find(uid.as_str()).map_or(path.as_str(), |at| &path[at..]);
        Ok(match told {
            0 => format!(
                "Setting volume ownership for {path} is taking longer than expected, consider using OnRootMismatch - \
                 https://kubernetes.io/docs/tasks/configure-pod-container/security-context/#configure-volume-permission-and-ownership-change-policy-for-pods"
            ),
            _ => {
                let seen = self.seen.load(Ordering::Relaxed);
                format!("Setting volume ownership for {path}, processed {seen} files.")
            }
        })
    }
}

impl Job {
    /// Waits for `work`, and has the pod told of how far it is with its files.
    pub(crate) async fn telling<T>(&self, progress: &Progress, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut told = 0;
        loop {
            match progress.news(told, &self.uid) {
                Ok(message) => {
                    tracing::warn!(uid = %self.uid, volume = self.name, "{message}");
                    told += 1;
                    let reason = "VolumePermissionChangeInProgress";
                    self.inner.tell(News::Event(self.uid.clone(), EventType::Warning, reason, message)).await;
                }
                // Both arms are cancel safe: the work goes on with the next round.
                Err(left) => tokio::select! {
                    done = &mut work => return done,
                    () = tokio::time::sleep(left) => {}
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_is_told_of_after_half_a_minute_and_then_each_minute() {
        let progress = Progress::default();
        let uid = PodUid::from("u-1");
        assert_eq!(progress.news(0, &uid), Err(TOLD.0), "it has not begun");
        let path = PathBuf::from("/kubelet/pods/u-1/volumes/plugin/v");
        progress.began.set((Instant::now(), path)).unwrap();
        progress.seen.store(7, Ordering::Relaxed);
        tokio::time::advance(Duration::from_secs(29)).await;
        assert_eq!(progress.news(0, &uid), Err(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        let first = progress.news(0, &uid).unwrap();
        let begin = "Setting volume ownership for u-1/volumes/plugin/v is taking longer than expected, consider using";
        assert!(first.starts_with(begin), "{first}");
        assert_eq!(progress.news(1, &uid), Err(Duration::from_secs(60)));
        tokio::time::advance(Duration::from_secs(61)).await;
        let second = progress.news(1, &uid).unwrap();
        assert_eq!(second, "Setting volume ownership for u-1/volumes/plugin/v, processed 7 files.");
        assert_eq!(progress.news(2, &uid), Err(Duration::from_secs(59)));
    }
}
