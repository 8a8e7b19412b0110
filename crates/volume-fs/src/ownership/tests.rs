use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::PathBuf;

use super::*;

const ALWAYS: Ownership = Ownership { group: 2000, read_only: false, policy: Policy::Always };

fn volume() -> (tempfile::TempDir, PathBuf) {
    volume_in(&std::env::temp_dir())
}

fn volume_in(space: &Path) -> (tempfile::TempDir, PathBuf) {
    let space = tempfile::tempdir_in(space).unwrap();
    let volume = space.path().join("v");
    fs::create_dir_all(volume.join("sub/deep")).unwrap();
    for (file, mode) in [("a", 0o600), ("sub/b", 0o000), ("sub/deep/c", 0o4755), ("sub/ok", 0o660)] {
        fs::write(volume.join(file), "x").unwrap();
        fs::set_permissions(volume.join(file), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(volume.join("sub/deep"), fs::Permissions::from_mode(0o700)).unwrap();
    lchown(volume.join("sub/ok"), Some(1000), Some(2000)).unwrap();
    fs::write(space.path().join("outside"), "").unwrap();
    fs::set_permissions(space.path().join("outside"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("../outside", volume.join("link")).unwrap();
    rustix::fs::mkfifoat(CWD, volume.join("fifo"), Mode::RUSR).unwrap();
    (space, volume)
}

fn set(volume: &Path, ownership: Ownership) -> (u64, u64) {
    let seen = AtomicU64::new(0);
    let report = set_group(volume, ownership, &seen).unwrap();
    assert_eq!((report.failed, report.seen), (0, seen.into_inner()), "{report:?}");
    (report.seen, report.changed)
}

fn of(path: PathBuf) -> (u32, u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.mode() & 0o7777, found.uid(), found.gid())
}

#[test]
fn all_files_become_the_groups_and_only_what_has_to_change_is_changed() {
    let (space, volume) = volume();
    assert_eq!(set(&volume, ALWAYS), (9, 8));
    for (path, want) in [
        ("", (0o2775, 0, 2000)),
        ("a", (0o660, 0, 2000)),
        ("sub", (0o2775, 0, 2000)),
        ("sub/b", (0o660, 0, 2000)),
        ("sub/deep", (0o2770, 0, 2000)),
        ("sub/deep/c", (0o4775, 0, 2000)),
        ("sub/ok", (0o660, 1000, 2000)),
        ("link", (0o777, 0, 2000)),
        ("fifo", (0o660, 0, 2000)),
    ] {
        assert_eq!(of(volume.join(path)), want, "{path}");
    }
    assert_eq!(of(space.path().join("outside")), (0o600, 0, 0));
    assert_eq!(set(&volume, ALWAYS), (9, 0));
}

#[test]
fn one_that_only_reads_gets_no_more() {
    let (_space, volume) = volume();
    set(&volume, Ownership { read_only: true, ..ALWAYS });
    assert_eq!(of(volume.join("a")), (0o640, 0, 2000));
    assert_eq!(of(volume.join("sub/deep")), (0o2750, 0, 2000));
}

#[test]
fn a_root_that_fits_says_that_all_does_where_that_is_asked_for() {
    let (_space, volume) = volume();
    let on_mismatch = Ownership { policy: Policy::OnRootMismatch, ..ALWAYS };
    assert_eq!(set(&volume, on_mismatch), (9, 8));
    fs::set_permissions(volume.join("a"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(set(&volume, on_mismatch), (0, 0));
    assert_eq!(set(&volume, ALWAYS), (9, 1));
    // Any part of what makes it fit.
    for spoil in [
        |volume: &Path| lchown(volume, None, Some(0)).unwrap(),
        |volume: &Path| fs::set_permissions(volume, fs::Permissions::from_mode(0o775)).unwrap(),
        |volume: &Path| fs::set_permissions(volume, fs::Permissions::from_mode(0o2765)).unwrap(),
    ] {
        spoil(&volume);
        assert_eq!(set(&volume, on_mismatch).0, 9);
    }
    assert_eq!(set(&volume, Ownership { group: 2001, ..on_mismatch }), (9, 9));
}

#[test]
fn a_file_that_cannot_be_changed_holds_up_no_other() {
    testkit::mounts::in_own_mounts(|space| {
        let (_space, volume) = volume();
        let target = volume.join("sub/deep");
        fs::create_dir(space.join("ro")).unwrap();
        fs::write(space.join("ro/f"), "").unwrap();
        crate::mount::bind(&space.join("ro"), &target, true).unwrap();
        let seen = AtomicU64::new(0);
        let report = set_group(&volume, ALWAYS, &seen).unwrap();
        assert_eq!((report.seen, report.failed), (9, 2), "{report:?}");
        let first = report.first_failure.unwrap();
        assert_eq!(first.to_string(), format!("changing the group of {}", target.join("f").display()));
        assert!(first.is(Errno::ROFS));
        assert_eq!(of(volume.join("sub/b")), (0o660, 0, 2000));
    });
    assert!(set_group(Path::new("/none"), ALWAYS, &AtomicU64::new(0)).unwrap_err().is(Errno::NOENT));
}

#[test]
fn no_tree_is_too_deep_or_too_wide() {
    testkit::mounts::in_own_mounts(|space| {
        let (_space, volume) = volume_in(space);
        let mut here = rustix::fs::open(&volume, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        // More than are kept in mind, on levels that are kept open and others.
        let wide = |level| if [0, 63, 64, 65, 100].contains(&level) { 10_000 } else { 0 };
        for level in 0..2_000 {
            for name in ["d", "e"] {
                rustix::fs::mkdirat(&here, name, Mode::RWXU).unwrap();
            }
            for i in 0..wide(level) {
                rustix::fs::mkdirat(&here, i.to_string(), Mode::RWXU).unwrap();
            }
            here = rustix::fs::openat(&here, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        let folders = 4_000 + 5 * 10_000;
        assert_eq!(set(&volume, ALWAYS), (9 + folders, 8 + folders));
        assert_eq!(rustix::fs::fstat(&here).unwrap().st_gid, 2000);
        drop(here);
        crate::remove_tree(&volume).unwrap();
    });
}

#[test]
fn of_a_large_tree_nothing_is_left_out() {
    const FOLDERS: u64 = 60;
    const FILES: u64 = 60;
    testkit::mounts::in_own_mounts(|space| {
        let volume = space.join("v");
        for folder in 0..FOLDERS {
            let folder = volume.join(format!("{}/{}/{folder}", folder % 3, folder % 7));
            fs::create_dir_all(&folder).unwrap();
            for file in 0..FILES {
                fs::write(folder.join(file.to_string()), "").unwrap();
            }
        }
        let folders = FOLDERS + 3 * 7 + 3 + 1;
        let all = folders + FOLDERS * FILES;
        // What cannot be changed is told, whoever came upon it; the mount was a folder of the tree before.
        let stuck = volume.join("2/2/2");
        crate::mount::bind(&stuck, &stuck, true).unwrap();
        let report = set_group(&volume, ALWAYS, &AtomicU64::new(0)).unwrap();
        assert_eq!((report.seen, report.changed, report.failed), (all, all, FILES + 1), "{report:?}");
        assert!(report.first_failure.unwrap().path.starts_with(&stuck));
        crate::mount::unmount(&stuck, crate::mount::Unmount::Now).unwrap();
        assert_eq!(set(&volume, ALWAYS), (all, FILES + 1));
        assert_eq!(set(&volume, ALWAYS), (all, 0));
        assert_eq!(of(volume), (0o2775, 0, 2000));
    });
}
