//! `local` persistent volumes: a folder of the node, or a disk that is mounted once for all pods that use it (upstream
//! `pkg/volume/local/local.go`).

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kube_model::core::{LocalVolumeSource, PodSpec};
use kube_model::view::EventType;
use volume_fs::disk::{Disk, format_and_mount};
use volume_fs::mount::{self, Unmount};
use volume_fs::ownership::{Ownership, Policy};
use volume_fs::{MountTable, helper};
use volume_plan::persistent::Source;
use volume_plan::spec::plugin;

use crate::block;
use crate::blocking::{self, On};
use crate::claimed::Claimed;
use crate::empty_dir::fs_group;
use crate::error::{Failed, SetUpError, Step, TearDownError, go_words};
use crate::group::Progress;
use crate::manager::News;
use crate::plugins::join;
use crate::set_up::{Job, make_dir, make_pod_dirs};
use crate::settings::{PodDirs, Settings};

/// How long a program may take: a large disk may have to be looked through.
const DEADLINE: Duration = Duration::from_secs(30 * 60);

/// What a disk gets where the volume does not say.
const FS_TYPE: &str = "ext4";

/// What a path of the node is.
enum Found {
    Folder,
    Disk,
}

/// Mounts the volume for a pod.
pub(crate) async fn set_up(job: &Job, dirs: PodDirs, claimed: Arc<Claimed>) -> Result<(), Failed> {
    let turn = job.inner.turn(&claimed.unique_name()).await;
    let hold = job.hold().await?;
    let (inner, pod, uid) = (Arc::clone(&job.inner), Arc::clone(&job.pod), job.uid.clone());
    let progress = Arc::new(Progress::default());
    let of_work = Arc::clone(&progress);
    // What the volume lies on may not answer.
    let work = move || -> Result<_, Failed> {
        let (_hold, turn) = (hold, turn);
        let Source::Local(source) = claimed.source() else { return Ok(None) };
        let new_mounter = |error| Failed { step: Step::NewMounter, error };
        let found = look_at(source).map_err(new_mounter)?;
        join(&turn, &claimed, &uid)?;
        make_pod_dirs(&dirs)?;
        let base = match found {
            Found::Folder => PathBuf::from(&source.path),
            Found::Disk => {
                let mounted = mount_disk(&inner.settings, source, &claimed);
                mounted.map_err(|error| Failed { step: Step::MountDevice, error })?
            }
        };
        let spec = pod.spec.as_ref();
        Ok(mount_for_pod(&inner.settings, &dirs, &base, &claimed, spec, &of_work)?)
    };
    let done = job.telling(&progress, blocking::run(On::Elsewhere, work)).await;
    let notice = done.unwrap_or_else(|cut_off| Err(SetUpError(cut_off).into()))?;
    if let Some(message) = notice {
        job.inner
            .tell(News::Event(job.uid.clone(), EventType::Warning, "AlreadyMountedVolume", message))
            .await;
    }
    Ok(())
}

