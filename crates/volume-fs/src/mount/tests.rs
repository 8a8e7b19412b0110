use std::fs;
use std::path::PathBuf;

use super::*;
use testkit::mounts::in_own_mounts;

fn folder(path: PathBuf) -> PathBuf {
    fs::create_dir(&path).unwrap();
    path
}

fn options(point: &Path) -> (String, String) {
    let table = MountTable::read().unwrap();
    let mount = table.at(point).unwrap();
    (mount.fs_type.clone(), mount.fs_options.clone())
}

#[test]
fn a_tmpfs_has_its_size_is_not_swapped_and_is_mounted_once() {
    in_own_mounts(|space| {
        let point = folder(space.join("with space"));
        assert!(!is_mount_point(&point).unwrap());
        for _ in 0..2 {
            tmpfs(&point, Tmpfs { size: Some(8 << 20) }).unwrap();
        }
        assert!(is_mount_point(&point).unwrap());
        // By way of a link, too.
        std::os::unix::fs::symlink(space, space.join("alias")).unwrap();
        tmpfs(&space.join("alias/with space"), Tmpfs { size: Some(8 << 20) }).unwrap();
        let (kind, options) = options(&point);
        assert_eq!(kind, "tmpfs");
        assert!(options.contains("size=8192k") && options.contains("noswap"), "{options}");
        assert_eq!(MountTable::read().unwrap().below(&point).count(), 1);
        unmount(&point, Unmount::Now).unwrap();
        unmount(&point, Unmount::Now).unwrap();
        assert!(!is_mount_point(&point).unwrap());
        unmount(&space.join("nothing"), Unmount::Now).unwrap();
        assert!(is_mount_point(&space.join("nothing")).unwrap_err().is(Errno::NOENT));
    });
}

#[test]
fn what_else_is_mounted_there_is_an_error() {
    in_own_mounts(|space| {
        let (a, b, point) = (folder(space.join("a")), folder(space.join("b")), folder(space.join("p")));
        fs::write(a.join("f"), "1").unwrap();
        for _ in 0..2 {
            bind(&a, &point, false).unwrap();
        }
        assert_eq!(fs::read(point.join("f")).unwrap(), b"1");
        assert_eq!(MountTable::read().unwrap().below(&point).count(), 1);
        let error = bind(&b, &point, false).unwrap_err();
        assert_eq!(error.source.to_string(), "something else is mounted there");
        // The space is a tmpfs itself, so what lies below says nothing of what is mounted here.
        let proc = folder(space.join("proc"));
        file_system("proc", &proc, "proc", "").unwrap();
        std::os::unix::fs::symlink(space, space.join("alias")).unwrap();
        let error = tmpfs(&space.join("alias/proc"), Tmpfs::default()).unwrap_err();
        assert_eq!(error.source.to_string(), "proc is mounted there");
    });
}

#[test]
fn read_only_is_for_this_mount_alone_and_keeps_its_other_options() {
    in_own_mounts(|space| {
        let (source, point) = (folder(space.join("s")), folder(space.join("p")));
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
        rustix::mount::mount("tmpfs", &source, "tmpfs", flags, c"").unwrap();
        std::os::unix::fs::symlink(space, space.join("alias")).unwrap();
        bind(&source, &space.join("alias/p"), true).unwrap();
        assert_eq!(fs::write(point.join("f"), "").unwrap_err().raw_os_error(), Some(30));
        fs::write(source.join("f"), "").unwrap();
        let table = MountTable::read().unwrap();
        let mount = table.at(&point).unwrap();
        assert!(mount.is_read_only() && !table.at(&source).unwrap().is_read_only());
        assert!(mount.options.starts_with("ro,nosuid,nodev,noexec"), "{}", mount.options);
    });
}

