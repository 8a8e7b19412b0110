//! The files that say who may use the API, and how the API shows who it is.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reload::Reloaded;

/// Files of which nothing could be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadFile {
    #[error("reading {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} {why}", path.display())]
    Content { path: PathBuf, why: String },
}

/// A value made of the text of some files, read again when they change.
pub(super) type OfFiles<T> = Reloaded<T, BadFile>;

/// Reads the files for the first time; blocks.
pub(super) fn open<T: Send + Sync + 'static>(
    what: &'static str,
    paths: Vec<PathBuf>,
    make: impl Fn(&[Vec<u8>]) -> Result<T, BadFile> + Send + Sync + 'static,
) -> Result<OfFiles<T>, BadFile> {
    let all = paths.clone();
    Reloaded::open(what, paths, Duration::ZERO, move |_| {
        let read =
            |path: &PathBuf| fs::read(path).map_err(|source| BadFile::Read { path: path.clone(), source });
        make(&all.iter().map(read).collect::<Result<Vec<_>, _>>()?)
    })
}
