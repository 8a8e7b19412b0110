//! Volumes that grow.

use std::sync::Arc;
use std::time::Duration;

use csi::v1::{NodeExpandVolumeRequest, NodePublishVolumeRequest};
use kube_model::core::Pod;
use serde_json::{Value, json};
use testkit::fake_csi::{Capability, Code, FakeCsi, Fault};
use volumes::News;

use crate::space::in_own_mounts;
use crate::world::{Objects, SOON, World, device_of, pod, pod_with, uid};

const SUCCEEDED: &str = "MountVolume.NodeExpandVolume succeeded for volume \"c-pv\" node1";

impl Objects {
    /// The volume of claim `c` has grown, as the controllers of a cluster leave it.
    fn grow(&self, volume: &str, status: &Value) {
        self.edit("c-pv", |object| object["spec"]["capacity"]["storage"] = json!(volume));
        self.edit("c", |object| {
            let all = object["status"].as_object_mut().unwrap();
            all.extend(status.as_object().unwrap().clone());
        });
    }

    fn status(&self) -> Value {
        self.get::<Value>("c").unwrap()["status"].clone()
    }
}

impl World {
    /// A pod with the claim `c` of a volume of 1Gi.
    async fn with_claim(dir: std::path::PathBuf, can: &[Capability], spec: Value) -> (Self, FakeCsi) {
        let (world, driver) = Self::with(dir, can).await;
        let mut all = json!({"capacity": {"storage": "1Gi"}});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        world.objects.bind("c", &all, &json!({}));
        world.objects.edit("c", |claim| {
            claim["spec"]["resources"] = json!({"requests": {"storage": "2Gi"}});
            claim["status"]["capacity"] = json!({"storage": "1Gi"});
        });
        (world, driver)
    }

    /// The next event of this reason.
    async fn event(&mut self, want: &str) -> String {
        loop {
            match tokio::time::timeout(SOON, self.news.recv()).await.unwrap().unwrap() {
                News::Event(_, _, reason, message) if reason == want => return message,
                _ => {}
            }
        }
    }

