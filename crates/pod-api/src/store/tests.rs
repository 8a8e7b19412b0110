//! The store on real folders.

mod crash;
mod disk;
mod full_disk;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use kube_model::core::{Container, PodSpec, PodStatus};
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_model::labels;
use proptest::prelude::*;
use tempfile::TempDir;

use super::fault::Step;
use super::*;

const NODE: &str = "node1";

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

fn open(dir: &Path) -> Store {
    Store::open(dir, NODE, 100).unwrap()
}

fn with_fault(dir: &Path, hook: impl Fn(Step) -> io::Result<()> + Send + Sync + 'static) -> Store {
    Store::open_with(dir, NODE, 100, Fault { hook: Some(Arc::new(hook)) }).unwrap()
}

fn pod(name: &str, image: &str) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("default".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers: vec![Container {
                name: "app".to_owned(),
                image: Some(image.to_owned()),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

fn key(name: &str) -> PodKey {
    PodKey::new("default", name)
}

/// Gives the pod another image.
async fn replace(store: &Store, name: &str, image: &str) -> Result<Object, ApiError> {
    let image = image.to_owned();
    let change = move |old: &Pod| {
        let mut new = old.clone();
        new.spec.as_mut().unwrap().containers[0].image = Some(image);
        Ok(new)
    };
    store.update(key(name), false, change).await
}

async fn delete(store: &Store, name: &str, grace: Option<i64>) -> Result<Object, ApiError> {
    store.delete(key(name), Preconditions::default(), grace, false).await
}

/// Names and images of the pods that should run.
fn images(store: &Store) -> Vec<(String, String)> {
    let name_and_image = |pod: &Arc<Pod>| {
        let image = pod.spec.as_ref().unwrap().containers[0].image.clone();
        (pod.metadata.name.clone().unwrap(), image.unwrap())
    };
    store.state().borrow().pods.iter().map(name_and_image).collect()
}

fn view(pod: &Arc<Pod>, phase: &str) -> PodView {
    let status = PodStatus { phase: Some(phase.to_owned()), ..PodStatus::default() };
    PodView {
        pod: Arc::clone(pod),
        status: Arc::new(status),
        removing: pod.metadata.deletion_timestamp.is_some(),
        finished: false,
        waits: Vec::new(),
        doing: None,
        events: Vec::new(),
    }
}

fn phase(object: &Object) -> &str {
    object.status.phase.as_deref().unwrap()
}

/// What a watch shows: what happened, to which pod, in which phase.
fn described(events: &[Event<Object>]) -> Vec<String> {
    let described = |event: &Event<Object>| {
        let what = match event.change {
            Change::Added => "added",
            Change::Modified(_) => "modified",
            Change::Deleted => "deleted",
        };
        format!("{what} {} {}", event.object.key().name, phase(&event.object))
    };
    events.iter().map(described).collect()
}

async fn next(watch: &mut Watch<Object>) -> Result<Vec<Event<Object>>, ApiError> {
    tokio::time::timeout(PATIENCE, watch.next()).await.unwrap()
}

/// Waits until the store has done what it does after `observe`.
async fn until_gone(store: &Store, name: &str) {
    let mut state = store.state();
    let gone =
        state.wait_for(|state| !state.pods.iter().any(|pod| pod.metadata.name.as_deref() == Some(name)));
    tokio::time::timeout(PATIENCE, gone).await.unwrap().unwrap();
}

fn pod_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(dir.join("pods")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_status_that_says_nothing_is_not_shown() {
    let of = |name: &str, status: Option<PodStatus>| {
        let mut pod = Pod { status, ..Pod::default() };
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.namespace = Some("default".to_owned());
        pod.metadata.uid = Some(name.to_owned());
        pod.spec.get_or_insert_default();
        Arc::new(pod)
    };
    let running = PodStatus { phase: Some("Running".to_owned()), ..PodStatus::default() };
    let (web, fixed, api) = (of("web", None), of("static", None), of("api", Some(running)));
    let mut memory = memory::Memory::new(vec![Pod::clone(&web)], Vec::new(), 1);
    let show = |memory: &memory::Memory| -> Vec<String> {
        let shown = memory.list().into_iter();
        shown.map(|object| format!("{} {}", object.key().name, phase(&object))).collect()
    };
    let nothing = |pod: &Arc<Pod>| Arc::new(PodView { status: Arc::default(), ..view(pod, "") });
    let all = [nothing(&web), nothing(&fixed), nothing(&api)];
    memory.observe(&all);
    assert_eq!(show(&memory), ["api Running", "static Pending", "web Pending"]);
    let qos = memory.list().iter().map(|object| object.status.qos_class.clone()).next_back().flatten();
    assert_eq!(qos.as_deref(), Some("BestEffort"));
    let version = memory.revision();
    memory.observe(&all);
    assert_eq!(memory.revision(), version, "nothing is new");
    memory.observe(&[&web, &fixed, &api].map(|pod| Arc::new(view(pod, "Running"))));
    memory.observe(&all);
    assert_eq!(show(&memory), ["api Running", "static Running", "web Running"]);
}

#[tokio::test]
async fn a_pod_gets_what_the_server_gives_and_comes_back_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    assert!(store.state().borrow().seen, "an empty folder says that no pod is wanted");
    let created = store.create(pod("web", "a:1"), false).await.unwrap();
    let meta = created.metadata();
    let uid = meta.uid.clone().unwrap();
    assert_eq!((uid.len(), uid.as_bytes()[14]), (36, b'4'), "{uid}");
    assert_eq!(meta.generation, Some(1));
    assert!(meta.creation_timestamp.is_some() && meta.resource_version.is_some());
    let annotations = meta.annotations.unwrap();
    assert_eq!(annotations[labels::CONFIG_SOURCE], SOURCE);
    assert_eq!(annotations[labels::CONFIG_HASH], uid);
    assert!(annotations.contains_key(labels::CONFIG_SEEN));
    assert_eq!(created.pod.spec.as_ref().unwrap().node_name.as_deref(), Some(NODE));
    assert_eq!((phase(&created), created.status.qos_class.as_deref()), ("Pending", Some("BestEffort")));

    let updated = replace(&store, "web", "a:2").await.unwrap();
    assert!(updated.resource_version > created.resource_version);
    assert_eq!(updated.pod.metadata.generation, Some(2));
    let version = store.list().1;
    drop(store);

    let store = open(dir.path());
    let found = store.get(&key("web")).unwrap();
    assert_eq!(found.pod, updated.pod);
    assert!(found.resource_version > version, "{} {version}", found.resource_version);
    assert_eq!(images(&store), [("web".to_owned(), "a:2".to_owned())]);
    assert_eq!(store.watch(version).map(drop).unwrap_err().code, 410);
}

#[tokio::test]
async fn files_and_folders_are_their_owners_alone() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("a/b");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let store = open(&folder);
    let created = store.create(pod("web", "a:1"), false).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("pods")), 0o700);
    let files = pod_files(&folder);
    assert_eq!(files, [folder.join(format!("pods/{}.json", created.pod.metadata.uid.as_ref().unwrap()))]);
    for file in [&files[0], &folder.join("lock"), &folder.join("revision")] {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn a_name_is_taken_once_and_pods_are_counted() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path(), NODE, 2).unwrap();
    store.create(pod("a", "i"), false).await.unwrap();
    let error = store.create(pod("a", "i"), false).await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (409, "pods \"a\" already exists"));
    store.create(pod("b", "i"), false).await.unwrap();
    let error = store.create(pod("c", "i"), false).await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (403, "pods \"c\" is forbidden: exceeded quota: 2 pods are the most that may be pushed")
    );
    let mut elsewhere = pod("d", "i");
    elsewhere.spec.as_mut().unwrap().node_name = Some("node2".to_owned());
    delete(&store, "a", Some(0)).await.unwrap();
    let error = store.create(elsewhere, false).await.unwrap_err();
    assert_eq!((error.code, error.causes[0].field.as_str()), (422, "spec.nodeName"));
    let mut versioned = pod("d", "i");
    versioned.metadata.resource_version = Some("1".to_owned());
    assert_eq!(store.create(versioned, false).await.unwrap_err().code, 400);
}

