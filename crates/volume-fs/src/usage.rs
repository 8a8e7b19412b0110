//! How much a volume holds, and how much room it has (upstream `pkg/volume/{metrics_du,metrics_statfs}.go`).

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::error::{During as _, Error};
use crate::mount;
use crate::walk::{Visitor, walk};

/// What a volume holds, and the file system that it is in: `None` where that counts no inodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of the file system.
    pub capacity: u64,
    /// Of these, how many a process that is not root can still use.
    pub available: u64,
    /// Bytes that the volume takes.
    pub used: u64,
    /// Inodes of the file system.
    pub inodes: Option<u64>,
    /// Of these, the free ones.
    pub inodes_free: Option<u64>,
    /// Inodes of the volume.
    pub inodes_used: Option<u64>,
}

/// What is in the file system that `path` lies on is what the volume holds: a share, a disk, memory.
///
/// # Errors
/// If it cannot be asked. A server that is gone may never answer.
pub fn of_file_system(path: &Path) -> Result<Usage, Error> {
    let fs = rustix::fs::statvfs(path).during("looking at the file system of", path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(fs.f_frsize);
    // Some file systems make inodes as they need them, and count none.
    let inodes = |count: u64| (fs.f_files > 0).then_some(count);
    Ok(Usage {
        capacity: bytes(fs.f_blocks),
        available: bytes(fs.f_bavail),
        used: bytes(fs.f_blocks.saturating_sub(fs.f_bfree)),
        inodes: inodes(fs.f_files),
        inodes_free: inodes(fs.f_ffree),
        inodes_used: inodes(fs.f_files.saturating_sub(fs.f_ffree)),
    })
}

/// What a folder of the node's own disk holds: all of it is walked through, unless it is a file system of its own. What is
/// mounted in it is not its own; a file with several names counts once.
///
/// # Errors
/// If the folder cannot be read. What is in it and cannot be read does not count.
pub fn of_folder(path: &Path) -> Result<Usage, Error> {
    let whole = of_file_system(path)?;
    if mount::is_mount_point(path)? {
        return Ok(whole);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, path, flags, Mode::empty()).during("opening", path)?;
    let mut counter = Counter::default();
    counter.add(&rustix::fs::fstat(&root).during("looking at", path)?);
    walk(root, path, ResolveFlags::NO_XDEV, &mut counter).during("walking through", path)?;
    Ok(Usage { used: counter.bytes, inodes_used: Some(counter.inodes), ..whole })
}

#[derive(Default)]
struct Counter {
    bytes: u64,
    inodes: u64,
    /// Files with more names than one that were seen.
    linked: BTreeSet<u64>,
}

impl Counter {
    fn add(&mut self, found: &Stat) {
        let is_folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        if !is_folder && found.st_nlink > 1 && !self.linked.insert(found.st_ino) {
            return;
        }
        // The unit is 512 bytes, whatever the file system's is.
        let blocks = u64::try_from(found.st_blocks).unwrap_or_default();
        self.bytes = self.bytes.saturating_add(blocks.saturating_mul(512));
        self.inodes += 1;
    }
}

impl Visitor for Counter {
    fn entry(&mut self, folder: BorrowedFd<'_>, name: &CStr, _: FileType) -> Result<(), Errno> {
        self.add(&rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?);
        Ok(())
    }

    fn leave(&mut self, folder: BorrowedFd<'_>) -> Result<(), Errno> {
        self.add(&rustix::fs::fstat(folder)?);
        Ok(())
    }

    fn left(&mut self, _: BorrowedFd<'_>, _: &CStr) -> Result<(), Errno> {
        Ok(())
    }

    fn failed(&mut self, _: &Path, _: Errno) -> Result<(), io::Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::mount::{Tmpfs, tmpfs};
    use testkit::mounts::in_own_mounts;

    #[test]
    fn a_folder_holds_what_its_files_take_and_not_what_is_mounted_in_it() {
        in_own_mounts(|space| {
            let volume = space.join("v");
            fs::create_dir_all(volume.join("a/b")).unwrap();
            let empty = of_folder(&volume).unwrap();
            assert_eq!((empty.used, empty.inodes_used), (0, Some(3)), "folders of a tmpfs take nothing");
            fs::write(volume.join("a/b/f"), vec![1; 10_000]).unwrap();
            fs::hard_link(volume.join("a/b/f"), volume.join("second")).unwrap();
            fs::write(volume.join("small"), "1").unwrap();
            std::os::unix::fs::symlink("/etc", volume.join("link")).unwrap();
            fs::create_dir(volume.join("mounted")).unwrap();
            tmpfs(&volume.join("mounted"), Tmpfs::default()).unwrap();
            fs::write(volume.join("mounted/f"), vec![1; 1 << 20]).unwrap();
            let usage = of_folder(&volume).unwrap();
            // Pages of memory: three, and one.
            assert_eq!((usage.used, usage.inodes_used), (4 * 4096, Some(6)), "{usage:?}");
            let whole = of_file_system(space).unwrap();
            assert_eq!((usage.capacity, usage.inodes), (whole.capacity, whole.inodes));
        });
    }

    #[test]
    fn what_is_a_file_system_of_its_own_is_not_walked_through() {
        in_own_mounts(|space| {
            let volume = space.join("v");
            fs::create_dir(&volume).unwrap();
            tmpfs(&volume, Tmpfs { size: Some(1 << 20) }).unwrap();
            fs::write(volume.join("f"), vec![1; 10_000]).unwrap();
            let usage = of_folder(&volume).unwrap();
            assert_eq!(
                (usage.capacity, usage.used, usage.available),
                (1 << 20, 3 * 4096, (1 << 20) - 3 * 4096)
            );
            assert_eq!(usage.inodes_used, Some(2));
            assert_eq!(usage, of_file_system(&volume).unwrap());
            assert!(of_folder(&space.join("none")).is_err());
        });
    }
}
