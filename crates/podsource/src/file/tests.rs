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
        let told = |problem: &str| problem.starts_with("web.yaml:") && problem.contains(&broken.told());
        let mut source = Source::file("web.yaml", &manifest("web", "x"));
        source.write("other.yaml", manifest("other", "x"));
        let before = source.scan();
        assert!(before.problems.is_empty());
        source.write("web.yaml", text);
        let after = source.scan();
        assert!(before.pods.iter().zip(&after.pods).all(|(a, b)| Arc::ptr_eq(a, b)), "{what}");
        let (names, problems) = source.look();
        assert_eq!(names, ["other-node1", "web-node1"], "{what}");
        if !told(&problems[0]) {
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

#[test]
fn what_stands_between_the_steps_of_an_editor_is_not_meant() {
    let cases: [(&str, Steps); 6] = [
        (
            "a backup by renaming, the new file written in pieces, the backup removed",
            &[
                |s| s.write("4913", ""),
                |s| s.remove("4913"),
                |s| s.rename("web.yaml", "web.yaml~"),
                |s| s.write("web.yaml", ""),
                |s| s.write("web.yaml", manifest("web", "two")),
                |s| s.remove("web.yaml~"),
            ],
        ),
        (
            "another file beside it, with a name before it, that takes its place",
            &[|s| s.write("sedAbCdEf", manifest("web", "two")), |s| s.rename("sedAbCdEf", "web.yaml")],
        ),
        (
            "another file beside it, with a name after it, that takes its place",
            &[|s| s.write("web.yaml.new", manifest("web", "two")), |s| s.rename("web.yaml.new", "web.yaml")],
        ),
        (
            "removed and written anew",
            &[|s| s.remove("web.yaml"), |s| s.write("web.yaml", manifest("web", "two"))],
        ),
        (
            "a dot-file that takes its place",
            &[
                |s| s.write(".web.yaml.tmp", manifest("web", "two")),
                |s| s.rename(".web.yaml.tmp", "web.yaml"),
            ],
        ),
        (
            "the folder replaced by another one",
            &[
                |s| {
                    fs::create_dir(s.root.path().join("new")).unwrap();
                    fs::write(s.root.path().join("new/web.yaml"), manifest("web", "two")).unwrap();
                },
                |s| fs::rename(&s.path, s.root.path().join("old")).unwrap(),
                |s| fs::rename(s.root.path().join("new"), &s.path).unwrap(),
            ],
        ),
    ];
    for (what, steps) in cases {
        let mut source = Source::file("web.yaml", &manifest("web", "one"));
        let uid = source.scan().pods[0].metadata.uid.clone();
        for step in steps {
            step(&source);
            if let Some(set) = source.files.scan(Timestamp::now(), false) {
                let [pod] = &set.pods[..] else { panic!("{what}: {:?}", names(&set.pods)) };
                assert!(image(pod) == "two" || pod.metadata.uid == uid, "{what}");
                let path = set.places[&pod::identity(pod).0].path.clone();
                assert_eq!(path, source.path.join("web.yaml"), "{what}");
            }
        }
        let set = source.scan();
        assert_eq!((names(&set.pods), image(&set.pods[0])), (vec!["web-node1".to_owned()], "two"), "{what}");
        assert_eq!(set.problems, [], "{what}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(u8, u8),
    Break(u8),
    Rename(u8, u8),
    Remove(u8),
    Scan { settled: bool },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4u8, 0..3u8).prop_map(|(file, pod)| Step::Write(file, pod)),
        (0..4u8).prop_map(Step::Break),
        (0..4u8, 0..4u8).prop_map(|(from, to)| Step::Rename(from, to)),
        (0..4u8).prop_map(Step::Remove),
        any::<bool>().prop_map(|settled| Step::Scan { settled }),
        Just(Step::Restart),
    ]
}

proptest! {
    // Each case writes to the disk and waits for it.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However a folder came to be what it is, its good manifests are what runs, and of a broken one at most what
    /// once stood in it.
    #[test]
    fn what_runs_depends_on_the_folder_and_not_on_its_history(steps in vec(step(), 0..30)) {
        let mut source = Source::new();
        for step in steps {
            // Not all files are there at all times.
            let path = |file: u8| source.path.join(format!("{file}.yaml"));
            match step {
                Step::Write(file, pod) => source.write(&format!("{file}.yaml"), manifest(&format!("p{pod}"), "x")),
                Step::Break(file) => source.write(&format!("{file}.yaml"), "broken: ["),
                Step::Rename(from, to) => drop(fs::rename(path(from), path(to))),
                Step::Remove(file) => drop(fs::remove_file(path(file))),
                Step::Scan { settled } => {
                    let known: Vec<_> = source.files.scan(Timestamp::now(), settled).into_iter().collect();
                    prop_assert!(!settled || known.len() == 1, "settled, there is always a set");
                    while source.files.has_to_keep() {
                        source.files.keep();
                    }
                }
                Step::Restart => source.restart(),
            }
        }
        let pods = |set: &Set| -> Vec<_> {
            let identity = |pod: &Arc<Pod>| pod::identity(pod);
            set.pods.iter().map(identity).collect()
        };
        let broken = source.scan();
        prop_assert!(broken.pods.len() <= 3);
        for entry in fs::read_dir(&source.path).unwrap() {
            let path = entry.unwrap().path();
            if fs::read(&path).unwrap().starts_with(b"broken") {
                prop_assert!(broken.problems.iter().any(|problem| problem.path == path));
                fs::write(path, manifest("repaired", "x")).unwrap();
            }
        }
        let fresh = Files::new(Settings::new(&source.path, "node1")).scan(Timestamp::now(), true).unwrap();
        let set = source.scan();
        prop_assert_eq!(pods(&set), pods(&fresh));
        prop_assert_eq!(set.problems, fresh.problems);
    }
}

#[test]
fn a_broken_new_version_does_not_lose_the_last_good_one_to_the_way_it_was_written() {
    let mut source = Source::file("web.yaml", &manifest("web", "one"));
    let before = source.scan().pods;
    source.rename("web.yaml", "web.yaml~");
    assert!(source.files.scan(Timestamp::now(), false).is_none());
    source.write("web.yaml", "broken: [");
    source.remove("web.yaml~");
    let set = source.files.scan(Timestamp::now(), false).unwrap();
    assert!(Arc::ptr_eq(&before[0], &set.pods[0]));
    assert_eq!(set.problems.len(), 1);
}

#[test]
fn what_takes_nothing_away_is_there_at_once_and_the_rest_once_it_settled() {
    let mut source = Source::file("a.yaml", &manifest("a", "x"));
    let look = |source: &mut Source, settled| {
        let set = source.files.scan(Timestamp::now(), settled)?;
        Some((names(&set.pods), set.problems.len()))
    };
    let expected =
        |names: &[&str], problems| Some((names.iter().map(|n| (*n).to_owned()).collect(), problems));
    assert_eq!(look(&mut source, false), expected(&["a-node1"], 0));
    source.write("b.yaml", manifest("b", "x"));
    assert_eq!(look(&mut source, false), expected(&["a-node1", "b-node1"], 0), "a new file");
    source.write("a.yaml", "broken: [");
    assert_eq!(look(&mut source, false), expected(&["a-node1", "b-node1"], 1), "a broken old one");
    source.write("c.yaml", "");
    assert_eq!(look(&mut source, false), None, "a broken new one");
    assert_eq!(look(&mut source, true), expected(&["a-node1", "b-node1"], 2));
    assert_eq!(look(&mut source, false), expected(&["a-node1", "b-node1"], 2), "which is then an old one");
    source.remove("b.yaml");
    assert_eq!(look(&mut source, false), None, "a removed one");
    assert_eq!(look(&mut source, true), expected(&["a-node1"], 2));
    let aside = source.root.path().join("aside");
    fs::rename(&source.path, &aside).unwrap();
    assert_eq!(look(&mut source, false), None, "the folder gone");
    assert_eq!(look(&mut source, true), expected(&["a-node1"], 3));
    assert_eq!(look(&mut source, false), expected(&["a-node1"], 3), "still");
}

#[test]
fn only_what_changed_is_parsed() {
    let mut source = Source::new();
    for number in 0..50 {
        source.write(&format!("{number:02}.yaml"), manifest(&format!("p{number}"), "x"));
    }
    assert_eq!(source.scan().pods.len(), 50);
    assert_eq!(source.files.parsed(), 50);
    source.scan();
    source.scan_at(Timestamp::now() + Duration::from_secs(60));
    assert_eq!(source.files.parsed(), 50, "neither unchanged files nor equal texts");
    source.write("07.yaml", manifest("p7", "z"));
    source.scan();
    assert_eq!(source.files.parsed(), 51, "the one that changed");
    source.restart();
    source.scan();
    assert_eq!(source.files.parsed(), 50, "nor twice what was kept on disk, too");
}

#[test]
fn when_it_was_read_tells_of_the_last_usable_answer() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let mut source = Source::new();
    assert_eq!(source.scan_at(at(1)).read_at, Some(at(1)), "an empty folder is an answer");
    source.write("a.yaml", "");
    assert_eq!(source.scan_at(at(2)).read_at, Some(at(2)), "and so is a folder with a bad manifest");
    let aside = source.root.path().join("aside");
    fs::rename(&source.path, &aside).unwrap();
    assert_eq!(source.scan_at(at(3)).read_at, Some(at(2)), "but not a folder that is not there");

    source.path = aside.join("a.yaml");
    source.restart();
    assert_eq!(source.scan_at(at(4)).read_at, None, "of one file, a bad manifest is no answer");
    fs::write(&source.path, manifest("a", "x")).unwrap();
    assert_eq!(source.scan_at(at(5)).read_at, Some(at(5)));
    assert_eq!(source.scan_at(at(60)).read_at, Some(at(60)));
    fs::remove_file(&source.path).unwrap();
    let removed = source.scan_at(at(70));
    assert_eq!((removed.pods.len(), removed.read_at), (0, Some(at(70))), "that it was removed is one");
    assert_eq!(source.scan_at(at(71)).problems, [], "however often it is looked at");
}

