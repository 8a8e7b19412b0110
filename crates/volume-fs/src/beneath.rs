//! Paths below a folder whose content is not to be trusted: a container may put links there, and change them while they
//! are looked at. The kernel resolves them as if the folder were the root of all (`openat2`), so that nothing outside is
//! ever opened.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;

use crate::error::{During as _, Error};

/// How often a path is resolved anew when somebody renames folders meanwhile.
const ATTEMPTS: usize = 64;

/// Stack of a thread that makes one call.
const STACK: usize = 64 << 10;

/// As many links as the kernel follows in a path.
const LINKS: usize = 40;

/// A folder that nothing leaves.
#[derive(Debug)]
pub struct Root {
    folder: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// Opens the folder itself, whose own path is trusted.
    ///
    /// # Errors
    /// If it is no folder or cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, path, flags, Mode::empty()).during("opening", path)?;
        Ok(Self { folder, path: path.to_owned() })
    }

    /// Opens what is at `path` below, without reading or writing it (`O_PATH`): links are followed as long as they stay
    /// below.
    ///
    /// # Errors
    /// [`Errno::NOENT`] if there is nothing, [`Errno::XDEV`] if the path leads out. An absolute link may lead below the
    /// folder by the folder's own path.
    pub fn open_below(&self, path: &Path) -> Result<OwnedFd, Error> {
        let names = self.names(path)?;
        self.resolve(&joined(&names), OFlags::PATH).during("opening", &self.path.join(path))
    }

    /// Reads the file at `path`, if it has at most `most` bytes. Nothing else is opened, so that nobody who made it holds up
    /// the reader, as with a pipe.
    ///
    /// # Errors
    /// As [`Root::open_below`], and if it is no file or larger.
    pub fn read(&self, path: &Path, most: u64) -> Result<Vec<u8>, Error> {
        let name = self.path.join(path);
        let found = self.open_below(path)?;
        let no_file =
            |why: String| Error::new("reading", &name, io::Error::new(io::ErrorKind::InvalidData, why));
        let stat = rustix::fs::fstat(&found).during("looking at", &name)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(no_file("it is no regular file".to_owned()));
        }
        let own = format!("/proc/self/fd/{}", found.as_raw_fd());
        let file = std::fs::File::open(own).during("opening", &name)?;
        let mut content = Vec::new();
        file.take(most.saturating_add(1)).read_to_end(&mut content).during("reading", &name)?;
        if content.len() as u64 > most {
            return Err(no_file(format!("it has more than {most} bytes")));
        }
        Ok(content)
    }

    /// Opens what is at `path`, with folders made that are missing; these get `mode`, or that of the root.
    ///
    /// # Errors
    /// If something in the path is no folder, or a link that leads out or nowhere.
    pub fn make_folders(&self, path: &Path, mode: Option<u32>) -> Result<OwnedFd, Error> {
        let names = self.names(path)?;
        match self.resolve(&joined(&names), OFlags::PATH) {
            Err(Errno::NOENT) => {}
            done => return done.during("opening", &self.path.join(path)),
        }
        let mode = match mode {
            Some(mode) => mode,
            None => rustix::fs::fstat(&self.folder).during("looking at", &self.path)?.st_mode & 0o7777,
        };
        let mut here = rustix::io::fcntl_dupfd_cloexec(&self.folder, 0).during("opening", &self.path)?;
        for end in 1..=names.len() {
            let prefix = joined(&names[..end]);
            here = match self.resolve(&prefix, OFlags::PATH | OFlags::DIRECTORY) {
                Err(Errno::NOENT) => make(here.as_fd(), names[end - 1], mode),
                found => found,
            }
            .during("creating", &self.path.join(&prefix))?;
        }
        Ok(here)
    }

    /// The names in a path that goes down and nowhere else.
    fn names<'p>(&self, path: &'p Path) -> Result<Vec<&'p OsStr>, Error> {
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name),
                Component::CurDir => {}
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    let problem = io::Error::new(io::ErrorKind::InvalidInput, "the path does not lie below");
                    return Err(Error::new("opening", &self.path.join(path), problem));
                }
            }
        }
        Ok(names)
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        match self.resolve_beneath(path, flags) {
            // The kernel takes each absolute link for one that leads out.
            Err(Errno::XDEV) => self.resolve_beneath(&self.without_links(path)?, flags),
            done => done,
        }
    }

    /// The path with the links in it replaced by what they lead to, as long as that is below; nothing outside is looked at.
    fn without_links(&self, path: &Path) -> Result<PathBuf, Errno> {
        let real = std::fs::canonicalize(&self.path);
        let own = [Some(&*self.path), real.as_deref().ok()];
        let mut left: Vec<OsString> = path.iter().rev().map(OsStr::to_owned).collect();
        let mut done = PathBuf::new();
        let mut links = 0;
        while let Some(name) = left.pop() {
            match name.as_bytes() {
                b"." => continue,
                b".." if done.pop() => continue,
                b".." => return Err(Errno::XDEV),
                _ => done.push(name),
            }
            let found = match self.resolve_beneath(&done, OFlags::PATH | OFlags::NOFOLLOW) {
                Ok(found) => found,
                // What follows can be made.
                Err(Errno::NOENT) => {
                    done.extend(left.iter().rev());
                    break;
                }
                Err(error) => return Err(error),
            };
            if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) != FileType::Symlink {
                continue;
            }
            links += 1;
            if links > LINKS {
                return Err(Errno::LOOP);
            }
            let target = rustix::fs::readlinkat(&found, "", Vec::new())?;
            let target = Path::new(OsStr::from_bytes(target.as_bytes()));
            done.pop();
            let rest = if target.is_absolute() {
                done.clear();
                own.iter().flatten().find_map(|own| target.strip_prefix(own).ok()).ok_or(Errno::XDEV)?
            } else {
                target
            };
            left.extend(rest.iter().rev().map(OsStr::to_owned));
        }
        Ok(if done.as_os_str().is_empty() { PathBuf::from(".") } else { done })
    }

    fn resolve_beneath(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let guarded = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        for _ in 1..ATTEMPTS {
            match rustix::fs::openat2(&self.folder, path, flags, Mode::empty(), guarded) {
                Err(Errno::AGAIN) => {}
                done => return done,
            }
        }
        rustix::fs::openat2(&self.folder, path, flags, Mode::empty(), guarded)
    }
}