    async fn until_status(&self, what: &str, is: impl Fn(&Value) -> bool) {
        let waited = tokio::time::timeout(SOON, async {
            while !is(&self.objects.status()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(waited.await.is_ok(), "{what}: {}", self.objects.status());
    }
}

fn pending(allocated: &str) -> Value {
    json!({
        "allocatedResources": {"storage": allocated}, "allocatedResourceStatuses": {"storage": "NodeResizePending"},
        "conditions": [{"type": "FileSystemResizePending", "status": "True"}],
    })
}

fn asked(driver: &FakeCsi) -> Vec<NodeExpandVolumeRequest> {
    driver.calls_of()
}

fn refuse(driver: &FakeCsi, code: Code) {
    driver.fault_once(Fault::Fail(code, "no".to_owned()), |_: &NodeExpandVolumeRequest| true);
}

const CAN: &[Capability] = &[Capability::StageUnstageVolume, Capability::ExpandVolume];

#[test]
fn what_uses_a_volume_that_has_grown_uses_all_of_it_and_the_claim_says_so() {
    in_own_mounts(|dir| async move {
        let (mut world, driver) = World::with_claim(dir, &[Capability::ExpandVolume], json!({})).await;
        world.objects.grow("2Gi", &json!({}));
        refuse(&driver, Code::Internal);
        let a = pod("a", "c");
        let failure = world.failure(&a).await;
        let said = "MountVolume.Setup failed while expanding volume for volume \"c-pv\" : Expander.NodeExpand failed to expand \
                    the volume : rpc error: code = Internal desc = no";
        assert_eq!(failure, said);
        // It is mounted, and yet the pod has not all of it.
        let internal = Fault::Fail(Code::Internal, "no disk".to_owned());
        driver.fault_once(internal, |_: &NodePublishVolumeRequest| true);
        world.failure(&a).await;
        assert!(world.volumes.desire(&a).is_some());
        world.until_mounted(&a).await;
        let asked = asked(&driver).pop().unwrap();
        assert_eq!(asked.capacity_range.unwrap().required_bytes, 2 << 30);
        assert_eq!(asked.volume_path, world.volume_dir(&a, "c-pv").join("mount").display().to_string());
        assert_eq!(world.objects.status()["capacity"]["storage"], "2Gi");
        let event = world.objects.get::<Value>("event").unwrap();
        assert_eq!(event, json!(["c", "FileSystemResizeSuccessful", SUCCEEDED]));
    });
}

#[test]
fn a_volume_grows_while_it_is_mounted() {
    in_own_mounts(|dir| async move {
        let options = json!({"mountOptions": ["noatime"]});
        let (mut world, driver) = World::with_claim(dir, CAN, options).await;
        world.objects.edit("c-pv", |volume| {
            volume["spec"]["csi"]["nodeExpandSecretRef"] = json!({"namespace": "keys", "name": "grow"});
        });
        world.objects.set("keys/grow", json!({"key": "hunter"}));
        let (a, b) = (pod("a", "c"), pod("b", "c"));
        world.until_mounted(&a).await;
        world.until_mounted(&b).await;
        let before = driver.changes();
        world.objects.grow("2Gi", &pending("2Gi"));
        assert_eq!(world.event("FileSystemResizeSuccessful").await, SUCCEEDED);
        world.until_status("the claim says so", |status| status["capacity"]["storage"] == "2Gi").await;
        let status = world.objects.status();
        assert_eq!((&status["conditions"], &status["allocatedResourceStatuses"]), (&json!([]), &json!({})));
        let asked = asked(&driver).pop().unwrap();
        let published = &driver.calls_of::<NodePublishVolumeRequest>()[0];
        assert_eq!(
            (&asked.volume_path, asked.capacity_range.unwrap().required_bytes),
            (&published.target_path, 2 << 30)
        );
        assert_eq!(asked.staging_target_path, published.staging_target_path);
        assert_eq!(asked.volume_capability, published.volume_capability);
        assert_eq!(asked.secrets.get("key").map(String::as_str), Some("hunter"));

        // It is told of once, however many pods have it; a claim that changes otherwise is nothing to ask for.
        world.objects.edit("c", |claim| claim["metadata"]["labels"] = json!({"a": "b"}));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(driver.changes(), [&before[..], &["NodeExpandVolume"]].concat());
        world.objects.grow("3Gi", &pending("3Gi"));
        world.until_status("it grows again", |status| status["capacity"]["storage"] == "3Gi").await;
    });
}

#[test]
fn a_device_grows_while_a_pod_has_it() {
    in_own_mounts(|dir| async move {
        let (mut world, driver) = World::with_claim(dir, CAN, json!({"volumeMode": "Block"})).await;
        let a = device_of("a", "c");
        world.until_mounted(&a).await;
        world.objects.grow("2Gi", &json!({}));
        world.event("FileSystemResizeSuccessful").await;
        let devices = world.dir.join("plugins/kubernetes.io/csi/volumeDevices");
        let asked = asked(&driver).pop().unwrap();
        assert_eq!(asked.volume_path, devices.join("publish/c-pv/a").display().to_string());
        assert_eq!(asked.staging_target_path, devices.join("staging/c-pv").display().to_string());
        assert!(format!("{:?}", asked.volume_capability).contains("Block"));
        world.volumes.tear_down(&uid(&a)).await.unwrap();

        // What has grown while nobody had it is asked for when a pod gets it.
        world.until_status("it says so", |status| status["capacity"]["storage"] == "2Gi").await;
        world.objects.grow("3Gi", &json!({}));
        refuse(&driver, Code::Internal);
        let failure = world.failure(&device_of("b", "c")).await;
        let said = "MapVolume.MarkVolumeAsMounted failed while expanding volume for volume \"c-pv\" : Expander.NodeExpand \
                    failed to expand the volume : rpc error: code = Internal desc = no";
        assert_eq!(failure, said);
        world.until_mounted(&device_of("b", "c")).await;
        world.volumes.tear_down(&uid(&device_of("b", "c"))).await.unwrap();
    });
}

#[test]
fn a_driver_that_cannot_is_asked_again_or_not_as_it_says() {
    in_own_mounts(|dir| async move {
        for (n, code) in [Code::Internal, Code::Unavailable, Code::OutOfRange, Code::FailedPrecondition]
            .into_iter()
            .enumerate()
        {
            let (mut world, driver) = World::with_claim(dir.join(n.to_string()), CAN, json!({})).await;
            let a = pod("a", "c");
            world.until_mounted(&a).await;
            refuse(&driver, code);
            world.objects.grow("2Gi", &pending("2Gi"));
            let colon = if code == Code::OutOfRange { "" } else { ": " };
            let why = format!(
                "Expander.NodeExpand failed to expand the volume {colon}rpc error: code = {code:?} desc = no"
            );
            if code == Code::FailedPrecondition {
                world
                    .until_status("it is said", |status| status["conditions"][1]["type"] == "NodeResizeError")
                    .await;
            } else {
                let said = format!("NodeExpandVolume.NodeExpandVolume failed for volume \"c-pv\" : {why}");
                assert_eq!(world.event("VolumeResizeFailed").await, said);
            }
            let said = json!(format!("failed to expand pvc with {why}"));
            let status = world.objects.status();
            if code == Code::OutOfRange || code == Code::FailedPrecondition {
                assert_eq!(status["conditions"][1]["message"], said);
                let want =
                    if code == Code::OutOfRange { "NodeResizeInfeasible" } else { "NodeResizeInProgress" };
                assert_eq!(status["allocatedResourceStatuses"]["storage"], want);
                // Also if the claim changes.
                world.objects.edit("c", |claim| claim["metadata"]["labels"] = json!({"a": "b"}));
                tokio::time::sleep(Duration::from_millis(300)).await;
                assert_eq!(asked(&driver).len(), 1, "{code:?}");
            } else {
                world
                    .until_status("it is tried again", |status| status["capacity"]["storage"] == "2Gi")
                    .await;
                assert_eq!(asked(&driver).len(), 2, "{code:?}");
            }
            world.volumes.tear_down(&uid(&a)).await.unwrap();
        }
    });
}

#[test]
fn a_volume_that_is_only_read_stays_as_it_is() {
    in_own_mounts(|dir| async move {
        let (mut world, driver) = World::with_claim(dir, CAN, json!({})).await;
        let claim = json!({"persistentVolumeClaim": {"claimName": "c", "readOnly": true}});
        let a: Arc<Pod> = pod_with("a", &claim, &json!({}));
        world.objects.grow("2Gi", &pending("2Gi"));
        world.volumes.desire(&a);
        let said = "MountVolume.NodeExpandVolume failed for volume \"c-pv\" requested read-only file system";
        assert_eq!(world.event("FileSystemResizeFailed").await, said);
        world.until_mounted(&a).await;
        world.objects.grow("3Gi", &json!({}));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(asked(&driver).is_empty());
        world.volumes.tear_down(&uid(&a)).await.unwrap();
    });
}
