//! The table of mounts (`mountinfo`, proc(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use crate::error::{During as _, Error};

/// Of the calling thread: where all share one mount namespace that is the process's.
const MOUNT_INFO: &str = "/proc/thread-self/mountinfo";

/// All mounts that the process sees, in the order in which they were made: of two at one place the later is on top.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountTable(Vec<Mount>);

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its number, used again when it is gone.
    pub id: u64,
    /// What it is mounted on.
    pub parent: u64,
    /// `major:minor` of the file system.
    pub device: String,
    /// Which folder or file of the file system is mounted; `/` for all of it.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// Options of this mount: `rw,relatime`.
    pub options: String,
    /// `shared:N`, `master:N` and the like; empty for a private mount.
    pub propagation: String,
    /// `ext4`, `tmpfs`
    pub fs_type: String,
    /// What was mounted, as far as the file system has a name for it.
    pub source: PathBuf,
    /// Options of the file system: `rw,size=8192k`.
    pub fs_options: String,
}

impl Mount {
    /// Whether mounts made below it appear in its copies elsewhere.
    pub fn is_shared(&self) -> bool {
        self.propagation.split(' ').any(|field| field.starts_with("shared:"))
    }

    /// Whether nothing can be written through it.
    pub fn is_read_only(&self) -> bool {
        self.options.split(',').any(|option| option == "ro")
    }
}

impl MountTable {
    /// Reads the table. The kernel gives it as it is at one moment only as long as it fits into one read; a mount that
    /// comes or goes meanwhile is seen or not.
    ///
    /// # Errors
    /// If `/proc` cannot be read or says something that cannot be understood.
    pub fn read() -> Result<Self, Error> {
        let path = Path::new(MOUNT_INFO);
        let text = std::fs::read(path).during("reading", path)?;
        Self::parse(&text).map_err(|line| {
            let text = format!("line {:?} is no mount", String::from_utf8_lossy(line));
            Error::new("reading", path, std::io::Error::new(std::io::ErrorKind::InvalidData, text))
        })
    }

    /// The table as `/proc/PID/mountinfo` has it.
    ///
    /// # Errors
    /// The line that is no mount.
    pub fn parse(text: &[u8]) -> Result<Self, &[u8]> {
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| mount(line).ok_or(line)).collect::<Result<_, _>>().map(Self)
    }

    /// In the order in which they were made.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Mount> {
        self.0.iter()
    }

    /// What is on top at `point`, if something is mounted just there. Links in the path are not followed.
    pub fn at(&self, point: &Path) -> Option<&Mount> {
        self.0.iter().rev().find(|mount| mount.point == point)
    }

    /// The mount that `path` lies on.
    pub fn of(&self, path: &Path) -> Option<&Mount> {
        path.ancestors().find_map(|ancestor| self.at(ancestor))
    }

    /// All at `path` and below, each before what it is mounted on: in the order in which they can be unmounted.
    pub fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Mount> {
        self.0.iter().rev().filter(move |mount| mount.point.starts_with(path))
    }
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ').filter(|field| !field.is_empty());
    let mut next = || fields.next();
    let text = |field: &[u8]| Some(std::str::from_utf8(field).ok()?.to_owned());
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
    let (id, parent, device) = (number(next()?)?, number(next()?)?, text(next()?)?);
    let (root, point, options) = (path(next()?), path(next()?), text(next()?)?);
    let mut propagation = Vec::new();
    loop {
        match next()? {
            b"-" => break,
            field => propagation.push(text(field)?),
        }
    }
    let fs_type = text(next()?)?;
    // The source may be empty, and the options of a file system hold what its mounter gave.
    let (source, fs_options) = match (next(), next()) {
        (Some(source), Some(options)) => (path(source), options),
        (Some(options), None) => (PathBuf::new(), options),
        _ => return None,
    };
    let fs_options = String::from_utf8_lossy(fs_options).into_owned();
    let propagation = propagation.join(" ");
    Some(Mount { id, parent, device, root, point, options, propagation, fs_type, source, fs_options })
}

/// The kernel writes space, tab, newline and backslash as three octal digits, and `//deleted` behind what is gone.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r"22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
60 27 0:40 / /var/a\040b\011c\134d rw,relatime shared:2 master:1 propagate_from:3 - tmpfs tmpfs rw,size=8192k,noswap
61 60 254:0 /data/x//deleted /var/a\040b\011c\134d/in ro,relatime - ext4 /dev/vda rw
62 27 0:41 / /var/a rw - tmpfs  rw
63 62 0:42 / /var/a rw - nfs4 10.0.0.1:/x\040y rw,addr=10.0.0.1
64 27 0:43 / /var/ab rw - tmpfs tmpfs rw
";

    #[test]
    fn each_field_is_read() {
        let table = MountTable::parse(TABLE.as_bytes()).unwrap();
        let odd = Path::new("/var/a b\tc\\d");
        let mount = table.at(odd).unwrap();
        let numbers = (mount.id, mount.parent, mount.device.as_str());
        assert_eq!(numbers, (60, 27, "0:40"));
        assert_eq!(mount.propagation, "shared:2 master:1 propagate_from:3");
        assert_eq!((mount.fs_type.as_str(), mount.fs_options.as_str()), ("tmpfs", "rw,size=8192k,noswap"));
        assert!(mount.is_shared() && !mount.is_read_only());

        let mount = table.at(&odd.join("in")).unwrap();
        assert_eq!(mount.root, Path::new("/data/x//deleted"));
        assert!(!mount.is_shared() && mount.is_read_only());
        assert_eq!(table.at(Path::new("/var/a")).unwrap().source, Path::new("10.0.0.1:/x y"));
    }

    #[test]
    fn the_upper_of_two_mounts_is_found_and_names_that_begin_alike_are_others() {
        let table = MountTable::parse(TABLE.as_bytes()).unwrap();
        let ids = |path| table.below(Path::new(path)).map(|mount| mount.id).collect::<Vec<_>>();
        assert_eq!(ids("/var/a"), [63, 62]);
        assert_eq!(ids("/var"), [64, 63, 62, 61, 60]);
        let of = |path| table.of(Path::new(path)).map(|mount| mount.id);
        assert_eq!([of("/var/a/x/y"), of("/var/abc"), of("/proc")], [Some(63), Some(27), Some(22)]);
        assert_eq!(table.at(Path::new("/var")), None);
    }

    #[test]
    fn a_line_that_is_no_mount_is_told() {
        for line in ["x", "1 2 3:4 / / rw", "1 2 3:4 / / rw shared:1 - ext4", "a 2 3:4 / / rw - x y z"] {
            assert_eq!(MountTable::parse(line.as_bytes()), Err(line.as_bytes()));
        }
    }

    #[test]
    fn the_machines_own_table_is_read() {
        assert!(MountTable::read().unwrap().of(Path::new("/proc/1")).is_some());
    }
}
