//! Volumes of claims that pods have as devices: the driver stages and publishes them below the node's `plugins`, and the
//! pod's folder has a link to what is published (upstream `pkg/volume/csi/csi_block.go`).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube_model::PodUid;
use kube_model::core::{CSIPersistentVolumeSource, PersistentVolumeClaim};
use volume_fs::mount::{self, Unmount};
use volume_plan::persistent::Source;
use volume_plan::spec::plugin;

use super::vol_data::{Unreadable, VolData};
use super::{Operation, Volume, begin, request, stage, tear_down};
use crate::block;
use crate::blocking::{self, On};
use crate::claimed::Claimed;
use crate::error::{Failed, SetUpError, Step, TearDownError};
use crate::manager::Inner;
use crate::plugins::join;
use crate::set_up::{Job, flatten, make_dir, make_pod_dirs};
use crate::settings::{PodDirs, Settings};
use crate::tear_down::entries;

/// Where the folders of all stand, beside those of drivers.
pub(super) const FOLDER: &str = "volumeDevices";

/// The folders of one volume, below `plugins/kubernetes.io/csi/volumeDevices`.
#[derive(Debug, Clone)]
struct Places {
    staging: PathBuf,
    /// Where each pod has it published.
    published: PathBuf,
    volume: PathBuf,
}

impl Places {
    fn of(settings: &Settings, volume: &str) -> Self {
        let all = all(settings);
        Self {
            staging: all.join("staging").join(volume),
            published: all.join("publish").join(volume),
            volume: all.join(volume),
        }
    }

    /// Where `vol_data.json` stands.
    fn data(&self) -> PathBuf {
        self.volume.join("data")
    }

    /// Where each pod has it mounted, so that it stays what it is.
    fn devices(&self) -> PathBuf {
        self.volume.join("dev")
    }
}

pub(super) fn all(settings: &Settings) -> PathBuf {
    stage::drivers_dir(settings).join(FOLDER)
}

/// Gives the pod the device.
pub(crate) async fn set_up(
    job: &Job,
    source: &CSIPersistentVolumeSource,
    claimed: &Arc<Claimed>,
    claim: &PersistentVolumeClaim,
    dirs: PodDirs,
) -> Result<(), Failed> {
    let inner = &job.inner;
    let turn = Arc::new(inner.turn(&claimed.unique_name()).await);
    let _hold = job.hold().await?;
    let (uses, user, uid) = (Arc::clone(&turn), Arc::clone(claimed), job.uid.clone());
    let joined = blocking::run(On::OwnDisk, move || join(&uses, &user, &uid)).await;
    flatten(joined).map_err(|error| Failed { step: Step::SetUpDevice, error })?;
    let volume = Volume::claimed(source, claimed);
    let object = inner.storage.csi_driver(volume.driver).await;
    let object = object.map_err(|error| SetUpError(error.to_string()))?;
    let operation = begin(job, &volume, object.as_ref(), Step::SetUpDevice).await?;
    let places = Places::of(&inner.settings, volume.name);
    let staging = operation.stage_device(source, &places).await;
    let staging = staging.map_err(|error| Failed { step: Step::SetUpDevice, error })?;

    let fail = |error| Failed { step: Step::MapDevice, error };
    let secrets = request::publish_secrets(job, &volume).await.map_err(fail)?;
    let tokens = request::Tokens::of(job, operation.wanted).await.map_err(fail)?;
    let target = places.published.join(job.uid.as_str());
    let (global, link) = (places.devices().join(job.uid.as_str()), dirs.device(plugin::CSI, volume.name));
    let (own, at, to) = (dirs.clone(), link.clone(), target.clone());
    // By it is found what a driver may have done for the pod, whatever it has answered.
    let mark = move || make_pod_dirs(&own).and_then(|()| block::mark(&to, &at));
    job.on_own_disk_held(mark).await.map_err(fail)?;
    let request = request::publish(&operation, tokens, secrets, staging.as_deref(), &target);
    let published = operation.session.next_step().publish(request).await;
    published.map_err(|error| fail(SetUpError(error.to_string())))?;
    let device = target.clone();
    let work = move || block::map(&target, &global, &link).map(|_| ());
    flatten(blocking::run(On::Elsewhere, work).await).map_err(fail)?;
    let grown = operation.mounted(claim, staging.as_deref(), &device).await;
    grown.map_err(|error| Failed { step: Step::ExpandDevice, error })
}

/// Where the driver has staged and published the device for a pod.
pub(super) fn places(settings: &Settings, volume: &str, uid: &PodUid) -> (PathBuf, PathBuf) {
    let places = Places::of(settings, volume);
    (places.staging, places.published.join(uid.as_str()))
}

