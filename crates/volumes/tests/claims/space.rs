//! Tests that wait, with mounts of their own.

use std::path::PathBuf;

/// Runs `test` with its own mounts, all of whose threads it shares them with, in a folder of its own that is a tmpfs. Needs
/// root.
pub(crate) fn in_own_mounts<F: Future<Output = ()>>(test: impl FnOnce(PathBuf) -> F + Send + 'static) {
    testkit::mounts::in_own_mounts(|folder| {
        // Its threads come of this one, and so see its mounts.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(folder.to_owned()));
    });
}
