mod settling;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use inotify::{Inotify, WatchMask};
use kube_model::Timestamp;
use kube_model::core::Pod;
use kube_model::pod;
use proptest::collection::vec;
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::scan::{Files, Set};
use super::{MAX_BYTES, Settings};
use broken::Broken;

#[path = "../../../manifest/tests/broken/mod.rs"]
mod broken;

fn manifest(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  containers:\n  - name: app\n    image: {image}\n"
    )
}

/// A folder `m` with manifests, read by hand.
struct Source {
    root: TempDir,
    path: PathBuf,
    cache: Option<PathBuf>,
    files: Files,
}

impl Source {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("m");
        fs::create_dir(&path).unwrap();
        let cache = Some(root.path().join("agent/podsource/file"));
        let files = Files::new(settings(&path, &cache));
        Self { root, path, cache, files }
    }

    fn file(name: &str, text: &str) -> Self {
        let source = Self::new();
        source.write(name, text);
        source
    }

    /// As after a restart of the agent.
    fn restart(&mut self) {
        self.files = Files::new(settings(&self.path, &self.cache));
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path.join(name), text).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path.join(from), self.path.join(to)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path.join(name)).unwrap();
    }

    fn scan(&mut self) -> Set {
        self.scan_at(Timestamp::now())
    }

    /// All that the source does when everything is at rest.
    fn scan_at(&mut self, now: Timestamp) -> Set {
        let mut set = self.files.scan(now, true).unwrap();
        while self.files.has_to_keep() {
            set = self.files.keep();
        }
        set
    }

    /// Scans and gives names and problems, these without the folder's path.
    fn look(&mut self) -> (Vec<String>, Vec<String>) {
        let set = self.scan();
        let folder = format!("{}/", self.path.display());
        let problems = set.problems.iter().map(|p| p.to_string().replace(&folder, ""));
        (names(&set.pods), problems.collect())
    }
}

fn settings(path: &Path, cache: &Option<PathBuf>) -> Settings {
    Settings { cache_dir: cache.clone(), ..Settings::new(path, "node1") }
}

fn names(pods: &[Arc<Pod>]) -> Vec<String> {
    pods.iter().map(|p| p.metadata.name.clone().unwrap()).collect()
}

fn image(pod: &Pod) -> &str {
    pod.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap()
}

