//! The file source as its users see it: real files, real notifications.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube_model::core::Pod;
use podsource::SourceState;
use podsource::file::{Settings, spawn};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;
use tokio::sync::watch::{Receiver, channel};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// So long that only notifications can be why a test passes.
const NEVER: Duration = Duration::from_secs(3600);

struct Source {
    states: Receiver<Arc<SourceState>>,
    _cancel: DropGuard,
}

impl Source {
    fn start(path: &Path, check_frequency: Duration) -> Self {
        let check_frequency = channel(check_frequency).1;
        Self::start_with(Settings { check_frequency, ..Settings::new(path, "node1") })
    }

    fn start_with(settings: Settings) -> Self {
        let cancel = CancellationToken::new();
        Self { states: spawn(settings, cancel.clone()), _cancel: cancel.drop_guard() }
    }

    /// Waits for a state, at most as long as a test may take.
    async fn until(&mut self, what: &str, is: impl FnMut(&Arc<SourceState>) -> bool) -> Arc<SourceState> {
        let found = timeout(Duration::from_secs(20), self.states.wait_for(is)).await;
        if let Ok(state) = found {
            return Arc::clone(&state.unwrap());
        }
        drop(found);
        panic!("no state came with {what}, the last one is {:?}", self.states.borrow())
    }

    /// Waits for a state without problems and with pods of exactly these images.
    async fn until_images(&mut self, expected: &[&str]) -> Arc<SourceState> {
        let what = format!("{expected:?} and no problem");
        self.until(&what, |state| state.seen && state.problems.is_empty() && images(state) == expected).await
    }
}

#[tokio::test]
async fn a_file_that_is_removed_and_written_again_at_once_is_another_pod() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("web.yaml");
    fs::write(&path, manifest("web", "x")).unwrap();
    let mut source = Source::start(dir.path(), NEVER);
    let first = source.until_images(&["x"]).await.pods[0].clone();
    let seen = |pod: &Pod| pod.metadata.annotations.as_ref().unwrap()["kubernetes.io/config.seen"].clone();
    for _ in 0..3 {
        fs::remove_file(&path).unwrap();
        fs::write(&path, manifest("web", "x")).unwrap();
        let before = seen(&source.states.borrow().pods[0]);
        let state = source.until("the pod once more", |s| s.pods.iter().any(|pod| seen(pod) != before)).await;
        assert_eq!(state.pods[0].metadata.uid, first.metadata.uid);
    }
    // Written another way it stays the same.
    let last = source.states.borrow().pods[0].clone();
    fs::write(dir.path().join(".new"), manifest("web", "x")).unwrap();
    fs::rename(dir.path().join(".new"), &path).unwrap();
    fs::rename(&path, dir.path().join(".old")).unwrap();
    fs::write(&path, manifest("web", "x")).unwrap();
    fs::write(dir.path().join("other.yaml"), manifest("other", "z")).unwrap();
    let state = source.until_images(&["z", "x"]).await;
    assert!(Arc::ptr_eq(&state.pods[1], &last));
}

fn images(state: &SourceState) -> Vec<&str> {
    state.pods.iter().map(|pod| image(pod)).collect()
}

fn image(pod: &Pod) -> &str {
    pod.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap()
}

fn manifest(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  containers:\n  - name: c\n    image: {image}\n"
    )
}

fn folder() -> (TempDir, std::path::PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("m");
    fs::create_dir(&path).unwrap();
    (root, path)
}

#[tokio::test]
async fn the_first_set_comes_at_once_even_if_it_is_empty() {
    let (_root, path) = folder();
    let mut source = Source::start(&path, NEVER);
    assert!(!source.states.borrow().seen);
    let state = source.until_images(&[]).await;
    assert_eq!((state.source, state.read_at.is_some()), ("file", true));
}

