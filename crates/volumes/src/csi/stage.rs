//! Volumes of claims, staged once for the node: `plugins/kubernetes.io/csi/DRIVER/VOLUME/globalmount`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube_model::core::CSIPersistentVolumeSource;
use volume_plan::csi::{is_stage_dir, stage_dir};

use super::vol_data::{Unreadable, VolData};
use super::{Operation, block, clean, request, tear_down};
use crate::blocking::{self, On};
use crate::claimed::Claimed;
use crate::error::{SetUpError, TearDownError};
use crate::manager::Inner;
use crate::set_up::make_dir;
use crate::settings::Settings;

const GLOBAL_MOUNT: &str = "globalmount";

/// What the name of a volume of the node begins with.
const PREFIX: &str = "kubernetes.io/csi/";

/// The same, of one whose name cannot be read: then follow the folders of its driver and its own.
const NAMELESS: &str = "folder of kubernetes.io/csi/";

/// What this run of the agent has done.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Sets>);

#[derive(Debug, Default)]
struct Sets {
    /// The volumes that are staged, by their names on the node: for them no driver is asked again.
    staged: BTreeSet<String>,
    /// Where volumes are mounted for pods, and not all is done yet that the pod's containers have to wait for.
    begun: BTreeSet<PathBuf>,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Sets> {
        // Each change is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody knows any more whether it is staged.
    pub(super) fn forget(&self, name: &str) {
        self.lock().staged.remove(name);
    }

    /// A volume is mounted for a pod, which it was not.
    pub(super) fn begin(&self, target: &Path) {
        self.lock().begun.insert(target.to_owned());
    }

    /// All is done, or undone.
    pub(super) fn end(&self, target: &Path) {
        self.lock().begun.remove(target);
    }

    /// Whether what is mounted there has been so from the beginning, or all that belongs to it was done.
    pub(super) fn is_whole(&self, target: &Path) -> bool {
        !self.lock().begun.contains(target)
    }
}

pub(super) fn drivers_dir(settings: &Settings) -> PathBuf {
    settings.plugins_dir.join("kubernetes.io/csi")
}

fn dir(settings: &Settings, driver: &str, handle: &str) -> PathBuf {
    drivers_dir(settings).join(driver).join(stage_dir(handle))
}

/// Where the volume is staged.
pub(super) fn place(operation: &Operation<'_>) -> PathBuf {
    let (settings, volume) = (&operation.job.inner.settings, operation.volume);
    dir(settings, volume.driver, &volume.handle).join(GLOBAL_MOUNT)
}

impl Operation<'_> {
    /// Stages the volume, unless it is; the answer is where.
    pub(super) async fn stage(
        &self,
        source: &CSIPersistentVolumeSource,
        claimed: &Claimed,
    ) -> Result<PathBuf, SetUpError> {
        let (job, volume, inner) = (self.job, self.volume, &self.job.inner);
        let name = claimed.unique_name();
        let dir = dir(&inner.settings, volume.driver, &volume.handle);
        let staging = dir.join(GLOBAL_MOUNT);
        if inner.seen.lock().staged.contains(&name) {
            return Ok(staging);
        }
        let secrets = request::stage_secrets(job, source).await?;
        let request = request::stage(self, secrets, &staging);
        let (handle, driver) = (volume.handle.clone(), volume.driver.to_owned());
        let selinux = self.label().map(str::to_owned);
        let data = VolData { handle, driver, selinux, ..VolData::default() };
        let folder = staging.clone();
        let turn = inner.turn(&name_of_folder(volume.driver, &stage_dir(&volume.handle))).await;
        job.on_own_disk_held(move || {
            let _turn = turn;
            make_dir(&folder, 0o750)?;
            data.write(&dir)
        })
        .await?;
        if let Err(error) = self.session.next_step().stage(request).await {
            if error.is_final() {
                clean(staging).await;
            }
            return Err(SetUpError(error.to_string()));
        }
        inner.seen.lock().staged.insert(name);
        Ok(staging)
    }
}

impl Operation<'_> {
    /// What is staged may have the label of the pod that had it last; nobody has it now.
    pub(super) async fn unstage_other_label(&self, claimed: &Claimed) -> Result<(), SetUpError> {
        let (volume, inner) = (self.volume, &self.job.inner);
        if inner.settings.file_label.is_none() {
            return Ok(());
        }
        let dir = dir(&inner.settings, volume.driver, &volume.handle);
        let found = blocking::run(On::OwnDisk, move || VolData::read(&dir).ok()).await.map_err(SetUpError)?;
        if found.is_none_or(|found| found.selinux.as_deref() == self.label()) {
            return Ok(());
        }
        let taken_down = Box::pin(take_down(inner, &claimed.unique_name())).await;
        taken_down.map_err(|error| SetUpError(util::causes(&error)))
    }
}

