//! Files of a volume for the group of a pod (`fsGroup`; upstream `pkg/volume/volume_linux.go`).

mod share;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::error::{During as _, Error};
use crate::mode;
use crate::walk::{self, Visitor, walk};
use share::{Part, Share};

/// From so many files on other threads help.
const WORTH_SHARING: u64 = 1000;

/// What is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// All files are this group's.
    pub group: u32,
    /// The group only reads them.
    pub read_only: bool,
    /// When all files are looked at.
    pub policy: Policy,
}

/// `fsGroupChangePolicy`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Each time.
    Always,
    /// Only if the root is not as it has to be: it is the last to be changed.
    OnRootMismatch,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// How many files and folders were looked at; 0 if the root said that there is no need.
    pub seen: u64,
    /// Of these, how many were not as they have to be.
    pub changed: u64,
    /// How many could not be changed, or not be looked at.
    pub failed: u64,
    /// The first of them.
    pub first_failure: Option<Error>,
}

impl Report {
    fn add(&mut self, other: Self) {
        self.seen += other.seen;
        self.changed += other.changed;
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }
}

impl Ownership {
    /// What is added to the mode of a file of this kind.
    fn bits(self, kind: FileType) -> u32 {
        let bits = if self.read_only { 0o440 } else { 0o660 };
        // What is made in a folder is the group's, too.
        if kind == FileType::Directory { bits | 0o2110 } else { bits }
    }

    fn is_met_by(self, found: &Stat) -> bool {
        let bits = self.bits(FileType::from_raw_mode(found.st_mode));
        found.st_gid == self.group && found.st_mode & bits == bits
    }

    /// The mode that a file has to get, `None` if it is right; and whether its group is.
    fn wanted(self, found: &Stat) -> (Option<Mode>, bool) {
        let kind = FileType::from_raw_mode(found.st_mode);
        let has_group = found.st_gid == self.group;
        // A link's own mode says nothing, and that of what it leads to is not changed through it.
        if kind == FileType::Symlink {
            return (None, has_group);
        }
        let mode = found.st_mode & 0o7777;
        let wanted = mode | self.bits(kind);
        // With another group a file loses these bits.
        let loses = !has_group && mode & 0o6000 != 0;
        ((wanted != mode || loses).then(|| Mode::from_raw_mode(wanted)), has_group)
    }
}

/// Makes all files below `root` and itself the group's, the root last. `seen` counts the files, for somebody who watches
/// how it goes on. A file that cannot be changed holds up no other. Large trees are shared among a few threads.
///
/// # Errors
/// If there is no such folder, or one was moved while it was walked through; the root is not changed then.
pub fn set_group(root: &Path, ownership: Ownership, seen: &AtomicU64) -> Result<Report, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(CWD, root, flags, Mode::empty()).during("opening", root)?;
    if ownership.policy == Policy::OnRootMismatch {
        let found = rustix::fs::fstat(&folder).during("looking at", root)?;
        if ownership.is_met_by(&found) {
            return Ok(Report::default());
        }
    }
    let share = Share::new();
    let done = Mutex::new(Done::default());
    let work = |part: Part, start: Option<&dyn Fn()>| {
        let _working = share.working();
        let mut changer = Changer { ownership, seen, share: &share, start, report: Report::default() };
        let walked = walk(part.folder, &part.path, ResolveFlags::empty(), &mut changer);
        let walked = match walked {
            // The folder that was handed over is done with all that is in it, the root not yet.
            Ok(folder) if start.is_none() => {
                changer.leave_or_tell(folder.as_fd(), &part.path);
                None
            }
            Ok(folder) => Some(Ok(folder)),
            Err(error) => Some(Err(error)),
        };
        let mut done = lock(&done);
        done.report.add(changer.report);
        match walked {
            None => {}
            Some(Ok(folder)) => done.root = Some(folder),
            Some(Err(error)) => done.cut_off = Some(error),
        }
    };
    let help = || std::iter::from_fn(|| share.take()).for_each(|part| work(part, None));
    std::thread::scope(|scope| {
        // Where no thread can be had, it goes without.
        let start =
            || (1..threads()).for_each(|_| drop(std::thread::Builder::new().spawn_scoped(scope, help)));
        work(Part { folder, path: root.to_owned() }, Some(&start));
        help();
    });
    let Done { mut report, root: folder, cut_off } =
        done.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = cut_off {
        return Err(Error::new("changing the group below", root, error));
    }
    // Now that all else is done: it is the mark of that.
    if let Some(folder) = folder {
        let mut changer = Changer { ownership, seen, share: &share, start: None, report: Report::default() };
        changer.leave_or_tell(folder.as_fd(), root);
        report.add(changer.report);
    }
    Ok(report)
}

/// What all threads together have done.
#[derive(Default)]
struct Done {
    report: Report,
    root: Option<OwnedFd>,
    cut_off: Option<io::Error>,
}

/// The calls wait for the disk and for locks of the file system: more threads gain nothing.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Changer<'a> {
    ownership: Ownership,
    seen: &'a AtomicU64,
    share: &'a Share,
    /// Starts the other threads, which is worth it from some files on; of the thread that has the root.
    start: Option<&'a dyn Fn()>,
    report: Report,
}

impl Changer<'_> {
    fn count(&mut self, changed: bool) {
        self.seen.fetch_add(1, Ordering::Relaxed);
        self.report.seen += 1;
        self.report.changed += u64::from(changed);
        if self.report.seen == WORTH_SHARING
            && let Some(start) = self.start
        {
            start();
        }
    }

    fn tell(&mut self, path: &Path, error: Errno) {
        self.report.failed += 1;
        let failure = || Error::new("changing the group of", path, error);
        self.report.first_failure.get_or_insert_with(failure);
    }

    fn leave_or_tell(&mut self, folder: BorrowedFd<'_>, path: &Path) {
        if let Err(error) = self.leave(folder) {
            self.tell(path, error);
        }
    }
}

impl Visitor for Changer<'_> {
    fn entry(&mut self, folder: BorrowedFd<'_>, name: &CStr, _: FileType) -> Result<(), Errno> {
        let found = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let (mode, has_group) = self.ownership.wanted(&found);
        self.count(mode.is_some() || !has_group);
        if !has_group {
            let group = Some(Gid::from_raw(self.ownership.group));
            rustix::fs::chownat(folder, name, None, group, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        mode.map_or(Ok(()), |mode| mode::set(folder, name, mode))
    }

    fn hand_over(&mut self, above: BorrowedFd<'_>, name: &CStr, path: &dyn Fn() -> PathBuf) -> bool {
        if !self.share.wants() {
            return false;
        }
        // What cannot be opened fails again, and is told, when the walk comes to it.
        let folder = walk::open(above, name, ResolveFlags::empty());
        folder.is_ok_and(|folder| self.share.give(Part { folder, path: path() }))
    }

    fn leave(&mut self, folder: BorrowedFd<'_>) -> Result<(), Errno> {
        let found = rustix::fs::fstat(folder)?;
        let (mode, has_group) = self.ownership.wanted(&found);
        self.count(mode.is_some() || !has_group);
        if !has_group {
            rustix::fs::fchown(folder, None, Some(Gid::from_raw(self.ownership.group)))?;
        }
        mode.map_or(Ok(()), |mode| rustix::fs::fchmod(folder, mode))
    }

    fn left(&mut self, _: BorrowedFd<'_>, _: &CStr) -> Result<(), Errno> {
        Ok(())
    }

    fn failed(&mut self, path: &Path, error: Errno) -> io::Result<()> {
        self.tell(path, error);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