#[tokio::test]
async fn files_that_come_change_and_go_are_noticed() {
    let (_root, path) = folder();
    let mut source = Source::start(&path, NEVER);
    source.until_images(&[]).await;
    fs::write(path.join("a"), manifest("a", "one")).unwrap();
    let first = source.until_images(&["one"]).await;
    fs::write(path.join("b"), manifest("b", "two")).unwrap();
    let second = source.until_images(&["one", "two"]).await;
    assert!(Arc::ptr_eq(&first.pods[0], &second.pods[0]), "an unchanged pod is the same");
    fs::write(path.join("a"), manifest("a", "three")).unwrap();
    source.until_images(&["three", "two"]).await;
    fs::remove_file(path.join("a")).unwrap();
    source.until_images(&["two"]).await;
    fs::rename(path.join("b"), path.join(".b")).unwrap();
    source.until_images(&[]).await;
}

#[tokio::test]
async fn a_file_that_is_replaced_by_rename_never_shows_half() {
    let (_root, path) = folder();
    fs::write(path.join("a"), manifest("a", "one")).unwrap();
    let mut source = Source::start(&path, NEVER);
    source.until_images(&["one"]).await;
    fs::write(path.join(".a.swp"), manifest("a", "two")).unwrap();
    fs::rename(path.join(".a.swp"), path.join("a")).unwrap();
    source
        .until("the new image", |state| {
            assert!(state.problems.is_empty());
            images(state) == ["two"]
        })
        .await;
}

#[tokio::test]
async fn a_file_that_is_truncated_and_written_slowly_keeps_its_pod_until_it_is_whole() {
    let (_root, path) = folder();
    fs::write(path.join("a"), manifest("a", "one")).unwrap();
    let mut source = Source::start(&path, NEVER);
    let first = source.until_images(&["one"]).await;
    let mut file = fs::File::create(path.join("a")).unwrap();
    let text = manifest("a", "two");
    let (half, rest) = text.split_at(text.len() / 2);
    file.write_all(half.as_bytes()).unwrap();
    let state = source.until("a problem", |state| !state.problems.is_empty()).await;
    assert!(Arc::ptr_eq(&state.pods[0], &first.pods[0]));
    assert_eq!(state.problems[0].path, path.join("a"));
    file.write_all(rest.as_bytes()).unwrap();
    drop(file);
    source.until_images(&["two"]).await;
}

#[tokio::test]
async fn a_folder_that_comes_later_and_is_replaced_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("m");
    let mut source = Source::start(&path, NEVER);
    source.until("a problem", |state| !state.seen && state.problems.len() == 1).await;
    let other = root.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("a"), manifest("a", "one")).unwrap();
    fs::rename(&other, &path).unwrap();
    let first = source.until_images(&["one"]).await;

    fs::remove_dir_all(&path).unwrap();
    // What is seen while the folder is being emptied is a removed file; a folder that vanishes whole is not.
    source.until("the folder's problem", |state| !state.problems.is_empty()).await;
    fs::create_dir(&path).unwrap();
    fs::write(path.join("a"), manifest("a", "one")).unwrap();
    source.until_images(&["one"]).await;
    fs::write(path.join("a"), manifest("a", "two")).unwrap();
    let last = source.until_images(&["two"]).await;
    assert_ne!(first.pods[0].metadata.uid, last.pods[0].metadata.uid);
}

#[tokio::test]
async fn a_folder_that_is_moved_away_keeps_its_pods() {
    let (root, path) = folder();
    fs::write(path.join("a"), manifest("a", "one")).unwrap();
    let mut source = Source::start(&path, NEVER);
    let first = source.until_images(&["one"]).await;
    fs::rename(&path, root.path().join("aside")).unwrap();
    let gone = source.until("the folder's problem", |state| !state.problems.is_empty()).await;
    assert!(Arc::ptr_eq(&first.pods[0], &gone.pods[0]));
}

