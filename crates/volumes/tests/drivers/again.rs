//! What a driver is asked once more: to publish what it wants to publish again, to stage what had another label.

use std::time::Duration;

use csi::v1::volume_capability::AccessType;
use csi::v1::{NodePublishVolumeRequest, NodeUnstageVolumeRequest};
use serde_json::json;
use testkit::fake_csi::{Capability, FakeCsi};

use crate::internal;
use crate::space::in_own_mounts;
use crate::world::{World, pod, pod_with, uid};

/// Until this holds; it says what it saw.
async fn until(what: &str, driver: &FakeCsi, holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not {what}: {:?}", driver.changes());
}

#[test]
fn a_volume_is_published_again_and_a_refusal_takes_nothing_away() {
    in_own_mounts(|dir| async move {
        let (mut world, driver) = World::with(dir, &[Capability::StageUnstageVolume]).await;
        world.objects.driver(json!({"attachRequired": false, "requiresRepublish": true}));
        world.objects.bind("c", &json!({}), &json!({}));
        let a = pod("a", "c");
        world.until_mounted(&a).await;
        let times = || driver.calls_of::<NodePublishVolumeRequest>().len();
        tokio::spawn(world.volumes.clone().run(Default::default()));
        until("published again", &driver, || times() >= 3).await;
        let mounted = world.mounted();

        driver.fault(internal(), |_: &NodePublishVolumeRequest| true);
        let before = times();
        until("asked after a refusal", &driver, || times() >= before + 2).await;
        assert_eq!(world.mounted(), mounted);
        assert_eq!(world.volumes.desire(&a), None, "what is there stays");
        assert!(driver.changes().iter().all(|call| *call != "NodeUnpublishVolume"), "{:?}", driver.changes());
    });
}

#[test]
fn a_volume_of_one_pod_is_mounted_with_its_label() {
    in_own_mounts(|dir| async move {
        let (mut world, driver) = World::with(dir, &[Capability::StageUnstageVolume]).await;
        let own = json!({"accessModes": ["ReadWriteOncePod"], "mountOptions": ["noatime"]});
        world.objects.bind("c", &own, &json!({}));
        let claim = json!({"persistentVolumeClaim": {"claimName": "c"}});
        let with =
            |uid: &str, level: &str| pod_with(uid, &claim, &json!({"seLinuxOptions": {"level": level}}));
        let flags = || {
            let request = driver.calls_of::<NodePublishVolumeRequest>().pop().unwrap();
            match request.volume_capability.unwrap().access_type.unwrap() {
                AccessType::Mount(mount) => mount.mount_flags,
                AccessType::Block(_) => panic!("a device"),
            }
        };
        let relabels = |world: &World, pod: &kube_model::core::Pod| {
            let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
            world.volumes.attributes(&uid(pod), volume).unwrap().selinux_relabel
        };

        // A driver that cannot: the runtime gives each file its label.
        world.objects.driver(json!({"attachRequired": false}));
        let none = with("none", "s0:c1,c2");
        world.until_mounted(&none).await;
        assert_eq!(flags(), ["noatime"]);
        assert!(relabels(&world, &none));
        world.volumes.tear_down(&uid(&none)).await.unwrap();

        world.objects.driver(json!({"attachRequired": false, "seLinuxMount": true}));
        let a = with("a", "s0:c1,c2");
        world.until_mounted(&a).await;
        assert_eq!(flags(), ["noatime", "context=\"system_u:object_r:container_file_t:s0:c1,c2\""]);
        assert!(!relabels(&world, &a));
        let data = std::fs::read_to_string(world.volume_dir(&a, "c-pv").join("vol_data.json")).unwrap();
        assert!(
            data.contains(r#""seLinuxMountContext":"system_u:object_r:container_file_t:s0:c1,c2""#),
            "{data}"
        );

        // What stays staged with the label of another pod is staged anew.
        driver.fault(internal(), |_: &NodeUnstageVolumeRequest| true);
        world.volumes.tear_down(&uid(&a)).await.unwrap();
        driver.clear_faults();
        driver.forget_calls();
        let b = with("b", "s0:c3");
        world.until_mounted(&b).await;
        assert_eq!(driver.changes(), ["NodeUnstageVolume", "NodeStageVolume", "NodePublishVolume"]);
        assert_eq!(flags()[1], "context=\"system_u:object_r:container_file_t:s0:c3\"");
    });
}