#[test]
fn files_of_any_name_are_read_in_order_but_for_dot_files_and_sub_folders() {
    let mut source = Source::new();
    source.write("b.yaml.bak", manifest("second", "x"));
    source.write("a", manifest("first", "x"));
    source.write("c.json", r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"third","namespace":"a"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#);
    source.write(".hidden.yaml", "broken: [");
    fs::create_dir(source.path.join("sub")).unwrap();
    source.write("sub/d.yaml", manifest("fourth", "x"));
    symlink(source.path.join("sub/d.yaml"), source.path.join("e.yaml")).unwrap();
    let (names, problems) = source.look();
    assert_eq!(
        names,
        ["third-node1", "first-node1", "fourth-node1", "second-node1"],
        "by namespace and name"
    );
    assert!(problems.is_empty(), "{problems:?}");
}

/// A pod that was seen for the first time once more is another one, even in the same words.
#[test]
fn a_file_that_was_unlinked_and_made_again_is_another_pod() {
    let seen = |set: &Set| {
        let of =
            |pod: &Arc<Pod>| pod.metadata.annotations.as_ref().unwrap()["kubernetes.io/config.seen"].clone();
        set.pods.iter().map(of).collect::<Vec<_>>()
    };
    let mut source = Source::file("web.yaml", &manifest("web", "x"));
    source.write("other.yaml", manifest("other", "x"));
    let first = source.scan();
    let again = |source: &mut Source, name: &str| source.files.unlinked([name.into()].into());
    again(&mut source, "web.yaml");
    let second = source.scan();
    assert!(Arc::ptr_eq(&first.pods[0], &second.pods[0]), "the other one is left alone");
    assert_ne!(seen(&first)[1], seen(&second)[1]);
    assert_eq!(pod::identity(&first.pods[1]), pod::identity(&second.pods[1]));
    let third = source.scan();
    assert_eq!(seen(&third), seen(&second), "once");
    // While it is written it can not be read; when it can, it is the new one.
    again(&mut source, "web.yaml");
    source.write("web.yaml", "{");
    assert_eq!(seen(&source.scan()), seen(&second));
    source.write("web.yaml", manifest("web", "x"));
    let fourth = source.scan();
    assert_ne!(seen(&fourth)[1], seen(&second)[1]);
    // A link that is set anew, a name that is no manifest, and one that is gone are nothing.
    source.rename("web.yaml", ".web");
    std::os::unix::fs::symlink(".web", source.path.join("web.yaml")).unwrap();
    for name in ["web.yaml", ".web", "none.yaml"] {
        again(&mut source, name);
    }
    assert_eq!(seen(&source.scan()), seen(&fourth));
}

/// A UID of one's own is one pod through all its versions, and in whichever file it stands.
#[test]
fn a_uid_is_seen_for_the_first_time_once() {
    let text = |image: &str| manifest("web", image).replace("name: web", "name: web\n  uid: u-1");
    let seen =
        |set: &Set| set.pods[0].metadata.annotations.as_ref().unwrap()["kubernetes.io/config.seen"].clone();
    let mut source = Source::file("web.yaml", &text("x"));
    let first = source.scan();
    source.write("web.yaml", text("z"));
    let second = source.scan();
    assert_eq!((image(&second.pods[0]), seen(&second)), ("z", seen(&first)));
    source.rename("web.yaml", "renamed.yaml");
    assert_eq!(seen(&source.scan()), seen(&first));
}

#[test]
fn a_manifest_that_is_unusable_is_a_problem_and_its_last_good_version_stays() {
    let mut wrong = Vec::new();
    // One of many pods may be a list elsewhere; a file has one pod.
    let list = Broken {
        what: "a list",
        text: b"apiVersion: v1\nkind: List\nitems: []\n".to_vec(),
        at: "2:1",
        said: "kind: \"List\" is a list",
    };
    for broken in broken::all().into_iter().chain([list]) {
        let (what, text) = (broken.what, &broken.text);
        let has_it = |problem: &str| problem.starts_with("web.yaml:") && problem.contains(&broken.message());
        let mut source = Source::file("web.yaml", &manifest("web", "x"));
        source.write("other.yaml", manifest("other", "x"));
        let before = source.scan();
        assert!(before.problems.is_empty());
        source.write("web.yaml", text);
        let after = source.scan();
        assert!(before.pods.iter().zip(&after.pods).all(|(a, b)| Arc::ptr_eq(a, b)), "{what}");
        let (names, problems) = source.look();
        assert_eq!(names, ["other-node1", "web-node1"], "{what}");
        if !has_it(&problems[0]) {
            wrong.push(format!("{what}: {problems:?}"));
        }
        assert!(
            problems[0].ends_with("; the last good version of this file keeps running"),
            "{what}: {problems:?}"
        );

        // Also when the agent restarts meanwhile.
        source.restart();
        assert_eq!(source.look(), (names, problems), "{what}");

        // Without a good version before, there is only the problem.
        let mut fresh = Source::new();
        fresh.write("web.yaml", text);
        let (names, problems) = fresh.look();
        assert!(names.is_empty(), "{what}");
        assert!(!problems[0].contains("keeps running"), "{what}: {problems:?}");

        source.write("web.yaml", manifest("web", "z"));
        let repaired = source.scan();
        assert!(repaired.problems.is_empty(), "{what}");
        assert_eq!(image(&repaired.pods[1]), "z", "{what}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_takes_the_place_of_a_manifest_and_can_not_be_read_never_stops_the_source() {
    type Put = fn(&Path);
    let puts: [(&str, Put, &str); 7] = [
        // That nobody may read, not even root.
        (
            "unreadable",
            |p| symlink("/proc/self/mem", p).unwrap(),
            "web.yaml: can not be read: Input/output error",
        ),
        ("folder", |p| fs::create_dir(p).unwrap(), "web.yaml: is a folder, not a regular file"),
        (
            "dangling",
            |p| symlink("nowhere", p).unwrap(),
            "web.yaml: is a symlink to a file that does not exist",
        ),
        ("loop", |p| symlink(p, p).unwrap(), "web.yaml: can not be read: Too many levels of symbolic links"),
        (
            "FIFO",
            |p| mknodat(CWD, p, FileType::Fifo, Mode::RUSR, 0).unwrap(),
            "web.yaml: is a FIFO, not a regular file",
        ),
        (
            "socket",
            |p| drop(std::os::unix::net::UnixListener::bind(p).unwrap()),
            "web.yaml: is a socket, not a regular file",
        ),
        ("device", |p| symlink("/dev/zero", p).unwrap(), "web.yaml: is a device, not a regular file"),
    ];
    for (what, put, start) in puts {
        let mut source = Source::file("web.yaml", &manifest("web", "x"));
        source.scan();
        fs::remove_file(source.path.join("web.yaml")).unwrap();
        put(&source.path.join("web.yaml"));
        for _ in 0..2 {
            let (names, problems) = source.look();
            assert_eq!(names, ["web-node1"], "{what}");
            assert!(problems[0].starts_with(start), "{what}: {problems:?}");
            source.restart();
        }
    }
}

#[test]
fn a_file_that_is_gone_takes_its_pod_along() {
    let mut source = Source::file("a.yaml", &manifest("a", "x"));
    source.write("b.yaml", manifest("b", "x"));
    assert_eq!(source.look().0, ["a-node1", "b-node1"]);
    fs::remove_file(source.path.join("a.yaml")).unwrap();
    assert_eq!(source.look(), (vec!["b-node1".to_owned()], vec![]));
    source.restart();
    assert_eq!(source.look().0, ["b-node1"], "nor does it come back");
    fs::remove_file(source.path.join("b.yaml")).unwrap();
    source.restart();
    assert_eq!(source.look(), (vec![], vec![]), "a folder emptied while the agent was down");
    assert_eq!(fs::read_dir(source.cache.unwrap()).unwrap().count(), 0);
}

#[test]
fn a_folder_that_vanishes_or_can_not_be_read_keeps_all_pods() {
    let mut source = Source::file("a.yaml", &manifest("a", "x"));
    let before = source.scan().pods;
    let aside = source.root.path().join("aside");
    fs::rename(&source.path, &aside).unwrap();
    let gone = source.scan();
    assert!(Arc::ptr_eq(&before[0], &gone.pods[0]));
    let path = source.path.display().to_string();
    let expected = format!(
        "{path}: can not be read: No such file or directory (os error 2); the pods that came from it stay"
    );
    assert_eq!(gone.problems[0].to_string(), expected);

    source.restart();
    assert_eq!(names(&source.scan().pods), ["a-node1"], "also after a restart");

    symlink(&source.path, &source.path).unwrap();
    let looped = source.scan();
    assert_eq!(names(&looped.pods), ["a-node1"]);
    assert!(
        looped.problems[0].message.contains("Too many levels of symbolic links"),
        "{:?}",
        looped.problems
    );

    fs::remove_file(&source.path).unwrap();
    fs::rename(&aside, &source.path).unwrap();
    assert_eq!(source.look(), (vec!["a-node1".to_owned()], vec![]));
}

#[test]
fn a_path_that_is_not_there_yet_is_a_problem_and_an_empty_set() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("later");
    let set = Files::new(Settings::new(&path, "node1")).scan(Timestamp::now(), true).unwrap();
    assert!(set.pods.is_empty());
    assert!(set.problems[0].to_string().starts_with(&path.display().to_string()));
}

#[test]
fn one_file_can_be_the_source() {
    let mut source = Source::file(".one", &manifest("one", "x"));
    source.write("two", manifest("two", "x"));
    let folder = source.path.clone();
    source.path = folder.join(".one");
    source.restart();
    assert_eq!(names(&source.scan().pods), ["one-node1"]);
    fs::write(&source.path, "broken: [").unwrap();
    let broken = source.scan();
    assert_eq!((names(&broken.pods), broken.problems.len()), (vec!["one-node1".to_owned()], 1));

    // Its folder gone: nothing is known of the file. The file gone: the pod is not wanted.
    let aside = source.root.path().join("aside");
    fs::rename(&folder, &aside).unwrap();
    source.restart();
    let unknown = source.scan();
    assert_eq!((names(&unknown.pods), unknown.problems.len()), (vec!["one-node1".to_owned()], 1));
    fs::rename(&aside, &folder).unwrap();
    fs::remove_file(&source.path).unwrap();
    assert!(source.scan().pods.is_empty());
}

#[test]
fn of_two_files_with_one_name_or_uid_the_first_runs() {
    let mut source = Source::new();
    source.write("b.yaml", manifest("web", "b"));
    assert_eq!(image(&source.scan().pods[0]), "b");
    source.write("a.yaml", manifest("web", "a"));
    let set = source.scan();
    assert_eq!((set.pods.len(), image(&set.pods[0])), (1, "a"));
    let (_, problems) = source.look();
    let expected = "b.yaml:4:3: metadata.name: the pod default/web-node1 is already in a.yaml; that one runs";
    assert_eq!(problems, [expected]);

    source.write("a.yaml", manifest("a\n  uid: same", "a"));
    source.write("b.yaml", manifest("b\n  uid: same", "b"));
    let (names, problems) = source.look();
    assert_eq!(names, ["a-node1"]);
    assert!(
        problems[0].starts_with("b.yaml:5:3: metadata.uid: a pod with UID same is already in "),
        "{problems:?}"
    );

    fs::remove_file(source.path.join("a.yaml")).unwrap();
    assert_eq!(source.look(), (vec!["b-node1".to_owned()], vec![]), "the other one takes over");
}

#[test]
fn odd_manifests_run_with_a_problem() {
    let text = manifest("web", "x") + "    imagePulPolicy: Never\n---\nkind: Pod\n";
    let mut source = Source::file("web.yaml", &text);
    let (names, problems) = source.look();
    assert_eq!(names, ["web-node1"]);
    assert_eq!(
        problems,
        [
            "web.yaml:9:5: warning: spec.containers[0].imagePulPolicy: unknown field, ignored",
            "web.yaml:10:1: warning: only the first document is read; this one is ignored",
        ]
    );
}

#[test]
fn an_unchanged_pod_stays_the_same_however_its_file_is_written() {
    let mut source = Source::file("web.yaml", &manifest("web", "x"));
    let first = source.scan().pods;
    source.write("web.yaml", format!("# changed\n{}", manifest("web", "x")));
    assert!(Arc::ptr_eq(&first[0], &source.scan().pods[0]));
    source.write("web.yaml", manifest("web", "z"));
    let changed = source.scan().pods;
    assert_ne!(pod::identity(&first[0]).0, pod::identity(&changed[0]).0);
    let seen = |pod: &Pod| pod::annotation(pod, kube_model::labels::CONFIG_SEEN).unwrap().to_owned();
    assert!(seen(&changed[0]) > seen(&first[0]));
}

#[test]
fn a_file_is_read_again_until_no_change_can_hide() {
    let mut source = Source::file("web.yaml", &manifest("web", "x"));
    let mut opened = Inotify::init().unwrap();
    opened.watches().add(source.path.join("web.yaml"), WatchMask::OPEN).unwrap();
    let mut was_opened = || {
        let mut buffer = [0; 1024];
        opened.read_events(&mut buffer).is_ok_and(|events| events.count() > 0)
    };
    let later = Timestamp::now() + Duration::from_secs(60);
    for (now, expected) in [(Timestamp::now(), true), (Timestamp::now(), true), (later, true), (later, false)]
    {
        source.scan_at(now);
        assert_eq!(was_opened(), expected);
    }
    source.write("web.yaml", manifest("web", "z"));
    assert!(was_opened(), "by the writer");
    assert_eq!(image(&source.scan_at(later).pods[0]), "z");
}

#[test]
fn the_last_good_texts_are_kept_for_the_owner_alone_and_only_when_they_change() {
    let mut source = Source::file("web.yaml", &manifest("web", "x"));
    source.scan();
    let cache = source.cache.clone().unwrap();
    let kept = || fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
    let first = fs::metadata(kept()).unwrap();
    assert_eq!(first.permissions().mode() & 0o777, 0o600);
    source.scan();
    source.restart();
    source.scan();
    assert_eq!(fs::metadata(kept()).unwrap().ino(), first.ino(), "was not written again");
    source.write("web.yaml", manifest("web", "z"));
    source.scan();
    assert_ne!(fs::metadata(kept()).unwrap().ino(), first.ino());
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
}

#[test]
fn what_a_killed_agent_left_or_others_damaged_is_no_harm() {
    let mut source = Source::file("web.yaml", &manifest("web", "x"));
    source.scan();
    let cache = source.cache.clone().unwrap();
    fs::write(cache.join("half.tmp"), "{").unwrap();
    fs::write(cache.join("damaged.json"), "{").unwrap();
    fs::write(cache.join("foreign"), "x").unwrap();
    fs::create_dir(cache.join("folder.json")).unwrap();
    source.restart();
    source.write("web.yaml", "");
    let (names, problems) = source.look();
    assert_eq!(names, ["web-node1"]);
    assert!(problems.iter().any(|p| p.contains("not all last good versions")), "{problems:?}");
    assert!(!cache.join("half.tmp").exists());
}

#[test]
fn a_slash_at_the_end_of_the_path_makes_no_other_pods() {
    let mut source = Source::file("web.yaml", &manifest("web", "x"));
    let before = source.scan().pods;
    source.path = source.path.join("");
    assert!(source.path.to_str().unwrap().ends_with('/'));
    source.restart();
    assert_eq!(pod::identity(&before[0]), pod::identity(&source.scan().pods[0]));
}

#[test]
fn what_is_kept_of_another_folder_does_not_run() {
    let mut source = Source::file("web.yaml", &manifest("web", "x"));
    source.scan();
    source.path = source.root.path().join("other");
    source.restart();
    assert!(source.scan().pods.is_empty());
}

#[test]
fn a_cache_that_can_not_be_written_is_a_problem_but_the_pods_run() {
    let mut source = Source::file("web.yaml", &manifest("web", "x"));
    fs::write(source.root.path().join("agent"), "a file in its place").unwrap();
    for _ in 0..2 {
        let (names, problems) = source.look();
        assert_eq!(names, ["web-node1"]);
        assert!(
            problems.iter().any(|p| p.starts_with("web.yaml: its last good version can not be kept in ")),
            "{problems:?}"
        );
    }
    fs::remove_file(source.root.path().join("agent")).unwrap();
    assert_eq!(source.look(), (vec!["web-node1".to_owned()], vec![]), "and is tried again");
    source.write("web.yaml", "");
    source.restart();
    assert_eq!(source.look().0, ["web-node1"]);
}

#[test]
fn ten_megabytes_of_text_are_read_and_refused_for_what_is_wrong() {
    let annotation = "x".repeat(usize::try_from(MAX_BYTES).unwrap() - 400);
    let mut source =
        Source::file("web.yaml", &manifest(&format!("web\n  annotations:\n    big: {annotation}"), "x"));
    let (names, problems) = source.look();
    assert!(names.is_empty());
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("web.yaml:5:3: metadata.annotations: Too long"), "{}", problems[0]);
}

#[test]
fn a_file_name_that_is_no_text_is_a_problem() {
    use std::os::unix::ffi::OsStrExt;
    let mut source = Source::file("web.yaml", &manifest("web", "x"));
    fs::write(source.path.join(std::ffi::OsStr::from_bytes(b"\xff.yaml")), "x").unwrap();
    let (names, problems) = source.look();
    assert_eq!(names, ["web-node1"]);
    assert!(problems[0].contains("is not UTF-8"), "{problems:?}");
}

/// What an editor or tool does to `web.yaml`, step by step; in the end it holds the second version.
type Steps = &'static [fn(&Source)];