#[tokio::test]
async fn a_folder_below_folders_that_come_later_is_noticed_as_they_come() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("etc/kubernetes/manifests");
    let mut source = Source::start(&path, NEVER);
    source.until("a problem", |state| !state.seen && state.problems.len() == 1).await;
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("a"), manifest("a", "one")).unwrap();
    source.until_images(&["one"]).await;

    // The folder above it is moved away and back.
    let (parent, aside) = (root.path().join("etc/kubernetes"), root.path().join("aside"));
    fs::rename(&parent, &aside).unwrap();
    source.until("a problem", |state| !state.problems.is_empty() && images(state) == ["one"]).await;
    fs::write(aside.join("manifests/a"), manifest("a", "two")).unwrap();
    fs::rename(&aside, &parent).unwrap();
    source.until_images(&["two"]).await;
}

/// Writes a version as the kubelet writes the volume of a ConfigMap: the files in a new folder, `..data` swapped to
/// it, symlinks for the files that are new, and last the symlinks removed whose files are gone.
fn write_config_map(folder: &Path, version: &str, files: &[(&str, String)]) {
    let data = folder.join(format!("..{version}"));
    fs::create_dir(&data).unwrap();
    for (name, text) in files {
        fs::write(data.join(name), text).unwrap();
    }
    let old = fs::read_link(folder.join("..data"));
    symlink(data.file_name().unwrap(), folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    for (name, _) in files {
        if folder.join(name).symlink_metadata().is_err() {
            symlink(format!("..data/{name}"), folder.join(name)).unwrap();
        }
    }
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_symlink() && !path.exists() {
            fs::remove_file(path).unwrap();
        }
    }
    if let Ok(old) = old {
        fs::remove_dir_all(folder.join(old)).unwrap();
    }
}

#[tokio::test]
async fn a_mounted_config_map_is_noticed_when_its_data_is_swapped() {
    let (root, path) = folder();
    write_config_map(&path, "1", &[("a", manifest("a", "one")), ("b", manifest("b", "two"))]);
    let mut in_folder = Source::start(&path, NEVER);
    let mut one_file = Source::start(&path.join("a"), NEVER);
    let first = in_folder.until_images(&["one", "two"]).await;
    one_file.until_images(&["one"]).await;
    write_config_map(&path, "2", &[("a", manifest("a", "three")), ("b", manifest("b", "two"))]);
    let second = in_folder.until_images(&["three", "two"]).await;
    one_file.until_images(&["three"]).await;
    assert!(Arc::ptr_eq(&first.pods[1], &second.pods[1]), "an unchanged pod is the same");
    write_config_map(&path, "3", &[("a", manifest("a", "four")), ("c", manifest("c", "five"))]);
    in_folder.until_images(&["four", "five"]).await;
    one_file.until_images(&["four"]).await;
    drop(root);
}

#[tokio::test]
async fn one_file_is_followed_in_its_folder() {
    let (root, path) = folder();
    let file = path.join("one.yaml");
    fs::write(&file, manifest("a", "one")).unwrap();
    let mut source = Source::start(&file, NEVER);
    source.until_images(&["one"]).await;
    fs::write(&file, manifest("a", "two")).unwrap();
    source.until_images(&["two"]).await;
    fs::write(path.join("new"), manifest("a", "three")).unwrap();
    fs::rename(path.join("new"), &file).unwrap();
    source.until_images(&["three"]).await;
    fs::remove_file(&file).unwrap();
    source.until("no pod", |state| state.pods.is_empty()).await;
    fs::write(&file, manifest("a", "four")).unwrap();
    source.until_images(&["four"]).await;
    drop(root);
}

#[tokio::test]
async fn what_no_notification_tells_is_found_by_the_check() {
    let (root, path) = folder();
    let elsewhere = root.path().join("elsewhere/deep");
    fs::create_dir_all(&elsewhere).unwrap();
    fs::write(elsewhere.join("a"), manifest("a", "one")).unwrap();
    symlink(elsewhere.join("a"), path.join("a")).unwrap();
    let mut source = Source::start(&path, Duration::from_millis(20));
    source.until_images(&["one"]).await;
    fs::write(elsewhere.join("a"), manifest("a", "two")).unwrap();
    source.until_images(&["two"]).await;
}

