//! A walk through a tree that others may change meanwhile, however deep it is. Links are never followed.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom};
use rustix::io::Errno;

/// So many folders above are kept open; for those higher up one goes through `..`, and sees to it that they are the same.
const OPEN: usize = 64;

/// So many folders of one folder are kept in mind; the others are read when these are done.
const MANY: usize = 4096;

/// What is done on the way.
pub(crate) trait Visitor {
    /// Something that is no folder, in `folder`.
    fn entry(&mut self, folder: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<(), Errno>;
    /// Whether somebody else walks through the folder `name`, which is at `path`.
    fn hand_over(&mut self, _above: BorrowedFd<'_>, _name: &CStr, _path: &dyn Fn() -> PathBuf) -> bool {
        false
    }
    /// A folder below the root, after all that is in it.
    fn leave(&mut self, folder: BorrowedFd<'_>) -> Result<(), Errno>;
    /// The folder `name`, from the one above, after [`Visitor::leave`].
    fn left(&mut self, above: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno>;
    /// Whether to go on after an error at this path.
    fn failed(&mut self, path: &Path, error: Errno) -> Result<(), io::Error>;
}

struct Above {
    folder: Option<OwnedFd>,
    id: (u64, u64),
    /// The folder in it that the walk is in.
    name: CString,
    /// Those that come then.
    folders: Folders,
}

/// Folders in a folder.
struct Folders {
    names: Vec<CString>,
    /// Whether the folder is not read to its end.
    more: bool,
    /// How far it is read, if it is not kept open meanwhile.
    at: u64,
}

/// Visits all below `root`, and gives that back. `guards` beside those against links: which folders are not entered.
///
/// # Errors
/// What [`Visitor::failed`] says, or [`Errno::STALE`] if the folder above another was moved away.
pub(crate) fn walk(
    root: OwnedFd,
    path: &Path,
    guards: ResolveFlags,
    visitor: &mut impl Visitor,
) -> io::Result<OwnedFd> {
    let mut above: Vec<Above> = Vec::new();
    let mut buffer = Box::new_uninit_slice(32 << 10);
    let mut folders = read(&root, &mut buffer, path, &above, visitor)?;
    let mut here = root;
    loop {
        if let Some(name) = folders.names.pop() {
            if visitor.hand_over(here.as_fd(), &name, &|| place(path, &above, Some(&name))) {
                continue;
            }
            let child = match open(here.as_fd(), &name, guards) {
                Ok(child) => child,
                // It went meanwhile.
                Err(Errno::NOENT) => continue,
                Err(error) => {
                    visitor.failed(&place(path, &above, Some(&name)), error)?;
                    continue;
                }
            };
            let id = identity(&here)?;
            if folders.more && above.len() >= OPEN {
                folders.at = rustix::fs::tell(&here)?;
            }
            above.push(Above { folder: None, id, name, folders });
            let parent = std::mem::replace(&mut here, child);
            let depth = above.len();
            if let Some(last) = above.last_mut().filter(|_| depth <= OPEN) {
                last.folder = Some(parent);
            }
            folders = read(&here, &mut buffer, path, &above, visitor)?;
        } else if folders.more {
            folders = read(&here, &mut buffer, path, &above, visitor)?;
        } else {
            let Some(last) = above.pop() else { return Ok(here) };
            if let Err(error) = visitor.leave(here.as_fd()) {
                visitor.failed(&place(path, &above, Some(&last.name)), error)?;
            }
            let parent = match last.folder {
                Some(parent) => parent,
                None => {
                    let parent = rustix::fs::openat2(&here, "..", FLAGS, Mode::empty(), guards)?;
                    if identity(&parent)? != last.id {
                        return Err(Errno::STALE.into());
                    }
                    if last.folders.more {
                        rustix::fs::seek(&parent, SeekFrom::Start(last.folders.at))?;
                    }
                    parent
                }
            };
            if let Err(error) = visitor.left(parent.as_fd(), &last.name) {
                visitor.failed(&place(path, &above, Some(&last.name)), error)?;
            }
            (here, folders) = (parent, last.folders);
        }
    }
}

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// The folder `name`, which is no link.
pub(crate) fn open(above: BorrowedFd<'_>, name: &CStr, guards: ResolveFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH | guards;
    rustix::fs::openat2(above, name, FLAGS, Mode::empty(), resolve)
}

/// Visits what is no folder, from where reading has stopped; the names of folders.
fn read(
    folder: &OwnedFd,
    buffer: &mut [MaybeUninit<u8>],
    path: &Path,
    above: &[Above],
    visitor: &mut impl Visitor,
) -> io::Result<Folders> {
    let mut folders = Folders { names: Vec::new(), more: false, at: 0 };
    let mut entries = RawDir::new(folder, buffer);
    loop {
        // What the kernel gave at once is taken at once: it does not say where in it one is.
        if folders.names.len() >= MANY && entries.is_buffer_empty() {
            folders.more = true;
            break;
        }
        let Some(entry) = entries.next() else { break };
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                visitor.failed(&place(path, above, None), error)?;
                break;
            }
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
                .map(|found| FileType::from_raw_mode(found.st_mode)),
            known => Ok(known),
        };
        let visited = match kind {
            Ok(FileType::Directory) => {
                folders.names.push(name.to_owned());
                Ok(())
            }
            Ok(kind) => visitor.entry(folder.as_fd(), name, kind),
            Err(error) => Err(error),
        };
        match visited {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => visitor.failed(&place(path, above, Some(name)), error)?,
        }
    }
    Ok(folders)
}

fn identity(folder: &OwnedFd) -> Result<(u64, u64), Errno> {
    let found = rustix::fs::fstat(folder)?;
    Ok((found.st_dev, found.st_ino))
}

fn place(root: &Path, above: &[Above], name: Option<&CStr>) -> PathBuf {
    let names = above.iter().map(|above| above.name.as_c_str()).chain(name);
    let mut path = root.to_owned();
    path.extend(names.map(|name| OsStr::from_bytes(name.to_bytes())));
    path
}
