//! Volumes of CSI drivers, with a driver that really mounts; who has the objects is a fake.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod again;
mod growth;
#[path = "../claims/space.rs"]
mod space;
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use csi::v1::{
    NodeGetCapabilitiesRequest, NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest,
    NodeUnstageVolumeRequest,
};
use serde_json::{Value, json};
use testkit::fake_csi::{Capability, Code, CsiOptions, FakeCsi, Fault, attachment_name};
use volume_fs::MountTable;
use volumes::{Measure, TearDownError};

use space::in_own_mounts;
use world::{DRIVER, Objects, World, device_of, inline, pod, pod_with, uid};

fn internal() -> Fault {
    Fault::Fail(Code::Internal, "no disk".to_owned())
}

#[test]
fn a_volume_is_staged_once_and_published_for_each_pod() {
    in_own_mounts(|dir| async move {
        let (mut world, driver) = World::with(dir, &[Capability::StageUnstageVolume]).await;
        world.objects.bind("c", &json!({"mountOptions": ["noatime"]}), &json!({}));
        fs::write(driver.data("c-handle").join("file"), "x").unwrap();
        let (a, b) = (pod("a", "c"), pod("b", "c"));
        world.until_mounted(&a).await;
        world.until_mounted(&b).await;
        assert_eq!(driver.changes(), ["NodeStageVolume", "NodePublishVolume", "NodePublishVolume"]);
        let dir = world.volume_dir(&a, "c-pv");
        assert_eq!(
            world.volumes.host_path(&uid(&a), &a.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0]),
            Some(dir.join("mount"))
        );
        assert_eq!(fs::read_to_string(dir.join("mount/file")).unwrap(), "x");
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o7777, 0o750);
        let staged = &driver.calls_of::<NodeStageVolumeRequest>()[0];
        let published = &driver.calls_of::<NodePublishVolumeRequest>()[0];
        assert_eq!(staged.staging_target_path, published.staging_target_path);
        let capability = format!("{:?}", staged.volume_capability);
        assert!(capability.contains("\"noatime\"") && capability.contains("ext4"), "{capability}");
        assert_eq!(staged.volume_capability, published.volume_capability);

        // Another run of the agent asks again, as nobody knows whether it had ended, and touches no mount.
        let before = MountTable::read().unwrap();
        driver.forget_calls();
        let mut world = world.restarted();
        world.register(&driver).await;
        world.until_mounted(&a).await;
        world.until_mounted(&b).await;
        assert_eq!(driver.changes(), ["NodeStageVolume", "NodePublishVolume", "NodePublishVolume"]);
        assert_eq!(MountTable::read().unwrap(), before);

        driver.forget_calls();
        world.volumes.tear_down(&uid(&a)).await.unwrap();
        assert_eq!(driver.changes(), ["NodeUnpublishVolume"]);
        world.volumes.tear_down(&uid(&b)).await.unwrap();
        assert_eq!(driver.changes(), ["NodeUnpublishVolume", "NodeUnpublishVolume", "NodeUnstageVolume"]);
        world.assert_nothing_is_left();
        assert!(driver.data("c-handle").join("file").exists());
    });
}

#[test]
fn what_is_refused_leaves_nothing_and_what_may_come_yet_is_undone() {
    in_own_mounts(|dir| async move {
        let (mut world, driver) = World::with(dir, &[Capability::StageUnstageVolume]).await;
        world.objects.bind("c", &json!({}), &json!({}));
        let a = pod("a", "c");
        driver.fault_once(internal(), |_: &NodeStageVolumeRequest| true);
        let failure = world.failure(&a).await;
        let said = "rpc error: code = Internal desc = no disk";
        assert_eq!(failure, format!("MountVolume.MountDevice failed for volume \"c-pv\" : {said}"));
        world.assert_nothing_is_left();
        driver.fault_once(internal(), |_: &NodePublishVolumeRequest| true);
        let failure = world.failure(&a).await;
        assert_eq!(failure, format!("MountVolume.SetUp failed for volume \"c-pv\" : {said}"));
        assert!(!world.volume_dir(&a, "c-pv").exists());
        assert_eq!(world.mounted().len(), 1, "it is staged");
        // The pod goes: the driver is asked to undo what it has done, and no more.
        driver.forget_calls();
        driver.fault(internal(), |_: &NodePublishVolumeRequest| true);
        world.volumes.tear_down(&uid(&a)).await.unwrap();
        assert_eq!(driver.changes().last(), Some(&"NodeUnstageVolume"));
        world.assert_nothing_is_left();
        driver.clear_faults();

        // Nobody knows what became of these.
        let busy = || Fault::Fail(Code::Aborted, "busy".to_owned());
        for stage in [true, false] {
            driver.fault(busy(), move |_: &NodeStageVolumeRequest| stage);
            driver.fault(busy(), move |_: &NodePublishVolumeRequest| !stage);
            world.failure(&a).await;
            driver.clear_faults();
            driver.forget_calls();
            let next = world.restarted();
            next.register(&driver).await;
            next.volumes.tear_down(&uid(&a)).await.unwrap();
            next.volumes.take_down_unused().await.unwrap();
            let undone: &[&str] =
                if stage { &["NodeUnstageVolume"] } else { &["NodeUnpublishVolume", "NodeUnstageVolume"] };
            assert_eq!(driver.changes(), undone, "stage: {stage}");
            next.assert_nothing_is_left();
            world = next;
        }
    });
}

