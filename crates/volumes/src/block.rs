//! Volumes that pods have as devices (`volumeMode: Block`): below the node's `plugins` the device is mounted for each pod,
//! and a loop device on it holds it, so that no other can come under its name; the pod's folder has a link to it (upstream
//! `pkg/volume/util/util.go` `MapBlockVolume`).

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kube_model::PodUid;
use kube_model::view::EventType;
use volume_fs::disk;
use volume_fs::mount::{self, Unmount};
use volume_plan::persistent::Source;
use volume_plan::spec::plugin;

use crate::blocking::{self, On};
use crate::claimed::Claimed;
use crate::error::{Failed, SetUpError, Step, TearDownError, go_words};
use crate::manager::{Inner, News};
use crate::plugins::join;
use crate::set_up::{Job, make_dir, make_pod_dirs};
use crate::settings::{PodDirs, Settings};

/// How long `losetup` may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Where the devices of a volume are mounted, each for one pod: `plugins/PLUGIN/volumeDevices/VOLUME`.
pub(crate) fn global_dir(settings: &Settings, plugin: &str, volume: &str) -> PathBuf {
    settings.plugins_dir.join(plugin).join("volumeDevices").join(volume)
}

/// Gives the pod the disk of a `local` volume.
pub(crate) async fn set_up(job: &Job, dirs: PodDirs, claimed: Arc<Claimed>) -> Result<(), Failed> {
    let turn = job.inner.turn(&claimed.unique_name()).await;
    let hold = job.hold().await?;
    let global = global_dir(&job.inner.settings, plugin::LOCAL, claimed.name());
    let link = dirs.device(plugin::LOCAL, claimed.name());
    let (uid, volume) = (job.uid.clone(), claimed.name().to_owned());
    let events = made(&volume, &global, &link);
    let work = move || {
        let (_hold, turn) = (hold, turn);
        let Source::Local(source) = claimed.source() else { return Ok(false) };
        join(&turn, &claimed, &uid).map_err(|error| Failed { step: Step::SetUpDevice, error })?;
        let mapped = make_pod_dirs(&dirs)
            .and_then(|()| map(Path::new(&source.path), &global.join(uid.as_str()), &link));
        mapped.map_err(|error| Failed { step: Step::MapDevice, error })
    };
    let done = blocking::run(On::Elsewhere, work).await;
    let made = done.unwrap_or_else(|cut_off| Err(SetUpError(cut_off).into()))?;
    if made {
        for message in events {
            job.inner
                .tell(News::Event(job.uid.clone(), EventType::Normal, "SuccessfulMountVolume", message))
                .await;
        }
    }
    Ok(())
}

/// What is told when a pod has a device, in upstream's words.
fn made(volume: &str, global: &Path, link: &Path) -> [String; 2] {
    let succeeded = format!("MapVolume.MapPodDevice succeeded for volume {volume:?}");
    let dir = link.parent().unwrap_or(link).display();
    [
        format!("{succeeded} globalMapPath \"{}\"", global.display()),
        format!("{succeeded} volumeMapPath \"{dir}\""),
    ]
}

/// Makes `link` to where a device will be, if it is not there: so the pod's folder tells that the pod may have one.
pub(crate) fn mark(device: &Path, link: &Path) -> Result<(), SetUpError> {
    make_dir(link.parent().unwrap_or(link), 0o750)?;
    match symlink(device, link) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(go_words("symlink", link, &error)),
        _ => Ok(()),
    }
}

/// Mounts `device` at `global`, holds it, and makes `link` to it. Whether there was anything to be done.
pub(crate) fn map(device: &Path, global: &Path, link: &Path) -> Result<bool, SetUpError> {
    let real = fs::canonicalize(device).map_err(|error| go_words("lstat", device, &error))?;
    if !fs::metadata(&real).map_err(|error| go_words("stat", &real, &error))?.file_type().is_block_device() {
        return Err(SetUpError(format!("{} is no block device", device.display())));
    }
    let mut new = false;
    make_dir(global.parent().unwrap_or(global), 0o750)?;
    if !mount::is_mount_point(global).unwrap_or(false) {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o750).open(global);
        file.map_err(|error| go_words("open", global, &error))?;
        new = true;
    }
    mount::bind(&real, global, false)?;
    make_dir(link.parent().unwrap_or(link), 0o750)?;
    // After a start of the machine it may be another one.
    if fs::read_link(link).ok().as_deref() != Some(&*real) {
        remove(link).map_err(|error| go_words("remove", link, &error))?;
        symlink(&real, link).map_err(|error| go_words("symlink", link, &error))?;
        new = true;
    }
    disk::attach_loop(global, DEADLINE).map_err(|error| SetUpError(util::causes(&error)))?;
    Ok(new)
}

/// Undoes [`map`].
pub(crate) fn unmap(global: &Path, link: &Path) -> Result<(), TearDownError> {
    // The link comes last: by it is found what is left.
    unmap_global(global)?;
    remove(link).map_err(|error| not_removed(link, error))
}

/// Undoes what [`map`] has done below the node's `plugins`.
pub(crate) fn unmap_global(global: &Path) -> Result<(), TearDownError> {
    if let Some(holder) = disk::loop_of(global).map_err(TearDownError::Program)? {
        disk::detach_loop(&holder, DEADLINE).map_err(TearDownError::Program)?;
    }
    mount::unmount(global, Unmount::Now)?;
    remove(global).map_err(|error| not_removed(global, error))
}

fn not_removed(path: &Path, source: io::Error) -> TearDownError {
    TearDownError::Io { action: "removing", path: path.to_owned(), source }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Takes the disk of a `local` volume from the pod; the answer is the volume's name on the node.
pub(crate) async fn tear_down(
    inner: &Arc<Inner>,
    uid: &PodUid,
    link: &Path,
) -> Result<String, TearDownError> {
    let volume = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let global = global_dir(&inner.settings, plugin::LOCAL, &volume).join(uid.as_str());
    let link = link.to_owned();
    let work = move || unmap(&global, &link);
    blocking::run(On::Elsewhere, work).await.map_err(TearDownError::CutOff)??;
    Ok(format!("kubernetes.io/local-volume/{volume}"))
}
