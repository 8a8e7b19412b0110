//! Disks as volumes: a file system is made on one that has none, and it is mounted (`k8s.io/mount-utils`
//! `SafeFormatAndMount`); and loop devices, which hold a disk that a pod has as a device.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::helper::{self, Error, Finished, in_words, run};

/// All block devices.
const BLOCK_DEVICES: &str = "/sys/block";

/// A disk to be mounted.
#[derive(Debug, Clone, Copy)]
pub struct Disk<'a> {
    /// The device.
    pub device: &'a Path,
    /// The file system that it is to have; one that is there already stays, whatever it is.
    pub fs_type: &'a str,
    /// Options for mounting.
    pub options: &'a [&'a str],
    /// Nothing is written to it.
    pub read_only: bool,
}

/// Mounts a disk at `target`, a folder: with a file system that is made if it has none, and looked through for errors
/// if it has one. Each program may take as long as `deadline`.
///
/// # Errors
/// If a program fails, the disk has something else on it, or has errors that cannot be corrected.
pub fn format_and_mount(disk: Disk<'_>, target: &Path, deadline: Duration) -> Result<(), Error> {
    let Disk { device, fs_type, options, read_only } = disk;
    let name = device.display();
    match format_of(device, deadline)? {
        Format::None if read_only => {
            return Err(Error::Failed(format!(
                "cannot mount unformatted disk {name} as we are manipulating it in read-only mode"
            )));
        }
        Format::None => format(device, fs_type, target, options, deadline)?,
        Format::FileSystem(_) if !read_only => repair(device, deadline)?,
        Format::FileSystem(_) | Format::Partitions => {}
    }
    let options: Vec<_> =
        options.iter().copied().chain(read_only.then_some("ro")).chain(["defaults"]).collect();
    let source = device.to_string_lossy();
    helper::mount(&source, target, fs_type, &options, deadline)
}

/// What a disk has on it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Format {
    None,
    FileSystem(String),
    Partitions,
}

/// Reads the disk itself, not what is remembered of it.
fn format_of(device: &Path, deadline: Duration) -> Result<Format, Error> {
    let words = ["-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export"].map(OsStr::new);
    let arguments: Vec<_> = words.into_iter().chain([device.as_os_str()]).collect();
    let Finished { status, output } = run("blkid", &arguments, deadline)?;
    match status.code() {
        // Nothing that it knows.
        Some(2) => Ok(Format::None),
        Some(0) => Ok(format_from(&output)),
        _ => Err(Error::Failed(format!(
            "failed to get disk format of disk {}: {} output:({output})",
            device.display(),
            in_words(status)
        ))),
    }
}

fn format_from(output: &str) -> Format {
    let value = |name: &str| output.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    match (value("TYPE="), value("PTTYPE=")) {
        (_, partitions) if !partitions.is_empty() => Format::Partitions,
        ("", _) => Format::None,
        (file_system, _) => Format::FileSystem(file_system.to_owned()),
    }
}

fn format(
    device: &Path,
    fs_type: &str,
    target: &Path,
    options: &[&str],
    deadline: Duration,
) -> Result<(), Error> {
    let more: &[&str] = match fs_type {
        // Although it is no partition, and with nothing kept for root.
        "ext3" | "ext4" => &["-F", "-m0"],
        "xfs" => &["-f"],
        _ => &[],
    };
    let arguments: Vec<_> = more.iter().map(OsStr::new).chain([device.as_os_str()]).collect();
    let Finished { status, output } = run(&format!("mkfs.{fs_type}"), &arguments, deadline)?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed(format!(
        "format of disk {:?} failed: type:({fs_type:?}) target:({:?}) options:({options:?}) errcode:({}) output:({output}) ",
        device.display().to_string(),
        target.display().to_string(),
        in_words(status)
    )))
}