#[test]
fn a_driver_that_lies_is_found_out_and_asked_anew() {
    in_own_mounts(|dir| async move {
        let (mut world, driver) = World::with(dir, &[Capability::StageUnstageVolume]).await;
        world.objects.bind("c", &json!({}), &json!({}));
        driver.fault_once(internal(), |_: &NodePublishVolumeRequest| true);
        driver.lie(true);
        let a = pod("a", "c");
        world.failure(&a).await;
        driver.lie(false);
        // It says that it is not staged.
        world.until_mounted(&a).await;
        assert_eq!(world.mounted().len(), 2);
        // Nor does it say so of what it has not unmounted.
        driver.fault_once(internal(), |_: &NodeUnpublishVolumeRequest| true);
        let error = world.volumes.tear_down(&uid(&a)).await.unwrap_err();
        let said =
            "kubernetes.io/csi: Unmounter.TearDownAt failed: rpc error: code = Internal desc = no disk";
        assert_eq!(error.to_string(), said);
        driver.fault_once(internal(), |_: &NodeUnstageVolumeRequest| true);
        // It does not keep the pod, and is asked again with whatever else no pod uses.
        world.volumes.tear_down(&uid(&a)).await.unwrap();
        assert_eq!(world.mounted().len(), 1);
        driver.fault_once(internal(), |_: &NodeUnstageVolumeRequest| true);
        let error = world.volumes.take_down_unused().await.unwrap_err();
        assert!(error.to_string().starts_with("kubernetes.io/csi: attacher.UnmountDevice failed"), "{error}");
        world.volumes.take_down_unused().await.unwrap();
        world.assert_nothing_is_left();
    });
}

#[test]
fn a_driver_that_is_missing_is_named_and_waited_for() {
    in_own_mounts(|dir| async move {
        let mut world = World::on(dir, Objects::default());
        world
            .objects
            .driver(json!({"attachRequired": false, "volumeLifecycleModes": ["Ephemeral", "Persistent"]}));
        world.objects.bind("c", &json!({}), &json!({}));
        let (a, b) = (pod("a", "c"), inline("b", json!({})));
        let why = "driver name disk.csi.test not found in the list of registered CSI drivers";
        let failure = world.failure(&a).await;
        let begin = "MountVolume.MountDevice failed for volume \"c-pv\" : kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient";
        assert_eq!(failure, format!("{begin}: {why}"));
        let failure = world.failure(&b).await;
        let begin = "MountVolume.SetUp failed for volume \"v\" : kubernetes.io/csi: mounter.SetUpAt failed to get CSI client";
        assert_eq!(failure, format!("{begin}: {why}"));
        let lacking = world.volumes.desire(&b).unwrap().message;
        assert!(lacking.contains(why), "{lacking}");
        // Its coming is noticed, whatever the pause after many failures is.
        let driver = FakeCsi::start(CsiOptions::new(DRIVER)).unwrap();
        world.register(&driver).await;
        world.until_mounted(&a).await;
        world.until_mounted(&b).await;

        driver.unregister();
        let mut changes = world.drivers.changes();
        changes.wait_for(BTreeMap::is_empty).await.unwrap();
        let error = world.volumes.tear_down(&uid(&b)).await.unwrap_err();
        assert!(matches!(&error, TearDownError::Driver(text) if text.contains(why)), "{error}");
        world.register(&driver).await;
        world.volumes.tear_down(&uid(&b)).await.unwrap();
        world.volumes.tear_down(&uid(&a)).await.unwrap();
        world.assert_nothing_is_left();
    });
}

