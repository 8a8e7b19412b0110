//! A pod's volumes from the first look to the last, on a disk of its own; who holds what they are made of is a fake.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use kube_model::core::Pod;
use kube_model::objects::{Key, Kind, Object};
use kube_model::{Monotonic, PodUid};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use volume_plan::container_mounts::SubPath;
use volume_plan::payload;
use volumes::{
    Content, ContentError, FileError, Measure, News, NoStorage, Settings, TearDownError, Token, Volumes,
};

/// No step takes that long.
const SOON: Duration = Duration::from_secs(30);

/// ConfigMaps by name; a name that stands for `None` cannot be read.
#[derive(Clone, Default)]
struct Held(Arc<Mutex<BTreeMap<String, Option<Arc<Object>>>>>);

impl Held {
    fn set(&self, name: &str, value: &str) {
        let data = [("key".to_owned(), value.as_bytes().to_vec())].into();
        self.0.lock().unwrap().insert(name.to_owned(), Some(Arc::new(Object { data, ..Object::default() })));
    }
}

impl Content for Held {
    fn object<'a>(
        &'a self,
        _: &'a Pod,
        kind: Kind,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Object>, ContentError>> {
        if name == "hangs" {
            return Box::pin(std::future::pending());
        }
        let found = self.0.lock().unwrap().get(name).cloned();
        Box::pin(std::future::ready(match found {
            Some(Some(object)) => Ok(object),
            Some(None) => Err(ContentError::Unavailable("the server is away".to_owned())),
            None => Err(ContentError::NotFound(format!("{kind} {name:?} not found"))),
        }))
    }

    fn token<'a>(&'a self, _: &'a Pod, _: payload::Token<'a>) -> BoxFuture<'a, Result<Token, ContentError>> {
        Box::pin(std::future::ready(Err(ContentError::Unavailable("none".to_owned()))))
    }
}

struct World {
    dir: tempfile::TempDir,
    held: Held,
    volumes: Volumes,
    news: mpsc::Receiver<News>,
    stop: CancellationToken,
}

impl World {
    fn new(held: Held) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::on(dir, held)
    }

    /// As a run of the agent that starts with what an earlier one has left.
    fn on(dir: tempfile::TempDir, held: Held) -> Self {
        let start = Instant::now();
        let settings = Settings {
            pods_dir: dir.path().join("pods"),
            plugins_dir: dir.path().join("plugins"),
            node_name: "node1".to_owned(),
            drivers: csi::Drivers::default(),
            allocatable: Default::default(),
            file_label: None,
            sync_frequency: Duration::from_secs(60),
            now: Arc::new(move || Monotonic::after_start(start.elapsed())),
        };
        let (volumes, news) = Volumes::new(settings, Arc::new(held.clone()), Arc::new(NoStorage));
        let stop = CancellationToken::new();
        tokio::spawn(volumes.clone().run(stop.clone()));
        Self { dir, held, volumes, news, stop }
    }

    fn restarted(self) -> Self {
        self.stop.cancel();
        Self::on(self.dir, self.held)
    }

    async fn news(&mut self) -> News {
        tokio::time::timeout(SOON, self.news.recv()).await.unwrap().unwrap()
    }

    /// Looks again at each news until the pod lacks nothing.
    async fn until_mounted(&mut self, pod: &Arc<Pod>) {
        while let Some(lacking) = self.volumes.desire(pod) {
            let told = tokio::time::timeout(SOON, self.news.recv()).await;
            told.unwrap_or_else(|_| panic!("still lacking: {lacking:?}")).unwrap();
        }
    }

    fn changed(&self, name: &str) {
        self.volumes.changed(&[Key { kind: Kind::ConfigMap, namespace: "ns".into(), name: name.into() }]);
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("pods/u/volumes/kubernetes.io~configmap/config/key")
    }

    async fn until_file_is(&self, want: &str) {
        let deadline = Instant::now() + SOON;
        loop {
            let found = fs::read_to_string(self.file()).unwrap_or_default();
            if found == want {
                return;
            }
            assert!(Instant::now() < deadline, "found {found:?}, wanted {want:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn pod() -> Arc<Pod> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {
                "containers": [{"name": "c", "volumeMounts": [
                    {"name": "config", "mountPath": "/config"}, {"name": "data", "mountPath": "/data"}]}],
                "volumes": [{"name": "config", "configMap": {"name": "c"}}, {"name": "data", "emptyDir": {}},
                    {"name": "unused", "emptyDir": {}}],
            },
        }))
        .unwrap(),
    )
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