#[tokio::test]
async fn a_change_must_be_to_the_pod_that_the_client_saw() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let first = store.create(pod("web", "a:1"), false).await.unwrap();
    let second = replace(&store, "web", "a:2").await.unwrap();
    let put = |pod: Pod| store.update(key("web"), false, move |_| Ok(pod));

    let error = put(first.to_pod()).await.unwrap_err();
    assert_eq!((error.code, error.reason), (409, "Conflict"));
    assert!(
        error.message.ends_with("please apply your changes to the latest version and try again"),
        "{error}"
    );
    let mut other = second.to_pod();
    other.metadata.uid = Some("other".to_owned());
    let error = put(other).await.unwrap_err();
    assert!(error.message.contains("Precondition failed: UID in precondition: other"), "{error}");

    // Without what the server adds it is still the same pod, and no new version.
    let mut bare = pod("web", "a:2");
    bare.spec.as_mut().unwrap().node_name = None;
    assert_eq!(put(bare).await.unwrap().resource_version, second.resource_version);
    let mut renamed = second.to_pod();
    renamed.metadata.name = Some("other".to_owned());
    assert_eq!(put(renamed).await.unwrap_err().code, 400);
    let mut ports = second.to_pod();
    ports.spec.as_mut().unwrap().host_network = Some(true);
    assert_eq!(put(ports).await.unwrap_err().code, 422);
    let refused = store.update(key("web"), false, |_| Err(ApiError::bad_request("no"))).await;
    assert_eq!(refused.unwrap_err().message, "no");
    assert_eq!(replace(&store, "none", "a:2").await.unwrap_err().message, "pods \"none\" not found");
    assert_eq!(store.get(&key("web")).unwrap().resource_version, second.resource_version);
}

