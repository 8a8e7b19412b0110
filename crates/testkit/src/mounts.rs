//! A mount namespace of a test's own: what it mounts is seen by nobody else, and goes with it.

use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

/// Runs `test` in a thread with its own mounts, which whatever it starts shares, in a folder of its own that is a tmpfs.
///
/// # Panics
/// As `test` does, and without root.
#[allow(clippy::expect_used, reason = "a test stops at the first thing that is not as it should be")]
pub fn in_own_mounts(test: impl FnOnce(&Path) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // Safe: a new mount namespace and a new root and working folder, of this thread alone.
        #[allow(unsafe_code, reason = "unshare is unsafe only where file descriptors are shared no more")]
        let unshared = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) };
        unshared.expect("a mount namespace of one's own needs root");
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).expect("mounts are made private");
        let folder = tempfile::tempdir().expect("a folder");
        rustix::mount::mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), None).expect("a tmpfs");
        test(folder.path());
        rustix::mount::unmount(folder.path(), UnmountFlags::DETACH).expect("the tmpfs goes");
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