/// A file system of its own, for as long as this lives. Needs root.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, size: &str) -> Self {
        let done = mount("tmpfs", at, "tmpfs", MountFlags::empty(), Some(&*CString::new(size).unwrap()));
        done.expect("this test mounts a tmpfs, for which it must be root");
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The second one has nothing to do unless the test did it already.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_file_system_that_is_mounted_over_the_folder_is_found_by_the_check_and_then_watched() {
    let (_root, path) = folder();
    fs::write(path.join("a"), manifest("a", "below")).unwrap();
    let check_frequency = channel(NEVER).0;
    let mut source = Source::start_with(Settings {
        check_frequency: check_frequency.subscribe(),
        ..Settings::new(&path, "node1")
    });
    source.until_images(&["below"]).await;
    let mounted = Mounted::tmpfs(&path, "size=64k");
    fs::write(path.join("a"), manifest("a", "above")).unwrap();
    // Nothing tells of a mount.
    check_frequency.send_replace(NEVER / 2);
    source.until_images(&["above"]).await;
    fs::write(path.join("a"), manifest("a", "watched")).unwrap();
    source.until_images(&["watched"]).await;
    drop(mounted);
    source.until_images(&["below"]).await;
}

#[tokio::test]
async fn a_full_disk_keeps_no_pod_from_running_and_is_told_until_there_is_room() {
    let (root, path) = folder();
    let disk = root.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Mounted::tmpfs(&disk, "size=64k");
    let settings = || Settings {
        check_frequency: channel(Duration::from_millis(50)).1,
        cache_dir: Some(disk.join("cache")),
        ..Settings::new(&path, "node1")
    };
    fs::write(path.join("a"), manifest("a", "one")).unwrap();
    let mut source = Source::start_with(settings());
    source.until_images(&["one"]).await;
    let is_kept = async {
        // A temporary file comes first.
        while !fs::read_dir(disk.join("cache"))
            .is_ok_and(|mut kept| kept.any(|file| file.unwrap().path().extension().unwrap() == "json"))
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), is_kept).await.unwrap();

    let mut filler = fs::File::create(disk.join("filler")).unwrap();
    while filler.write(&[0; 4096]).is_ok() {}
    fs::write(path.join("a"), manifest("a", "two")).unwrap();
    let full = source.until("two and a problem", |s| images(s) == ["two"] && !s.problems.is_empty()).await;
    let problem = full.problems[0].to_string();
    assert!(problem.contains("/m/a: its last good version can not be kept in "), "{problem}");
    assert!(problem.contains("No space left on device"), "{problem}");

    filler.set_len(0).unwrap();
    source.until_images(&["two"]).await;
    drop(source);
    fs::write(path.join("a"), "").unwrap();
    let mut restarted = Source::start_with(settings());
    restarted.until("the last good version", |s| images(s) == ["two"] && s.problems.len() == 1).await;
    drop((restarted, filler, mounted));
}

#[tokio::test]
async fn when_it_was_read_moves_without_waking_anybody_and_stays_while_nothing_can_be_read() {
    let (root, path) = folder();
    let mut source = Source::start(&path, Duration::from_millis(1));
    let first = source.until_images(&[]).await.read_at.unwrap();
    let moved = async {
        while source.states.borrow().read_at.unwrap() <= first {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), moved).await.unwrap();
    assert!(!source.states.has_changed().unwrap());
    fs::rename(&path, root.path().join("aside")).unwrap();
    let gone = source.until("a problem", |state| !state.problems.is_empty()).await.read_at;
    assert!(timeout(Duration::from_millis(100), source.states.changed()).await.is_err());
    assert_eq!(source.states.borrow().read_at, gone);
}