#[tokio::test]
async fn a_failing_change_leaves_the_store_working() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    store.create(pod("web", "a:1"), false).await.unwrap();
    let error = store.update(key("web"), false, |_| panic!("a bug in a patch")).await.unwrap_err();
    assert_eq!(error.code, 500);
    replace(&store, "web", "a:2").await.unwrap();
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let before = store.list().1;
    let made = store.create(pod("web", "a:1"), true).await.unwrap();
    assert!(made.pod.metadata.uid.is_some());
    assert_eq!(made.metadata().resource_version, None);
    let created = store.create(pod("web", "a:1"), false).await.unwrap();
    let patched = store
        .update(key("web"), true, |old| {
            let mut new = old.clone();
            new.spec.as_mut().unwrap().containers[0].image = Some("a:2".to_owned());
            Ok(new)
        })
        .await
        .unwrap();
    assert_eq!(patched.pod.metadata.generation, Some(2));
    for grace in [None, Some(0)] {
        store.delete(key("web"), Preconditions::default(), grace, true).await.unwrap();
    }
    assert_eq!(store.list().1, before + 1);
    assert_eq!(store.get(&key("web")).unwrap().pod, created.pod);
}

#[tokio::test]
async fn a_deleted_pod_goes_when_the_agent_says_that_it_has_ended() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let created = store.create(pod("web", "a:1"), false).await.unwrap();
    store.observe(&[view(&created.pod, "Running").into()]);
    let stale = Preconditions { uid: Some("x".to_owned()), ..Preconditions::default() };
    assert_eq!(store.delete(key("web"), stale, None, false).await.unwrap_err().code, 409);

    let deleted = delete(&store, "web", Some(7)).await.unwrap();
    assert_eq!(deleted.pod.metadata.deletion_grace_period_seconds, Some(7));
    assert_eq!((phase(&deleted), images(&store).len()), ("Running", 1));
    store.observe(&[view(&created.pod, "Running").into(), view(&deleted.pod, "Running").into()]);
    drop(store);

    let store = open(dir.path());
    let deleted = store.get(&key("web")).unwrap();
    assert!(deleted.pod.metadata.deletion_timestamp.is_some());
    store.observe(&[PodView { finished: true, ..view(&deleted.pod, "Succeeded") }.into()]);
    until_gone(&store, "web").await;
    assert_eq!(pod_files(dir.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_pod_that_the_agent_no_longer_shows_after_its_deletion_is_gone() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let created = store.create(pod("web", "a:1"), false).await.unwrap();
    let kept = store.create(pod("kept", "a:1"), false).await.unwrap();
    store.observe(&[view(&created.pod, "Running").into()]);
    let deleted = delete(&store, "web", None).await.unwrap();
    // The agent has not heard of it yet.
    store.observe(&[]);
    assert_eq!(images(&store).len(), 2);
    store.observe(&[view(&deleted.pod, "Running").into()]);
    store.observe(&[view(&kept.pod, "Running").into()]);
    until_gone(&store, "web").await;
    assert_eq!(images(&store).len(), 1);
}

#[tokio::test]
async fn finalizers_keep_a_pod_until_they_are_taken_away() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let mut held = pod("web", "a:1");
    held.metadata.finalizers = Some(vec!["example.com/hold".to_owned()]);
    store.create(held, false).await.unwrap();
    let deleted = delete(&store, "web", Some(0)).await.unwrap();
    assert_eq!(deleted.pod.metadata.deletion_grace_period_seconds, Some(0));
    let freed = |old: &Pod| {
        let mut new = old.clone();
        new.metadata.finalizers = None;
        Ok(new)
    };
    store.update(key("web"), false, freed).await.unwrap();
    assert_eq!(store.get(&key("web")).unwrap_err().code, 404);
    assert_eq!(pod_files(dir.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn pods_of_other_sources_are_shown_and_can_not_be_changed() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let mut watch = store.watch(store.list().1).unwrap();
    let foreign = |uid: &str| {
        let mut pod = pod("static-node1", "s:1");
        pod.metadata.uid = Some(uid.to_owned());
        pod.metadata.annotations = Some([(labels::CONFIG_SOURCE.to_owned(), "file".to_owned())].into());
        Arc::new(pod)
    };
    let first = foreign("1");
    let shown: Vec<Arc<PodView>> = vec![view(&first, "Pending").into()];
    store.observe(&shown);
    store.observe(&shown);
    store.observe(&[view(&first, "Running").into()]);
    let error = replace(&store, "static-node1", "s:2").await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (
            403,
            "pods \"static-node1\" is forbidden: it comes from the source \"file\" of this node and can only be \
             changed there"
        )
    );
    assert_eq!(delete(&store, "static-node1", None).await.unwrap_err().code, 403);
    assert_eq!(store.create(pod("static-node1", "x"), false).await.unwrap_err().code, 409);
    assert!(images(&store).is_empty(), "they are not this source's");
    // Its file was changed: the pod before still ends.
    let second = foreign("2");
    store.observe(&[
        PodView { removing: true, ..view(&first, "Running") }.into(),
        view(&second, "Pending").into(),
    ]);
    store.observe(&[]);
    let events = next(&mut watch).await.unwrap();
    assert_eq!(
        described(&events),
        [
            "added static-node1 Pending",
            "modified static-node1 Running",
            "deleted static-node1 Running",
            "added static-node1 Pending",
            "deleted static-node1 Pending",
        ]
    );
}

#[tokio::test]
async fn a_status_makes_a_new_version_and_wakes_nobody_but_watches() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let created = store.create(pod("web", "a:1"), false).await.unwrap();
    let mut state = store.state();
    state.mark_unchanged();
    let mut watch = store.watch(created.resource_version).unwrap();
    let running: Vec<Arc<PodView>> = vec![view(&created.pod, "Running").into()];
    store.observe(&running);
    store.observe(&running);
    store.observe(&[view(&created.pod, "Running").into()]);
    let events = next(&mut watch).await.unwrap();
    assert_eq!(described(&events), ["modified web Running"]);
    assert!(matches!(&events[0].change, Change::Modified(before) if phase(before) == "Pending"));
    assert!(!state.has_changed().unwrap());
    let written = fs::read_to_string(&pod_files(dir.path())[0]).unwrap();
    assert!(!written.contains("status") && !written.contains("resourceVersion"), "{written}");
    // The status outlives a change of the pod.
    assert_eq!(phase(&replace(&store, "web", "a:2").await.unwrap()), "Running");
}