#[tokio::test]
async fn what_is_missing_is_told_and_comes_as_soon_as_it_is_there() {
    let mut world = World::new(Held::default());
    let pod = pod();
    assert!(world.volumes.desire(&pod).is_some());
    let failed = "MountVolume.SetUp failed for volume \"config\" : configmap \"c\" not found";
    loop {
        match world.news().await {
            News::FailedMount(uid, message) => {
                assert_eq!((uid.as_str(), message.as_str()), ("u", failed));
                break;
            }
            News::Wake(_) | News::Event(..) => {}
        }
    }
    let lacking = world.volumes.desire(&pod).unwrap();
    assert!(lacking.message.contains("configmap \"c\" not found"), "{lacking:?}");
    assert!(lacking.until.is_some(), "{lacking:?}");

    world.held.set("c", "one");
    world.changed("other");
    world.changed("c");
    world.until_mounted(&pod).await;
    assert_eq!(fs::read_to_string(world.file()).unwrap(), "one");
    assert!(!world.dir.path().join("pods/u/volumes/kubernetes.io~empty-dir/unused").exists());
}

#[tokio::test]
async fn content_follows_its_changes_and_the_last_good_one_stays() {
    let held = Held::default();
    held.set("c", "one");
    let mut world = World::new(held);
    let pod = pod();
    world.until_mounted(&pod).await;
    world.held.set("c", "two");
    world.changed("c");
    world.until_file_is("two").await;

    // The server is away, and the agent starts anew: the pod has what it had.
    world.held.0.lock().unwrap().insert("c".to_owned(), None);
    let mut world = world.restarted();
    world.until_mounted(&pod).await;
    assert_eq!(fs::read_to_string(world.file()).unwrap(), "two");

    world.held.set("c", "three");
    world.changed("c");
    world.until_file_is("three").await;
}

#[tokio::test]
async fn volumes_are_taken_down_by_what_is_on_disk() {
    let held = Held::default();
    held.set("c", "one");
    let mut world = World::new(held);
    let pod = pod();
    world.until_mounted(&pod).await;
    let uid = PodUid::from("u");
    // Another run knows nothing of them.
    let world = world.restarted();
    world.volumes.tear_down(&uid).await.unwrap();
    world.volumes.tear_down(&uid).await.unwrap();
    let volumes = world.dir.path().join("pods/u/volumes");
    for plugin in ["kubernetes.io~configmap", "kubernetes.io~empty-dir"] {
        assert!(is_empty(&volumes.join(plugin)), "{plugin}");
    }
    assert!(world.volumes.shown(&uid).is_empty());
}

#[tokio::test]
async fn a_volume_of_a_plugin_that_is_not_ours_goes_only_if_it_is_empty() {
    let world = World::new(Held::default());
    let plugin = world.dir.path().join("pods/u/volumes/kubernetes.io~rbd");
    fs::create_dir_all(plugin.join("done")).unwrap();
    let data = plugin.join("left/data.json");
    fs::create_dir_all(data.parent().unwrap()).unwrap();
    fs::write(&data, "{}").unwrap();
    let error = world.volumes.tear_down(&PodUid::from("u")).await.unwrap_err();
    assert!(matches!(error, TearDownError::Foreign(_)), "{error:?}");
    assert!(data.exists() && !plugin.join("done").exists());
}

#[tokio::test]
async fn a_part_that_cannot_be_unmounted_keeps_no_volume() {
    let world = World::new(Held::default());
    let pod = world.dir.path().join("pods/u");
    fs::create_dir_all(pod.join("volume-subpaths/v/c/0/not-empty")).unwrap();
    let volume = pod.join("volumes/kubernetes.io~configmap/config");
    fs::create_dir_all(&volume).unwrap();
    world.volumes.tear_down(&PodUid::from("u")).await.unwrap_err();
    assert!(!volume.exists());
}

#[tokio::test]
async fn what_is_left_goes_only_if_nobody_wants_it_and_who_comes_meanwhile_waits() {
    let held = Held::default();
    held.set("c", "one");
    let mut world = World::new(held);
    let (pod, uid) = (pod(), PodUid::from("u"));
    world.until_mounted(&pod).await;
    assert_eq!(world.volumes.remove_left(&uid, || true, || ()).await.unwrap(), None, "it is wanted");

    let mut world = world.restarted();
    assert_eq!(world.volumes.remove_left(&uid, || false, || ()).await.unwrap(), None, "it is not gone");
    assert!(world.file().exists());
    let (volumes, comes, file) = (world.volumes.clone(), Arc::clone(&pod), world.file());
    let then = move || (volumes.desire(&comes), file.exists());
    let (lacking, exists) = world.volumes.remove_left(&uid, || true, then).await.unwrap().unwrap();
    let lacking = lacking.unwrap();
    assert!(lacking.message.contains("being taken down") && lacking.until.is_some(), "{lacking:?}");
    assert!(!exists);
    world.until_mounted(&pod).await;
    assert!(world.file().exists());
}