#[test]
fn a_volume_waits_until_it_is_attached() {
    in_own_mounts(|dir| async move {
        let (mut world, driver) = World::with(dir, &[Capability::StageUnstageVolume]).await;
        world.objects.driver(json!({}));
        world.objects.bind("c", &json!({}), &json!({}));
        let a = pod("a", "c");
        let name = attachment_name("c-handle", DRIVER, "node1");
        let fails = "MountVolume.WaitForAttach failed for volume \"c-pv\" : volume c-handle";
        let failure = world.failure(&a).await;
        assert_eq!(
            failure,
            format!("{fails} has GET error for volume attachment {name}: {name:?} not found")
        );
        let spec = json!({"attacher": DRIVER, "nodeName": "node1", "source": {}});
        let attachment = |status: Value| json!({"metadata": {"name": name}, "spec": spec, "status": status});
        world.objects.set(&name, attachment(json!({"attached": false})));
        assert_eq!(world.failure(&a).await, format!("{fails} is not attached for volume attachment {name}"));
        assert!(driver.changes().is_empty());
        world
            .objects
            .set(&name, attachment(json!({"attached": true, "attachmentMetadata": {"disk": "sdx"}})));
        world.until_mounted(&a).await;
        let context = BTreeMap::from([("disk".to_owned(), "sdx".to_owned())]);
        assert_eq!(driver.calls_of::<NodeStageVolumeRequest>()[0].publish_context, context);
        assert_eq!(driver.calls_of::<NodePublishVolumeRequest>()[0].publish_context, context);
    });
}

#[test]
fn a_driver_gets_secrets_tokens_and_what_the_pod_is() {
    in_own_mounts(|dir| async move {
        let (mut world, driver) = World::with(dir, &[Capability::StageUnstageVolume]).await;
        world.objects.driver(json!({
            "attachRequired": false, "podInfoOnMount": true, "volumeLifecycleModes": ["Ephemeral", "Persistent"],
            "tokenRequests": [{"audience": "vault", "expirationSeconds": 600}],
        }));
        let reference = |name: &str| json!({"name": name, "namespace": "storage"});
        let secrets =
            json!({"nodePublishSecretRef": reference("publish"), "nodeStageSecretRef": reference("stage")});
        world.objects.bind("c", &json!({}), &secrets);
        let a = pod("a", "c");
        let failure = world.failure(&a).await;
        let said = "fetching NodeStageSecretRef storage/stage failed: kubernetes.io/csi: failed to find the secret stage in \
                    the namespace storage with error: \"storage/stage\" not found";
        assert!(failure.ends_with(said), "{failure}");
        world.objects.set("storage/stage", json!({"key": "s"}));
        world.objects.set("storage/publish", json!({"key": "p"}));
        world.until_mounted(&a).await;
        assert_eq!(driver.calls_of::<NodeStageVolumeRequest>()[0].secrets["key"], "s");
        let published = driver.calls_of::<NodePublishVolumeRequest>().remove(0);
        assert_eq!(published.secrets["key"], "p");
        let context = &published.volume_context;
        assert_eq!(context["csi.storage.k8s.io/serviceAccount.name"], "sa");
        assert_eq!(context["csi.storage.k8s.io/ephemeral"], "false");
        let tokens: Value =
            serde_json::from_str(&context["csi.storage.k8s.io/serviceAccount.tokens"]).unwrap();
        let token =
            json!({"token": "token-for-vault-Some(600)", "expirationTimestamp": "2030-01-01T00:00:00Z"});
        assert_eq!(tokens, json!({ "vault": token }));

        world.objects.driver(json!({
            "attachRequired": false, "serviceAccountTokenInSecrets": true, "tokenRequests": [{"audience": ""}],
            "volumeLifecycleModes": ["Ephemeral"], "podInfoOnMount": true,
        }));
        let b = inline("b", json!({"readOnly": true}));
        world.until_mounted(&b).await;
        let published = driver.calls_of::<NodePublishVolumeRequest>().remove(1);
        assert!(published.readonly && published.staging_target_path.is_empty());
        assert!(!published.volume_context.contains_key("csi.storage.k8s.io/serviceAccount.tokens"));
        assert!(published.secrets["csi.storage.k8s.io/serviceAccount.tokens"].contains("token-for--None"));
        assert!(fs::write(world.volume_dir(&b, "v").join("mount/x"), "").is_err());
    });
}