#[tokio::test]
async fn a_watch_tells_each_change_once_and_in_order_and_a_slow_one_is_told_to_list() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let created = store.create(pod("web", "a:1"), false).await.unwrap();
    let mut slow = store.watch(created.resource_version).unwrap();
    let mut quick = store.watch(created.resource_version).unwrap();
    let mut seen = Vec::new();
    let mut expected = Vec::new();
    for round in 0..1000_u64 {
        store.observe(&[view(&created.pod, &round.to_string()).into()]);
        expected.push(created.resource_version + 1 + round);
        if round % 100 == 99 {
            while seen.len() < expected.len() {
                seen.extend(
                    next(&mut quick).await.unwrap().iter().map(|event| event.object.resource_version),
                );
            }
        }
    }
    assert_eq!(seen, expected);
    let error = next(&mut slow).await.map(drop).unwrap_err();
    assert_eq!((error.code, error.reason), (410, "Expired"));
    assert_eq!(store.watch(u64::MAX).map(drop).unwrap_err().code, 410, "a version of the future");
    // Nothing new: it waits, and what comes then is told.
    let waiting = tokio::spawn(async move { quick.next().await.map(|events| described(&events)) });
    tokio::task::yield_now().await;
    store.observe(&[view(&created.pod, "last").into()]);
    assert_eq!(
        tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap(),
        ["modified web last"]
    );
}