/// `.` for no name at all.
fn joined(names: &[&OsStr]) -> PathBuf {
    if names.is_empty() { PathBuf::from(".") } else { names.iter().collect() }
}

/// Makes the folder `name`. If somebody else was faster, it is theirs, unless it is a link.
fn make(at: BorrowedFd<'_>, name: &OsStr, mode: u32) -> Result<OwnedFd, Errno> {
    let made = match make_with(at, name, mode) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(at, name, flags, Mode::empty())?;
    // What follows from the folder above, such as its group, is there already.
    if made && rustix::fs::fstat(&folder)?.st_mode & 0o7777 != mode {
        rustix::fs::fchmod(&folder, Mode::from_raw_mode(mode))?;
    }
    Ok(folder)
}

/// Makes it with this mode at once: who is killed right then leaves no folder that its users cannot enter, and that looks
/// as if they had made it so. A thread of its own has a umask of its own.
fn make_with(at: BorrowedFd<'_>, name: &OsStr, mode: u32) -> Result<(), Errno> {
    let make = || {
        // SAFETY: a umask, a root and a working folder of this thread alone, which does nothing else.
        #[expect(unsafe_code, reason = "unshare is unsafe only where file descriptors are shared no more")]
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
        rustix::process::umask(Mode::empty());
        rustix::fs::mkdirat(at, name, Mode::from_raw_mode(mode & 0o1777))
    };
    std::thread::scope(|scope| {
        let made = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, make);
        made.map_err(|_| Errno::AGAIN)?.join().unwrap_or(Err(Errno::IO))
    })
}

#[cfg(test)]
mod tests;
