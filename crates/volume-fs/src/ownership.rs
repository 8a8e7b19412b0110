//! Files of a volume for the group of a pod (`fsGroup`; upstream `pkg/volume/volume_linux.go`).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::error::{During as _, Error};
use crate::walk::{Visitor, walk};

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
}

/// Makes all files below `root` and itself the group's, those last that others stand in. `seen` counts the files, for
/// somebody who watches how it goes on. A file that cannot be changed holds up no other.
///
/// # Errors
/// If there is no such folder.
pub fn set_group(root: &Path, ownership: Ownership, seen: &AtomicU64) -> Result<Report, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(CWD, root, flags, Mode::empty()).during("opening", root)?;
    if ownership.policy == Policy::OnRootMismatch {
        let found = rustix::fs::fstat(&folder).during("looking at", root)?;
        if ownership.is_met_by(&found) {
            return Ok(Report::default());
        }
    }
    let mut changer = Changer { ownership, seen, report: Report::default() };
    let walked = walk(folder, root, ResolveFlags::empty(), &mut changer);
    walked.during("changing the group below", root)?;
    Ok(changer.report)
}

struct Changer<'a> {
    ownership: Ownership,
    seen: &'a AtomicU64,
    report: Report,
}

impl Changer<'_> {
    /// The mode that a file has to get, `None` if it is right; and whether its group is.
    fn wanted(&self, found: &Stat) -> (Option<Mode>, bool) {
        let kind = FileType::from_raw_mode(found.st_mode);
        let has_group = found.st_gid == self.ownership.group;
        // A link's own mode says nothing, and that of what it leads to is not changed through it.
        if kind == FileType::Symlink {
            return (None, has_group);
        }
        let mode = found.st_mode & 0o7777;
        let wanted = mode | self.ownership.bits(kind);
        // With another group a file loses these bits.
        let loses = !has_group && mode & 0o6000 != 0;
        ((wanted != mode || loses).then(|| Mode::from_raw_mode(wanted)), has_group)
    }

    fn count(&mut self, changed: bool) {
        self.seen.fetch_add(1, Ordering::Relaxed);
        self.report.seen += 1;
        self.report.changed += u64::from(changed);
    }
}

impl Visitor for Changer<'_> {
    fn entry(&mut self, folder: BorrowedFd<'_>, name: &CStr, _: FileType) -> Result<(), Errno> {
        let found = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let (mode, has_group) = self.wanted(&found);
        self.count(mode.is_some() || !has_group);
        let group = Some(Gid::from_raw(self.ownership.group));
        let Some(mode) = mode else {
            if has_group {
                return Ok(());
            }
            return rustix::fs::chownat(folder, name, None, group, AtFlags::SYMLINK_NOFOLLOW);
        };
        // There is no way to change a mode that never follows a link before Linux 6.6, and the volume may be in use: a
        // file that becomes a link meanwhile would have its target changed.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
        if !has_group {
            rustix::fs::chownat(&file, "", None, group, AtFlags::EMPTY_PATH)?;
        }
        let now = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
        if now != FileType::from_raw_mode(found.st_mode) {
            return Err(Errno::STALE);
        }
        use std::os::fd::AsRawFd as _;
        let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
        rustix::fs::chmodat(CWD, path, mode, AtFlags::empty())
    }

    fn leave(&mut self, folder: BorrowedFd<'_>) -> Result<(), Errno> {
        let found = rustix::fs::fstat(folder)?;
        let (mode, has_group) = self.wanted(&found);
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
        self.report.failed += 1;
        let failure = || Error::new("changing the group of", path, error);
        self.report.first_failure.get_or_insert_with(failure);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