#[tokio::test]
async fn a_second_agent_is_refused_with_the_first_ones_process() {
    let dir = TempDir::new().unwrap();
    let first = open(dir.path());
    let error = Store::open(dir.path(), NODE, 100).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the folder {} for pushed pods is in use by another agent, process {}",
            dir.path().display(),
            std::process::id()
        )
    );
    drop(first);
    open(dir.path());
}

#[tokio::test]
async fn damaged_and_foreign_files_are_told_and_kept_and_half_written_ones_swept() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    store.create(pod("good", "a:1"), false).await.unwrap();
    store.create(pod("torn", "a:1"), false).await.unwrap();
    drop(store);
    let pods = dir.path().join("pods");
    let file_of = |name: &str| {
        let is_it =
            |file: &PathBuf| fs::read_to_string(file).unwrap().contains(&format!("\"name\":\"{name}\""));
        pod_files(dir.path()).into_iter().find(is_it).unwrap()
    };
    let (good, torn) = (file_of("good"), file_of("torn"));
    let text = fs::read_to_string(&torn).unwrap();
    fs::write(&torn, &text[..text.len() / 2]).unwrap();
    fs::copy(&good, pods.join("copy.json")).unwrap();
    fs::write(pods.join("elsewhere.json"), {
        let other =
            fs::read_to_string(&good).unwrap().replace("\"good\"", "\"other\"").replace(NODE, "node2");
        let uid = good.file_stem().unwrap().to_str().unwrap();
        other.replace(uid, "elsewhere")
    })
    .unwrap();
    fs::write(pods.join("x.tmp"), "{\"kind\":").unwrap();

    let store = open(dir.path());
    assert_eq!(images(&store), [("good".to_owned(), "a:1".to_owned())]);
    let state = store.state().borrow().clone();
    assert!(state.seen, "one bad file does not hold up the others");
    let problems: Vec<_> = state.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 3, "{problems:#?}");
    let reports = |file: &Path, words: &str| {
        let file = file.display().to_string();
        assert!(
            problems.iter().any(|p| p.starts_with(&file) && p.contains(words)),
            "{file} {words}: {problems:#?}"
        );
    };
    reports(&torn, "is damaged: EOF while parsing");
    reports(&pods.join("copy.json"), "the name of the file is not the UID");
    reports(
        &pods.join("elsewhere.json"),
        "the pod default/other is one of the node \"node2\", and this is the node \"node1\"",
    );
    assert_eq!(pod_files(dir.path()).len(), 4, "nothing but the half-written file is swept");
}

#[tokio::test]
async fn versions_go_on_though_their_count_is_lost() {
    for lost in [None, Some("no number"), Some(""), Some("18446744073709551615")] {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path());
        let last = store.create(pod("web", "a:1"), false).await.unwrap().resource_version;
        drop(store);
        match lost {
            None => fs::remove_file(dir.path().join("revision")).unwrap(),
            Some(text) => fs::write(dir.path().join("revision"), text).unwrap(),
        }
        let store = open(dir.path());
        assert!(store.list().1 > last, "{lost:?}");
        let state = store.state().borrow().clone();
        assert!(state.seen, "the pods are all there");
        let warnings: Vec<_> = state.problems.iter().map(|problem| problem.warning).collect();
        assert_eq!(warnings, vec![true; usize::from(lost.is_some())]);
    }
}
