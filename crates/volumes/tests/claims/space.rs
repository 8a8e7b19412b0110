//! A mount namespace of a test's own: what it mounts is seen by nobody else, and goes with it.

use std::path::Path;

use rustix::mount::MountPropagationFlags;
use rustix::thread::UnshareFlags;
use volume_fs::mount::{self, Tmpfs, Unmount};

/// Runs `test` in a thread with its own mounts, all of whose threads it shares them with, in a folder of its own that is
/// a tmpfs. Needs root.
pub(crate) fn in_own_mounts<F: Future<Output = ()>>(
    test: impl FnOnce(std::path::PathBuf) -> F + Send + 'static,
) {
    let thread = std::thread::spawn(move || {
        // Safe: a new mount namespace and a new root and working folder, of this thread alone.
        #[allow(unsafe_code, reason = "unshare is unsafe only where file descriptors are shared no more")]
        let unshared = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) };
        unshared.expect("a mount namespace of one's own needs root");
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).unwrap();
        let folder = tempfile::tempdir().unwrap();
        mount::tmpfs(folder.path(), Tmpfs::default()).unwrap();
        let path: &Path = folder.path();
        // Its threads come of this one, and so see its mounts.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(path.to_owned()));
        drop(runtime);
        mount::unmount(path, Unmount::Lazy).unwrap();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
