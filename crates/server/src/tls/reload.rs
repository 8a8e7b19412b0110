//! What files say, read again when they changed. Looked at when it is needed, so it costs nothing while nobody
//! comes, and follows symbolic links that are swapped as volumes of Secrets do.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::TlsError;

type Load<T> = Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>;

/// A value read from files.
pub(crate) struct Reloaded<T> {
    paths: Vec<PathBuf>,
    load: Load<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    stamps: Vec<Option<Stamp>>,
    value: Arc<T>,
}

/// Device, inode, size, and time of the last change of contents and of the inode (s, ns).
type Stamp = (u64, u64, u64, i64, i64, i64, i64);

impl<T> Reloaded<T> {
    /// Reads the files.
    pub(crate) fn open(
        paths: Vec<PathBuf>,
        load: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        // Before reading: what is written while we read is then seen next time.
        let stamps = stamps(&paths);
        let value = Arc::new(load()?);
        Ok(Self { paths, load: Box::new(load), state: Mutex::new(State { stamps, value }) })
    }

    /// What the files say now; what they said last if that is nothing usable.
    pub(crate) fn current(&self) -> Arc<T> {
        let now = stamps(&self.paths);
        // A panic while loading leaves the last value.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.stamps != now {
            match (self.load)() {
                Ok(value) => {
                    tracing::info!(files = ?self.paths, "Took over changed TLS files");
                    state.value = Arc::new(value);
                }
                Err(error) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, source, "Changed TLS files cannot be used, going on with the last ones");
                }
            }
            state.stamps = now;
        }
        Arc::clone(&state.value)
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    paths.iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some((
        meta.dev(),
        meta.ino(),
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
    ))
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reloaded").field(&self.paths).finish()
    }
}
