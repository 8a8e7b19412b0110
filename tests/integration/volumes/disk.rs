//! Folders and mounts in the words of the recordings.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// All that is at and below `dir`: `volumes/x directory 755 0 0 -`, with sizes of files, and where links lead.
pub(crate) fn list(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    walk(dir, dir, &mut lines);
    lines.sort();
    lines
}

fn walk(root: &Path, path: &Path, lines: &mut Vec<String>) {
    // What goes away meanwhile is not there.
    let Ok(found) = fs::symlink_metadata(path) else { return };
    let below = path.strip_prefix(root).unwrap().to_str().unwrap();
    let name = if below.is_empty() { "." } else { below };
    let kind = found.file_type();
    let what = if kind.is_dir() {
        "directory"
    } else if kind.is_symlink() {
        "symbolic link"
    } else if kind.is_socket() {
        "socket"
    } else if found.len() == 0 {
        "regular empty file"
    } else {
        "regular file"
    };
    let size = if kind.is_file() || kind.is_socket() { found.len().to_string() } else { "-".to_owned() };
    let mode = found.permissions().mode() & 0o7777;
    let target = fs::read_link(path).map(|to| format!(" -> {}", to.display())).unwrap_or_default();
    lines.push(format!("{name} {what} {mode:o} {} {} {size}{target}", found.uid(), found.gid()));
    if kind.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            walk(root, &entry.path(), lines);
        }
    }
}

/// A listing without what differs from run to run: names of termination logs, dates of content, sizes of hosts files.
pub(crate) fn comparable(lines: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut dated: BTreeMap<String, usize> = BTreeMap::new();
    let mut out: Vec<String> = lines
        .into_iter()
        .map(|line| {
            let words = line.split('/').map(|part| {
                let (name, rest) = part.split_at(part.find(' ').unwrap_or(part.len()));
                let is_hex = name.len() == 8 && name.bytes().all(|b| b.is_ascii_hexdigit());
                let name = if is_hex && rest.starts_with(" regular") { "$RAND" } else { name };
                format!("{name}{rest}")
            });
            let mut line = words.collect::<Vec<_>>().join("/");
            // `..2026_11_30_16_00_00.12345`
            while let Some(at) = line.find("..20") {
                let end = line[at..].find(['/', ' ']).map_or(line.len(), |len| at + len);
                let name = line[at..end].to_owned();
                let next = dated.len();
                let number = *dated.entry(name.clone()).or_insert(next);
                line = line.replace(&name, &format!("..$TS{number}"));
            }
            if line.starts_with("etc-hosts ") { "etc-hosts".to_owned() } else { line }
        })
        .collect();
    out.sort();
    out
}

/// One mount of a container: where, `ro` or `rw`, its propagation and, in memory, how large it is.
pub(crate) fn mount_line(line: &str) -> Option<String> {
    let (mount, fs) = line.split_once(" - ")?;
    let mount: Vec<_> = mount.split(' ').collect();
    // A line of mountinfo begins with three numbers more than a recorded one.
    let from = if mount.first()?.parse::<u64>().is_ok() { 4 } else { 1 };
    let (point, options) = (mount.get(from)?, mount.get(from + 1)?);
    let propagation =
        mount.get(from + 2).map_or("(private)", |field| field.split(':').next().unwrap_or_default());
    let kind = fs.split(' ').next()?;
    let size = fs.split([' ', ',']).find(|option| option.starts_with("size=")).filter(|_| kind == "tmpfs");
    let read_only = options.split(',').next()?;
    Some(format!("{point} {read_only} {propagation} {kind} {}", size.unwrap_or_default()))
}