#[test]
fn files_become_the_groups_by_whom_the_driver_leaves_it_to() {
    in_own_mounts(|dir| async move {
        for (n, (can, policy, fs_type, want)) in [
            (None, json!(null), "ext4", true),
            (None, json!(null), "", false),
            (None, json!("File"), "", true),
            (None, json!("None"), "ext4", false),
            (Some(Capability::VolumeMountGroup), json!("None"), "", true),
        ]
        .into_iter()
        .enumerate()
        {
            let capabilities = can.as_slice();
            let (mut world, driver) = World::with(dir.join(n.to_string()), capabilities).await;
            let volume = json!({"persistentVolumeClaim": {"claimName": "c"}});
            world.objects.driver(json!({"attachRequired": false, "fsGroupPolicy": policy}));
            world.objects.bind("c", &json!({}), &json!({"fsType": fs_type}));
            let a = pod_with("a", &volume, &json!({"fsGroup": 2000}));
            world.until_mounted(&a).await;
            let group = fs::metadata(world.volume_dir(&a, "c-pv").join("mount")).unwrap().gid();
            assert_eq!(group == 2000, want, "{can:?} {policy} {fs_type}");
            let request = format!("{:?}", driver.calls_of::<NodePublishVolumeRequest>()[0].volume_capability);
            assert_eq!(request.contains("\"2000\""), can.is_some(), "{request}");
            world.volumes.tear_down(&uid(&a)).await.unwrap();
        }
    });
}

#[test]
fn what_cannot_be_read_of_a_volume_does_not_keep_it() {
    in_own_mounts(|dir| async move {
        let (mut world, driver) = World::with(dir, &[Capability::StageUnstageVolume]).await;
        world.objects.bind("c", &json!({}), &json!({}));
        let a = pod("a", "c");
        world.until_mounted(&a).await;
        let data = world.volume_dir(&a, "c-pv").join("vol_data.json");
        fs::write(&data, "{\"driverNa").unwrap();
        // After a restart nobody knows what it is of, so that nothing that is staged is taken from it.
        let world = world.restarted();
        world.register(&driver).await;
        driver.forget_calls();
        world.volumes.take_down_unused().await.unwrap();
        assert!(driver.changes().is_empty() && world.mounted().len() == 2);
        // The persistent volume says what it is of.
        world.volumes.tear_down(&uid(&a)).await.unwrap();
        assert_eq!(driver.changes(), ["NodeUnstageVolume"]);
        world.assert_nothing_is_left();
    });
}

#[test]
fn a_volume_for_one_pod_is_had_by_one_and_by_the_next_when_it_goes() {
    in_own_mounts(|dir| async move {
        let (mut world, driver) = World::with(dir, &[Capability::SingleNodeMultiWriter]).await;
        world.objects.bind("c", &json!({"accessModes": ["ReadWriteOncePod"]}), &json!({}));
        let (a, b) = (pod("a", "c"), pod("b", "c"));
        world.until_mounted(&a).await;
        let failure = world.failure(&b).await;
        assert!(failure.ends_with("already in use by another pod"), "{failure}");
        let capability = format!("{:?}", driver.calls_of::<NodePublishVolumeRequest>()[0].volume_capability);
        assert!(capability.contains("SingleNodeSingleWriter"), "{capability}");
        world.volumes.tear_down(&uid(&a)).await.unwrap();
        world.until_mounted(&b).await;
    });
}

/// One that hangs holds up its own volume.
#[test]
fn a_driver_that_hangs_holds_up_its_own_volumes() {
    in_own_mounts(|dir| async move {
        let (mut world, driver) = World::with(dir, &[]).await;
        world.objects.driver(json!({"attachRequired": false, "volumeLifecycleModes": ["Ephemeral"]}));
        driver.fault(Fault::Hang, |_: &NodeGetCapabilitiesRequest| true);
        let a = inline("a", json!({}));
        world.volumes.desire(&a);
        let b = pod_with("b", &json!({"emptyDir": {}}), &json!({}));
        world.until_mounted(&b).await;
        assert!(world.volumes.desire(&a).is_some());
        driver.clear_faults();
        world.until_mounted(&a).await;
    });
}

