//! A value that is read from files and read anew when they changed. There is no timer: the files are looked at when
//! the value is asked for.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// A value made of the text of some files.
pub(super) struct Reloaded<T> {
    paths: Vec<PathBuf>,
    make: Make<T>,
    kept: Mutex<Kept<T>>,
}

type Make<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, BadFile> + Send + Sync>;

struct Kept<T> {
    value: Arc<T>,
    stamps: Vec<Option<Stamp>>,
    failed: bool,
}

/// Device, inode, size, and time of the last change: what tells one content of a file from another.
type Stamp = (u64, u64, u64, i64, i64);

/// Files of which nothing could be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadFile {
    #[error("reading {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} {why}", path.display())]
    Content { path: PathBuf, why: String },
}

impl<T> Reloaded<T> {
    /// Reads the files for the first time.
    pub(super) fn new(
        paths: Vec<PathBuf>,
        make: impl Fn(&[Vec<u8>]) -> Result<T, BadFile> + Send + Sync + 'static,
    ) -> Result<Self, BadFile> {
        let stamps = stamps(&paths);
        let value = Arc::new(make(&read(&paths)?)?);
        Ok(Self { paths, make: Box::new(make), kept: Mutex::new(Kept { value, stamps, failed: false }) })
    }

    /// The value of the files as they are now. While nothing can be made of them the last one, with `false`.
    pub(super) fn get(&self) -> (Arc<T>, bool) {
        // The value is replaced as a whole: a panic leaves the old one.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the reading, so that what changes meanwhile is read the next time.
        let now = stamps(&self.paths);
        if now != kept.stamps {
            kept.stamps = now;
            match read(&self.paths).and_then(|texts| (self.make)(&texts)) {
                Ok(value) => {
                    tracing::info!(files = ?self.paths, "Files of the push API read again");
                    (kept.value, kept.failed) = (Arc::new(value), false);
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, "The push API can not use its changed files");
                    kept.failed = true;
                }
            }
        }
        (Arc::clone(&kept.value), !kept.failed)
    }
}

fn read(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, BadFile> {
    let read = |path: &PathBuf| fs::read(path).map_err(|source| BadFile::Read { path: path.clone(), source });
    paths.iter().map(read).collect()
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
    };
    paths.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(texts: &[Vec<u8>]) -> Result<u32, BadFile> {
        let bad = || BadFile::Content { path: "number".into(), why: "has no number".to_owned() };
        String::from_utf8_lossy(&texts[0]).trim().parse().map_err(|_| bad())
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
        let kept = Reloaded::new(vec![path.clone()], number).unwrap();
        let value = || (*kept.get().0, kept.get().1);
        assert_eq!(value(), (1, true));
        assert!(Arc::ptr_eq(&kept.get().0, &kept.get().0), "an unchanged file is not read");
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
        assert!(Reloaded::new(vec!["/nowhere/number".into()], number).is_err());
    }
}
