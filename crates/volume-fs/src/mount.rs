//! Mounting and unmounting. What is mounted already is left as it is, so that each of these can be done again.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatFs, StatVfsMountFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::error::{During as _, Error};
use crate::in_use;
use crate::mount_table::MountTable;

/// A mount of the same that is nowhere yet.
const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

/// How the kernel tells types of file systems (`linux/magic.h`).
pub(crate) mod magic {
    pub(crate) const TMPFS: i64 = 0x0102_1994;
    pub(crate) const RAMFS: i64 = 0x8584_58f6;
    pub(crate) const HUGETLBFS: i64 = 0x9584_58f6;
}

/// A file system in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tmpfs {
    /// The most that it holds, in bytes; `None`: half of the machine's memory.
    pub size: Option<u64>,
}

/// Whether something is mounted just at `path`, which may be a file. A link counts for itself.
///
/// # Errors
/// If there is nothing at `path` ([`Errno::NOENT`]), or it cannot be looked at.
pub fn is_mount_point(path: &Path) -> Result<bool, Error> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let found = rustix::fs::statx(CWD, path, flags, StatxFlags::empty()).during("looking at", path)?;
    if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    // Linux before 5.8 does not tell. The table has paths without links.
    let (above, name) = (path.parent().unwrap_or(path), path.file_name().unwrap_or_default());
    let real = std::fs::canonicalize(above).during("resolving", above)?.join(name);
    Ok(MountTable::read()?.at(&real).is_some())
}

/// Mounts a tmpfs at `target`, a folder, unless one is mounted there. Its pages are never written to swap where the
/// kernel can do that (6.4), as for the kubelet: Secrets lie in it.
///
/// # Errors
/// If it cannot be mounted, or something else is mounted there.
pub fn tmpfs(target: &Path, settings: Tmpfs) -> Result<(), Error> {
    let size = settings.size.map(|size| format!("size={size}"));
    let with = |more: Option<&str>| size.iter().map(String::as_str).chain(more).collect::<Vec<_>>().join(",");
    if mounted(target, magic::TMPFS)?.is_some() {
        return Ok(());
    }
    match file_system("tmpfs", target, "tmpfs", &with(Some("noswap"))) {
        Err(Errno::INVAL) => file_system("tmpfs", target, "tmpfs", &with(None)),
        done => done,
    }
    .during("mounting tmpfs at", target)
}

/// Mounts huge pages of `page_size` bytes at `target`, a folder, unless they are mounted there.
///
/// # Errors
/// If they cannot be mounted, or something else is mounted there, as huge pages of another size.
pub fn huge_pages(target: &Path, page_size: u64) -> Result<(), Error> {
    if let Some(found) = mounted(target, magic::HUGETLBFS)? {
        // Its blocks are its pages.
        if u64::try_from(found.f_bsize) == Ok(page_size) {
            return Ok(());
        }
        return Err(other(target, "huge pages of another size are mounted there"));
    }
    let options = format!("pagesize={page_size}");
    file_system("nodev", target, "hugetlbfs", &options).during("mounting huge pages at", target)
}

/// What is mounted at `target`, if it is a file system of this type. The file system itself is asked: the table of mounts
/// is long where there are many pods, and has other names for a path with links in it.
///
/// # Errors
/// If one of another type is mounted there.
fn mounted(target: &Path, magic: i64) -> Result<Option<StatFs>, Error> {
    if !is_mount_point(target)? {
        return Ok(None);
    }
    let found = rustix::fs::statfs(target).during("looking at", target)?;
    if found.f_type == magic {
        return Ok(Some(found));
    }
    let real = std::fs::canonicalize(target).during("resolving", target)?;
    let table = MountTable::read()?;
    let what = table.at(&real).map_or("something else", |mount| mount.fs_type.as_str());
    Err(other(target, &format!("{what} is mounted there")))
}

fn other(target: &Path, problem: &str) -> Error {
    Error::new("mounting at", target, std::io::Error::other(problem.to_owned()))
}

fn file_system(source: &str, target: &Path, fs_type: &str, options: &str) -> Result<(), Errno> {
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount(source, target, fs_type, MountFlags::empty(), options.as_c_str())
}

/// Mounts the file or folder at `source` at `target`, too, without what is mounted below it. `target` is of the same
/// kind.
///
/// # Errors
/// If it cannot be mounted, or something else is mounted there.
pub fn bind(source: &Path, target: &Path, read_only: bool) -> Result<(), Error> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let source_fd =
        rustix::fs::openat(CWD, source, flags, Mode::empty()).during("opening to mount", source)?;
    if !is_mount_point(target)? {
        bind_fd(source_fd.as_fd(), source, target)?;
    } else if !is_same(source_fd.as_fd(), target)? {
        return Err(other(target, "something else is mounted there"));
    }
    if read_only { remount_read_only(target) } else { Ok(()) }
}

