//! The mode of a file, but never of what it leads to.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Set when the kernel is found not to have `fchmodat2`: no other one is asked in this process.
static IS_OLD: AtomicBool = AtomicBool::new(false);

/// Gives `name` in `folder` the mode, unless it is a link: whoever can write to the folder may make one of it at any time,
/// and `chmod` by name would change the file that it leads to.
///
/// # Errors
/// [`Errno::OPNOTSUPP`] if it is a link.
pub(crate) fn set(folder: BorrowedFd<'_>, name: &CStr, mode: Mode) -> Result<(), Errno> {
    if !IS_OLD.load(Ordering::Relaxed) {
        match fchmodat2(folder, name, mode) {
            Err(Errno::NOSYS) => IS_OLD.store(true, Ordering::Relaxed),
            done => return done,
        }
    }
    set_by_descriptor(folder, name, mode)
}

/// Linux from 6.6 on.
fn fchmodat2(folder: BorrowedFd<'_>, name: &CStr, mode: Mode) -> Result<(), Errno> {
    #[expect(unsafe_code, reason = "no library has this call yet")]
    // SAFETY: the descriptor is open and the name ends with a zero byte for the whole call, which keeps neither.
    let done = unsafe {
        libc::syscall(
            libc::SYS_fchmodat2,
            folder.as_raw_fd(),
            name.as_ptr(),
            mode.bits(),
            libc::AT_SYMLINK_NOFOLLOW,
        )
    };
    if done == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// The file is opened without its content, and changed through the descriptor.
fn set_by_descriptor(folder: BorrowedFd<'_>, name: &CStr, mode: Mode) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) == FileType::Symlink {
        return Err(Errno::OPNOTSUPP);
    }
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    rustix::fs::chmodat(CWD, path, mode, AtFlags::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn a_file_is_changed_and_not_what_a_link_leads_to() {
        let space = tempfile::tempdir().unwrap();
        let path = space.path();
        let folder = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        fs::write(path.join("f"), "").unwrap();
        symlink("f", path.join("link")).unwrap();
        rustix::fs::mkfifoat(&folder, "fifo", Mode::RUSR).unwrap();
        let mode = |name: &str| fs::symlink_metadata(path.join(name)).unwrap().mode() & 0o7777;
        for (set, bits) in [(set as fn(_, &CStr, _) -> _, 0o4640), (set_by_descriptor, 0o600)] {
            for name in [c"f", c"fifo"] {
                set(folder.as_fd(), name, Mode::from_raw_mode(bits)).unwrap();
                assert_eq!(mode(name.to_str().unwrap()), bits);
            }
            assert_eq!(set(folder.as_fd(), c"link", Mode::RWXU), Err(Errno::OPNOTSUPP));
            assert_eq!(set(folder.as_fd(), c"none", Mode::RWXU), Err(Errno::NOENT));
            assert_eq!(mode("f"), bits);
        }
    }
}
