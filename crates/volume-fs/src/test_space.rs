//! A mount namespace of a test's own: what it mounts is seen by nobody else, and goes with it.

use std::path::Path;

use rustix::mount::MountPropagationFlags;
use rustix::thread::UnshareFlags;

/// Runs `test` in a thread with its own mounts, in a folder of its own that is a tmpfs. Needs root.
pub(crate) fn in_own_mounts(test: impl FnOnce(&Path) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // Safe: a new mount namespace and a new root and working folder, of this thread alone.
        #[allow(unsafe_code, reason = "unshare is unsafe only where file descriptors are shared no more")]
        let unshared = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) };
        unshared.expect("a mount namespace of one's own needs root");
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).unwrap();
        let folder = tempfile::tempdir().unwrap();
        crate::mount::tmpfs(folder.path(), crate::mount::Tmpfs::default()).unwrap();
        test(folder.path());
        crate::mount::unmount(folder.path(), crate::mount::Unmount::Lazy).unwrap();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