#[tokio::test]
async fn nothing_is_published_when_nothing_changed() {
    let (_root, path) = folder();
    fs::write(path.join("a"), manifest("a", "one")).unwrap();
    let mut source = Source::start(&path, Duration::from_millis(1));
    let first = source.until_images(&["one"]).await;
    // Many checks later the state is still the same one.
    fs::write(path.join("a"), format!("{}# the same pod\n", manifest("a", "one"))).unwrap();
    fs::write(path.join("b"), "").unwrap();
    let second = source.until("the problem of b", |state| !state.problems.is_empty()).await;
    assert!(Arc::ptr_eq(&first.pods[0], &second.pods[0]));
    assert!(timeout(Duration::from_millis(200), source.states.changed()).await.is_err());
}

#[tokio::test]
async fn it_ends_when_it_is_cancelled() {
    let (_root, path) = folder();
    let cancel = CancellationToken::new();
    let mut states = spawn(Settings::new(&path, "node1"), cancel.clone());
    states.changed().await.unwrap();
    cancel.cancel();
    let ended = async { while states.changed().await.is_ok() {} };
    timeout(Duration::from_secs(20), ended).await.unwrap();
}

#[tokio::test]
async fn config_maps_and_secrets_of_the_folder_are_there_for_its_pods() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let file = |name: &str| dir.path().join(name);
    let object = |kind: &str, value: &str| {
        let data = if kind == "Secret" { "stringData" } else { "data" };
        format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: o}}\n{data}: {{k: {value}}}\n")
    };
    fs::write(file("map.yaml"), object("ConfigMap", "one")).unwrap();
    fs::write(file("secret.yaml"), object("Secret", "very-secret")).unwrap();
    fs::set_permissions(file("secret.yaml"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(file("web.yaml"), manifest("web", "x")).unwrap();
    let mut source = Source::start(dir.path(), NEVER);
    let value = |state: &SourceState, kind: &str| {
        let object = state.objects.iter().find(|(key, _)| key.kind.name() == kind)?.1;
        Some(String::from_utf8(object.data["k"].clone()).unwrap())
    };
    let exposed = "holds a Secret, and its mode 0644 lets others read it: chmod 600";
    let first = source.until("both and a pod", |s| s.objects.len() == 2 && s.pods.len() == 1).await;
    assert_eq!(value(&first, "ConfigMap").as_deref(), Some("one"));
    assert_eq!(value(&first, "Secret").as_deref(), Some("very-secret"));
    let told: Vec<_> = first.problems.iter().map(|p| (p.warning, p.message.as_str())).collect();
    assert_eq!(told, [(true, exposed)]);
    fs::set_permissions(file("secret.yaml"), fs::Permissions::from_mode(0o600)).unwrap();
    source.until("no warning", |s| s.problems.is_empty()).await;

    fs::write(file("map.yaml"), object("ConfigMap", "two")).unwrap();
    let second = source.until("the new value", |s| value(s, "ConfigMap").as_deref() == Some("two")).await;
    let secret = |state: &SourceState| Arc::clone(state.objects.iter().last().unwrap().1);
    assert!(Arc::ptr_eq(&secret(&first), &secret(&second)), "what did not change is the same one");
    // What can not be used leaves the last good version.
    fs::write(
        file("secret.yaml"),
        "apiVersion: v1\nkind: Secret\nmetadata: {name: o}\ndata: {k: very-secret}\n",
    )
    .unwrap();
    let bad = source.until("a problem", |s| !s.problems.is_empty()).await;
    assert_eq!(value(&bad, "Secret").as_deref(), Some("very-secret"));
    let message = bad.problems[0].to_string();
    assert!(message.contains("is not base64") && !message.contains("very-secret"), "{message}");
    fs::write(file("zz.yaml"), object("ConfigMap", "other")).unwrap();
    let twice = source.until("two problems", |s| s.problems.len() == 2).await;
    assert!(twice.problems[1].message.contains("map.yaml; that one is used"), "{:?}", twice.problems);
    fs::remove_file(file("map.yaml")).unwrap();
    source.until("the other one", |s| value(s, "ConfigMap").as_deref() == Some("other")).await;
    fs::remove_file(file("secret.yaml")).unwrap();
    source.until("no Secret", |s| s.objects.len() == 1).await;
}
