//! What files say, read again when they changed. Looked at when it is needed, so it costs nothing while nobody
//! comes, and follows symbolic links that are swapped as volumes of Secrets do.

use std::error::Error;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

type Load<T, E> = Box<dyn Fn() -> Result<T, E> + Send + Sync>;

/// A value read from files.
pub struct Reloaded<T, E> {
    what: &'static str,
    paths: Vec<PathBuf>,
    load: Load<T, E>,
    state: Mutex<State<T>>,
}

struct State<T> {
    stamps: Vec<Option<Stamp>>,
    value: Arc<T>,
    /// Whether the value is what the files say.
    current: bool,
}

/// Device, inode, size, and time of the last change of contents and of the inode (s, ns).
type Stamp = (u64, u64, u64, i64, i64, i64, i64);

impl<T, E: Error> Reloaded<T, E> {
    /// Reads the files, which the log calls `what`, for the first time.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn open(
        what: &'static str,
        paths: Vec<PathBuf>,
        load: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        // Before reading: what is written while we read is then seen next time.
        let stamps = stamps(&paths);
        let state = State { stamps, value: Arc::new(load()?), current: true };
        Ok(Self { what, paths, load: Box::new(load), state: Mutex::new(state) })
    }

    /// What the files say now; what they said last if that is nothing usable.
    pub fn current(&self) -> Arc<T> {
        self.look().0
    }

    /// What the files say now; `None` while that is nothing usable.
    pub fn only_current(&self) -> Option<Arc<T>> {
        let (value, current) = self.look();
        current.then_some(value)
    }

    fn look(&self) -> (Arc<T>, bool) {
        let now = stamps(&self.paths);
        // The value is replaced as a whole: a panic while loading leaves the last one.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.stamps != now {
            state.stamps = now;
            match (self.load)() {
                Ok(value) => {
                    tracing::info!(files = ?self.paths, "Took over changed {}", self.what);
                    (state.value, state.current) = (Arc::new(value), true);
                }
                Err(error) => {
                    let error = util::causes(&error);
                    tracing::warn!(error, "Changed {} cannot be used", self.what);
                    state.current = false;
                }
            }
        }
        (Arc::clone(&state.value), state.current)
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

impl<T, E> fmt::Debug for Reloaded<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reloaded").field(&self.paths).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;

    use super::*;

    fn number(path: &Path) -> io::Result<u32> {
        fs::read_to_string(path)?.trim().parse().map_err(io::Error::other)
    }

    #[test]
    fn what_changed_is_read_again_and_what_is_broken_keeps_the_last_value() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number");
        let replace = |text: &str| {
            fs::write(dir.path().join("new"), text).unwrap();
            fs::rename(dir.path().join("new"), &path).unwrap();
        };
        replace("1");
        let read = path.clone();
        let kept = Reloaded::open("numbers", vec![path.clone()], move || number(&read)).unwrap();
        let value = || (*kept.current(), kept.only_current().is_some());
        assert_eq!(value(), (1, true));
        assert!(Arc::ptr_eq(&kept.current(), &kept.current()), "an unchanged file is not read");
        replace("22");
        assert_eq!(value(), (22, true));
        replace("x");
        assert_eq!(value(), (22, false));
        fs::remove_file(&path).unwrap();
        assert_eq!(value(), (22, false));
        replace("3");
        assert_eq!(value(), (3, true));
    }

    #[test]
    fn the_first_reading_must_succeed() {
        let path = PathBuf::from("/nowhere/number");
        assert!(Reloaded::open("numbers", vec![path.clone()], move || number(&path)).is_err());
    }
}