#[test]
fn a_pod_has_a_volume_as_a_device() {
    in_own_mounts(|dir| async move {
        let (mut world, driver) = World::with(dir, &[Capability::StageUnstageVolume]).await;
        world.objects.bind("c", &json!({"volumeMode": "Block"}), &json!({}));
        let (a, b) = (device_of("a", "c"), device_of("b", "c"));
        driver.fault_once(internal(), |_: &NodeStageVolumeRequest| true);
        let failure = world.failure(&a).await;
        let said = "rpc error: code = Internal desc = no disk";
        assert_eq!(failure, format!("MapVolume.SetUpDevice failed for volume \"c-pv\" : {said}"));
        driver.fault_once(internal(), |_: &NodePublishVolumeRequest| true);
        let failure = world.failure(&a).await;
        assert_eq!(failure, format!("MapVolume.MapBlockVolume failed for volume \"c-pv\" : {said}"));
        world.until_mounted(&a).await;
        world.until_mounted(&b).await;
        let volume = &a.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
        let device = world.volumes.device(&uid(&a), volume).unwrap().host_path;
        assert_eq!(device, world.dir.join("pods/a/volumeDevices/kubernetes.io~csi/c-pv"));
        let devices = world.dir.join("plugins/kubernetes.io/csi/volumeDevices");
        assert_eq!(fs::read_link(&device).unwrap(), devices.join("publish/c-pv/a"));
        let data = fs::read_to_string(devices.join("c-pv/data/vol_data.json")).unwrap();
        assert!(data.contains("\"volumeHandle\":\"c-handle\"") && !data.contains("Lifecycle"), "{data}");
        let of = |path: PathBuf| fs::metadata(path).unwrap().rdev();
        assert_eq!(of(device.clone()), of(devices.join("c-pv/dev/a")));
        // What a driver has answered does not say what it has done: it is asked to undo it.
        let c = device_of("c", "c");
        driver.fault_once(internal(), |_: &NodePublishVolumeRequest| true);
        world.failure(&c).await;
        let unpublished = || driver.changes().iter().filter(|call| **call == "NodeUnpublishVolume").count();
        let before = unpublished();
        world.volumes.tear_down(&uid(&c)).await.unwrap();
        assert_eq!(unpublished(), before + 1);
        let staged = driver.calls_of::<NodeStageVolumeRequest>().pop().unwrap();
        assert_eq!(staged.staging_target_path, devices.join("staging/c-pv").display().to_string());
        assert!(format!("{:?}", staged.volume_capability).contains("Block"));

        let mut world = world.restarted();
        world.register(&driver).await;
        world.until_mounted(&a).await;
        world.until_mounted(&b).await;
        driver.forget_calls();
        world.volumes.tear_down(&uid(&a)).await.unwrap();
        assert_eq!(driver.changes(), ["NodeUnpublishVolume"]);
        world.volumes.tear_down(&uid(&b)).await.unwrap();
        assert_eq!(driver.changes(), ["NodeUnpublishVolume", "NodeUnpublishVolume", "NodeUnstageVolume"]);
        assert_eq!(world.mounted(), [] as [PathBuf; 0]);
        for left in ["c-pv", "publish/c-pv", "staging/c-pv"] {
            assert!(!devices.join(left).exists(), "{left}");
        }
    });
}

#[test]
fn a_volume_is_staged_when_the_cluster_knows_that_it_is_in_use() {
    in_own_mounts(|dir| async move {
        let (mut world, driver) = World::with(dir, &[Capability::StageUnstageVolume]).await;
        world.objects.driver(json!({}));
        world.objects.bind("c", &json!({}), &json!({}));
        let (a, name) = (pod("a", "c"), attachment_name("c-handle", DRIVER, "node1"));
        let spec = json!({"attacher": DRIVER, "nodeName": "node1", "source": {}});
        let attached = json!({"metadata": {"name": name}, "spec": spec, "status": {"attached": true}});
        world.objects.set(&name, attached);
        world.until_in_use(&[]).await;
        world.hears.send_replace(false);
        // Of which it heard before that.
        tokio::task::yield_now().await;
        let failure = world.failure(&a).await;
        let said = "MountVolume.WaitForAttach failed for volume \"c-pv\" : the volume has not been added to the list of \
                    VolumesInUse in the node's volume status";
        assert_eq!(failure, said);
        assert!(driver.changes().is_empty(), "{:?}", driver.changes());
        world.hears.send_replace(true);
        world.until_mounted(&a).await;
    });
}

