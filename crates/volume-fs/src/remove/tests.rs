use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;
use crate::mount::{Tmpfs, Unmount, bind, make_point, tmpfs, unmount};
use testkit::mounts::in_own_mounts;

fn tree(space: &Path) -> PathBuf {
    let tree = space.join("tree");
    fs::create_dir_all(tree.join("a/b/c")).unwrap();
    fs::create_dir_all(tree.join("empty")).unwrap();
    fs::write(tree.join("a/b/f"), "1").unwrap();
    tree
}

#[test]
fn a_tree_goes_and_what_its_links_lead_to_stays() {
    let space = tempfile::tempdir().unwrap();
    let tree = tree(space.path());
    fs::create_dir(space.path().join("kept")).unwrap();
    fs::write(space.path().join("kept/f"), "1").unwrap();
    symlink("../kept", tree.join("relative")).unwrap();
    symlink(space.path().join("kept"), tree.join("a/absolute")).unwrap();
    rustix::fs::mkfifoat(CWD, tree.join("fifo"), Mode::RWXU).unwrap();
    for _ in 0..2 {
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
    assert_eq!(fs::read(space.path().join("kept/f")).unwrap(), b"1");
    // A file and a link go themselves; below what is not there is nothing.
    symlink("kept", space.path().join("link")).unwrap();
    remove_tree(&space.path().join("link")).unwrap();
    remove_tree(&space.path().join("kept/f")).unwrap();
    remove_tree(&space.path().join("none/deep")).unwrap();
    assert_eq!(fs::read_dir(space.path().join("kept")).unwrap().count(), 0);
}

#[test]
fn nothing_is_removed_where_something_is_mounted() {
    in_own_mounts(|space| {
        let tree = tree(space);
        let precious = space.join("precious");
        fs::create_dir(&precious).unwrap();
        fs::write(precious.join("f"), "1").unwrap();
        // Of the same file system, so that the number of the device does not tell.
        let points = [(precious.clone(), tree.join("a/b/c")), (precious.join("f"), tree.join("a/b/file"))];
        for (what, point) in points {
            make_point(&point, what.is_dir()).unwrap();
            bind(&what, &point, false).unwrap();
            // By way of a link above, too.
            let alias = space.join("alias");
            symlink(space, &alias).unwrap();
            for path in [tree.clone(), tree.join("a/b"), point.clone(), alias.join("tree")] {
                let error = remove_tree(&path).unwrap_err();
                assert_eq!(error.source.kind(), io::ErrorKind::ResourceBusy, "{error:?}");
                assert_eq!(error.source.to_string(), format!("{} is a mount point", point.display()));
            }
            assert!(tree.join("empty").exists() && tree.join("a/b/f").exists());
            // Without the look at the table: what is mounted after it is not entered.
            let folder = rustix::fs::open(&tree, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
            let mut remover = Remover { failed: None };
            walk(folder, &tree, ResolveFlags::NO_XDEV, &mut remover).unwrap_err();
            let error = remover.failed.unwrap();
            assert_eq!(error.source.kind(), io::ErrorKind::ResourceBusy, "{error:?}");
            // Nor at the path itself.
            let above = rustix::fs::open(point.parent().unwrap(), OFlags::PATH, Mode::empty()).unwrap();
            let name = CString::new(point.file_name().unwrap().as_bytes()).unwrap();
            let error = remove_in(above.as_fd(), &name, &point).unwrap_err();
            assert_eq!(error.source.kind(), io::ErrorKind::ResourceBusy, "{error:?}");
            drop(above);
            assert_eq!(fs::read(precious.join("f")).unwrap(), b"1");
            unmount(&point, Unmount::Now).unwrap();
            remove_tree(&tree).unwrap();
            fs::remove_file(alias).unwrap();
            self::tree(space);
        }
        let other = tree.join("a/b/c");
        tmpfs(&other, Tmpfs::default()).unwrap();
        assert!(remove_tree(&tree).is_err());
    });
}

#[test]
fn no_tree_is_too_deep_or_too_wide() {
    const DEEP: usize = 2_000;
    // More on each of some levels than are kept in mind, also where the folder above is not kept open.
    const WIDE: usize = 10_000;
    in_own_mounts(|space| {
        let tree = space.join("tree");
        fs::create_dir(&tree).unwrap();
        // Deeper than a path can say, with a second folder on each level.
        let mut here = rustix::fs::open(&tree, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for level in 0..DEEP {
            for name in ["d", "e"] {
                rustix::fs::mkdirat(&here, name, Mode::RWXU).unwrap();
            }
            for i in 0..if [0, 63, 64, 100].contains(&level) { WIDE } else { 0 } {
                rustix::fs::mkdirat(&here, i.to_string(), Mode::RWXU).unwrap();
            }
            here = rustix::fs::openat(&here, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        drop(here);
        for i in 0..3_000 {
            fs::write(tree.join(format!("a file with a name of some length {i}")), "").unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    });
}

#[test]
fn what_cannot_be_removed_is_named() {
    let space = tempfile::tempdir().unwrap();
    let error = remove_tree(&space.path().join("..")).unwrap_err();
    assert_eq!(error.source.kind(), io::ErrorKind::InvalidInput);
    in_own_mounts(|space| {
        let root = space.join("ro");
        fs::create_dir(&root).unwrap();
        tmpfs(&root, Tmpfs::default()).unwrap();
        let tree = tree(&root);
        crate::mount::remount_read_only(&root).unwrap();
        let error = remove_tree(&tree).unwrap_err();
        assert!(error.is(Errno::ROFS), "{error:?}");
        assert!(error.path.starts_with(&tree), "{error}");
    });
}