#[test]
fn a_set_is_there_before_its_texts_are_kept_and_a_text_is_kept_though_the_file_broke_meanwhile() {
    let mut source = Source::file("web.yaml", &manifest("web", "x"));
    let cache = source.cache.clone().unwrap();
    assert_eq!(source.files.scan(Timestamp::now(), true).unwrap().pods.len(), 1);
    assert!(!cache.exists() && source.files.has_to_keep());
    source.write("web.yaml", "");
    source.scan();
    assert!(!source.files.has_to_keep());
    source.restart();
    assert_eq!(source.look().0, ["web-node1"]);
}

#[test]
fn a_text_that_could_not_be_kept_is_forgotten_when_the_file_is_as_the_kept_one_again() {
    let mut source = Source::file("web.yaml", &manifest("web", "one"));
    source.scan();
    let (agent, aside) = (source.root.path().join("agent"), source.root.path().join("aside"));
    fs::rename(&agent, &aside).unwrap();
    fs::write(&agent, "a file in its place").unwrap();
    source.write("web.yaml", manifest("web", "two"));
    assert_eq!(source.scan().problems.len(), 1);
    source.write("web.yaml", manifest("web", "one"));
    assert_eq!(source.scan().problems, []);
    fs::remove_file(&agent).unwrap();
    fs::rename(&aside, &agent).unwrap();
    source.write("web.yaml", "");
    source.scan();
    source.restart();
    assert_eq!(image(&source.scan().pods[0]), "one");
}

