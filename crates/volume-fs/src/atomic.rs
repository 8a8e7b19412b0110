//! Content that is replaced all at once (upstream `pkg/volume/util/atomic_writer.go`, with its layout):
//!
//! ```text
//! ..2026_11_30_16_00_00.1234567/config/app.toml   the files
//! ..data -> ..2026_11_30_16_00_00.1234567         renamed over: who reads sees the old files or the new
//! config -> ..data/config                         what users see
//! ```
//!
//! The writer may be killed at any instruction, and the disk may be full: until the rename all is as it was, from then
//! on all is new, and what is left over goes with the next write. That holds for a power cut, too: what is renamed over
//! the old is on the disk by then. Only one writer at a time.

mod compare;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::error::{During as _, Error};
use crate::mount::magic;
use crate::remove::remove_in;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";
/// What names begin with that are not the users'.
const RESERVED: &str = "..";

/// A file to be written.
#[derive(Clone, Copy)]
pub struct Content<'a> {
    /// Where it is to stand, below the volume: names with `/` between them, the first not beginning with `..`.
    pub path: &'a str,
    /// All that is to be in it.
    pub data: &'a [u8],
    /// Its permission bits.
    pub mode: u32,
    /// Its owner if not root.
    pub owner: Option<u32>,
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// All was so already: no file was written.
    Unchanged,
    /// The content is new.
    Replaced,
}

/// Makes `files` the content of the folder `volume`. With a `group` they are its, too, and it may read them, whatever
/// their modes say (a pod's `fsGroup`).
///
/// What else stands in the folder, such as mount points for other volumes, stays.
///
/// # Errors
/// If a path is none that can stand here, or the kernel refuses something; `volume` has its old content then, or if only
/// leftovers could not be removed, the new one.
pub fn write<'a>(
    volume: &Path,
    files: impl IntoIterator<Item = Content<'a>>,
    group: Option<u32>,
) -> Result<Written, Error> {
    let wanted = Wanted::new(volume, files, group)?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, volume, flags, Mode::empty()).during("opening", volume)?;
    let on_disk = is_on_disk(root.as_fd()).during("looking at", volume)?;
    let writer = Writer { volume, root, wanted, on_disk };
    let old = writer.current()?;
    // First of all, so that a full file system has room for what comes.
    writer.sweep(old.as_deref())?;
    let unchanged = old.as_deref().is_some_and(|old| compare::is_current(&writer.root, old, &writer.wanted));
    if !unchanged {
        writer.replace()?;
    }
    writer.link()?;
    writer.share_root()?;
    writer.sweep(writer.current()?.as_deref())?;
    Ok(if unchanged { Written::Unchanged } else { Written::Replaced })
}

fn is_on_disk(folder: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(!matches!(rustix::fs::fstatfs(folder)?.f_type, magic::TMPFS | magic::RAMFS))
}

/// What is to stand on disk.
struct Wanted<'a> {
    files: BTreeMap<&'a str, Content<'a>>,
    /// Each folder below the one with the date.
    folders: BTreeSet<&'a str>,
    group: Option<u32>,
}

impl<'a> Wanted<'a> {
    fn new(
        volume: &Path,
        files: impl IntoIterator<Item = Content<'a>>,
        group: Option<u32>,
    ) -> Result<Self, Error> {
        let files: BTreeMap<_, _> = files.into_iter().map(|file| (file.path, file)).collect();
        for path in files.keys() {
            let is_name = |name: &str| !matches!(name, "" | "." | "..");
            if path.starts_with(RESERVED) || !path.split('/').all(is_name) {
                let problem =
                    io::Error::new(io::ErrorKind::InvalidInput, format!("no file can be at {path:?}"));
                return Err(Error::new("writing to", volume, problem));
            }
        }
        let above = |path: &'a str| path.match_indices('/').map(move |(at, _)| &path[..at]);
        let folders = files.keys().flat_map(|path| above(path)).collect();
        Ok(Self { files, folders, group })
    }

    fn file_mode(&self, file: &Content<'_>) -> u32 {
        file.mode & 0o777 | if self.group.is_some() { 0o440 } else { 0 }
    }

    fn folder_mode(&self) -> u32 {
        0o755 | self.folder_bits()
    }