fn look_at(source: &LocalVolumeSource) -> Result<Found, SetUpError> {
    let path = Path::new(&source.path);
    if source.path.split('/').any(|part| part == "..") {
        return Err(SetUpError(format!("invalid path: {} must not contain '..'", source.path)));
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(Found::Folder),
        Ok(found) if found.file_type().is_block_device() => Ok(Found::Disk),
        Ok(_) => Err(SetUpError("only directory and block device are supported".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(SetUpError(format!("path {:?} does not exist", source.path)))
        }
        Err(error) => Err(go_words("stat", path, &error)),
    }
}

/// Where disks are mounted for the node: `plugins/kubernetes.io/local-volume/mounts`.
fn mounts(settings: &Settings) -> PathBuf {
    settings.plugins_dir.join("kubernetes.io/local-volume/mounts")
}

/// Mounts the disk for the node, unless it is.
fn mount_disk(
    settings: &Settings,
    source: &LocalVolumeSource,
    claimed: &Claimed,
) -> Result<PathBuf, SetUpError> {
    let target = mounts(settings).join(claimed.name());
    make_dir(&target, 0o750)?;
    if mount::is_mount_point(&target)? {
        return Ok(target);
    }
    let options = claimed.mount_options();
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let fs_type = source.fs_type.as_deref().unwrap_or(FS_TYPE);
    let device = Path::new(&source.path);
    let disk = Disk { device, fs_type, options: &options, read_only: claimed.read_only };
    format_and_mount(disk, &target, DEADLINE).map_err(|error| {
        // What was not mounted leaves nothing.
        let _ = fs::remove_dir(&target);
        SetUpError(format!(
            "local: failed to mount device {} at {} (fstype: {fs_type}), error {}",
            source.path,
            target.display(),
            util::causes(&error)
        ))
    })?;
    Ok(target)
}

/// Mounts the folder, or the disk's, for the pod, unless it is; what the pod is to be told of its group. A mount that is
/// there is what it is to be, but for its options, which can be given again.
fn mount_for_pod(
    settings: &Settings,
    dirs: &PodDirs,
    base: &Path,
    claimed: &Claimed,
    spec: Option<&PodSpec>,
    progress: &Progress,
) -> Result<Option<String>, SetUpError> {
    let target = dirs.volume(plugin::LOCAL, claimed.name());
    make_dir(&target, 0o750)?;
    if mount::is_mount_point(&target)? {
        set_options(base, &target, claimed)?;
        return Ok(None);
    }
    let group = spec.and_then(fs_group);
    let others = is_mounted_for_others(settings, base)?;
    let mut notice = None;
    if let Some(group) = group.filter(|_| others) {
        let owner = fs::metadata(base).map_err(|error| go_words("stat", base, &error))?.gid();
        if owner != group {
            notice = Some(format!(
                "The requested fsGroup is {group}, but the volume {} has GID {owner}. The volume may not be shareable.",
                claimed.name()
            ));
        }
    }
    let group = group.filter(|_| !others && !claimed.read_only);
    // Before it is mounted: what is cut off is done again, and what a pod has is not touched any more.
    let mounted = mount::bind_prepared(base, &target, |folder| match group {
        Some(group) => progress.give(folder, &target, ownership(group, spec)),
        None => Ok(()),
    });
    let mounted = mounted.map_err(SetUpError::from).and_then(|()| set_options(base, &target, claimed));
    if let Err(error) = mounted {
        // What is half mounted would be taken for whole.
        mount::unmount(&target, Unmount::Now)?;
        let _ = fs::remove_dir(&target);
        return Err(error);
    }
    Ok(notice)
}

fn ownership(group: u32, spec: Option<&PodSpec>) -> Ownership {
    let policy = spec.and_then(|spec| spec.security_context.as_ref()?.fs_group_change_policy.as_deref());
    let policy = match policy {
        Some("OnRootMismatch") => Policy::OnRootMismatch,
        _ => Policy::Always,
    };
    Ownership { group, read_only: false, policy }
}

/// Gives the mount its options, again if it has them.
fn set_options(base: &Path, target: &Path, claimed: &Claimed) -> Result<(), SetUpError> {
    let options = claimed.mount_options();
    if options.is_empty() {
        return if claimed.read_only { Ok(mount::remount_read_only(target)?) } else { Ok(()) };
    }
    let options = options.iter().map(String::as_str);
    let options: Vec<_> =
        ["bind", "remount"].into_iter().chain(claimed.read_only.then_some("ro")).chain(options).collect();
    let base = base.to_string_lossy();
    helper::mount(&base, target, "", &options, DEADLINE).map_err(|error| SetUpError(util::causes(&error)))
}

/// Whether the same folder, or the same disk, is mounted for other pods.
fn is_mounted_for_others(settings: &Settings, base: &Path) -> Result<bool, SetUpError> {
    let real = |path: &Path| fs::canonicalize(path).map_err(|error| go_words("lstat", path, &error));
    let (base, pods) = (real(base)?, real(&settings.pods_dir)?);
    let table = MountTable::read()?;
    let Some(on) = table.of(&base) else { return Ok(false) };
    let below = base.strip_prefix(&on.point).unwrap_or(Path::new(""));
    let root = if below.as_os_str().is_empty() { on.root.clone() } else { on.root.join(below) };
    Ok(table.below(&pods).any(|mount| mount.device == on.device && mount.root == root))
}

/// Unmounts what a pod has of it; the answer is the volume's name on the node.
pub(crate) async fn tear_down(volume: &Path) -> Result<String, TearDownError> {
    let volume = volume.to_owned();
    let work = move || {
        mount::unmount(&volume, Unmount::Now)?;
        remove_dir(&volume)?;
        let name = volume.file_name().unwrap_or_default().to_string_lossy();
        Ok(unique_name(&name))
    };
    blocking::run(On::Elsewhere, work).await.map_err(TearDownError::CutOff)?
}

/// Unmounts the disk that was mounted for the node, if one was, and removes the folder of its devices.
pub(crate) async fn take_down(settings: &Settings, volume: &str) -> Result<(), TearDownError> {
    let target = mounts(settings).join(volume);
    let devices = block::global_dir(settings, plugin::LOCAL, volume);
    let work = move || {
        if target.symlink_metadata().is_ok() {
            mount::unmount(&target, Unmount::Now)?;
            remove_dir(&target)?;
        }
        // Of a pod that has gone without having given it back.
        for left in fs::read_dir(&devices).into_iter().flatten().flatten() {
            block::unmap_global(&left.path())?;
        }
        remove_dir(&devices)
    };
    blocking::run(On::Elsewhere, work).await.map_err(TearDownError::CutOff)?
}

/// The names of the disks that are mounted for the node, and of those that pods have as devices.
pub(crate) fn found(settings: &Settings) -> impl Iterator<Item = String> {
    let devices = block::global_dir(settings, plugin::LOCAL, "");
    let dirs = [mounts(settings), devices].into_iter();
    let entries = dirs.flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    entries.map(|entry| unique_name(&entry.file_name().to_string_lossy()))
}

fn unique_name(volume: &str) -> String {
    format!("kubernetes.io/local-volume/{volume}")
}

/// Removes a folder that is empty now that nothing is mounted there: nothing of a volume's content is ever deleted.
pub(crate) fn remove_dir(path: &Path) -> Result<(), TearDownError> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(TearDownError::Io { action: "removing", path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}
