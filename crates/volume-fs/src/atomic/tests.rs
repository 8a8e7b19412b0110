use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::mount::{Tmpfs, tmpfs};
use testkit::mounts::in_own_mounts;

mod killed;

fn content<'a>(path: &'a str, data: &'a str, mode: u32) -> Content<'a> {
    Content { path, data: data.as_bytes(), mode, owner: None }
}

/// What stands below `folder`: path, kind, mode, owner and group, the date of the writer's folder as `$TS`.
fn tree(folder: &Path) -> Vec<String> {
    fn add(folder: &Path, below: &Path, date: &str, all: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder.join(below)).unwrap() {
            let name = entry.unwrap().file_name();
            let below = below.join(name);
            let found = std::fs::symlink_metadata(folder.join(&below)).unwrap();
            let what = if found.is_symlink() {
                format!("-> {}", std::fs::read_link(folder.join(&below)).unwrap().display())
            } else {
                format!("{:o}", found.mode() & 0o7777)
            };
            let line = format!("{} {what} {}:{}", below.display(), found.uid(), found.gid());
            all.push(line.replace(date, "..$TS"));
            if found.is_dir() {
                add(folder, &below, date, all);
            }
        }
    }
    let date = std::fs::read_link(folder.join(DATA)).unwrap_or_else(|_| PathBuf::from("none"));
    let mut all = Vec::new();
    add(folder, Path::new(""), date.to_str().unwrap(), &mut all);
    all.sort();
    all
}

#[test]
fn the_layout_is_the_kubelets() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    let files = [
        content("c.sh", "three", 0o755),
        content("sub/b", "two", 0o600),
        content("sub/dir/a.txt", "one", 0o400),
        Content { owner: Some(1000), ..content("token", "jwt", 0o600) },
    ];
    assert_eq!(write(folder.path(), files, None).unwrap(), Written::Replaced);
    let want = [
        "..$TS 755 0:0",
        "..$TS/c.sh 755 0:0",
        "..$TS/sub 755 0:0",
        "..$TS/sub/b 600 0:0",
        "..$TS/sub/dir 755 0:0",
        "..$TS/sub/dir/a.txt 400 0:0",
        "..$TS/token 600 1000:0",
        "..data -> ..$TS 0:0",
        "c.sh -> ..data/c.sh 0:0",
        "sub -> ..data/sub 0:0",
        "token -> ..data/token 1000:0",
    ];
    assert_eq!(tree(folder.path()), want);
    let date = std::fs::read_link(folder.path().join(DATA)).unwrap();
    let (date, number) = date.to_str().unwrap().rsplit_once('.').unwrap();
    let shape: String = date.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "..0000_00_00_00_00_00", "{date}");
    number.parse::<u32>().unwrap();

    // The group can read all, what is new in the folder is its, too, and the links are its.
    assert_eq!(write(folder.path(), files, Some(2000)).unwrap(), Written::Replaced);
    let want = [
        "..$TS 2755 0:2000",
        "..$TS/c.sh 755 0:2000",
        "..$TS/sub 2755 0:2000",
        "..$TS/sub/b 640 0:2000",
        "..$TS/sub/dir 2755 0:2000",
        "..$TS/sub/dir/a.txt 440 0:2000",
        "..$TS/token 640 1000:2000",
        "..data -> ..$TS 0:2000",
    ];
    assert_eq!(tree(folder.path())[..8], want);
    assert_eq!(write(folder.path(), files, Some(2000)).unwrap(), Written::Unchanged);
    let root = std::fs::metadata(folder.path()).unwrap();
    assert_eq!((root.mode() & 0o7777, root.gid()), (0o3777, 2000));
}

