use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// A volume beside something that nobody may reach.
fn space() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let space = tempfile::tempdir().unwrap();
    let (volume, outside) = (space.path().join("volume"), space.path().join("outside"));
    fs::create_dir_all(volume.join("dir")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "s").unwrap();
    fs::write(volume.join("dir/file"), "f").unwrap();
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o3770)).unwrap();
    (space, volume, outside)
}

fn inode(file: &OwnedFd) -> u64 {
    rustix::fs::fstat(file).unwrap().st_ino
}

#[test]
fn links_are_followed_below_and_not_out() {
    let (_space, volume, outside) = space();
    symlink("dir", volume.join("in")).unwrap();
    symlink("in/../dir/file", volume.join("turns")).unwrap();
    symlink("../outside", volume.join("up")).unwrap();
    symlink(&outside, volume.join("absolute")).unwrap();
    symlink(volume.join("dir"), volume.join("absolute-in")).unwrap();
    symlink(volume.join("in/../absolute-in"), volume.join("dir/absolute-twice")).unwrap();
    symlink(volume.join("../outside"), volume.join("absolute-out")).unwrap();
    symlink(volume.join("absolute-loop"), volume.join("absolute-loop")).unwrap();
    symlink(volume.join("absolute"), volume.join("absolute-absolute")).unwrap();
    symlink(volume.join("nowhere"), volume.join("absolute-dangling")).unwrap();
    symlink(&volume, volume.join("itself")).unwrap();
    symlink("nowhere", volume.join("dangling")).unwrap();
    symlink("loop", volume.join("loop")).unwrap();
    symlink("/proc/self/root", volume.join("magic")).unwrap();
    let root = Root::open(&volume).unwrap();
    let file = fs::metadata(volume.join("dir/file")).unwrap().ino();
    let found = [
        "dir/file",
        "in/file",
        "turns",
        "./dir/./file",
        "absolute-in/file",
        "dir/absolute-twice/file",
        "itself/itself/absolute-in/absolute-twice/file",
    ];
    for path in found {
        assert_eq!(inode(&root.open_below(Path::new(path)).unwrap()), file, "{path}");
    }
    assert_eq!(inode(&root.open_below(Path::new("")).unwrap()), fs::metadata(&volume).unwrap().ino());
    for (path, errno) in [
        ("up", Errno::XDEV),
        ("up/secret", Errno::XDEV),
        ("absolute", Errno::XDEV),
        ("absolute-out", Errno::XDEV),
        ("absolute-out/secret", Errno::XDEV),
        ("absolute-absolute/secret", Errno::XDEV),
        ("absolute-loop", Errno::LOOP),
        ("absolute-dangling", Errno::NOENT),
        ("itself/none", Errno::NOENT),
        ("magic/etc", Errno::XDEV),
        ("loop", Errno::LOOP),
        ("dangling", Errno::NOENT),
        ("dir/file/x", Errno::NOTDIR),
        ("none", Errno::NOENT),
    ] {
        let error = root.open_below(Path::new(path)).unwrap_err();
        assert!(error.is(errno), "{path}: {error:?}");
        if errno != Errno::NOENT {
            let error = root.make_folders(Path::new(path), None).unwrap_err();
            assert!(error.is(errno), "{path}: {error:?}");
        }
    }
    for path in ["..", "dir/..", "dir/../../outside", "/etc"] {
        for opened in [root.open_below(Path::new(path)), root.make_folders(Path::new(path), None)] {
            assert_eq!(opened.unwrap_err().source.kind(), io::ErrorKind::InvalidInput, "{path}");
        }
    }
    // Nothing is made behind a link that leads nowhere.
    assert!(root.make_folders(Path::new("dangling/x"), None).is_err());
    assert!(root.make_folders(Path::new("absolute-dangling/x"), None).is_err());
    // By way of another name of the folder, and with folders made behind the link.
    let other = volume.with_file_name("other");
    symlink(&volume, &other).unwrap();
    let made = Root::open(&other).unwrap().make_folders(Path::new("absolute-in/a/b"), None).unwrap();
    assert_eq!(inode(&made), fs::metadata(volume.join("dir/a/b")).unwrap().ino());
    assert!(!volume.join("nowhere").exists() && !outside.join("x").exists());
}

