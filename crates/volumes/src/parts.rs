//! Parts of volumes (`subPath`), each mounted at a place of its own for one container: what is mounted is what was found,
//! whatever a container makes of the path meanwhile (upstream `pkg/volume/util/subpath`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube_model::PodUid;
use kube_model::core::Volume;
use volume_fs::sub_path;
use volume_plan::container_mounts::SubPath;
use volume_plan::spec::Kind;

use crate::blocking::{self, On};
use crate::error::SetUpError;
use crate::hold::Hold;
use crate::manager::Volumes;

/// How long a container waits for one: the next attempt waits for the same.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a container cannot have a part of a volume: in upstream's words, with the cause behind them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PartError(String);

impl Volumes {
    /// Mounts a part of a volume for a container, whose `index`-th mount it is, and answers with the place. It stays until
    /// the pod's volumes are taken down; one that is mounted already is looked at again.
    ///
    /// # Errors
    /// It leads out of the volume, is not there, or cannot be mounted.
    pub async fn part(
        &self,
        uid: &PodUid,
        volume: &Volume,
        container: &str,
        index: usize,
        part: &SubPath<'_>,
    ) -> Result<PathBuf, PartError> {
        let (name, path, create) = (volume.name.clone(), part.path.as_ref().to_owned(), part.create);
        let Some(whole) = self.host_path(uid, volume) else {
            return Err(PartError(format!("volume {name:?} is of a kind that is not mounted")));
        };
        // As its folder: a claim's after the persistent volume.
        let claimed = self.inner.claimed(uid, &name);
        let dir = claimed.as_ref().map_or(name.as_str(), |claimed| claimed.name());
        let place = self.dirs(uid).subpaths().join(dir).join(container).join(index.to_string());
        let on = match Kind::of(volume) {
            Kind::EmptyDir(_) | Kind::Content(_) => On::OwnDisk,
            _ => On::Elsewhere,
        };
        let what = format!("volumeMounts[{index}] of container {container:?}");
        let generation = self.inner.pods().get(uid).map(|entry| entry.generation);
        let ending = || PartError(SetUpError::ending().to_string());
        let generation = generation.ok_or_else(ending)?;
        let (target, container) = (place.clone(), container.to_owned());
        let late = PartError(format!(
            "failed to prepare subPath for volumeMount {name:?} of container {container:?}: not done in {} s, what it \
             lies on may not answer",
            PATIENCE.as_secs()
        ));
        let work = move |_hold: Hold| {
            let mounted = sub_path::mount(&whole, Path::new(&path), create, &target);
            mounted.map_err(|error| {
                let what = what_failed(&error, &whole);
                let cause = util::causes(&error);
                PartError(format!("{what} for volumeMount {name:?} of container {container:?}: {cause}"))
            })
        };
        let held = async {
            // One that was begun before, and that nobody waited for, ends first.
            let hold = self.inner.hold(uid, generation, &what).await.ok_or_else(ending)?;
            blocking::run(on, move || work(hold)).await.map_err(PartError)?
        };
        tokio::time::timeout(PATIENCE, held).await.map_err(|_| late)??;
        Ok(place)
    }
}

/// In upstream's words, from the failure alone: the path is never looked at again, as a container may have put anything
/// there.
fn what_failed(error: &volume_fs::Error, whole: &Path) -> &'static str {
    let leads_out = error.source.kind() == std::io::ErrorKind::CrossesDevices;
    if error.path.starts_with(whole) && !leads_out {
        "failed to create subPath directory"
    } else {
        "failed to prepare subPath"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_told_by_the_failure_alone() {
        const CREATE: &str = "failed to create subPath directory";
        const PREPARE: &str = "failed to prepare subPath";
        for (path, errno, want) in [
            ("/pods/v/sub", 20, CREATE),
            ("/pods/v/sub", 2, CREATE),
            // It leads out.
            ("/pods/v/sub", 18, PREPARE),
            // It was found, but cannot be mounted where it is to be.
            ("/pods/volume-subpaths/v/c/0", 28, PREPARE),
        ] {
            let source = std::io::Error::from_raw_os_error(errno);
            let error = volume_fs::Error { action: "opening", path: path.into(), source };
            assert_eq!(what_failed(&error, Path::new("/pods/v")), want, "{path} {errno}");
        }
    }
}