#[test]
fn a_file_is_a_mount_point_too() {
    in_own_mounts(|space| {
        let (source, point) = (space.join("s"), space.join("p"));
        fs::write(&source, "1").unwrap();
        make_point(&point, false).unwrap();
        bind(&source, &point, false).unwrap();
        assert!(is_mount_point(&point).unwrap());
        assert_eq!(fs::read(&point).unwrap(), b"1");
        // A link to a mount point is none.
        std::os::unix::fs::symlink(&point, space.join("link")).unwrap();
        assert!(!is_mount_point(&space.join("link")).unwrap());
        unmount(&point, Unmount::Now).unwrap();
        assert_eq!(fs::read(&point).unwrap(), b"");
    });
}

#[test]
fn all_mounts_at_one_place_go_and_one_in_use_is_told() {
    in_own_mounts(|space| {
        let point = folder(space.join("p"));
        for _ in 0..3 {
            file_system("tmpfs", &point, "tmpfs", "").unwrap();
        }
        let held = fs::File::create(point.join("f")).unwrap();
        let error = unmount(&point, Unmount::Now).unwrap_err();
        assert!(error.is(Errno::BUSY), "{error:?}");
        let words = error.source.to_string();
        let who = format!("(pid {}) has {}/f open", std::process::id(), point.display());
        assert!(words.starts_with("it is in use: ") && words.ends_with(&who), "{words}");
        drop(held);
        let inner = folder(point.join("inner"));
        file_system("tmpfs", &inner, "tmpfs", "").unwrap();
        let words = unmount(&point, Unmount::Now).unwrap_err().source.to_string();
        assert_eq!(words, format!("it is in use: {} is mounted in it", inner.display()));
        let held = fs::File::create(inner.join("f")).unwrap();
        unmount(&point, Unmount::Lazy).unwrap();
        assert!(!is_mount_point(&point).unwrap());
        drop(held);
    });
}

#[test]
fn a_folder_is_shared_once() {
    in_own_mounts(|space| {
        let root = folder(space.join("root"));
        for _ in 0..2 {
            make_shared(&root).unwrap();
        }
        let table = MountTable::read().unwrap();
        assert!(table.at(&root).unwrap().is_shared() && table.below(&root).count() == 1);
        // What is mounted below is shared, and a folder below it is already.
        let point = folder(root.join("p"));
        tmpfs(&point, Tmpfs::default()).unwrap();
        make_shared(&point).unwrap();
        make_shared(&folder(root.join("q"))).unwrap();
        assert!(MountTable::read().unwrap().at(&point).unwrap().is_shared());
        assert_eq!(MountTable::read().unwrap().below(&root).count(), 2);
    });
}

#[test]
fn huge_pages_are_asked_for_by_their_size() {
    if !fs::read_to_string("/proc/filesystems").unwrap().contains("hugetlbfs") {
        return;
    }
    in_own_mounts(|space| {
        let point = folder(space.join("p"));
        for _ in 0..2 {
            huge_pages(&point, 2 << 20).unwrap();
        }
        let (kind, options) = options(&point);
        assert!(kind == "hugetlbfs" && options.contains("pagesize=2M"), "{options}");
        let error = huge_pages(&point, 1 << 30).unwrap_err();
        assert_eq!(error.source.to_string(), "huge pages of another size are mounted there");
    });
}

#[test]
fn what_is_mounted_has_been_prepared_and_only_the_folder_itself_was() {
    in_own_mounts(|space| {
        let (source, target) = (folder(space.join("source")), folder(space.join("target")));
        let below = folder(source.join("below"));
        tmpfs(&below, Tmpfs::default()).unwrap();
        fs::write(below.join("other"), "").unwrap();
        let failed = bind_prepared(&source, &target, |_| {
            Err(Error::new("preparing", &target, std::io::Error::other("it was in vain")))
        });
        assert_eq!(failed.unwrap_err().to_string(), format!("preparing {}", target.display()));
        assert!(!is_mount_point(&target).unwrap());
        let prepare = |folder: &Path| {
            assert!(!is_mount_point(&target).unwrap() && !folder.join("below/other").exists());
            fs::write(folder.join("mark"), "").map_err(|error| Error::new("marking", folder, error))
        };
        bind_prepared(&source, &target, prepare).unwrap();
        assert!(is_mount_point(&target).unwrap() && target.join("mark").exists());
        assert!(!target.join("below/other").exists());
    });
}