#[test]
fn nothing_is_written_without_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let base = [content("a", "1", 0o644), content("d/b", "2", 0o644)];
    write(folder, base, None).unwrap();
    let date = || std::fs::read_link(folder.join(DATA)).unwrap();
    let first = date();
    assert_eq!(write(folder, base, None).unwrap(), Written::Unchanged);
    assert_eq!(date(), first);

    // Links that are missing come back, and nothing else happens.
    std::fs::remove_file(folder.join("a")).unwrap();
    assert_eq!(write(folder, base, None).unwrap(), Written::Unchanged);
    assert_eq!(std::fs::read(folder.join("a")).unwrap(), b"1");

    for (case, files) in [
        ("content", vec![content("a", "2", 0o644), content("d/b", "2", 0o644)]),
        ("longer", vec![content("a", "2 ", 0o644), content("d/b", "2", 0o644)]),
        ("mode", vec![content("a", "2 ", 0o600), content("d/b", "2", 0o644)]),
        ("owner", vec![Content { owner: Some(7), ..content("a", "2 ", 0o600) }, content("d/b", "2", 0o644)]),
        ("a key less", vec![content("d/b", "2", 0o644)]),
        ("a folder becomes a file", vec![content("d", "2", 0o644)]),
        ("and a folder again", vec![content("d/d/d", "2", 0o644)]),
        ("empty", vec![]),
    ] {
        let before = date();
        assert_eq!(write(folder, files.clone(), None).unwrap(), Written::Replaced, "{case}");
        assert_ne!(date(), before, "{case}");
        assert_eq!(write(folder, files, None).unwrap(), Written::Unchanged, "{case}");
    }
    assert_eq!(tree(folder), ["..$TS 755 0:0", "..data -> ..$TS 0:0"]);

    // What somebody did to the files is undone.
    write(folder, base, None).unwrap();
    std::fs::write(folder.join("d/more"), "x").unwrap();
    assert_eq!(write(folder, base, None).unwrap(), Written::Replaced);
    std::fs::remove_file(folder.join("..data/a")).unwrap();
    assert_eq!(write(folder, base, None).unwrap(), Written::Replaced);
}

#[test]
fn what_others_have_in_the_folder_stays_and_what_was_cut_off_goes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, [content("old", "1", 0o644)], None).unwrap();
    std::fs::create_dir_all(folder.join("mounted/here")).unwrap();
    std::os::unix::fs::symlink("elsewhere", folder.join("link")).unwrap();
    std::fs::create_dir_all(folder.join("..2020_01_01_00_00_00.1/sub")).unwrap();
    std::fs::write(folder.join("..2020_01_01_00_00_00.1/sub/f"), "x").unwrap();
    std::os::unix::fs::symlink("..2020_01_01_00_00_00.1", folder.join(NEW_DATA)).unwrap();
    // A file whose link would stand where another volume is to be mounted.
    write(folder, [content("mounted/f", "1", 0o644), content("new", "2", 0o644)], None).unwrap();
    let names: Vec<_> = tree(folder).into_iter().filter(|line| !line.starts_with("..$TS")).collect();
    let want = [
        "..data -> ..$TS 0:0",
        "link -> elsewhere 0:0",
        "mounted 755 0:0",
        "mounted/here 755 0:0",
        "new -> ..data/new 0:0",
    ];
    assert_eq!(names, want);
}

#[test]
fn a_path_that_leaves_the_folder_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    for path in ["", "/a", "../a", "a/../../b", "a//b", "./a", "a/", "..data", "..x/y"] {
        let error = write(folder.path(), [content("ok", "1", 0o644), content(path, "1", 0o644)], None);
        assert_eq!(error.unwrap_err().source.kind(), io::ErrorKind::InvalidInput, "{path}");
    }
    assert_eq!(tree(folder.path()), [""; 0]);
}

#[test]
fn as_much_as_an_object_may_hold_is_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (key, name) = ("k".repeat(253), "n".repeat(255));
    let deep = ["d"; 100].join("/");
    let bytes: Vec<u8> = (0..(1 << 20) + 1).map(|i: u32| i.to_le_bytes()[i as usize % 3]).collect();
    let file = |path, data, mode| Content { path, data, mode, owner: None };
    let files = [
        file(key.as_str(), bytes.as_slice(), 0o000),
        file(&name, b"\0\xff\n", 0o777),
        file(&deep, b"", 0o644),
    ];
    assert_eq!(write(folder.path(), files, None).unwrap(), Written::Replaced);
    assert_eq!(write(folder.path(), files, None).unwrap(), Written::Unchanged);
    for file in files {
        let path = folder.path().join(file.path);
        assert!(std::fs::read(&path).unwrap() == file.data, "{}", file.path);
        assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o7777, file.mode);
    }
    // The last byte counts.
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    let [_, b, c] = files;
    assert_eq!(write(folder.path(), [file(&key, &other, 0), b, c], None).unwrap(), Written::Replaced);
    let longer = "n".repeat(256);
    let error = write(folder.path(), [file(&longer, b"", 0)], None).unwrap_err();
    assert!(error.is(Errno::NAMETOOLONG), "{error:?}");
    assert!(std::fs::read(folder.path().join(&key)).unwrap() == other);
}

