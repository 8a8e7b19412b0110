//! Whether what is on disk is what is wanted.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};

use super::Wanted;

/// Whether the folder `name` in `root` has just the files wanted, each with its content, mode, owner and group. What
/// cannot be read is not: it is written anew.
pub(super) fn is_current(root: &OwnedFd, name: &str, wanted: &Wanted<'_>) -> bool {
    let mut seen = 0;
    let same = open(root.as_fd(), name, OFlags::DIRECTORY)
        .and_then(|folder| same_folder(folder, "", wanted, &mut seen));
    same.unwrap_or(false) && seen == wanted.files.len() + wanted.folders.len()
}

fn open(at: BorrowedFd<'_>, name: &str, more: OFlags) -> io::Result<OwnedFd> {
    // A device or pipe that somebody put there is not waited for.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

fn same_folder(folder: OwnedFd, path: &str, wanted: &Wanted<'_>, seen: &mut usize) -> io::Result<bool> {
    let found = rustix::fs::fstat(&folder)?;
    if !is_of(&found, FileType::Directory, wanted.folder_mode(), None, wanted.group) {
        return Ok(false);
    }
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { return Ok(false) };
        if matches!(name, "." | "..") {
            continue;
        }
        let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        let same = if let Some(file) = wanted.files.get(below.as_str()) {
            let opened = open(folder.as_fd(), name, OFlags::empty())?;
            let found = rustix::fs::fstat(&opened)?;
            let mode = wanted.file_mode(file);
            is_of(&found, FileType::RegularFile, mode, file.owner, wanted.group)
                && u64::try_from(found.st_size).is_ok_and(|size| size == file.data.len() as u64)
                && same_bytes(File::from(opened), file.data)?
        } else if wanted.folders.contains(below.as_str()) {
            same_folder(open(folder.as_fd(), name, OFlags::DIRECTORY)?, &below, wanted, seen)?
        } else {
            false
        };
        if !same {
            return Ok(false);
        }
        *seen += 1;
    }
    Ok(true)
}

fn is_of(found: &Stat, kind: FileType, mode: u32, owner: Option<u32>, group: Option<u32>) -> bool {
    FileType::from_raw_mode(found.st_mode) == kind
        && found.st_mode & 0o7777 == mode
        && found.st_uid == owner.unwrap_or_else(|| rustix::process::geteuid().as_raw())
        && group.is_none_or(|group| found.st_gid == group)
}

fn same_bytes(mut file: File, mut data: &[u8]) -> io::Result<bool> {
    let mut buffer = [0; 16 << 10];
    loop {
        let len = file.read(&mut buffer)?;
        if len == 0 {
            return Ok(data.is_empty());
        }
        match data.strip_prefix(&buffer[..len]) {
            Some(rest) => data = rest,
            None => return Ok(false),
        }
    }
}
