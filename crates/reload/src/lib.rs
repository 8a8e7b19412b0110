#![doc = include_str!("../README.md")]
//!
//! Owns when files are looked at. Must not know what stands in them. Looked at when a value is needed, so it costs nothing
//! while nobody comes, and follows symbolic links that are swapped as volumes of Secrets do.

use std::error::Error;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

/// Device, inode, size, and time of the last change of contents and of the inode (s, ns).
type Stamp = (u64, u64, u64, i64, i64, i64, i64);

/// What files were at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamps(Vec<Option<Stamp>>);

/// What files are now; blocks.
pub fn stamps(paths: &[PathBuf]) -> Stamps {
    Stamps(paths.iter().map(|path| stamp(path)).collect())
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

type Load<T, E> = Box<dyn Fn(Option<&T>) -> Result<T, E> + Send + Sync>;

/// A value read from files.
pub struct Reloaded<T, E>(Arc<Inner<T, E>>);

struct Inner<T, E> {
    what: String,
    paths: Vec<PathBuf>,
    every: Duration,
    load: Load<T, E>,
    found: ArcSwap<Found<T>>,
    look: Arc<Mutex<Look>>,
    doubted: AtomicBool,
}

/// What the last look found.
struct Found<T> {
    value: Arc<T>,
    /// Whether the value is what the files say.
    is_current: bool,
}

struct Look {
    at: Instant,
    stamps: Stamps,
    complaint: Option<String>,
}

impl<T: Send + Sync + 'static, E: Error + 'static> Reloaded<T, E> {
    /// Reads the files, which the log calls `what`, for the first time; blocks. They are looked at again when somebody
    /// comes and the last look was `every` ago. `load` may go on with what it made the last time.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn open(
        what: impl Into<String>,
        paths: Vec<PathBuf>,
        every: Duration,
        load: impl Fn(Option<&T>) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        // Before reading: what is written while we read is then seen next time.
        let look = Look { at: Instant::now(), stamps: stamps(&paths), complaint: None };
        let found = Found { value: Arc::new(load(None)?), is_current: true };
        Ok(Self(Arc::new(Inner {
            what: what.into(),
            paths,
            every,
            load: Box::new(load),
            found: ArcSwap::from_pointee(found),
            look: Arc::new(Mutex::new(look)),
            doubted: AtomicBool::new(false),
        })))
    }

    /// What the files say now; what they said last if that is nothing usable.
    pub async fn current(&self) -> Arc<T> {
        Arc::clone(&self.look().await.value)
    }

    /// What the files say now; `None` while that is nothing usable.
    pub async fn only_current(&self) -> Option<Arc<T>> {
        let found = self.look().await;
        found.is_current.then(|| Arc::clone(&found.value))
    }

    /// The value does not seem right: whoever comes next looks at the files.
    pub fn doubt(&self) {
        self.0.doubted.store(true, Ordering::Relaxed);
    }

    async fn look(&self) -> Arc<Found<T>> {
        // While somebody looks others go on with what there is: a file system that does not answer holds up only one.
        if !self.0.paths.is_empty()
            && let Ok(mut look) = Arc::clone(&self.0.look).try_lock_owned()
            && (look.at.elapsed() >= self.0.every || self.0.doubted.swap(false, Ordering::Relaxed))
        {
            look.at = Instant::now();
            let inner = Arc::clone(&self.0);
            // It fails when the process is going down, or by a panic of `load`, which has been shown.
            let _ = tokio::task::spawn_blocking(move || inner.refresh(look)).await;
        }
        self.0.found.load_full()
    }
}

impl<T, E: Error> Inner<T, E> {
    fn refresh(&self, mut look: OwnedMutexGuard<Look>) {
        let (now, before) = (stamps(&self.paths), self.found.load_full());
        // What could not be read may be readable without a change of the file.
        if look.stamps == now && before.is_current {
            return;
        }
        look.stamps = now;
        let found = match (self.load)(Some(&before.value)) {
            Ok(value) => {
                tracing::info!(files = ?self.paths, "Took over changed {}", self.what);
                look.complaint = None;
                Found { value: Arc::new(value), is_current: true }
            }
            Err(error) => {
                let error = util::causes(&error);
                if look.complaint.as_ref() != Some(&error) {
                    tracing::warn!(error, "Changed {} cannot be used", self.what);
                    look.complaint = Some(error);
                }
                Found { value: Arc::clone(&before.value), is_current: false }
            }
        };
        self.found.store(Arc::new(found));
    }
}

impl<T, E> fmt::Debug for Reloaded<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reloaded").field(&self.0.paths).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::sync::mpsc;

    use super::*;

    fn number(path: &Path) -> io::Result<u32> {
        fs::read_to_string(path)?.trim().parse().map_err(io::Error::other)
    }

    /// A file with a number, and the number.
    fn kept(every: Duration) -> (tempfile::TempDir, PathBuf, Reloaded<u32, io::Error>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number");
        replace(&path, "1");
        let read = path.clone();
        let kept = Reloaded::open("numbers", vec![path.clone()], every, move |_| number(&read)).unwrap();
        (dir, path, kept)
    }

    fn replace(path: &Path, text: &str) {
        fs::write(path.with_extension("new"), text).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    #[tokio::test]
    async fn what_changed_is_read_again_and_what_is_broken_keeps_the_last_value() {
        let (_dir, path, kept) = kept(Duration::ZERO);
        let value = async || (*kept.current().await, kept.only_current().await.is_some());
        assert_eq!(value().await, (1, true));
        assert!(Arc::ptr_eq(&kept.current().await, &kept.current().await), "an unchanged file is not read");
        replace(&path, "22");
        assert_eq!(value().await, (22, true));
        replace(&path, "x");
        assert_eq!(value().await, (22, false));
        fs::remove_file(&path).unwrap();
        assert_eq!(value().await, (22, false));
        replace(&path, "3");
        assert_eq!(value().await, (3, true));
    }

    #[test]
    fn the_first_reading_must_succeed() {
        let path = PathBuf::from("/nowhere/number");
        let read = path.clone();
        assert!(Reloaded::open("numbers", vec![path], Duration::ZERO, move |_| number(&read)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_looked_at_when_it_is_time_or_the_value_is_doubted() {
        let (_dir, path, kept) = kept(Duration::from_secs(10));
        replace(&path, "2");
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(*kept.current().await, 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(*kept.current().await, 2);
        replace(&path, "3");
        assert_eq!(*kept.current().await, 2);
        kept.doubt();
        assert_eq!(*kept.current().await, 3);
    }

    #[tokio::test]
    async fn a_file_that_does_not_answer_holds_up_one_look() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number");
        replace(&path, "1");
        let (asked, mut is_asked) = tokio::sync::mpsc::channel(1);
        let (answer, answered) = mpsc::sync_channel::<()>(0);
        let answered = std::sync::Mutex::new(answered);
        let load = move |last: Option<&u32>| {
            if last.is_some() {
                asked.blocking_send(()).unwrap();
                let _ = answered.lock().unwrap().recv();
            }
            Ok::<_, io::Error>(last.map_or(1, |last| last + 1))
        };
        let kept = Arc::new(Reloaded::open("numbers", vec![path.clone()], Duration::ZERO, load).unwrap());
        replace(&path, "changed");
        let first = tokio::spawn({
            let kept = Arc::clone(&kept);
            async move { *kept.current().await }
        });
        is_asked.recv().await.unwrap();
        assert_eq!(*kept.current().await, 1, "others go on with what there is");
        drop(answer);
        assert_eq!(first.await.unwrap(), 2);
    }
}