impl Operation<'_> {
    /// Stages the device, if the driver does that; the answer is where.
    async fn stage_device(
        &self,
        source: &CSIPersistentVolumeSource,
        places: &Places,
    ) -> Result<Option<PathBuf>, SetUpError> {
        let (job, data) = (self.job, self.vol_data());
        let (made, stages) = (places.clone(), self.can.stage_unstage);
        // Not while somebody looks at a folder that says nothing.
        let turn = job.inner.turn(&stage::name_of_folder(FOLDER, self.volume.name)).await;
        job.on_own_disk_held(move || {
            let _turn = turn;
            make_dir(&made.data(), 0o750)?;
            data.write(&made.data())?;
            make_dir(&made.published, 0o750)?;
            if stages { make_dir(&made.staging, 0o750) } else { Ok(()) }
        })
        .await?;
        if !stages {
            return Ok(None);
        }
        let secrets = request::stage_secrets(job, source).await?;
        let request = request::stage(self, secrets, &places.staging);
        let staged = self.session.next_step().stage(request).await;
        staged.map_err(|error| SetUpError(error.to_string()))?;
        Ok(Some(places.staging.clone()))
    }
}

/// Takes the device from a pod; the answer is the volume's name on the node.
pub(crate) async fn unmap(
    inner: &Arc<Inner>,
    uid: &PodUid,
    link: &Path,
) -> Result<Option<String>, TearDownError> {
    let volume = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let places = Places::of(&inner.settings, &volume);
    let name = unpublish(inner, &places, uid.as_str()).await?;
    // By it is found what is left.
    let link = link.to_owned();
    let removed = blocking::run(On::OwnDisk, move || tear_down::remove_point(&link)).await;
    removed.map_err(TearDownError::CutOff)??;
    Ok(name)
}

async fn unpublish(inner: &Arc<Inner>, places: &Places, uid: &str) -> Result<Option<String>, TearDownError> {
    let global = places.devices().join(uid);
    let unmapped = blocking::run(On::Elsewhere, move || block::unmap_global(&global)).await;
    unmapped.map_err(TearDownError::CutOff)??;
    let target = places.published.join(uid);
    let data = match read(inner, places).await? {
        Ok(data) => data,
        // Nothing was asked of a driver, or all has been undone.
        Err(Unreadable::NotFound) => return Ok(None),
        Err(Unreadable::Broken(why)) => {
            tracing::warn!(
                "a device is taken from a pod without its driver, which cannot be told which it is: {why}"
            );
            let work = move || {
                mount::unmount(&target, Unmount::Now)?;
                tear_down::remove_point(&target)
            };
            blocking::run(On::Elsewhere, work).await.map_err(TearDownError::CutOff)??;
            return Ok(None);
        }
    };
    let session = inner.driver(&data.driver, "blockMapper.UnmapPodDevice failed to get CSI client")?;
    let unpublished = session.unpublish(request::unpublish(&data.handle, &target)).await;
    unpublished.map_err(|error| {
        TearDownError::Driver(format!("kubernetes.io/csi: blockMapper.UnmapPodDevice failed: {error}"))
    })?;
    let removed = blocking::run(On::Elsewhere, move || tear_down::remove_point(&target)).await;
    removed.map_err(TearDownError::CutOff)??;
    Ok(Some(stage::name_of(&data)))
}

/// What is known of the volume. One that cannot be read is written anew from what the API server says of the volume, if it
/// says something.
async fn read(inner: &Arc<Inner>, places: &Places) -> Result<Result<VolData, Unreadable>, TearDownError> {
    let at = places.data();
    let read = blocking::run(On::OwnDisk, move || VolData::read(&at)).await.map_err(TearDownError::CutOff)?;
    let Err(Unreadable::Broken(_)) = &read else { return Ok(read) };
    let found = tear_down::persistent_volume(inner, &places.volume).await;
    let Some(Source::Csi(source)) = found.as_deref().map(Source::of) else { return Ok(read) };
    let name = places.volume.file_name().unwrap_or_default().to_string_lossy();
    let data =
        VolData::of(source.driver.clone(), source.volume_handle.clone(), &name, &inner.settings.node_name);
    let (dir, again) = (places.data(), data.clone());
    let written =
        blocking::run(On::OwnDisk, move || again.write(&dir)).await.map_err(TearDownError::CutOff)?;
    written?;
    Ok(Ok(data))
}

/// Removes what is left in folders of which nobody can say what the driver calls the volume, if nothing is mounted there.
pub(super) async fn take_down_nameless(inner: &Arc<Inner>, volume: &str) -> Result<(), TearDownError> {
    let places = Places::of(&inner.settings, volume);
    let why = match read(inner, &places).await? {
        Ok(data) => return take_down(inner, &data.driver, &data.handle).await,
        Err(Unreadable::NotFound) => "there is no vol_data.json".to_owned(),
        Err(Unreadable::Broken(why)) => why,
    };
    let work = move || {
        remove_all(&places).map_err(|error| {
            TearDownError::Driver(format!(
                "a device stays, as its driver cannot be told which it is: {why}: {}",
                util::causes(&error)
            ))
        })
    };
    blocking::run(On::Elsewhere, work).await.map_err(TearDownError::CutOff)??;
    inner.in_use.may_have_gone();
    Ok(())
}