/// Has the driver undo it, if it is staged.
pub(crate) async fn take_down(inner: &Arc<Inner>, name: &str) -> Result<(), TearDownError> {
    let Some((driver, handle)) = parse(name) else { return remove_nameless(inner, name).await };
    inner.seen.forget(name);
    let dir = dir(&inner.settings, driver, handle);
    let staging = dir.join(GLOBAL_MOUNT);
    let (is_there, at) = (dir.clone(), staging.clone());
    // Its folder is there from before the driver was asked.
    let is_there = blocking::run(On::OwnDisk, move || is_there.symlink_metadata().is_ok()).await;
    if !is_there.map_err(TearDownError::CutOff)? {
        return block::take_down(inner, driver, handle).await;
    }
    let words = |why: String| {
        TearDownError::Driver(format!("kubernetes.io/csi: attacher.UnmountDevice failed: {why}"))
    };
    let session = inner.driver(driver, "attacher.UnmountDevice failed to create newCsiDriverClient")?;
    let can = session.capabilities().await.map_err(|error| words(error.to_string()))?;
    if can.stage_unstage {
        let request = request::unstage(handle, &staging);
        session.unstage(request).await.map_err(|error| words(error.to_string()))?;
    }
    blocking::run(On::Elsewhere, move || tear_down::remove(&at)).await.map_err(TearDownError::CutOff)??;
    inner.in_use.may_have_gone();
    Ok(())
}

/// Removes a folder of which nobody can say what its driver calls the volume, if nothing is mounted there.
async fn remove_nameless(inner: &Arc<Inner>, name: &str) -> Result<(), TearDownError> {
    let folder = name.strip_prefix(NAMELESS).and_then(|folder| folder.split_once('/'));
    let Some((driver, volume)) = folder else { return Ok(()) };
    if driver == block::FOLDER {
        return block::take_down_nameless(inner, volume).await;
    }
    let dir = drivers_dir(&inner.settings).join(driver).join(volume);
    let remove = move || {
        let why = match VolData::read(&dir) {
            // It has been staged meanwhile.
            Ok(_) => return Ok(()),
            Err(Unreadable::NotFound) => "there is no vol_data.json".to_owned(),
            Err(Unreadable::Broken(why)) => why,
        };
        tear_down::remove(&dir.join(GLOBAL_MOUNT)).map_err(|error| {
            TearDownError::Driver(format!(
                "a staged volume stays, as its driver cannot be told which it is: {why}: {}",
                util::causes(&error)
            ))
        })
    };
    blocking::run(On::Elsewhere, remove).await.map_err(TearDownError::CutOff)??;
    inner.in_use.may_have_gone();
    Ok(())
}

/// The volumes that are staged, or half so, by their names on the node, or by that of their folder where they have none.
pub(crate) fn found(settings: &Settings) -> impl Iterator<Item = String> {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    // Devices stand there, too, by another rule.
    let drivers = entries(&drivers_dir(settings)).filter(|path| !path.ends_with(block::FOLDER));
    let volumes: Vec<_> = drivers.flat_map(|driver| entries(&driver).collect::<Vec<_>>()).collect();
    let devices = block::found(settings);
    let mounted = volumes.into_iter().filter_map(|dir| {
        let last = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (driver, volume) = (last(dir.parent()?), last(&dir));
        match VolData::read(&dir) {
            Ok(data) => Some(name_of(&data)),
            // Else it may be anybody's.
            Err(Unreadable::NotFound) if !is_stage_dir(&volume) => None,
            Err(_) => Some(name_of_folder(&driver, &volume)),
        }
    });
    mounted.chain(devices)
}

/// What stands for a volume of the node whose name cannot be read.
pub(super) fn name_of_folder(driver: &str, volume: &str) -> String {
    format!("{NAMELESS}{driver}/{volume}")
}

/// The folder of a device whose name cannot be read.
pub(super) fn device_folder(name: &str) -> Option<&str> {
    name.strip_prefix(NAMELESS)?.strip_prefix(block::FOLDER)?.strip_prefix('/')
}

/// Driver and handle.
pub(super) fn parse(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PREFIX)?.split_once('^')
}

pub(super) fn name_of(data: &VolData) -> String {
    format!("{PREFIX}{}^{}", data.driver, data.handle)
}
