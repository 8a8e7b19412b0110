//! What the driver does to the node.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags};

/// How large a device is.
const DEVICE: u64 = 4 << 20;

/// Whether something is mounted just there, as this thread sees it: a test may have mounts of its own.
pub(super) fn is_mounted(path: &Path) -> io::Result<bool> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo")?;
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

/// Has the file `image`, which is made, as a device.
pub(super) fn attach(image: &Path) -> io::Result<PathBuf> {
    if !image.exists() {
        fs::File::create(image)?.set_len(DEVICE)?;
    }
    match device_of(image)? {
        Some(device) => Ok(device),
        None => losetup(&[OsStr::new("--find"), OsStr::new("--show"), image.as_os_str()]).map(PathBuf::from),
    }
}

/// Lets go of the device that the file is had as.
pub(super) fn detach(image: &Path) -> io::Result<()> {
    match device_of(image)? {
        Some(device) => losetup(&[OsStr::new("--detach"), device.as_os_str()]).map(|_| ()),
        None => Ok(()),
    }
}

/// The device that the file is had as.
fn device_of(image: &Path) -> io::Result<Option<PathBuf>> {
    let said = losetup(&[OsStr::new("--associated"), image.as_os_str()])?;
    Ok(said.split_once(':').map(|(device, _)| PathBuf::from(device)))
}

fn losetup(arguments: &[&OsStr]) -> io::Result<String> {
    let done = Command::new("losetup").args(arguments).output()?;
    if !done.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// Mounts a device at `target`, a file that is made; what is mounted there already stays.
pub(super) fn bind_device(device: &Path, target: &Path) -> io::Result<()> {
    if is_mounted(target)? {
        return Ok(());
    }
    fs::File::options().write(true).create(true).truncate(false).open(target)?;
    Ok(rustix::mount::mount_bind(device, target)?)
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
