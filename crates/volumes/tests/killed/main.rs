//! The agent is killed before each call that changes something on the node for a volume: while the volume is made, a part
//! of it is mounted, or all is taken down. The next run completes what was begun, and nothing of it tells of the kill.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod storage;
mod trace;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kube_model::core::Pod;
use kube_model::objects::{Kind, Object};
use kube_model::{Monotonic, PodUid};
use serde_json::{Value, json};
use testkit::fake_csi::{Capability, CsiOptions, FakeCsi};
use testkit::mounts::in_own_mounts;
use tokio::time::Instant;
use volume_fs::MountTable;
use volume_plan::container_mounts::SubPath;
use volume_plan::payload;
use volumes::{Content, ContentError, News, Settings, Token, Volumes};

use storage::{Claims, DRIVER};
use trace::{End, run_until};

/// Where a run has its folders, and what it does: how a run in a process of its own is told.
const RUN: &str = "VOLUMES_TEST_RUN";

/// No step takes that long.
const SOON: Duration = Duration::from_secs(60);

/// A volume for each way in which one is made.
fn volumes() -> [(&'static str, Value); 8] {
    let claim = |name: &str| json!({"persistentVolumeClaim": {"claimName": name}});
    [
        ("local", claim("local")),
        ("csi", claim("csi")),
        ("device", claim("device")),
        ("disk", json!({"emptyDir": {}})),
        ("memory", json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})),
        ("config", json!({"configMap": {"name": "c", "items": [{"key": "key", "path": "sub/key"}]}})),
        ("secret", json!({"secret": {"secretName": "s", "defaultMode": 0o400}})),
        (
            "all",
            json!({"projected": {"sources": [
                {"configMap": {"name": "c"}},
                {"downwardAPI": {"items": [{"path": "sub/name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            ]}}),
        ),
    ]
}

fn pod(name: &str, source: &Value) -> Arc<Pod> {
    let mut volume = source.clone();
    volume["name"] = name.into();
    let used = match name {
        "device" => json!({"name": "c", "volumeDevices": [{"name": name, "devicePath": "/dev/d"}]}),
        _ => json!({"name": "c", "volumeMounts": [{"name": name, "mountPath": "/m"}]}),
    };
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {
                "securityContext": {"fsGroup": 2000},
                "containers": [used],
                "volumes": [volume],
            },
        }))
        .unwrap(),
    )
}

struct Held;

impl Content for Held {
    fn object<'a>(
        &'a self,
        _: &'a Pod,
        kind: Kind,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Object>, ContentError>> {
        let data =
            [("key".to_owned(), kind.to_string().into_bytes()), ("other".to_owned(), b"2".to_vec())].into();
        Box::pin(std::future::ready(Ok(Arc::new(Object { data, ..Object::default() }))))
    }

    fn token<'a>(&'a self, _: &'a Pod, _: payload::Token<'a>) -> BoxFuture<'a, Result<Token, ContentError>> {
        Box::pin(std::future::ready(Err(ContentError::Unavailable("none".to_owned()))))
    }
}

/// What one run of the agent does.
async fn run(folder: &Path, volume: &str, takes_down: bool) {
    let (start, drivers) = (Instant::now(), csi::Drivers::default());
    let settings = Settings {
        pods_dir: folder.join("pods"),
        plugins_dir: folder.join("plugins"),
        node_name: "node1".to_owned(),
        drivers: drivers.clone(),
        allocatable: Default::default(),
        file_label: None,
        sync_frequency: Duration::from_secs(60),
        now: Arc::new(move || Monotonic::after_start(start.elapsed())),
    };
    let storage = Claims { local: folder.join("disk") };
    let (volumes, mut news) = Volumes::new(settings, Arc::new(Held), Arc::new(storage));
    let uid = PodUid::from("u");
    let registry = folder.join("plugins_registry");
    if registry.exists() {
        tokio::spawn(csi::Registrar::new(registry, drivers.clone()).run());
        let mut changes = drivers.changes();
        let there = changes.wait_for(|drivers| drivers.contains_key(DRIVER));
        tokio::time::timeout(SOON, there).await.unwrap().unwrap();
    }
    if takes_down {
        volumes.tear_down(&uid).await.unwrap();
        return volumes.take_down_unused().await.unwrap();
    }
    let (name, source) = crate::volumes().into_iter().find(|(name, _)| *name == volume).unwrap();
    let pod = pod(name, &source);
    while let Some(lacking) = volumes.desire(&pod) {
        let told = tokio::time::timeout(SOON, news.recv()).await;
        let told = told.unwrap_or_else(|_| panic!("still lacking: {lacking:?}")).unwrap();
        assert!(matches!(told, News::Wake(_)), "{told:?}");
    }
    let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
    for (index, (path, create)) in
        [("part/deep", true), ("sub", false), ("other", false)].into_iter().enumerate()
    {
        let Some(whole) = volumes.host_path(&uid, volume) else { break };
        let is_there = fs::symlink_metadata(whole.join(path)).is_ok();
        if is_there || (create && source.get("emptyDir").is_some()) {
            let part = SubPath { path: path.into(), create };
            // Two ask for it at once: it is mounted once.
            let ask = || volumes.part(&uid, volume, "c", index, &part);
            let (one, other) = futures::join!(ask(), ask());
            assert_eq!(one.unwrap(), other.unwrap());
        }
    }
}

/// A run in a process of its own.
fn command(folder: &Path, volume: &str, takes_down: bool) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "--test-threads=1", "a_run"]).stdout(std::process::Stdio::null());
    command.env(RUN, format!("{} {volume} {takes_down}", folder.display()));
    command
}

