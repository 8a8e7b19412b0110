//! Volumes that pods have by claims, with real mounts; who has the claims is a fake.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod space;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, ready};
use kube_model::core::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use kube_model::{Monotonic, PodUid};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use volume_fs::MountTable;
use volume_plan::container_mounts::SubPath;
use volumes::{News, NoContent, Settings, Storage, StorageError, Volumes};

use space::in_own_mounts;

/// No step takes that long.
const SOON: Duration = Duration::from_secs(60);

/// Claims and volumes by their names.
#[derive(Clone, Default)]
struct Objects(Arc<Mutex<BTreeMap<String, Value>>>);

impl Objects {
    fn set(&self, name: &str, value: Value) {
        self.0.lock().unwrap().insert(name.to_owned(), value);
    }

    /// A claim and the volume that it is bound to: `NAME` and `NAME-pv`.
    fn bind(&self, name: &str, spec: Value) {
        let volume = format!("{name}-pv");
        self.set(name, claim(name, "Bound"));
        let mut all = json!({"claimRef": {"uid": format!("{name}-uid")}, "accessModes": ["ReadWriteOnce"]});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        self.set(&volume, json!({"metadata": {"name": volume}, "spec": all}));
    }

    fn get<T: serde::de::DeserializeOwned>(&self, plural: &str, name: &str) -> Result<T, StorageError> {
        let found = self.0.lock().unwrap().get(name).cloned();
        let found = found.ok_or_else(|| StorageError(format!("{plural} {name:?} not found")))?;
        Ok(serde_json::from_value(found).unwrap())
    }
}

fn claim(name: &str, phase: &str) -> Value {
    json!({"metadata": {"name": name, "uid": format!("{name}-uid")}, "spec": {"volumeName": format!("{name}-pv")},
        "status": {"phase": phase}})
}

impl Storage for Objects {
    fn claim<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<PersistentVolumeClaim, StorageError>> {
        assert_eq!(namespace, "ns");
        Box::pin(ready(self.get("persistentvolumeclaims", name)))
    }

    fn volume<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<PersistentVolume, StorageError>> {
        Box::pin(ready(self.get("persistentvolumes", name)))
    }

    fn node(&self) -> Option<Arc<Node>> {
        let labels = json!({"metadata": {"labels": {"kubernetes.io/hostname": "node1"}}});
        Some(Arc::new(serde_json::from_value(labels).unwrap()))
    }
}

struct World {
    dir: PathBuf,
    objects: Objects,
    volumes: Volumes,
    news: mpsc::Receiver<News>,
    stop: CancellationToken,
}

impl World {
    /// As a run of the agent that starts with what an earlier one has left.
    fn on(dir: PathBuf, objects: Objects) -> Self {
        let start = Instant::now();
        let settings = Settings {
            pods_dir: dir.join("pods"),
            plugins_dir: dir.join("plugins"),
            allocatable: Default::default(),
            now: Arc::new(move || Monotonic::after_start(start.elapsed())),
        };
        let (volumes, news) = Volumes::new(settings, Arc::new(NoContent), Arc::new(objects.clone()));
        let stop = CancellationToken::new();
        tokio::spawn(volumes.clone().run(stop.clone()));
        Self { dir, objects, volumes, news, stop }
    }

    fn new(dir: PathBuf) -> Self {
        Self::on(dir, Objects::default())
    }

    fn restarted(self) -> Self {
        self.stop.cancel();
        Self::on(self.dir, self.objects)
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

    /// What the event about the next failure says.
    async fn failure(&mut self, pod: &Arc<Pod>) -> String {
        assert!(self.volumes.desire(pod).is_some(), "nothing is lacking");
        loop {
            if let News::FailedMount(_, message) = self.news().await {
                return message;
            }
        }
    }

    fn host_path(&self, pod: &Pod) -> PathBuf {
        self.volumes.host_path(&uid(pod), &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0]).unwrap()
    }

    /// What is mounted below the folder, in the order of the paths.
    fn mounted(&self) -> Vec<String> {
        let table = MountTable::read().unwrap();
        let below = table.below(&self.dir).filter(|mount| mount.point != self.dir);
        let mut points: Vec<_> =
            below.map(|mount| mount.point.strip_prefix(&self.dir).unwrap().display().to_string()).collect();
        points.sort();
        points
    }
}

