//! The file source as its users see it: real files, real notifications.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube_model::core::Pod;
use podsource::SourceState;
use podsource::file::{Settings, spawn};
use tempfile::TempDir;
use tokio::sync::watch::Receiver;
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
        let cancel = CancellationToken::new();
        let check_frequency = tokio::sync::watch::channel(check_frequency).1;
        let settings = Settings { check_frequency, ..Settings::new(path, "node1") };
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
async fn a_mounted_config_map_is_noticed_when_its_data_is_swapped() {
    let (root, path) = folder();
    for version in ["one", "two"] {
        let data = path.join(format!("..{version}"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("a"), manifest("a", version)).unwrap();
    }
    symlink("..one", path.join("..data")).unwrap();
    symlink("..data/a", path.join("a")).unwrap();
    let mut in_folder = Source::start(&path, NEVER);
    let mut one_file = Source::start(&path.join("a"), NEVER);
    in_folder.until_images(&["one"]).await;
    one_file.until_images(&["one"]).await;
    symlink("..two", path.join("..tmp")).unwrap();
    fs::rename(path.join("..tmp"), path.join("..data")).unwrap();
    in_folder.until_images(&["two"]).await;
    one_file.until_images(&["two"]).await;
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
