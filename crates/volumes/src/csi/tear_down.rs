//! What a driver has mounted for a pod is undone, by what stands beside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kube_model::core::PersistentVolume;
use volume_fs::mount::{self, Unmount};
use volume_plan::csi::Lifecycle;
use volume_plan::persistent::Source;
use volume_plan::spec::plugin;

use super::vol_data::{Unreadable, VolData};
use super::{MOUNT, block, request, stage};
use crate::blocking::{self, On};
use crate::error::TearDownError;
use crate::manager::Inner;
use crate::settings::Settings;
use crate::tear_down::entries;

/// How long a server is waited for that may know more of a volume.
const ASKED: Duration = Duration::from_secs(5);

/// Has the driver unmount what a pod has of it, in this folder; the answer is the volume's name on the node, if it is one
/// of a claim.
pub(crate) async fn tear_down(inner: &Arc<Inner>, volume: &Path) -> Result<Option<String>, TearDownError> {
    let (dir, target) = (volume.to_owned(), volume.join(MOUNT));
    inner.seen.end(&target);
    let data =
        blocking::run(On::OwnDisk, move || VolData::read(&dir)).await.map_err(TearDownError::CutOff)?;
    let data = match data {
        Ok(data) => data,
        Err(unreadable) => {
            let broken = matches!(unreadable, Unreadable::Broken(_));
            if let Unreadable::Broken(why) = unreadable {
                tracing::warn!(
                    "a volume is unmounted without its driver, which cannot be told which it is: {why}"
                );
            }
            let work = move || {
                let mounted = target.symlink_metadata().is_ok() && mount::is_mount_point(&target)?;
                mount::unmount(&target, Unmount::Now)?;
                remove(&target).map(|()| mounted)
            };
            let mounted = blocking::run(On::Elsewhere, work).await.map_err(TearDownError::CutOff)??;
            if !broken && !mounted {
                // Nothing was asked of a driver, or all has been undone.
                return Ok(None);
            }
            if !broken {
                let at = volume.display();
                tracing::warn!("{at} was unmounted without its driver: there was no vol_data.json");
            }
            return Ok(of_persistent_volume(inner, volume).await);
        }
    };
    let session = inner.driver(&data.driver, "Unmounter.TearDownAt failed to get CSI client")?;
    let unpublished = session.unpublish(request::unpublish(&data.handle, &target)).await;
    unpublished.map_err(|error| {
        TearDownError::Driver(format!("kubernetes.io/csi: Unmounter.TearDownAt failed: {error}"))
    })?;
    blocking::run(On::Elsewhere, move || remove(&target)).await.map_err(TearDownError::CutOff)??;
    let ephemeral = data.lifecycle.as_deref() == Some(Lifecycle::Ephemeral.as_str());
    Ok((!ephemeral).then(|| stage::name_of(&data)))
}

/// The name on the node of the persistent volume that a folder is called after; else a later sweep finds it.
async fn of_persistent_volume(inner: &Inner, folder: &Path) -> Option<String> {
    let found = persistent_volume(inner, folder).await?;
    match Source::of(&found) {
        source @ Source::Csi(_) => Some(source.unique_name(&found)),
        _ => None,
    }
}

/// That persistent volume, if a server knows it and says so soon.
pub(super) async fn persistent_volume(inner: &Inner, folder: &Path) -> Option<Box<PersistentVolume>> {
    let name = folder.file_name()?.to_str()?;
    tokio::time::timeout(ASKED, inner.storage.volume(name)).await.ok()?.ok().map(Box::new)
}

/// Removes what is left of a mount that is undone: the folder, what stands beside it, and the folder of both. Drivers that
/// leave `mount` behind do not keep to the spec, but there are some.
pub(super) fn remove(mount: &Path) -> Result<(), TearDownError> {
    remove_point(mount)?;
    remove_data(mount.parent().unwrap_or(mount))
}

/// Removes what tells of a volume, and the folder of that.
pub(super) fn remove_data(dir: &Path) -> Result<(), TearDownError> {
    VolData::remove(dir).and_then(|()| remove_empty(dir)).map_err(not_removed(dir))
}

/// Removes a folder, or a file, that something was mounted on; also a link.
pub(super) fn remove_point(path: &Path) -> Result<(), TearDownError> {
    let found = path.symlink_metadata();
    if found.is_ok_and(|found| !found.is_symlink()) && mount::is_mount_point(path)? {
        return Err(TearDownError::Driver(format!(
            "the driver says that it is not mounted any more, and yet something is mounted at {}",
            path.display()
        )));
    }
    remove_empty(path).map_err(not_removed(path))
}

fn not_removed(path: &Path) -> impl FnOnce(io::Error) -> TearDownError {
    let path = path.to_owned();
    move |source| TearDownError::Io { action: "removing", path, source }
}

/// A folder with nothing in it, or a file that something was mounted on.
fn remove_empty(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Whether one of these pods' folders has something of the volume of this name. One of which nobody can tell may be it.
pub(crate) fn is_used(settings: &Settings, name: &str, pods: &[PathBuf]) -> Result<bool, TearDownError> {
    let Some((driver, handle)) = stage::parse(name) else {
        return stage::device_folder(name).map_or(Ok(false), |volume| block::is_linked(volume, pods));
    };
    for pod in pods {
        for volume in entries(&pod.join("volumes").join(plugin::CSI))? {
            match VolData::read(&volume) {
                Ok(data) if !data.is(driver, handle) => {}
                Err(Unreadable::NotFound) => {}
                Ok(_) | Err(Unreadable::Broken(_)) => return Ok(true),
            }
        }
    }
    block::is_used(settings, driver, handle, pods)
}
