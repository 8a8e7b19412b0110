use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use rustix::io::Errno;

use super::*;
use crate::MountTable;
use crate::mount::{Tmpfs, is_mount_point, tmpfs};
use testkit::mounts::in_own_mounts;

struct Pod {
    volume: PathBuf,
    parts: PathBuf,
}

impl Pod {
    fn new(space: &Path) -> Self {
        let volume = space.join("volumes/v");
        fs::create_dir_all(&volume).unwrap();
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
        Self { volume, parts: space.join("volume-subpaths/v") }
    }

    fn mount(&self, path: &str, create: bool, target: &str) -> Result<PathBuf, Error> {
        let target = self.parts.join(target);
        mount(&self.volume, Path::new(path), create, &target).map(|()| target)
    }
}

#[test]
fn files_folders_and_what_is_missing_are_mounted_once() {
    in_own_mounts(|space| {
        let pod = Pod::new(space);
        fs::create_dir(pod.volume.join("dir")).unwrap();
        fs::write(pod.volume.join("dir/file"), "1").unwrap();
        symlink("dir/file", pod.volume.join("link")).unwrap();
        for _ in 0..2 {
            let file = pod.mount("dir/file", true, "app/0").unwrap();
            assert_eq!(fs::read(file).unwrap(), b"1");
            let link = pod.mount("link", true, "app/1").unwrap();
            assert_eq!(fs::read(link).unwrap(), b"1");
            let made = pod.mount("new/deep/", true, "app/2").unwrap();
            assert_eq!(fs::metadata(made).unwrap().mode() & 0o7777, 0o777);
            pod.mount("dir", false, "other/0").unwrap();
        }
        assert_eq!(MountTable::read().unwrap().below(&pod.parts).count(), 4);
        assert_eq!(fs::metadata(pod.parts.join("app")).unwrap().mode() & 0o7777, 0o750);

        unmount_all(&pod.parts, Unmount::Now).unwrap();
        unmount_all(&pod.parts, Unmount::Now).unwrap();
        assert!(!space.join("volume-subpaths").exists());
        assert_eq!(fs::read(pod.volume.join("dir/file")).unwrap(), b"1");
    });
}

#[test]
fn a_file_that_was_replaced_is_mounted_anew_and_one_that_is_a_folder_now() {
    in_own_mounts(|space| {
        let pod = Pod::new(space);
        fs::write(pod.volume.join("f"), "old").unwrap();
        let target = pod.mount("f", true, "app/0").unwrap();
        fs::write(pod.volume.join("g"), "new").unwrap();
        fs::rename(pod.volume.join("g"), pod.volume.join("f")).unwrap();
        // The mount is of the file, not of its name.
        assert_eq!(fs::read(&target).unwrap(), b"old");
        pod.mount("f", true, "app/0").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        fs::remove_file(pod.volume.join("f")).unwrap();
        fs::create_dir_all(pod.volume.join("f/x")).unwrap();
        pod.mount("f", true, "app/0").unwrap();
        assert!(target.join("x").exists());
        assert_eq!(MountTable::read().unwrap().below(&pod.parts).count(), 1);
    });
}

#[test]
fn what_leads_out_is_not_mounted_and_nothing_is_left_of_it() {
    in_own_mounts(|space| {
        let pod = Pod::new(space);
        symlink("/etc", pod.volume.join("etc")).unwrap();
        symlink("..", pod.volume.join("up")).unwrap();
        symlink("nowhere", pod.volume.join("dangling")).unwrap();
        for (path, create) in
            [("etc", true), ("etc/passwd", false), ("up", true), ("dangling", true), ("none", false)]
        {
            pod.mount(path, create, "app/0").unwrap_err();
        }
        assert!(!pod.parts.exists() && !pod.volume.join("nowhere").exists());
        assert!(pod.mount("none", false, "app/0").unwrap_err().is(Errno::NOENT));
    });
}

#[test]
fn of_what_is_mounted_in_the_volume_no_part_goes_with_its_folder() {
    in_own_mounts(|space| {
        let pod = Pod::new(space);
        let inner = pod.volume.join("inner");
        fs::create_dir(&inner).unwrap();
        tmpfs(&inner, Tmpfs::default()).unwrap();
        fs::write(inner.join("f"), "1").unwrap();
        let target = pod.mount("inner", true, "app/0").unwrap();
        assert_eq!(fs::read(target.join("f")).unwrap(), b"1");
        let held = fs::File::open(target.join("f")).unwrap();
        assert!(unmount_all(&pod.parts, Unmount::Now).unwrap_err().is(Errno::BUSY));
        assert!(is_mount_point(&target).unwrap());
        unmount_all(&pod.parts, Unmount::Lazy).unwrap();
        drop(held);
        assert_eq!(fs::read(inner.join("f")).unwrap(), b"1");
        // What is no mount and not empty is not ours to remove.
        fs::create_dir_all(pod.parts.join("app/0")).unwrap();
        fs::write(pod.parts.join("app/0/f"), "x").unwrap();
        assert!(unmount_all(&pod.parts, Unmount::Now).unwrap_err().is(Errno::NOTEMPTY));
        assert_eq!(fs::read(pod.parts.join("app/0/f")).unwrap(), b"x");
    });
}
