//! Removes trees, but never what is mounted in them.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{During as _, Error};
use crate::mount_table::MountTable;
use crate::walk::{self, Visitor, walk};

/// How often one goes through a tree in which others make files meanwhile.
const ATTEMPTS: usize = 5;

/// Removes `path` and all below it; nothing there is done already. If anything is mounted at or below `path`, nothing is
/// removed; what is mounted meanwhile is never entered (`openat2` with `RESOLVE_NO_XDEV`), also not at `path` itself.
///
/// # Errors
/// With the first path that cannot be removed, or ([`io::ErrorKind::ResourceBusy`]) that something is mounted on.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    let Some((above, name, folder)) = found(path)? else { return Ok(()) };
    if let Some(mount) = MountTable::read()?.below(&above.join(OsStr::from_bytes(name.to_bytes()))).next() {
        return Err(mounted(path, &mount.point));
    }
    remove_in(folder.as_fd(), &name, path)
}

/// As [`remove_tree`], for who has looked at the table of mounts, which is long where there are many pods: what is before
/// a mount that is in there nevertheless goes, the mount stays.
///
/// # Errors
/// As there.
pub fn remove_unmounted(path: &Path) -> Result<(), Error> {
    let Some((_, name, folder)) = found(path)? else { return Ok(()) };
    remove_in(folder.as_fd(), &name, path)
}

/// The folder above, without links and opened, and the name in it; `None` if there is nothing.
fn found(path: &Path) -> Result<Option<(PathBuf, CString, OwnedFd)>, Error> {
    let Some((above, name)) = real(path)? else { return Ok(None) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = match rustix::fs::openat(CWD, &above, flags, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(Error::new("opening", &above, error)),
    };
    match rustix::fs::statat(&folder, &*name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(Some((above, name, folder))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(Error::new("looking at", path, error)),
    }
}

/// Removes `name` in `above` and all below it, up to the first mount; `path` is for errors.
pub(crate) fn remove_in(above: BorrowedFd<'_>, name: &CStr, path: &Path) -> Result<(), Error> {
    let failed = |error| match error {
        Errno::XDEV | Errno::BUSY => mounted(path, path),
        error => Error::new("removing", path, error),
    };
    for attempt in 1.. {
        let folder = match walk::open(above, name, ResolveFlags::NO_XDEV) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return match rustix::fs::unlinkat(above, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => Ok(()),
                    Err(error) => Err(failed(error)),
                };
            }
            Err(error) => return Err(failed(error)),
        };
        let mut remover = Remover { failed: None };
        let walked = walk(folder, path, ResolveFlags::NO_XDEV, &mut remover);
        if let Some(failed) = remover.failed {
            return Err(failed);
        }
        walked.during("removing", path)?;
        match rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY) if attempt < ATTEMPTS => {}
            Ok(()) | Err(Errno::NOENT) => break,
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// The folder above without links, as the table of mounts has it, and the name in it; `None` if there is no such folder.
fn real(path: &Path) -> Result<Option<(PathBuf, CString)>, Error> {
    let name = path.file_name().and_then(|name| CString::new(name.as_bytes()).ok());
    let (Some(above), Some(name)) = (path.parent(), name) else {
        let problem = io::Error::new(io::ErrorKind::InvalidInput, "the path has no name at its end");
        return Err(Error::new("removing", path, problem));
    };
    match std::fs::canonicalize(above) {
        Ok(above) => Ok(Some((above, name))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new("resolving", above, error)),
    }
}

fn mounted(path: &Path, point: &Path) -> Error {
    let problem = format!("{} is a mount point", point.display());
    Error::new("removing", path, io::Error::new(io::ErrorKind::ResourceBusy, problem))
}

struct Remover {
    failed: Option<Error>,
}

impl Visitor for Remover {
    fn entry(&mut self, folder: BorrowedFd<'_>, name: &CStr, _: FileType) -> Result<(), Errno> {
        rustix::fs::unlinkat(folder, name, AtFlags::empty())
    }

    fn leave(&mut self, _: BorrowedFd<'_>) -> Result<(), Errno> {
        Ok(())
    }

    fn left(&mut self, above: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        match rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR) {
            // The next time through the tree finds it.
            Err(Errno::NOTEMPTY | Errno::NOENT) => Ok(()),
            done => done,
        }
    }

    /// The first error ends it: what is left is kept for somebody to look at.
    fn failed(&mut self, path: &Path, error: Errno) -> io::Result<()> {
        self.failed = Some(match error {
            Errno::XDEV | Errno::BUSY => mounted(path, path),
            error => Error::new("removing", path, error),
        });
        Err(error.into())
    }
}

#[cfg(test)]
mod tests;
