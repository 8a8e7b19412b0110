//! A log file as a stream of output: once through, or on and on until its container has ended, over rotation.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream};
use tokio::time::{Instant, sleep_until};

use super::row::{Rows, UnsupportedFormat};
use super::watch::{LogWatch, Watched};
use super::{LogOptions, tail};
use crate::files::{self, OpenError, blocking};
use crate::unsent;

/// Bytes a read.
const BLOCK: usize = unsent::PIECE;

/// How long a runtime may go on writing to a log after it has begun the next one: the last rows are still on their
/// way through its buffers.
const SETTLED: Duration = Duration::from_millis(100);

/// How long it may go on writing after it has told that the container has ended, for the same reason.
const FINAL_OUTPUT: Duration = Duration::from_millis(500);

/// Why a log cannot be read. It is told to the client, at the end of what was sent before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("failed to open log file {path:?}: {source}")]
    Open { path: PathBuf, source: OpenError },
    #[error("failed to read log file {path:?}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("failed to watch directory {path:?}: {source}")]
    Watch { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Format(#[from] UnsupportedFormat),
}

/// The output of a log.
pub(crate) struct LogStream {
    path: PathBuf,
    file: Arc<File>,
    offset: u64,
    rows: Rows,
    mode: Mode,
    finished: bool,
}

enum Mode {
    /// Up to this offset: what comes later was not meant.
    Once(u64),
    Follow(Follower),
}

struct Follower {
    watched: Watched,
    ended: BoxFuture<'static, ()>,
    /// Until when more may come, once the container has ended. One that had ended before anybody waited for it has
    /// written everything.
    over: Option<Instant>,
    /// Whether anything was waited for.
    waited: bool,
    /// The file that came in the place of ours.
    next: Option<File>,
}

impl LogStream {
    /// Opens the log. To follow it takes a watch, and a future that ends when the container has.
    pub(crate) async fn open(
        path: PathBuf,
        options: &LogOptions,
        follow: Option<(&LogWatch, BoxFuture<'static, ()>)>,
    ) -> Result<Self, LogError> {
        let (path, file, size) = blocking(move || {
            let file = match open(&path) {
                Ok(file) => file,
                Err(source) => return Err(LogError::Open { path, source }),
            };
            match file.metadata() {
                Ok(meta) => Ok((path, Arc::new(file), meta.len())),
                Err(source) => Err(LogError::Read { path, source }),
            }
        })
        .await?;
        let offset = match options.tail_lines {
            None => 0,
            Some(rows) => last_rows(&path, &file, size, rows).await?,
        };
        let mode = match follow {
            None => Mode::Once(size),
            Some((watch, ended)) => {
                let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
                let watch = watch.clone();
                let watched = blocking(move || {
                    let watched = watch.folder(&folder);
                    watched.map_err(|source| LogError::Watch { path: folder, source })
                })
                .await?;
                Mode::Follow(Follower { watched, ended, over: None, waited: false, next: None })
            }
        };
        Ok(Self { path, file, offset, rows: Rows::new(options), mode, finished: false })
    }

    /// The output, piece by piece; an error is its last piece.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Bytes> + Send {
        futures::stream::unfold(self, |mut log| async move {
            if log.finished {
                return None;
            }
            let piece = match log.next().await {
                Ok(piece) => piece?,
                Err(error) => {
                    log.finished = true;
                    error.to_string().into()
                }
            };
            Some((piece, log))
        })
    }

    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, LogError> {
        while !self.finished {
            if let Mode::Follow(follower) = &mut self.mode {
                // Before reading: what changes while we read wakes us again.
                follower.watched.changes.mark_unchanged();
            }
            let most = match self.mode {
                Mode::Once(end) => {
                    usize::try_from(end.saturating_sub(self.offset)).unwrap_or(BLOCK).min(BLOCK)
                }
                Mode::Follow(_) => BLOCK,
            };
            let bytes = self.read(most).await?;
            if bytes.is_empty() {
                drop(bytes);
                self.at_end().await?;
                continue;
            }
            self.offset += bytes.len() as u64;
            let mut out = Vec::with_capacity(bytes.len());
            self.rows.feed(&bytes, &mut out)?;
            self.finished = self.rows.is_full();
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
        Ok(None)
    }

    async fn read(&mut self, most: usize) -> Result<Vec<u8>, LogError> {
        let (file, offset, path) = (Arc::clone(&self.file), self.offset, self.path.clone());
        blocking(move || {
            let mut bytes = vec![0; most];
            let read = file.read_at(&mut bytes, offset).map_err(|source| LogError::Read { path, source })?;
            bytes.truncate(read);
            Ok(bytes)
        })
        .await
    }

    /// Everything was read. Finishes, goes over to the next file, or waits.
    async fn at_end(&mut self) -> Result<(), LogError> {
        let Mode::Follow(follower) = &mut self.mode else {
            self.finished = true;
            return Ok(self.rows.finish()?);
        };
        if let Some(next) = follower.next.take() {
            self.file = Arc::new(next);
            self.offset = 0;
            self.rows.new_file();
            return Ok(());
        }
        let is_over = follower.over.is_some_and(|over| over <= Instant::now());
        match replaced(Arc::clone(&self.file), self.path.clone(), self.offset, is_over).await? {
            // The old one is read once more.
            Replaced::By(file) => {
                tokio::time::sleep(SETTLED).await;
                follower.next = Some(file);
            }
            Replaced::Truncated => {
                self.offset = 0;
                self.rows.new_file();
            }
            Replaced::No if is_over => {
                self.finished = true;
                self.rows.finish()?;
            }
            Replaced::No => follower.wait().await,
        }
        Ok(())
    }
}

impl Follower {
    /// Returns when there may be more, or nothing more will come.
    async fn wait(&mut self) {
        if let Some(over) = self.over {
            // Cancel-safe: a change stays marked.
            tokio::select! {
                () = changed(&mut self.watched) => {}
                () = sleep_until(over) => {}
            }
            return;
        }
        if !std::mem::replace(&mut self.waited, true) && (&mut self.ended).now_or_never().is_some() {
            self.over = Some(Instant::now());
            return;
        }
        // Cancel-safe, too: the future of the end is kept.
        tokio::select! {
            () = &mut self.ended => self.over = Some(Instant::now() + FINAL_OUTPUT),
            () = changed(&mut self.watched) => {}
        }
    }
}

/// Ends with a change in the folder; never again when the folder is gone.
async fn changed(watched: &mut Watched) {
    if watched.changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

enum Replaced {
    No,
    By(File),
    Truncated,
}

/// Whether another file has taken over at `path`, or ours was emptied. A runtime makes the file before it stops
/// writing to ours, so an empty one has not taken over while there is more to come.
async fn replaced(file: Arc<File>, path: PathBuf, offset: u64, is_over: bool) -> Result<Replaced, LogError> {
    blocking(move || {
        let read = |source| LogError::Read { path: path.clone(), source };
        let ours = file.metadata().map_err(read)?;
        let newer = match open(&path) {
            Ok(newer) => newer,
            // Between the two steps of a rotation, or its pod is gone.
            Err(error) if error.is_not_found() => return Ok(Replaced::No),
            Err(source) => return Err(LogError::Open { path, source }),
        };
        let theirs = newer.metadata().map_err(read)?;
        if is_same(&ours, &theirs) {
            return Ok(if ours.len() < offset { Replaced::Truncated } else { Replaced::No });
        }
        // A slow client may have slept through more than one rotation.
        Ok(match after(&ours, &path) {
            Some(rotated) => Replaced::By(rotated),
            None if theirs.len() == 0 && !is_over => Replaced::No,
            None => Replaced::By(newer),
        })
    })
    .await
}

/// Opens a log. Its runtime puts it at `<pod logs>/<namespace_name_uid>/<container>/<n>.log` (upstream
/// `pkg/kubelet/kuberuntime/helpers.go`): the folder of the pods' logs may be a link, nothing below it.
fn open(path: &Path) -> Result<File, OpenError> {
    let folder = path.ancestors().nth(3).unwrap_or(Path::new("/"));
    files::open(folder, path.strip_prefix(folder).unwrap_or(path))
}

/// Where the last rows begin. No thread is held for longer than a piece of the search takes.
async fn last_rows(path: &Path, file: &Arc<File>, size: u64, rows: u64) -> Result<u64, LogError> {
    let mut search = tail::Search::new(size, rows);
    loop {
        let reader = Arc::clone(file);
        let (after, found) = blocking(move || {
            let found = search.step(&*reader);
            (search, found)
        })
        .await;
        let found = found.map_err(|source| LogError::Read { path: path.to_owned(), source })?;
        if let Some(offset) = found {
            return Ok(offset);
        }
        search = after;
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// The oldest of the rotated files of the log at `path` that came after `ours`, if there is one to be read. The
/// kubelet renames a log to `NAME.TIME`, and compresses or removes older ones, so what is left is newer than a file
/// that is not among it.
fn after(ours: &Metadata, path: &Path) -> Option<File> {
    let mut rotated = rotated(path);
    rotated.sort_unstable();
    let own =
        rotated.iter().position(|path| path.symlink_metadata().is_ok_and(|other| is_same(ours, &other)));
    rotated.into_iter().skip(own.map_or(0, |own| own + 1)).find_map(|path| open(&path).ok())
}

fn rotated(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str)) else {
        return vec![];
    };
    let is_rotated = |other: &Path| {
        let time = other.file_name().and_then(OsStr::to_str).and_then(|other| other.strip_prefix(name));
        // Neither `.gz` nor `.tmp`.
        time.and_then(|time| time.strip_prefix('.'))
            .is_some_and(|time| time.starts_with(|c: char| c.is_ascii_digit()) && !time.contains('.'))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| is_rotated(path)).collect()
}
