//! Reading one manifest without ever waiting: a FIFO must not stop the source.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use kube_model::Timestamp;
use rustix::fs::OFlags;

use super::MAX_BYTES;

/// How long a file must have been left alone before an equal stamp means that it is unchanged. File systems
/// count time in steps, the coarsest of two seconds; two changes within one step look like one.
const STEP_SECONDS: i64 = 2;

/// Identity and age of a file: equal stamps mean that it was not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    mode: u32,
    group: u32,
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            mode: meta.mode(),
            group: meta.gid(),
        }
    }

    /// The file's permissions, if they let others read it than its owner and the group of root.
    pub(super) fn open_to_others(&self) -> Option<u32> {
        let mode = self.mode & 0o7777;
        (mode & 0o004 != 0 || mode & 0o040 != 0 && self.group != 0).then_some(mode)
    }

    /// Whether a later change would show in the stamp.
    pub(super) fn is_settled(&self, now: Timestamp) -> bool {
        now.as_second() - self.modified.0.max(self.changed.0) > STEP_SECONDS
    }
}

/// What a path is.
pub(super) enum Look {
    /// A regular file that can be read.
    Regular(Stamp),
    Folder,
    /// There is not even a dangling symlink.
    Gone,
}

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("can not be read: {0}")]
    Io(#[from] io::Error),
    #[error("is a symlink to a file that does not exist")]
    Dangling,
    #[error("is a {0}, not a regular file")]
    NotAFile(&'static str),
    #[error("is larger than {MAX_BYTES} bytes")]
    TooLarge,
}

/// Looks at a path without opening it. Symlinks are followed, as the kubelet does.
pub(super) fn look(path: &Path) -> Result<Look, Error> {
    let meta = match path.metadata() {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if path.symlink_metadata().is_ok() { Err(Error::Dangling) } else { Ok(Look::Gone) };
        }
        Err(error) => return Err(error.into()),
    };
    if meta.is_dir() {
        return Ok(Look::Folder);
    }
    regular(&meta).map(Look::Regular)
}

fn regular(meta: &Metadata) -> Result<Stamp, Error> {
    let kind = meta.file_type();
    if kind.is_fifo() {
        Err(Error::NotAFile("FIFO"))
    } else if kind.is_socket() {
        Err(Error::NotAFile("socket"))
    } else if !kind.is_file() {
        Err(Error::NotAFile(if kind.is_dir() { "folder" } else { "device" }))
    } else if meta.len() > MAX_BYTES {
        Err(Error::TooLarge)
    } else {
        Ok(Stamp::of(meta))
    }
}

/// Reads a manifest. The stamp is from before the reading, so that what is written meanwhile shows later.
pub(super) fn read(path: &Path) -> Result<(Stamp, Vec<u8>), Error> {
    // Without waiting, should the path have become a FIFO since it was looked at.
    let file: File =
        OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    let stamp = regular(&file.metadata()?)?;
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_BYTES { Err(Error::TooLarge) } else { Ok((stamp, text)) }
}
