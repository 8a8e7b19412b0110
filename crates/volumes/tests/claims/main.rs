//! Volumes that pods have by claims, and of servers, with real mounts; who has the claims is a fake.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod disks;
mod nfs;
mod space;
mod world;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use volume_plan::container_mounts::SubPath;

use space::in_own_mounts;
use world::{Objects, World, claim, pod, pod_with, uid};

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
                "MountVolume.MountDevice failed for volume \"driven-pv\" : kubernetes.io/csi: attacher.MountDevice failed \
                 to create newCsiDriverClient: driver name no.such.driver not found in the list of registered CSI drivers"
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

/// As a kill leaves it between the two calls that mount something read-only.
#[test]
fn a_mount_that_is_to_be_read_only_is_made_so_also_if_it_is_there() {
    in_own_mounts(|dir| async move {
        let mut world = World::new(dir.clone());
        fs::create_dir(dir.join("vol")).unwrap();
        world.objects.bind("r", json!({"local": {"path": dir.join("vol")}}));
        let at = dir.join("pods/u/volumes/kubernetes.io~local-volume/r-pv");
        fs::create_dir_all(&at).unwrap();
        volume_fs::mount::bind(&dir.join("vol"), &at, false).unwrap();
        let volume = json!({"persistentVolumeClaim": {"claimName": "r", "readOnly": true}});
        let pod = pod_with("u", &volume, "volumeMounts", &json!({}));
        world.until_mounted(&pod).await;
        assert!(fs::write(at.join("f"), "").is_err());
        assert_eq!(world.mounted().len(), 1);
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

/// As recorded: fixtures/volumes/ephemeral-generic.json.
#[test]
fn an_ephemeral_claim_is_used_by_the_pod_that_it_was_made_for() {
    in_own_mounts(|dir| async move {
        let mut world = World::new(dir.clone());
        let pod = pod_with("own", &json!({"ephemeral": {}}), "volumeMounts", &json!({}));
        let missing = world.failure(&pod).await;
        assert!(missing.ends_with("persistentvolumeclaims \"own-v\" not found"), "{missing}");
        world.objects.bind("own-v", json!({"local": {"path": dir}}));
        let mut owned = claim("own-v", "Bound");
        owned["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Pod", "name": "own", "uid": "own", "controller": true}]);
        world.objects.set("own-v", owned);
        world.until_mounted(&pod).await;
        assert!(world.at("pods/own/volumes/kubernetes.io~local-volume/own-v-pv"));
        world.volumes.tear_down(&uid(&pod)).await.unwrap();
        assert_eq!(world.mounted(), Vec::<String>::new());
    });
}

#[test]
fn also_a_path_of_the_node_is_had_by_one_pod_if_it_is_for_one() {
    in_own_mounts(|dir| async move {
        let mut world = World::new(dir.clone());
        world.objects.bind("one", json!({"hostPath": {"path": dir}, "accessModes": ["ReadWriteOncePod"]}));
        let (first, second) = (pod("first", "one"), pod("second", "one"));
        world.until_mounted(&first).await;
        let refused = world.failure(&second).await;
        assert!(refused.ends_with("already in use by another pod"), "{refused}");
        world.volumes.tear_down(&uid(&first)).await.unwrap();
        world.until_mounted(&second).await;
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