    /// What a group adds to a folder: new files in it are the group's, too.
    fn folder_bits(&self) -> u32 {
        if self.group.is_some() { 0o2550 } else { 0 }
    }

    /// What stands in the volume for its users, and whose the link is: the owner of the first file it leads to.
    fn links(&self) -> BTreeMap<&'a str, Option<u32>> {
        let mut links = BTreeMap::new();
        for (path, file) in &self.files {
            let top = path.split('/').next().unwrap_or(path);
            links.entry(top).or_insert(file.owner);
        }
        links
    }
}

struct Writer<'a> {
    volume: &'a Path,
    root: OwnedFd,
    wanted: Wanted<'a>,
    /// Not in memory: what is written outlives the machine's start.
    on_disk: bool,
}

impl Writer<'_> {
    /// The name of the folder that users see, if there is one.
    fn current(&self) -> Result<Option<String>, Error> {
        let target = match rustix::fs::readlinkat(&self.root, DATA, Vec::new()) {
            Ok(target) => target,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(self.failed("reading the link ..data in", error)),
        };
        let target = target.into_string().ok();
        Ok(target.filter(|name| name.starts_with(RESERVED) && name.len() > 2 && !name.contains('/')))
    }

    /// Writes all anew and has users see it.
    fn replace(&self) -> Result<(), Error> {
        let (name, folder) = self.new_folder()?;
        let switched = self.fill(folder.as_fd()).and_then(|()| self.switch_to(&name));
        if switched.is_err() {
            // What is left of it goes with the next write otherwise.
            let _ = self.remove(&name);
        }
        switched
    }

    fn new_folder(&self) -> Result<(String, OwnedFd), Error> {
        let failed = |error| self.failed("creating a folder in", error);
        let date = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S").to_string();
        let name = loop {
            let name = format!("{date}.{}", fastrand::u32(..));
            match rustix::fs::mkdirat(&self.root, &name, Mode::RWXU) {
                Ok(()) => break name,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error)),
            }
        };
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.root, &name, flags, Mode::empty()) {
            Ok(folder) => Ok((name, folder)),
            Err(error) => Err(failed(error)),
        }
    }

    fn fill(&self, folder: BorrowedFd<'_>) -> Result<(), Error> {
        let Wanted { files, folders, group } = &self.wanted;
        let group = group.map(Gid::from_raw);
        let mode = Mode::from_raw_mode(self.wanted.folder_mode());
        for path in folders {
            let made = rustix::fs::mkdirat(folder, *path, Mode::RWXU)
                .and_then(|()| rustix::fs::chownat(folder, *path, None, group, AtFlags::empty()))
                .and_then(|()| rustix::fs::chmodat(folder, *path, mode, AtFlags::empty()));
            made.map_err(|error| self.failed_at("creating", path, error))?;
        }
        for file in files.values() {
            let mode = Mode::from_raw_mode(self.wanted.file_mode(file));
            self.file(folder, file, group, mode)
                .map_err(|error| self.failed_at("writing", file.path, error))?;
        }
        rustix::fs::fchown(folder, None, group)
            .and_then(|()| rustix::fs::fchmod(folder, mode))
            .map_err(|error| self.failed("setting the mode of a folder in", error))?;
        if !self.on_disk {
            return Ok(());
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for path in folders.iter().copied().chain(["."]) {
            rustix::fs::openat(folder, path, flags, Mode::empty())
                .and_then(rustix::fs::fsync)
                .map_err(|error| self.failed_at("writing to the disk", path, error))?;
        }
        Ok(())
    }

    fn file(
        &self,
        folder: BorrowedFd<'_>,
        content: &Content<'_>,
        group: Option<Gid>,
        mode: Mode,
    ) -> io::Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, content.path, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(file);
        file.write_all(content.data)?;
        let owner = content.owner.map(Uid::from_raw);
        if owner.is_some() || group.is_some() {
            rustix::fs::fchown(&file, owner, group)?;
        }
        rustix::fs::fchmod(&file, mode)?;
        if self.on_disk { file.sync_all() } else { Ok(()) }
    }

    /// From here on users see the new files.
    fn switch_to(&self, name: &str) -> Result<(), Error> {
        let failed = |error| self.failed("switching the link ..data in", error);
        rustix::fs::symlinkat(name, &self.root, NEW_DATA).map_err(failed)?;
        let switched = self
            .own(NEW_DATA, None)
            .and_then(|()| rustix::fs::renameat(&self.root, NEW_DATA, &self.root, DATA));
        switched.map_err(|error| {
            let _ = rustix::fs::unlinkat(&self.root, NEW_DATA, AtFlags::empty());
            failed(error)
        })
    }

    fn own(&self, link: &str, owner: Option<u32>) -> Result<(), Errno> {
        let group = self.wanted.group;
        if owner.is_none() && group.is_none() {
            return Ok(());
        }
        let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
        rustix::fs::chownat(&self.root, link, owner, group, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// For a link that was made when it was somebody else's. What is no link is a mount point of another volume.
    fn own_again(&self, link: &str, owner: Option<u32>) -> Result<(), Errno> {
        let found = rustix::fs::statat(&self.root, link, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_right = owner.is_none_or(|owner| found.st_uid == owner)
            && self.wanted.group.is_none_or(|group| found.st_gid == group);
        if is_right || FileType::from_raw_mode(found.st_mode) != FileType::Symlink {
            return Ok(());
        }
        self.own(link, owner)
    }

    /// Links for what is there now, and none for what is not.
    fn link(&self) -> Result<(), Error> {
        let links = self.wanted.links();
        for (name, owner) in &links {
            let made = match rustix::fs::symlinkat(format!("{DATA}/{name}"), &self.root, *name) {
                Ok(()) => self.own(name, *owner),
                Err(Errno::EXIST) => self.own_again(name, *owner),
                Err(error) => Err(error),
            };
            made.map_err(|error| self.failed_at("linking", name, error))?;
        }
        for (name, kind) in self.entries()? {
            let is_wanted = std::str::from_utf8(name.as_bytes()).is_ok_and(|name| links.contains_key(name));
            if kind != FileType::Symlink || is_wanted {
                continue;
            }
            let target = rustix::fs::readlinkat(&self.root, &*name, Vec::new());
            if target.is_ok_and(|target| target.to_bytes().starts_with(b"..data/")) {
                rustix::fs::unlinkat(&self.root, &*name, AtFlags::empty())
                    .map_err(|error| self.failed("removing a link from", error))?;
            }
        }
        Ok(())
    }

    /// The volume itself is the group's.
    fn share_root(&self) -> Result<(), Error> {
        let Some(group) = self.wanted.group else { return Ok(()) };
        let failed = |error| self.failed("setting the group of", error);
        let found = rustix::fs::fstat(&self.root).map_err(failed)?;
        if found.st_gid != group {
            rustix::fs::fchown(&self.root, None, Some(Gid::from_raw(group))).map_err(failed)?;
        }
        let mode = found.st_mode & 0o7777 | self.wanted.folder_bits();
        if mode != found.st_mode & 0o7777 {
            rustix::fs::fchmod(&self.root, Mode::from_raw_mode(mode)).map_err(failed)?;
        }
        Ok(())
    }

    /// Removes what writes have left that were cut off, and old content: all reserved names but the two that count.
    fn sweep(&self, current: Option<&str>) -> Result<(), Error> {
        for (name, _) in self.entries()? {
            let counts = name == DATA || current.is_some_and(|current| name == current);
            if name.as_bytes().starts_with(RESERVED.as_bytes()) && !counts {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    fn remove(&self, name: impl AsRef<OsStr>) -> Result<(), Error> {
        let path = self.volume.join(name.as_ref());
        let name = CString::new(name.as_ref().as_bytes());
        let name = name.map_err(|error| self.failed("removing old content of", error))?;
        remove_in(self.root.as_fd(), &name, &path)
    }

    fn entries(&self) -> Result<Vec<(std::ffi::OsString, FileType)>, Error> {
        let failed = |error| self.failed("reading the folder", error);
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.root).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                entries.push((name.to_owned(), entry.file_type()));
            }
        }
        Ok(entries)
    }

    fn failed(&self, action: &'static str, error: impl Into<io::Error>) -> Error {
        Error::new(action, self.volume, error)
    }

    fn failed_at(&self, action: &'static str, path: &str, error: impl Into<io::Error>) -> Error {
        Error::new(action, &self.volume.join(path), error)
    }
}
