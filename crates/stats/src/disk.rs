//! File systems, and what files take in them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kube_model::Timestamp;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_model::stats::FsStats;

/// Bytes and inodes that something takes; `None`: nobody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) bytes: Option<u64>,
    pub(crate) inodes: Option<u64>,
}

impl Used {
    /// Both together; what one of them does not know does not count.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { bytes: add(self.bytes, other.bytes), inodes: add(self.inodes, other.inodes) }
    }

    pub(crate) fn of(stats: &FsStats) -> Self {
        Self { bytes: stats.used_bytes, inodes: stats.inodes_used }
    }
}

/// A sum in which what is unknown does not count, unless all of it is.
pub(crate) fn add(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}

/// The file system that `path` is in; used is what all of its files take.
pub(crate) fn file_system(path: &Path, now: Timestamp) -> io::Result<FsStats> {
    let fs = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| Some(blocks.saturating_mul(fs.f_frsize));
    // Some file systems make inodes as they need them, and count none.
    let inodes = |count: u64| (fs.f_files > 0).then_some(count);
    Ok(FsStats {
        time: Time(now),
        available_bytes: bytes(fs.f_bavail),
        capacity_bytes: bytes(fs.f_blocks),
        used_bytes: bytes(fs.f_blocks.saturating_sub(fs.f_bfree)),
        inodes_free: inodes(fs.f_ffree),
        inodes: inodes(fs.f_files),
        inodes_used: inodes(fs.f_files.saturating_sub(fs.f_ffree)),
    })
}

/// What `used` takes in the file system that `whole` describes.
pub(crate) fn part(whole: &FsStats, used: Used) -> FsStats {
    FsStats { used_bytes: used.bytes, inodes_used: used.inodes, ..whole.clone() }
}

/// The files in a folder, without what is in folders of it; `None` if there is no such folder.
pub(crate) fn files_in(folder: &Path) -> Option<Used> {
    let files = fs::read_dir(folder).ok()?.flatten().filter_map(|entry| file(&entry.path()));
    Some(files.fold(Used { bytes: Some(0), inodes: Some(0) }, Used::and))
}

/// What a file takes on disk, which is less than its length if it has holes; `None` for folders and what is gone.
pub(crate) fn file(path: &Path) -> Option<Used> {
    let metadata = fs::symlink_metadata(path).ok().filter(|metadata| !metadata.is_dir())?;
    // The unit of `st_blocks` is 512 bytes, whatever the file system's is.
    Some(Used { bytes: Some(metadata.blocks().saturating_mul(512)), inodes: Some(1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_as_big_as_the_files_in_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(files_in(dir.path()), Some(Used { bytes: Some(0), inodes: Some(0) }));
        for name in ["0.log", "0.log.20240102-030405"] {
            let file = fs::File::create(dir.path().join(name)).unwrap();
            io::Write::write_all(&mut &file, &[b'x'; 5000]).unwrap();
            file.sync_all().unwrap();
        }
        fs::create_dir(dir.path().join("app")).unwrap();
        fs::write(dir.path().join("app/0.log"), "of a container").unwrap();
        let used = files_in(dir.path()).unwrap();
        assert_eq!(used.inodes, Some(2));
        assert!(used.bytes.unwrap() >= 10_000, "{used:?}");
        assert_eq!(files_in(&dir.path().join("nowhere")), None);
    }

    #[test]
    fn what_nobody_knows_does_not_count() {
        let known = Used { bytes: Some(3), inodes: None };
        assert_eq!(
            known.and(Used { bytes: Some(4), inodes: Some(1) }),
            Used { bytes: Some(7), inodes: Some(1) }
        );
        assert_eq!(known.and(Used::default()), known);
    }

    #[test]
    fn a_file_system_has_room_and_a_missing_folder_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let fs = file_system(dir.path(), Timestamp::UNIX_EPOCH).unwrap();
        let (capacity, used) = (fs.capacity_bytes.unwrap(), fs.used_bytes.unwrap());
        assert!(capacity > 0 && used <= capacity && fs.available_bytes.unwrap() <= capacity - used, "{fs:?}");
        let missing = file_system(&dir.path().join("nowhere"), Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