#[tokio::test]
async fn nobody_waits_for_a_server_to_take_volumes_down_and_no_part_is_mounted_any_more() {
    let mut world = World::new(Held::default());
    let mut pod = pod();
    let spec = Arc::make_mut(&mut pod).spec.as_mut().unwrap();
    let volumes = spec.volumes.as_mut().unwrap();
    volumes[0].config_map.as_mut().unwrap().name = "hangs".to_owned();
    let data = volumes[1].clone();
    let uid = PodUid::from("u");
    assert!(world.volumes.desire(&pod).is_some());
    // The other one is there.
    assert_eq!(world.news().await, News::Wake(uid.clone()));
    tokio::time::timeout(SOON, world.volumes.tear_down(&uid)).await.unwrap().unwrap();
    let part = SubPath { path: "a".into(), create: true };
    let error = world.volumes.part(&uid, &data, "c", 0, &part).await.unwrap_err();
    assert!(error.to_string().contains("being taken down"), "{error}");
    assert!(!world.dir.path().join("pods/u/volume-subpaths").exists());
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_does_not_end_is_told_of_once() {
    let mut world = World::new(Held::default());
    let mut pod = pod();
    let spec = Arc::make_mut(&mut pod).spec.as_mut().unwrap();
    spec.volumes.as_mut().unwrap()[0].config_map.as_mut().unwrap().name = "hangs".to_owned();
    assert!(world.volumes.desire(&pod).is_some());
    let message = loop {
        // No timeout: with a clock of its own the test would be at its end at once.
        match world.news.recv().await.unwrap() {
            News::FailedMount(_, message) => break message,
            News::Wake(_) | News::Event(..) => {}
        }
    };
    assert!(message.contains("the configMap is being set up for 123 s"), "{message}");
    let lacking = world.volumes.desire(&pod).unwrap();
    assert!(lacking.message.contains("may not answer"), "{lacking:?}");
    let more = tokio::time::timeout(Duration::from_secs(600), world.news.recv()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn a_file_of_a_mounted_volume_is_read_and_of_no_other() {
    let held = Held::default();
    held.set("c", "one");
    let mut world = World::new(held);
    let (pod, uid) = (pod(), PodUid::from("u"));
    let read = |volume, path| world.volumes.read_file(&uid, volume, path);
    assert_eq!(read("data", "env").await, Err(FileError::NoVolume("data".to_owned())), "not yet");
    world.until_mounted(&pod).await;
    let read = |volume, path| world.volumes.read_file(&uid, volume, path);
    let place = world.dir.path().join("pods/u/volumes/kubernetes.io~empty-dir/data/env");
    assert_eq!(read("data", "env").await, Err(FileError::NotFound));
    fs::write(&place, "A='1'").unwrap();
    assert_eq!(read("data", "env").await.unwrap(), b"A='1'");
    assert_eq!(read("unused", "env").await, Err(FileError::NoVolume("unused".to_owned())));
    fs::remove_file(&place).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &place).unwrap();
    let error = read("data", "env").await.unwrap_err();
    assert!(error.to_string().starts_with("couldn't parse env file: opening "), "{error}");
}

#[tokio::test]
async fn what_volumes_hold_is_measured_when_it_is_asked_for_and_is_good_for_a_while() {
    let held = Held::default();
    held.set("c", "one");
    let mut world = World::new(held);
    let (pod, uid) = (pod(), PodUid::from("u"));
    assert!(world.volumes.usage(Measure::All, Duration::ZERO).await.is_empty());
    world.until_mounted(&pod).await;
    let data = world.dir.path().join("pods/u/volumes/kubernetes.io~empty-dir/data");
    let (volumes, uid) = (world.volumes.clone(), &uid);
    let used = async |period| {
        let all = volumes.usage(Measure::All, period).await.remove(uid).unwrap();
        let names: Vec<_> =
            all.iter().map(|one| (one.name.as_str(), one.is_local, one.claim.is_some())).collect();
        assert_eq!(names, [("config", true, false), ("data", true, false)]);
        all[1].usage.inodes_used.unwrap()
    };
    assert_eq!(used(Duration::ZERO).await, 1);
    assert!(volumes.usage(Measure::Claims, Duration::ZERO).await.contains_key(uid), "what is known is told");
    fs::write(data.join("one"), "1").unwrap();
    let deadline = Instant::now() + SOON;
    // It is good for a multiple of what measuring took.
    while used(Duration::ZERO).await < 2 {
        assert!(Instant::now() < deadline, "it is not measured anew");
    }
    fs::write(data.join("two"), "2").unwrap();
    assert_eq!(used(Duration::from_secs(3600)).await, 2, "it was measured a moment ago");
}