#[test]
fn a_volume_is_in_use_as_long_as_something_of_it_is_on_the_node() {
    in_own_mounts(|dir| async move {
        let (mut world, driver) = World::with(dir, &[Capability::StageUnstageVolume]).await;
        for claim in ["c", "d", "e"] {
            world.objects.bind(claim, &json!({}), &json!({}));
        }
        let (a, b, c) = (pod("a", "c"), pod("b", "d"), pod("c", "e"));
        for pod in [&a, &b, &c] {
            world.until_mounted(pod).await;
        }
        world.until_in_use(&["c", "d", "e"]).await;
        // Nothing of the pod is left, and yet it is staged.
        driver.fault(internal(), |request: &NodeUnstageVolumeRequest| request.volume_id == "c-handle");
        let _staged = world.volumes.tear_down(&uid(&a)).await;
        assert!(driver.changes().contains(&"NodeUnstageVolume"), "{:?}", driver.changes());
        world.volumes.tear_down(&uid(&c)).await.unwrap();
        // Of a look that has found that the last one is gone.
        world.until_in_use(&["c", "d"]).await;

        // The next run of the agent finds what the one before has left, before any driver is there.
        driver.unregister();
        let world = world.restarted();
        world.until_in_use(&["c", "d"]).await;
        world.volumes.tear_down(&uid(&b)).await.unwrap_err();
        world.until_in_use(&["c", "d"]).await;
        driver.clear_faults();
        world.register(&driver).await;
        world.volumes.tear_down(&uid(&a)).await.unwrap();
        world.volumes.tear_down(&uid(&b)).await.unwrap();
        world.volumes.take_down_unused().await.unwrap();
        world.until_in_use(&[]).await;
        world.assert_nothing_is_left();
    });
}

#[test]
fn a_folder_that_does_not_say_which_volume_it_is_of_goes_if_nothing_is_mounted_there() {
    in_own_mounts(|dir| async move {
        let (mut world, driver) = World::with(dir, &[Capability::StageUnstageVolume]).await;
        world.objects.bind("c", &json!({}), &json!({}));
        let a = pod("a", "c");
        world.until_mounted(&a).await;
        let of_driver = world.dir.join("plugins/kubernetes.io/csi/disk.csi.test");
        let staged = fs::read_dir(&of_driver).unwrap().next().unwrap().unwrap().path();
        fs::write(staged.join("vol_data.json"), "").unwrap();
        // A kill has cut these off.
        let (empty, broken) = (of_driver.join("0f".repeat(32)), of_driver.join("1e".repeat(32)));
        for dir in [&empty, &broken] {
            fs::create_dir_all(dir.join("globalmount")).unwrap();
        }
        fs::write(broken.join("vol_data.json"), "{").unwrap();
        let somebodys = of_driver.join("theirs");
        fs::create_dir(&somebodys).unwrap();
        driver.forget_calls();
        let world = world.restarted();
        world.register(&driver).await;
        let error = world.volumes.take_down_unused().await.unwrap_err().to_string();
        assert!(
            error.starts_with("a staged volume stays, as its driver cannot be told which it is"),
            "{error}"
        );
        assert!(error.contains(&staged.display().to_string()), "{error}");
        assert!(!empty.exists() && !broken.exists() && somebodys.exists());
        assert!(driver.changes().is_empty() && world.mounted().len() == 2);
    });
}

#[test]
fn what_a_volume_holds_is_what_its_driver_says() {
    in_own_mounts(|dir| async move {
        for (n, (can, want)) in [
            (&[Capability::GetVolumeStats][..], Some((1 << 30, 4096, Some(1000), Some(7)))),
            // What does not tell is left out.
            (&[], None),
        ]
        .into_iter()
        .enumerate()
        {
            let (mut world, driver) = World::with(dir.join(n.to_string()), can).await;
            world.objects.driver(json!({
                "attachRequired": false, "volumeLifecycleModes": ["Ephemeral", "Persistent"],
            }));
            world.objects.bind("c", &json!({}), &json!({}));
            let (a, b) = (pod("a", "c"), inline("b", json!({})));
            world.until_mounted(&a).await;
            world.until_mounted(&b).await;
            let told = world.volumes.usage(Measure::All, std::time::Duration::ZERO).await;
            for pod in [&a, &b] {
                let usage = told.get(&uid(pod)).map(|volumes| volumes[0].usage);
                let told = usage.map(|usage| (usage.capacity, usage.used, usage.inodes, usage.inodes_used));
                assert_eq!(told, want, "{:?}", pod.metadata.name);
            }
            world.volumes.tear_down(&uid(&a)).await.unwrap();
            world.volumes.tear_down(&uid(&b)).await.unwrap();
            drop(driver);
        }
    });
}
