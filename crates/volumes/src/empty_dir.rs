//! `emptyDir`: a folder of the pod's own, on the disk or in memory (upstream `pkg/volume/emptydir/empty_dir.go`).
//!
//! The mark `ready` is made when all is done, so that what a kill left half-way is done again; what is ready is never
//! touched any more, as containers have written to it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use kube_model::core::{Pod, PodSpec};
use volume_fs::mount::{self, Tmpfs};
use volume_fs::ownership::{Ownership, Policy};
use volume_plan::empty_dir::{self, Medium};
use volume_plan::spec::Kind;

use crate::error::{SetUpError, go_words};
use crate::group::Progress;
use crate::manager::find;
use crate::set_up::{exists, make_dir, make_pod_dirs};
use crate::settings::PodDirs;

/// Anybody may write there.
const MODE: u32 = 0o777;

const PLUGIN: &str = "kubernetes.io~empty-dir";
const READY: &str = "ready";

pub(crate) fn set_up(
    dirs: &PodDirs,
    pod: &Pod,
    name: &str,
    memory: i64,
    progress: &Progress,
) -> Result<(), SetUpError> {
    let none = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&none);
    let Some(Kind::EmptyDir(source)) = find(pod, name).map(Kind::of) else { return Ok(()) };
    let (path, mark) = (dirs.volume(PLUGIN, name), dirs.empty_dir_mark(name));
    let is_mounted = exists(&path)? && mount::is_mount_point(&path)?;
    let medium = empty_dir::medium(source, pod, memory);
    if exists(&mark.join(READY))? {
        match medium {
            Ok(Medium::Disk) if exists(&path)? => return Ok(()),
            // After a reboot the mark is there and nothing is mounted.
            Ok(Medium::Memory { .. } | Medium::HugePages { .. }) if is_mounted => return Ok(()),
            _ => {}
        }
    }
    make_pod_dirs(dirs)?;
    make_folder(&path, is_mounted)?;
    match medium.map_err(SetUpError)? {
        Medium::Disk => {}
        Medium::Memory { size } => mount::tmpfs(&path, Tmpfs { size })?,
        Medium::HugePages { page_size } => mount::huge_pages(&path, page_size)?,
    }
    if let Some(group) = fs_group(spec) {
        let ownership = Ownership { group, read_only: false, policy: Policy::Always };
        progress.give(&path, &path, ownership)?;
    }
    mark_ready(&mark)
}

/// The folder, for all; what it lies in is as Go's `MkdirAll(0777)` makes it.
pub(crate) fn make_folder(path: &Path, is_mounted: bool) -> Result<(), SetUpError> {
    make_dir(path, MODE)?;
    if is_mounted {
        // What is seen there is the root of what is mounted.
        return Ok(());
    }
    let permissions = Permissions::from_mode(MODE);
    fs::set_permissions(path, permissions).map_err(|error| go_words("chmod", path, &error))
}

pub(crate) fn mark_ready(mark: &Path) -> Result<(), SetUpError> {
    make_dir(mark, 0o750)?;
    let ready = mark.join(READY);
    fs::write(&ready, "").map_err(|error| go_words("open", &ready, &error))
}

/// The group of the pod's files.
pub(crate) fn fs_group(spec: &PodSpec) -> Option<u32> {
    let group = spec.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}