/// Mounts the folder at `source` at `target`, too, without what is mounted below it, after `prepare` is done with it: of a
/// mount that is there it is so, whenever the caller may have been killed. `prepare` gets a path to the folder as it will
/// be mounted.
///
/// # Errors
/// That of `prepare`, or it cannot be mounted.
pub fn bind_prepared(
    source: &Path,
    target: &Path,
    prepare: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<(), Error> {
    let tree = rustix::mount::open_tree(CWD, source, CLONE).during("taking a mount of", source)?;
    prepare(Path::new(&format!("/proc/thread-self/fd/{}", tree.as_raw_fd())))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&tree, "", CWD, target, flags).during("mounting at", target)
}

/// Whether what is at `target` is what `source` is open for.
pub(crate) fn is_same(source: BorrowedFd<'_>, target: &Path) -> Result<bool, Error> {
    let here = rustix::fs::fstat(source).during("looking at what is mounted at", target)?;
    let there = rustix::fs::statat(CWD, target, AtFlags::SYMLINK_NOFOLLOW).during("looking at", target)?;
    Ok((here.st_dev, here.st_ino) == (there.st_dev, there.st_ino))
}

/// Mounts what `source` is open for, whatever its path leads to by now; `name` is for errors.
pub(crate) fn bind_fd(source: BorrowedFd<'_>, name: &Path, target: &Path) -> Result<(), Error> {
    let clone = CLONE | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(source, "", clone).during("taking a mount of", name)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&tree, "", CWD, target, flags).during("mounting at", target)
}

/// Nothing can be written through this mount from now on.
///
/// # Errors
/// If it cannot be changed.
pub fn remount_read_only(target: &Path) -> Result<(), Error> {
    // The other options of the mount are given again, or they would go.
    let options = rustix::fs::statvfs(target).during("looking at", target)?.f_flag;
    let kept = [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let kept = kept.into_iter().filter(|(has, _)| options.contains(*has)).map(|(_, flag)| flag);
    let flags = kept.fold(MountFlags::BIND | MountFlags::RDONLY, |all, one| all | one);
    rustix::mount::mount_remount(target, flags, c"").during("making read-only", target)
}

/// Has mounts below `path` appear in containers that ask for it, and theirs here (upstream `MakeRShared`): `path` is
/// mounted onto itself if it does not lie on a shared mount.
///
/// # Errors
/// If it cannot be mounted or changed.
pub fn make_shared(path: &Path) -> Result<(), Error> {
    let real = std::fs::canonicalize(path).during("resolving", path)?;
    if MountTable::read()?.of(&real).is_some_and(crate::Mount::is_shared) {
        return Ok(());
    }
    if !is_mount_point(&real)? {
        rustix::mount::mount_bind_recursive(&real, &real).during("mounting onto itself", &real)?;
    }
    let flags = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    rustix::mount::mount_change(&real, flags).during("making shared", &real)
}

/// How long one waits for who uses a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// Not at all: one that is in use stays, which is an error.
    Now,
    /// Not at all, and what waits for a server that does not answer fails: for NFS (`umount -f`).
    Force,
    /// It goes from here at once, and from its users when they have done with it: for what cannot be had otherwise, as
    /// the mount of a server that is gone.
    Lazy,
}

/// Unmounts all that is mounted at `path`, one above the other. Nothing mounted, or nothing at `path`: it is done.
///
/// # Errors
/// If a mount is in use ([`Errno::BUSY`]): by what is mounted in it or by whom, as far as that can be found.
pub fn unmount(path: &Path, how: Unmount) -> Result<(), Error> {
    while unmount_one(path, how)? {}
    Ok(())
}

/// Unmounts what was mounted last at `path`; whether there was anything.
///
/// # Errors
/// As [`unmount`].
pub fn unmount_one(path: &Path, how: Unmount) -> Result<bool, Error> {
    let flags = match how {
        Unmount::Now => UnmountFlags::NOFOLLOW,
        Unmount::Force => UnmountFlags::NOFOLLOW | UnmountFlags::FORCE,
        Unmount::Lazy => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    };
    match rustix::mount::unmount(path, flags) {
        Ok(()) => Ok(true),
        // Nothing is mounted there.
        Err(Errno::INVAL | Errno::NOENT) => Ok(false),
        Err(Errno::BUSY) => Err(Error::new("unmounting", path, in_use::busy(path))),
        Err(error) => Err(Error::new("unmounting", path, error)),
    }
}

/// Makes a file or folder to mount something at, the folder above being there; one that is there stays as it is.
///
/// # Errors
/// If it cannot be made.
pub fn make_point(target: &Path, folder: bool) -> Result<(), Error> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let made = if folder {
        std::fs::DirBuilder::new().mode(0o750).create(target)
    } else {
        File::options().write(true).create_new(true).mode(0o640).open(target).map(drop)
    };
    match made {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.during("creating a mount point", target),
    }
}

#[cfg(test)]
mod tests;
