//! Why a mount cannot go: what is mounted in it, and who has something of it open.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::mount_table::MountTable;

/// So many are told of; one is what somebody looks for.
const TOLD: usize = 3;

/// The error of a mount that is in use, with what uses it as far as that can be found. No file system is asked: its
/// server may be gone.
pub(crate) fn busy(point: &Path) -> io::Error {
    let mut users = mounted_in(point);
    users.extend(open_in(point));
    let more = users.len().saturating_sub(TOLD);
    users.truncate(TOLD);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let by = if users.is_empty() { "by nobody who can be found".to_owned() } else { users.join(", ") };
    io::Error::new(io::ErrorKind::ResourceBusy, format!("it is in use: {by}{more}"))
}

fn mounted_in(point: &Path) -> Vec<String> {
    let Ok(table) = MountTable::read() else { return Vec::new() };
    let inner = table.below(point).filter(|mount| mount.point != point);
    inner.map(|mount| format!("{} is mounted in it", mount.point.display())).collect()
}

/// Those who have a file of it open, or stand in one of its folders.
fn open_in(point: &Path) -> Vec<String> {
    let id = MountTable::read().ok().and_then(|table| Some(table.at(point)?.id));
    let processes = entries(Path::new("/proc"))
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.as_bytes().iter().all(u8::is_ascii_digit)));
    let users = processes.filter_map(|process| {
        let how = how(&process, point, id)?;
        let command = fs::read_to_string(process.join("comm")).unwrap_or_default();
        let pid = process.file_name()?.to_string_lossy().into_owned();
        Some(format!("{} (pid {pid}) {how}", command.trim_end()))
    });
    users.collect()
}

fn how(process: &Path, point: &Path, id: Option<u64>) -> Option<String> {
    // By the kernel's number of the mount: the path is told as whoever has opened the file sees it.
    let on_it = |fd: &PathBuf| {
        let info = fs::read_to_string(fd).unwrap_or_default();
        let found = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        found.is_some() && found == id
    };
    if let Some(fd) = entries(&process.join("fdinfo")).into_iter().find(on_it) {
        let path = fs::read_link(process.join("fd").join(fd.file_name()?)).unwrap_or_default();
        return Some(format!("has {} open", path.display()));
    }
    // What it has mapped is not looked at: that waits for a process that waits for what it has mapped.
    let within = |link: &str| fs::read_link(process.join(link)).ok().filter(|to| to.starts_with(point));
    within("cwd").or_else(|| within("root")).map(|path| format!("is in {}", path.display()))
}

/// None of one that is gone.
fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