#[test]
fn a_full_file_system_keeps_the_old_content() {
    in_own_mounts(|folder| {
        let volume = folder.join("v");
        std::fs::create_dir(&volume).unwrap();
        tmpfs(&volume, Tmpfs { size: Some(256 << 10) }).unwrap();
        let old = "o".repeat(100 << 10);
        write(&volume, [content("a", &old, 0o644), content("b", "1", 0o644)], None).unwrap();
        let before = tree(&volume);
        let big = "n".repeat(200 << 10);
        let error = write(&volume, [content("0", "x", 0o644), content("a", &big, 0o644)], None).unwrap_err();
        assert!(error.is(Errno::NOSPC), "{error:?}");
        assert_eq!(error.to_string(), format!("writing {}", volume.join("a").display()));
        assert_eq!(tree(&volume), before);
        assert_eq!(std::fs::read_to_string(volume.join("a")).unwrap(), old);
        // What a writer left that was killed there is no hindrance.
        std::fs::create_dir(volume.join("..2020_01_01_00_00_00.1")).unwrap();
        std::fs::write(volume.join("..2020_01_01_00_00_00.1/a"), vec![0; 100 << 10]).unwrap();
        let new = "n".repeat(100 << 10);
        write(&volume, [content("a", &new, 0o644)], None).unwrap();
        assert_eq!(std::fs::read_to_string(volume.join("a")).unwrap(), new);
    });
}

#[test]
fn a_read_only_file_system_is_told_and_nothing_is_lost() {
    in_own_mounts(|folder| {
        let volume = folder.join("v");
        std::fs::create_dir(&volume).unwrap();
        crate::mount::bind(&volume, &volume, false).unwrap();
        write(&volume, [content("a", "1", 0o644)], None).unwrap();
        crate::mount::remount_read_only(&volume).unwrap();
        assert!(write(&volume, [content("a", "2", 0o644)], None).unwrap_err().is(Errno::ROFS));
        assert_eq!(std::fs::read(volume.join("a")).unwrap(), b"1");
    });
}

/// Some files: names that are folders in one set may be files in another.
fn sets() -> impl Strategy<Value = Vec<BTreeMap<String, (String, u32)>>> {
    let name = prop::sample::select(vec!["a", "b", "c", ".d"]);
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let mode = prop::sample::select(vec![0o644, 0o600, 0o000, 0o777]);
    let set = prop::collection::btree_map(path, ("[xy]{0,3}", mode), 0..6).prop_map(|mut set| {
        let paths: Vec<_> = set.keys().cloned().collect();
        // Nothing stands below a file.
        set.retain(|path, _| !paths.iter().any(|file| path.starts_with(&format!("{file}/"))));
        set
    });
    prop::collection::vec(set, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn after_a_write_users_see_just_the_files(sets in sets()) {
        let folder = tempfile::tempdir().unwrap();
        for set in sets {
            let files = set.iter().map(|(path, (data, mode))| content(path, data, *mode));
            write(folder.path(), files, None).unwrap();
            for (path, (data, mode)) in &set {
                let path = folder.path().join(path);
                prop_assert_eq!(&std::fs::read_to_string(&path).unwrap(), data);
                prop_assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, *mode);
            }
            let tops: std::collections::BTreeSet<_> = set.keys().map(|path| path.split('/').next().unwrap()).collect();
            // The links, `..data` and the folder with the date.
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), tops.len() + 2);
            let files = tree(folder.path()).iter().filter(|line| line.starts_with("..$TS/")).count();
            let folders: std::collections::BTreeSet<_> = set
                .keys()
                .flat_map(|path| path.match_indices('/').map(|(at, _)| &path[..at]))
                .collect();
            prop_assert_eq!(files, set.len() + folders.len());
        }
    }
}

#[test]
fn what_lies_in_memory_is_not_on_disk() {
    in_own_mounts(|space| {
        let is_on_disk = |path: &Path| is_on_disk(std::fs::File::open(path).unwrap().as_fd()).unwrap();
        assert!(!is_on_disk(space));
        assert!(is_on_disk(Path::new("/proc")));
    });
}