fn uid(pod: &Pod) -> PodUid {
    PodUid::new(pod.metadata.uid.clone().unwrap())
}

/// A pod with one volume, `v`, that its container uses by `field`.
fn pod_with(uid: &str, volume: &Value, field: &str, context: &Value) -> Arc<Pod> {
    let mut source = json!({"name": "v"});
    source.as_object_mut().unwrap().extend(volume.as_object().unwrap().clone());
    let used = match field {
        "volumeDevices" => json!([{"name": "v", "devicePath": "/dev/v"}]),
        _ => json!([{"name": "v", "mountPath": "/v"}]),
    };
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": uid, "namespace": "ns", "uid": uid},
            "spec": {"securityContext": context, "containers": [{"name": "c", field: used}], "volumes": [source]},
        }))
        .unwrap(),
    )
}

fn pod(uid: &str, claim: &str) -> Arc<Pod> {
    pod_with(uid, &json!({"persistentVolumeClaim": {"claimName": claim}}), "volumeMounts", &json!({}))
}

/// In the words that were recorded of the kubelet: fixtures/volumes/{pvc,pv-local,ephemeral}*.json.
#[test]
fn a_claim_that_cannot_be_used_is_told_in_the_kubelets_words() {
    in_own_mounts(|dir| async move {
        let processing = "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to process \
                          volumes=[v]: ";
        let at = |host: &str| {
            json!({"required": {"nodeSelectorTerms": [{"matchExpressions":
                [{"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]}]}})
        };
        let objects = Objects::default();
        objects.set("unbound", claim("unbound", "Pending"));
        objects.set("lost", claim("lost", "Bound"));
        objects.bind("there", json!({"local": {"path": dir}, "nodeAffinity": at("other")}));
        objects.bind("nowhere", json!({"local": {"path": "/no/such"}, "nodeAffinity": at("node1")}));
        objects.bind("file", json!({"local": {"path": "/proc/version"}}));
        objects.bind("old", json!({"rbd": {"monitors": [], "image": "i"}}));
        objects.bind("driven", json!({"csi": {"driver": "no.such.driver", "volumeHandle": "h"}}));
        objects.bind("block", json!({"local": {"path": "/dev/null"}, "volumeMode": "Block"}));
        objects.bind("foreign-v", json!({"local": {"path": dir}}));
        let by_claim = |name: &str| json!({"persistentVolumeClaim": {"claimName": name}});
        for (name, volume, want) in [
            (
                "missing",
                by_claim("none"),
                format!(
                    "{processing}error processing PVC ns/none: failed to fetch PVC from API server: \
                     persistentvolumeclaims \"none\" not found"
                ),
            ),
            ("unbound", by_claim("unbound"), format!("{processing}error processing PVC ns/unbound: PVC is not bound")),
            (
                "lost",
                by_claim("lost"),
                format!(
                    "{processing}error processing PVC ns/lost: failed to fetch PV lost-pv from API server: \
                     persistentvolumes \"lost-pv\" not found"
                ),
            ),
            (
                "there",
                by_claim("there"),
                "MountVolume.NodeAffinity check failed for volume \"there-pv\" : no matching NodeSelectorTerms".to_owned(),
            ),
            (
                "nowhere",
                by_claim("nowhere"),
                "MountVolume.NewMounter initialization failed for volume \"nowhere-pv\" : path \"/no/such\" does not exist"
                    .to_owned(),
            ),
            (
                "file",
                by_claim("file"),
                "MountVolume.NewMounter initialization failed for volume \"file-pv\" : only directory and block device are \
                 supported"
                    .to_owned(),
            ),
            (
                "block",
                by_claim("block"),
                format!("{processing}volume v has volumeMode Block, but is specified in volumeMounts"),
            ),
            (
                "old",
                by_claim("old"),
                format!(
                    "{processing}failed to get Plugin from volumeSpec for volume \"old-pv\" err=no volume plugin matched \
                     (volumes of the kind rbd are not mounted: use the CSI driver rbd.csi.ceph.com)"
                ),
            ),
            (
                "driven",
                by_claim("driven"),
                "MountVolume.SetUp failed for volume \"driven-pv\" : kubernetes.io/csi: mounter.SetUpAt failed to get CSI \
                 client: driver name no.such.driver not found in the list of registered CSI drivers"
                    .to_owned(),
            ),
            (
                "foreign",
                json!({"ephemeral": {}}),
                format!("{processing}PVC ns/foreign-v was not created for pod ns/foreign (pod is not owner)"),
            ),
        ] {
            let mut world = World::on(dir.join(name), objects.clone());
            let pod = pod_with(name, &volume, "volumeMounts", &json!({}));
            assert_eq!(world.failure(&pod).await, want, "{name}");
            let lacking = world.volumes.desire(&pod).unwrap();
            let again = lacking.until.unwrap().left(lacking.since);
            assert!(again <= Duration::from_secs(2), "{lacking:?}");
            assert!(world.mounted().is_empty(), "{name}");
            world.volumes.tear_down(&uid(&pod)).await.unwrap();
        }
    });
}

#[test]
fn a_claim_is_used_once_it_is_bound() {
    in_own_mounts(|dir| async move {
        let mut world = World::new(dir.clone());
        let pod = pod("u", "late");
        world.objects.set("late", claim("late", "Pending"));
        assert!(world.failure(&pod).await.ends_with("PVC is not bound"));
        fs::create_dir(dir.join("vol")).unwrap();
        world.objects.bind("late", json!({"local": {"path": dir.join("vol")}}));
        world.until_mounted(&pod).await;
        let at = "pods/u/volumes/kubernetes.io~local-volume/late-pv";
        assert_eq!((world.host_path(&pod), world.mounted()), (dir.join(at), vec![at.to_owned()]));
        world.volumes.tear_down(&uid(&pod)).await.unwrap();
        assert_eq!((world.mounted(), dir.join("vol").exists()), (vec![], true));
        assert!(!dir.join("plugins").exists());
    });
}

#[test]
fn a_host_path_is_nothing_of_the_pods() {
    in_own_mounts(|dir| async move {
        let mut world = World::new(dir.clone());
        let made = dir.join("made");
        world.objects.bind("h", json!({"hostPath": {"path": made, "type": "DirectoryOrCreate"}}));
        let volume = json!({"persistentVolumeClaim": {"claimName": "h"}});
        let pod = pod_with("u", &volume, "volumeMounts", &json!({"fsGroup": 2000}));
        world.until_mounted(&pod).await;
        assert_eq!((world.host_path(&pod), world.mounted()), (made.clone(), vec![]));
        let found = fs::metadata(&made).unwrap();
        assert_eq!((found.mode() & 0o7777, found.gid()), (0o755, 0));
        world.volumes.tear_down(&uid(&pod)).await.unwrap();
        assert!(made.exists());
    });
}

/// As recorded: fixtures/volumes/pv-local.json, pv-local-readonly.json.
#[test]
fn a_folder_is_mounted_for_the_pod_and_its_files_are_the_groups() {
    in_own_mounts(|dir| async move {
        let mut world = World::new(dir.clone());
        for name in ["w", "r"] {
            fs::create_dir_all(dir.join(name).join("d")).unwrap();
            fs::write(dir.join(name).join("d/f"), "f").unwrap();
            world.objects.bind(name, json!({"local": {"path": dir.join(name)}}));
        }
        let context = json!({"fsGroup": 2000});
        for (name, read_only, group) in [("w", false, 2000), ("r", true, 0)] {
            let volume = json!({"persistentVolumeClaim": {"claimName": name, "readOnly": read_only}});
            let pod = pod_with(name, &volume, "volumeMounts", &context);
            world.until_mounted(&pod).await;
            let at = world.host_path(&pod);
            assert_eq!(fs::metadata(at.join("d/f")).unwrap().gid(), group, "{name}");
            assert_eq!(fs::write(at.join("new"), "").is_err(), read_only);
            let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
            let attributes = world.volumes.attributes(&uid(&pod), volume).unwrap();
            assert_eq!((attributes.read_only, attributes.selinux_relabel), (read_only, true));
            let part = SubPath { path: "d".into(), create: !read_only };
            let part = world.volumes.part(&uid(&pod), volume, "c", 0, &part).await.unwrap();
            assert!(part.ends_with(format!("volume-subpaths/{name}-pv/c/0")), "{part:?}");
            assert_eq!(world.mounted().len(), 2);

            // Another run finds it mounted.
            world = world.restarted();
            world.until_mounted(&pod).await;
            assert_eq!(world.mounted().len(), 2);
            world.volumes.tear_down(&uid(&pod)).await.unwrap();
            assert_eq!(world.mounted(), Vec::<String>::new());
            assert_eq!(fs::read_to_string(dir.join(name).join("d/f")).unwrap(), "f");
        }
    });
}

/// The first keeps it, also when both are looked at again in another run of the agent; the second has it once the first
/// is gone, not after a pause.
#[test]
fn a_volume_for_one_pod_is_had_by_one() {
    in_own_mounts(|dir| async move {
        let mut world = World::new(dir.clone());
        let one = json!({"local": {"path": dir}, "accessModes": ["ReadWriteOncePod"]});
        world.objects.bind("one", one);
        let (first, second) = (pod("first", "one"), pod("second", "one"));
        world.until_mounted(&first).await;
        let refused = "MountVolume.SetUp failed for volume \"one-pv\" : volume uses the ReadWriteOncePod access mode and is \
                       already in use by another pod";
        assert_eq!(world.failure(&second).await, refused);
        world = world.restarted();
        assert_eq!(world.failure(&second).await, refused);
        world.until_mounted(&first).await;
        for _ in 0..4 {
            assert_eq!(world.failure(&second).await, refused);
        }
        let begun = Instant::now();
        world.volumes.tear_down(&uid(&first)).await.unwrap();
        world.until_mounted(&second).await;
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_group_of_the_volume_is_the_pods_too() {
    in_own_mounts(|dir| async move {
        let mut world = World::new(dir.clone());
        world.objects.bind("g", json!({"local": {"path": dir}}));
        let annotated = json!({"metadata": {"name": "g-pv", "annotations": {"pv.beta.kubernetes.io/gid": "1234"}},
            "spec": {"local": {"path": dir}, "claimRef": {"uid": "g-uid"}}});
        world.objects.set("g-pv", annotated);
        let pods = [pod("a", "g"), {
            let volume = json!({"persistentVolumeClaim": {"claimName": "g"}});
            pod_with("b", &volume, "volumeMounts", &json!({"supplementalGroups": [1234]}))
        }];
        for (pod, groups) in pods.iter().zip([vec![1234], vec![]]) {
            world.until_mounted(pod).await;
            assert_eq!(world.volumes.supplemental_groups(pod), groups);
        }
    });
}

fn image(dir: &Path) -> Loop {
    let image = dir.join("image");
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    Loop(volume_fs::disk::attach_loop(&image, SOON).unwrap())
}

/// Frees the device at the end of a test, however that ends.
struct Loop(PathBuf);

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = volume_fs::disk::detach_loop(&self.0, SOON);
    }
}

/// As recorded: fixtures/volumes/pv-local-fs-on-block.json.
#[test]
fn a_disk_is_mounted_once_for_all_its_pods_and_goes_after_the_last() {
    in_own_mounts(|dir| async move {
        let disk = image(&dir);
        let mut world = World::new(dir.clone());
        let spec = json!({"local": {"path": disk.0, "fsType": "ext4"}, "mountOptions": ["noatime"]});
        world.objects.bind("disk", spec);
        let global = "plugins/kubernetes.io/local-volume/mounts/disk-pv".to_owned();
        let of = |uid: &str| format!("pods/{uid}/volumes/kubernetes.io~local-volume/disk-pv");
        let volume = json!({"persistentVolumeClaim": {"claimName": "disk"}});
        let first = pod_with("a", &volume, "volumeMounts", &json!({"fsGroup": 2000}));
        let second = pod_with("b", &volume, "volumeMounts", &json!({"fsGroup": 3000}));
        world.until_mounted(&first).await;
        assert_eq!(world.mounted(), [global.clone(), of("a")]);
        let root = fs::metadata(world.host_path(&first)).unwrap();
        assert_eq!((root.mode() & 0o7777, root.gid()), (0o2775, 2000));
        let table = MountTable::read().unwrap();
        let mounted = table.at(&dir.join(of("a"))).unwrap();
        assert!(mounted.fs_type == "ext4" && mounted.options.contains("noatime"), "{mounted:?}");

        // The second pod's group is not made the owner of what the first uses.
        assert!(world.volumes.desire(&second).is_some());
        let notice = loop {
            match world.news().await {
                News::Event(_, _, reason, message) => break (reason, message),
                News::Wake(_) => {}
                News::FailedMount(_, message) => panic!("{message}"),
            }
        };
        let want = "The requested fsGroup is 3000, but the volume disk-pv has GID 2000. The volume may not be shareable.";
        assert_eq!(notice, ("AlreadyMountedVolume", want.to_owned()));
        world.until_mounted(&second).await;
        assert_eq!(fs::metadata(world.host_path(&second)).unwrap().gid(), 2000);
        fs::write(world.host_path(&first).join("f"), "kept").unwrap();

        world.volumes.tear_down(&uid(&first)).await.unwrap();
        assert_eq!(world.mounted(), [global.clone(), of("b")]);
        // What this run never mounted is counted, too.
        world = world.restarted();
        world.volumes.take_down_unused().await.unwrap();
        assert_eq!(world.mounted().len(), 2);
        world.volumes.tear_down(&uid(&second)).await.unwrap();
        assert_eq!(world.mounted(), Vec::<String>::new());
        assert!(!dir.join(&global).exists());

        // The same disk again, with what was on it; the pod ends while no agent runs, but for the mount of the node.
        world.until_mounted(&first).await;
        assert_eq!(fs::read_to_string(world.host_path(&first).join("f")).unwrap(), "kept");
        let at = world.host_path(&first);
        world.stop.cancel();
        volume_fs::mount::unmount(&at, volume_fs::mount::Unmount::Now).unwrap();
        fs::remove_dir_all(dir.join("pods/a")).unwrap();
        let world = World::on(dir, Objects::default());
        assert_eq!(world.mounted(), [global]);
        world.volumes.take_down_unused().await.unwrap();
        assert_eq!(world.mounted(), Vec::<String>::new());
    });
}

/// As recorded: fixtures/volumes/pv-local-block.json.
#[test]
fn a_disk_as_a_device_is_held_for_each_of_its_pods() {
    in_own_mounts(|dir| async move {
        let disk = image(&dir);
        let mut world = World::new(dir.clone());
        world.objects.bind("disk", json!({"local": {"path": disk.0}, "volumeMode": "Block"}));
        let volume = json!({"persistentVolumeClaim": {"claimName": "disk", "readOnly": true}});
        let pods = ["a", "b"].map(|uid| pod_with(uid, &volume, "volumeDevices", &json!({})));
        let globals = dir.join("plugins/kubernetes.io~local-volume/volumeDevices/disk-pv");
        let holder = |uid: &str| volume_fs::disk::loop_of(&globals.join(uid)).unwrap();
        for pod in &pods {
            world.until_mounted(pod).await;
            let name = uid(pod);
            let link = dir.join(format!("pods/{name}/volumeDevices/kubernetes.io~local-volume/disk-pv"));
            assert_eq!(fs::read_link(&link).unwrap(), disk.0);
            let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
            let device = world.volumes.device(&uid(pod), volume).unwrap();
            assert_eq!((device.host_path, device.read_only), (link, true));
            assert!(world.volumes.attributes(&uid(pod), volume).is_none());
            assert_eq!(world.volumes.host_path(&uid(pod), volume), None);
        }
        assert!(holder("a").is_some() && holder("b").is_some() && holder("a") != holder("b"));
        world = world.restarted();
        world.until_mounted(&pods[0]).await;
        world.volumes.tear_down(&uid(&pods[0])).await.unwrap();
        assert!(holder("a").is_none() && holder("b").is_some() && !globals.join("a").exists());
        assert_eq!(world.mounted().len(), 1);
        // This run has never seen it.
        world.volumes.tear_down(&uid(&pods[1])).await.unwrap();
        assert_eq!((holder("b"), world.mounted(), globals.exists()), (None, vec![], false));
    });
}