/// What `fsck` cannot correct is left to whoever owns the disk; that there is none is no hindrance.
fn repair(device: &Path, deadline: Duration) -> Result<(), Error> {
    match run("fsck", &[OsStr::new("-a"), device.as_os_str()], deadline) {
        Ok(Finished { status, output }) if status.code() == Some(4) => Err(Error::Failed(format!(
            "'fsck' found errors on device {} but could not correct them: {output}",
            device.display()
        ))),
        Ok(_) => Ok(()),
        Err(Error::NotRun { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The loop device on what is at `backing`, a device or file; one is made if there is none. It holds what is behind it,
/// even when its path is gone. Another path to the same has another one.
///
/// # Errors
/// If `losetup` fails, or the devices cannot be looked at.
pub fn attach_loop(backing: &Path, deadline: Duration) -> Result<PathBuf, Error> {
    if let Some(device) = loop_of(backing)? {
        return Ok(device);
    }
    let arguments = ["--show", "-f"].map(OsStr::new);
    let arguments: Vec<_> = arguments.into_iter().chain([backing.as_os_str()]).collect();
    Ok(PathBuf::from(losetup(&arguments, deadline)?.trim()))
}

/// The loop device that was made of `backing`, if there is one. It goes by the path: `losetup` itself takes all paths to
/// one file for the same.
///
/// # Errors
/// If the devices cannot be looked at.
pub fn loop_of(backing: &Path) -> Result<Option<PathBuf>, Error> {
    let failed = |error| Error::NotRun { program: "the look at loop devices".to_owned(), source: error };
    let (above, name) = (backing.parent().unwrap_or(backing), backing.file_name().unwrap_or_default());
    let real = match std::fs::canonicalize(above) {
        Ok(above) => above.join(name),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    for device in std::fs::read_dir(BLOCK_DEVICES).map_err(failed)?.flatten() {
        // Others, and those that are free, have no such file.
        let Ok(found) = std::fs::read(device.path().join("loop/backing_file")) else { continue };
        if backing_file(&found) == real.as_os_str() {
            return Ok(Some(Path::new("/dev").join(device.file_name())));
        }
    }
    Ok(None)
}

/// What sysfs says is behind a loop device: `/path` or, if that is gone, `/path (deleted)`.
fn backing_file(line: &[u8]) -> &OsStr {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    OsStr::from_bytes(line.strip_suffix(b" (deleted)").unwrap_or(line))
}

/// Frees a loop device; one that nothing is behind is free already.
///
/// # Errors
/// If `losetup` fails.
pub fn detach_loop(device: &Path, deadline: Duration) -> Result<(), Error> {
    match losetup(&[OsStr::new("-d"), device.as_os_str()], deadline) {
        Err(Error::Failed(words)) if words.contains("No such device or address") => Ok(()),
        done => done.map(drop),
    }
}

fn losetup(arguments: &[&OsStr], deadline: Duration) -> Result<String, Error> {
    let Finished { status, output } = run("losetup", arguments, deadline)?;
    if status.success() {
        return Ok(output);
    }
    let arguments = arguments.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    Err(Error::Failed(format!("losetup {arguments} failed: {}: {}", in_words(status), output.trim())))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::mount::{Unmount, unmount};
    use testkit::mounts::in_own_mounts;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_blkid_says_is_read() {
        for (output, want) in [
            ("DEVNAME=/dev/x\nTYPE=ext4\n", Format::FileSystem("ext4".into())),
            ("DEVNAME=/dev/x\nPTTYPE=dos\n", Format::Partitions),
            ("TYPE=ext4\nPTTYPE=gpt\n", Format::Partitions),
            ("DEVNAME=/dev/x\n", Format::None),
        ] {
            assert_eq!(format_from(output), want);
        }
        assert_eq!([backing_file(b"/a b\n"), backing_file(b"/a b (deleted)\n")], ["/a b"; 2]);
    }

    /// Frees the device at the end of a test, however that ends.
    struct Attached(PathBuf);

    impl Drop for Attached {
        fn drop(&mut self) {
            let _ = detach_loop(&self.0, LONG);
        }
    }

    #[test]
    fn a_disk_is_formatted_once_and_keeps_what_is_on_it() {
        in_own_mounts(|space| {
            let (image, target) = (space.join("image"), space.join("v"));
            fs::create_dir(&target).unwrap();
            fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
            let attached = Attached(attach_loop(&image, LONG).unwrap());
            let device = attached.0.as_path();
            assert_eq!(attach_loop(&image, LONG).unwrap(), device);
            let disk = Disk { device, fs_type: "ext4", options: &["noatime"], read_only: false };

            let empty = Disk { read_only: true, ..disk };
            let error = format_and_mount(empty, &target, LONG).unwrap_err().to_string();
            assert!(error.starts_with("cannot mount unformatted disk /dev/loop"), "{error}");
            let unknown = Disk { fs_type: "none-such", ..disk };
            let error = format_and_mount(unknown, &target, LONG).unwrap_err().to_string();
            assert_eq!(error, "cannot run mkfs.none-such");

            for again in [false, true] {
                format_and_mount(disk, &target, LONG).unwrap();
                let table = crate::MountTable::read().unwrap();
                let mounted = table.at(&target).unwrap();
                assert!(mounted.fs_type == "ext4" && mounted.options.contains("noatime"), "{mounted:?}");
                assert_eq!(target.join("f").exists(), again);
                fs::write(target.join("f"), "1").unwrap();
                unmount(&target, Unmount::Now).unwrap();
            }
            format_and_mount(Disk { read_only: true, ..disk }, &target, LONG).unwrap();
            assert!(crate::MountTable::read().unwrap().at(&target).unwrap().is_read_only());
            unmount(&target, Unmount::Now).unwrap();
            // What is there stays, even if something else was wanted.
            let error = format_and_mount(Disk { fs_type: "vfat", ..disk }, &target, LONG).unwrap_err();
            assert!(error.to_string().starts_with("mount failed: exit status 32\n"), "{error}");
            assert_eq!(format_of(device, LONG).unwrap(), Format::FileSystem("ext4".into()));

            detach_loop(device, LONG).unwrap();
            detach_loop(device, LONG).unwrap();
            assert_eq!(loop_of(&image).unwrap(), None);
        });
    }
}