/// Removes the folders of a volume, in which nothing is left.
fn remove_all(places: &Places) -> Result<(), TearDownError> {
    for dir in [&places.staging, &places.published, &places.devices()] {
        tear_down::remove_point(dir)?;
    }
    tear_down::remove_data(&places.data())?;
    tear_down::remove_point(&places.volume)
}

/// Has the driver undo what it has done for the node, if the volume is had as a device.
pub(super) async fn take_down(inner: &Arc<Inner>, driver: &str, handle: &str) -> Result<(), TearDownError> {
    let (settings, is) = (inner.settings.clone(), (driver.to_owned(), handle.to_owned()));
    let look = move || {
        let is = |data: &Option<VolData>| data.as_ref().is_some_and(|data| data.is(&is.0, &is.1));
        found_volumes(&settings).into_iter().find(|(_, data)| is(data))
    };
    let found = blocking::run(On::OwnDisk, look).await.map_err(TearDownError::CutOff)?;
    let Some((volume, _)) = found else { return Ok(()) };
    let places = Places::of(&inner.settings, &volume);
    // Of pods that were killed before they had a link.
    let published = places.published.clone();
    let left = move || {
        fs::read_dir(published).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
    };
    let left: Vec<_> = blocking::run(On::OwnDisk, left).await.map_err(TearDownError::CutOff)?;
    for uid in left {
        unpublish(inner, &places, &uid.to_string_lossy()).await?;
    }
    let words = |why: String| {
        TearDownError::Driver(format!("kubernetes.io/csi: blockMapper.TearDownDevice failed: {why}"))
    };
    let session = inner.driver(driver, "blockMapper.TearDownDevice failed to get CSI client")?;
    let can = session.capabilities().await.map_err(|error| words(error.to_string()))?;
    if can.stage_unstage {
        let request = request::unstage(handle, &places.staging);
        session.unstage(request).await.map_err(|error| words(error.to_string()))?;
    }
    blocking::run(On::Elsewhere, move || remove_all(&places)).await.map_err(TearDownError::CutOff)??;
    inner.in_use.may_have_gone();
    Ok(())
}

/// The volumes that pods have as devices, by the names of their folders; `None`: nobody can say what it is.
fn found_volumes(settings: &Settings) -> Vec<(String, Option<VolData>)> {
    let volumes = fs::read_dir(all(settings)).into_iter().flatten().flatten();
    let volumes = volumes.map(|volume| volume.file_name().to_string_lossy().into_owned());
    let volumes = volumes.filter(|name| name != "staging" && name != "publish");
    let read = |name: String| {
        let data = VolData::read(&Places::of(settings, &name).data()).ok();
        (name, data)
    };
    volumes.map(read).collect()
}

/// The names of these volumes on the node, or what stands for those that have none.
pub(super) fn found(settings: &Settings) -> impl Iterator<Item = String> {
    let name = |(folder, data): (String, Option<VolData>)| {
        data.map_or_else(|| stage::name_of_folder(FOLDER, &folder), |data| stage::name_of(&data))
    };
    found_volumes(settings).into_iter().map(name)
}

/// Whether one of these pods' folders has a link to the volume of this folder.
pub(super) fn is_linked(volume: &str, pods: &[PathBuf]) -> Result<bool, TearDownError> {
    has_link(pods, |name| name == volume)
}

fn has_link(pods: &[PathBuf], is: impl Fn(&OsStr) -> bool) -> Result<bool, TearDownError> {
    for pod in pods {
        let links = entries(&pod.join("volumeDevices").join(plugin::CSI))?;
        if links.iter().any(|link| link.file_name().is_some_and(&is)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether one of these pods' folders has a link to the volume, or to one of which nobody can tell.
pub(super) fn is_used(
    settings: &Settings,
    driver: &str,
    handle: &str,
    pods: &[PathBuf],
) -> Result<bool, TearDownError> {
    let mut names = BTreeSet::new();
    for volume in entries(&all(settings))? {
        let other = match VolData::read(&volume.join("data")) {
            Ok(data) => !data.is(driver, handle),
            Err(Unreadable::NotFound) => true,
            Err(Unreadable::Broken(_)) => false,
        };
        names.extend(volume.file_name().filter(|_| !other).map(ToOwned::to_owned));
    }
    has_link(pods, |name| names.contains(name))
}