/// What the others do in a process of its own; by itself it does nothing.
#[test]
fn a_run() {
    #[expect(clippy::disallowed_methods, reason = "how a child is told what to do")]
    let Ok(told) = std::env::var(RUN) else { return };
    let words: Vec<_> = told.split(' ').collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(Path::new(words[0]), words[1], words[2] == "true"));
}

/// What is on disk and mounted: path, kind and mode, owner, content; without what is another each time.
fn found(folder: &Path) -> Vec<String> {
    fn add(root: &Path, path: &Path, all: &mut Vec<String>) {
        let Ok(found) = fs::symlink_metadata(path) else { return };
        let content = match found.file_type() {
            kind if kind.is_symlink() => {
                let to = fs::read_link(path).unwrap();
                to.strip_prefix(root).unwrap_or(&to).display().to_string()
            }
            kind if kind.is_file() => fs::read_to_string(path).unwrap(),
            _ => String::new(),
        };
        let name = path.strip_prefix(root).unwrap().display();
        let mode = found.permissions().mode();
        all.push(format!("{name} {mode:o} {}:{} {content}", found.uid(), found.gid()));
        if found.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                add(root, &entry.unwrap().path(), all);
            }
        }
    }
    let mut all = Vec::new();
    add(folder, &folder.join("pods"), &mut all);
    add(folder, &folder.join("plugins"), &mut all);
    let table = MountTable::read().unwrap();
    all.extend(table.below(folder).map(|mount| {
        let point = mount.point.strip_prefix(folder).unwrap().display();
        // Within its file system, below the folder of the run; a device is another one each time.
        let root = mount.root.display().to_string();
        let run = format!("/{}/", folder.file_name().unwrap().to_string_lossy());
        let of = root.split_once(&run).map_or(root.as_str(), |(_, below)| below);
        let of = if of.starts_with("/loop") { "/loop" } else { of };
        format!("mounted {point} {} {} {of}", mount.fs_type, mount.options)
    }));
    let mut all: Vec<_> = all.iter().map(|line| timeless(line)).collect();
    all.sort();
    all
}

/// The name of the folder that the atomic writer makes has the time and a random number.
fn timeless(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("..2") {
        let length = rest[at..].find(|c: char| !matches!(c, '.' | '_') && !c.is_ascii_digit());
        let (before, behind) = (&rest[..at], &rest[at + length.unwrap_or(rest.len() - at)..]);
        out.push_str(before);
        out.push_str("..$TS");
        rest = behind;
    }
    out + rest
}

fn ends_well(folder: &Path, volume: &str, takes_down: bool) {
    let status = command(folder, volume, takes_down).status().unwrap();
    assert!(status.success(), "{volume}: the next run fails: {status}");
}

fn is_killed_anywhere(volume: &'static str) {
    in_own_mounts(move |space| {
        let options = CsiOptions::new(DRIVER).can(Capability::StageUnstageVolume);
        let driver = ["csi", "device"].contains(&volume).then(|| FakeCsi::start(options).unwrap());
        let folder = |name: String| {
            let folder = space.join(name);
            fs::create_dir_all(folder.join("disk/sub")).unwrap();
            // Each run asks it who it is.
            driver.iter().for_each(|driver| driver.register(&folder.join("plugins_registry")).unwrap());
            folder
        };
        let undisturbed = folder("undisturbed".to_owned());
        ends_well(&undisturbed, volume, false);
        let made = found(&undisturbed);
        ends_well(&undisturbed, volume, true);
        let down = found(&undisturbed);
        assert!(made.len() > down.len() && !down.iter().any(|line| line.starts_with("mounted")), "{down:#?}");

        let mut kills = [0, 0];
        for stop in 0.. {
            let folder = folder(format!("{stop}"));
            let making = run_until(command(&folder, volume, false), stop);
            let before = found(&folder);
            ends_well(&folder, volume, false);
            assert_eq!(
                found(&folder),
                made,
                "{volume} made, stop {stop}, {making:?}, then there was {before:#?}"
            );

            let taking_down = run_until(command(&folder, volume, true), stop);
            let before = found(&folder);
            ends_well(&folder, volume, true);
            assert_eq!(
                found(&folder),
                down,
                "{volume} down, stop {stop}, {taking_down:?}, then there was {before:#?}"
            );

            // What is half made can be taken down, too. Nothing stays: loop devices would outlive the test.
            run_until(command(&folder, volume, false), stop);
            let before = found(&folder);
            ends_well(&folder, volume, true);
            let left = found(&folder);
            let left: Vec<_> = left.iter().filter(|line| !down.contains(line)).collect();
            assert!(left.is_empty(), "{volume}, stop {stop}: {left:#?} is left of {before:#?}");
            let ends = [making, taking_down];
            for (count, end) in kills.iter_mut().zip(&ends) {
                *count += usize::from(matches!(end, End::Killed(_)));
            }
            if ends == [End::Exited(0), End::Exited(0)] {
                break;
            }
        }
        assert!(kills[0] > 8 && kills[1] > 3, "{volume}: {kills:?}");
    });
}

#[test]
fn a_local_volume_of_a_claim_and_its_parts() {
    is_killed_anywhere("local");
}

#[test]
fn a_volume_that_a_driver_stages_and_publishes() {
    is_killed_anywhere("csi");
}

#[test]
fn a_device_of_a_driver() {
    is_killed_anywhere("device");
}

#[test]
fn an_empty_dir_on_disk_and_its_parts() {
    is_killed_anywhere("disk");
}

#[test]
fn an_empty_dir_in_memory_and_its_parts() {
    is_killed_anywhere("memory");
}

#[test]
fn a_config_map_and_its_parts() {
    is_killed_anywhere("config");
}

#[test]
fn a_secret_and_its_parts() {
    is_killed_anywhere("secret");
}

#[test]
fn a_projected_volume_and_its_parts() {
    is_killed_anywhere("all");
}