#[test]
fn what_yaml_takes_for_another_type_is_told_with_its_place_and_what_to_write() {
    let good = manifest("web\n  labels: {}\n  annotations: {}", "x");
    let cases = [
        ("annotations: {}", "annotations: {x: y}", "6:17: metadata.annotations.x: ", "write \"y\" in quotes"),
        ("labels: {}", "labels: {v: 1.10}", "5:12: metadata.labels.v: ", "write \"1.10\" in quotes"),
        (
            "image: x",
            "image: x\n    env: [{name: A, value: 1}]",
            "11:21: spec.containers[0].env[0].value: ",
            "write \"1\" in quotes",
        ),
        (
            "image: x",
            "image: x\n    args: [no]",
            "11:12: spec.containers[0].args[0]: ",
            "write \"no\" in quotes",
        ),
        (
            "image: x",
            "image: x\n    tty: \"true\"",
            "11:5: spec.containers[0].tty: ",
            "write true without quotes",
        ),
        (
            "image: x",
            "image: x\n    ports: [{containerPort: \"80\"}]",
            "11:14: spec.containers[0].ports[0].containerPort: ",
            "write 80 without quotes",
        ),
    ];
    for (old, new, place, hint) in cases {
        let mut source = Source::file("web.yaml", &good);
        assert_eq!(source.look(), (vec!["web-node1".to_owned()], vec![]));
        source.write("web.yaml", good.replace(old, new));
        let (names, problems) = source.look();
        assert_eq!(names, ["web-node1"]);
        let [problem] = &problems[..] else { panic!("{new}: {problems:?}") };
        assert!(
            problem.starts_with(&format!("web.yaml:{place}")) && problem.contains(hint),
            "{new}: {problem}"
        );
    }
}
