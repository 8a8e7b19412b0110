//! What the driver does to the node.

use std::fs;
use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};

/// Whether something is mounted just there.
pub(super) fn is_mounted(path: &Path) -> io::Result<bool> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    // Where tests keep their folders there is nothing that the kernel writes otherwise.
    let point = path.to_string_lossy();
    Ok(table.lines().any(|line| line.split(' ').nth(4) == Some(&*point)))
}

/// Mounts `source` at `target`, a folder that is made; what is mounted there already stays.
pub(super) fn bind(source: &Path, target: &Path, read_only: bool) -> io::Result<()> {
    if is_mounted(target)? {
        return Ok(());
    }
    match fs::create_dir(target) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    rustix::mount::mount_bind(source, target)?;
    if read_only {
        rustix::mount::mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, c"")?;
    }
    Ok(())
}

/// Has a device that is nobody's but the volume's at `target`: the file of zeros of the kernel stands for it.
pub(super) fn bind_device(target: &Path) -> io::Result<()> {
    if is_mounted(target)? {
        return Ok(());
    }
    fs::File::options().write(true).create(true).truncate(false).open(target)?;
    Ok(rustix::mount::mount_bind("/dev/zero", target)?)
}

/// Unmounts what is mounted at `target` and removes it; nothing there: it is done.
pub(super) fn unbind(target: &Path, remove: bool) -> io::Result<()> {
    while is_mounted(target)? {
        rustix::mount::unmount(target, UnmountFlags::NOFOLLOW)?;
    }
    if !remove {
        return Ok(());
    }
    let removed = match fs::symlink_metadata(target) {
        Ok(found) if found.is_dir() => fs::remove_dir(target),
        Ok(_) => fs::remove_file(target),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