#[test]
fn folders_that_are_missing_get_the_mode_of_the_volume_and_others_keep_theirs() {
    let (_space, volume, _) = space();
    symlink("dir", volume.join("in")).unwrap();
    fs::set_permissions(volume.join("dir"), fs::Permissions::from_mode(0o700)).unwrap();
    let root = Root::open(&volume).unwrap();
    let made = root.make_folders(Path::new("in/a/b"), None).unwrap();
    let mode = |path: &str| fs::metadata(volume.join(path)).unwrap().mode() & 0o7777;
    assert_eq!([mode("dir"), mode("dir/a"), mode("dir/a/b")], [0o700, 0o3770, 0o3770]);
    assert_eq!(inode(&made), fs::metadata(volume.join("dir/a/b")).unwrap().ino());
    root.make_folders(Path::new("c"), Some(0o755)).unwrap();
    assert_eq!(mode("c"), 0o755);
    // A file at the end is there already.
    assert_eq!(
        inode(&root.make_folders(Path::new("dir/file"), None).unwrap()),
        fs::metadata(volume.join("dir/file")).unwrap().ino()
    );
}

#[test]
fn a_folder_that_becomes_a_link_meanwhile_leads_nowhere_else() {
    let (_space, volume, outside) = space();
    // What takes the folder's place from time to time.
    symlink(&outside, volume.join("absolute")).unwrap();
    symlink("../outside", volume.join("relative")).unwrap();
    // So that one goes through links oneself, too.
    symlink(volume.join("dir"), volume.join("way")).unwrap();
    let root = Root::open(&volume).unwrap();
    let stop = AtomicBool::new(false);
    let outside_before = fs::metadata(&outside).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let folder = rustix::fs::open(&volume, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
            let swap = |a, b| {
                rustix::fs::renameat_with(&folder, a, &folder, b, rustix::fs::RenameFlags::EXCHANGE).unwrap();
            };
            while !stop.load(Ordering::Relaxed) {
                for link in ["absolute", "relative"] {
                    swap("dir", link);
                    swap("dir", link);
                }
            }
        });
        let (mut below, mut refused) = (0, 0);
        for i in 0..20_000 {
            let path = PathBuf::from(format!("{}/sub{}", ["dir", "way"][i % 2], i % 7));
            match root.make_folders(&path, None) {
                Ok(_) => below += 1,
                Err(_) => refused += 1,
            }
            if let Ok(file) = root.open_below(Path::new(["dir/secret", "way/secret"][i % 2])) {
                stop.store(true, Ordering::Relaxed);
                panic!("opened {}", inode(&file));
            }
            if i > 2_000 && below > 100 && refused > 100 {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(below > 0, "{refused} refused");
    });
    let outside_after = fs::metadata(&outside).unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(
        (outside_before.mode(), outside_before.mtime_nsec()),
        (outside_after.mode(), outside_after.mtime_nsec())
    );
}

#[test]
fn only_a_regular_file_below_is_read_and_only_if_it_is_not_too_large() {
    let (_space, volume, outside) = space();
    symlink("dir/file", volume.join("link")).unwrap();
    symlink(outside.join("secret"), volume.join("out")).unwrap();
    let pipe = volume.join("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let root = Root::open(&volume).unwrap();
    for path in ["dir/file", "link"] {
        assert_eq!(root.read(Path::new(path), 1).unwrap(), b"f", "{path}");
    }
    for (path, most, kind) in [
        ("none", 1, io::ErrorKind::NotFound),
        ("out", 1, io::ErrorKind::CrossesDevices),
        // Whoever opens it waits for the other end.
        ("pipe", 1, io::ErrorKind::InvalidData),
        ("dir", 1, io::ErrorKind::InvalidData),
        ("dir/file", 0, io::ErrorKind::InvalidData),
        ("../outside/secret", 1, io::ErrorKind::InvalidInput),
    ] {
        assert_eq!(root.read(Path::new(path), most).unwrap_err().source.kind(), kind, "{path}");
    }
}
