//! Disks of the node, mounted or as devices.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use volume_fs::MountTable;
use volumes::News;

use crate::space::in_own_mounts;
use crate::world::{Objects, SOON, World, pod_with, uid};

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

        world.objects.bind("no-disk", json!({"local": {"path": "/dev/null"}, "volumeMode": "Block"}));
        let volume = json!({"persistentVolumeClaim": {"claimName": "no-disk"}});
        let odd = pod_with("odd", &volume, "volumeDevices", &json!({}));
        assert!(world.volumes.desire(&odd).is_some());
        let told = loop {
            if let News::Event(_, _, reason, message) = world.news().await
                && reason != "SuccessfulMountVolume"
            {
                break (reason, message);
            }
        };
        let why = "MapVolume.MapBlockVolume failed for volume \"no-disk-pv\" : /dev/null is no block device";
        assert_eq!(told, ("FailedMapVolume", why.to_owned()));
        world.volumes.tear_down(&uid(&odd)).await.unwrap();
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
