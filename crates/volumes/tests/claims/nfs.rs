//! NFS, with a `mount.nfs` of the test's own: what is mounted is a folder of the machine, or nothing for ever.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;
use tokio::time::{Instant, sleep};
use volumes::{State, TearDownError};

use crate::space::in_own_mounts;
use crate::world::{SOON, World, pod_with, uid};

/// Stands for the system's helper: tells how it was called, mounts a folder of the same name, denies, or hangs.
const HELPER: &str = r#"#!/bin/sh
echo "$@" >> DIR/calls
case "$1" in
dead:*) echo $$ > DIR/hanging; exec sleep 600 ;;
denied:*) echo "mount.nfs: access denied by server while mounting $1" >&2; exit 32 ;;
*) exec mount --bind "DIR${1##*:}" "$2" ;;
esac
"#;

/// In this thread's mounts alone.
fn install_helper(dir: &Path) {
    let [upper, work] = ["upper", "work"].map(|name| dir.join(name));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let helper = upper.join("mount.nfs");
    fs::write(&helper, HELPER.replace("DIR", dir.to_str().unwrap())).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let real = fs::canonicalize("/sbin").unwrap();
    let options =
        format!("lowerdir={},upperdir={},workdir={}", real.display(), upper.display(), work.display());
    volume_fs::helper::mount("overlay", &real, "overlay", &[&options], SOON).unwrap();
}

/// What mounting was asked of the helper with, without the folders.
fn calls(dir: &Path) -> Vec<String> {
    let calls = fs::read_to_string(dir.join("calls")).unwrap();
    let words = |line: &str| {
        let words = line.split(' ').filter(|word| !word.starts_with(dir.to_str().unwrap()));
        words.collect::<Vec<_>>().join(" ")
    };
    calls.lines().map(words).collect()
}

#[test]
fn a_folder_of_a_server_is_mounted_with_its_options_and_goes_with_the_pod() {
    in_own_mounts(|dir| async move {
        install_helper(&dir);
        fs::create_dir_all(dir.join("export")).unwrap();
        fs::write(dir.join("export/f"), "f").unwrap();
        let mut world = World::new(dir.clone());
        let nfs = json!({"server": "2001:db8::1", "path": "/export"});
        world.objects.bind("n", json!({"nfs": nfs, "mountOptions": ["nfsvers=4", "hard"]}));
        let claimed = json!({"persistentVolumeClaim": {"claimName": "n", "readOnly": true}});
        for (name, volume, folder) in [
            ("inline", json!({"nfs": {"server": "nas", "path": "/export"}}), "v"),
            ("claimed", claimed, "n-pv"),
        ] {
            let pod = pod_with(name, &volume, "volumeMounts", &json!({"fsGroup": 2000}));
            world.until_mounted(&pod).await;
            let at = format!("pods/{name}/volumes/kubernetes.io~nfs/{folder}");
            assert_eq!((world.host_path(&pod), world.at(&at)), (dir.join(&at), true));
            assert_eq!(fs::read_to_string(dir.join(&at).join("f")).unwrap(), "f");
            let other = world.restarted();
            world = other;
            world.until_mounted(&pod).await;
            world.volumes.tear_down(&uid(&pod)).await.unwrap();
            assert!(!world.at(&at) && !dir.join(&at).exists());
        }
        assert_eq!(calls(&dir), ["nas:/export -o rw", "[2001:db8::1]:/export -o ro,hard,nfsvers=4"]);
        assert!(dir.join("export/f").exists());
    });
}

/// One that does not answer holds up the pods that use it, no others; what the helper says is told.
#[test]
fn a_server_that_is_dead_holds_up_its_own_pods_alone() {
    in_own_mounts(|dir| async move {
        install_helper(&dir);
        fs::create_dir(dir.join("export")).unwrap();
        let mut world = World::new(dir.clone());
        let of = |name: &str, server: &str| {
            let volume = json!({"nfs": {"server": server, "path": "/export"}});
            pod_with(name, &volume, "volumeMounts", &json!({}))
        };
        let (dead, denied, alive) = (of("dead", "dead"), of("denied", "denied"), of("alive", "nas"));
        assert!(world.volumes.desire(&dead).is_some());
        let deadline = Instant::now() + SOON;
        while !fs::read_to_string(dir.join("hanging")).is_ok_and(|pid| pid.ends_with('\n')) {
            assert!(Instant::now() < deadline, "the helper was not called");
            sleep(std::time::Duration::from_millis(5)).await;
        }
        world.until_mounted(&alive).await;
        let at = "pods/denied/volumes/kubernetes.io~nfs/v";
        assert_eq!(
            world.failure(&denied).await.trim_end(),
            format!(
                "MountVolume.SetUp failed for volume \"v\" : mount failed: exit status 32\nMounting command: mount\n\
                 Mounting arguments: -t nfs denied:/export {0}\nOutput: mount.nfs: access denied by server while mounting \
                 denied:/export",
                dir.join(at).display()
            )
        );
        assert!(!dir.join(at).exists());
        let refused = world.failure(&of("odd", "-obind")).await;
        assert!(refused.ends_with("\"-obind:/export\" is no server and path"), "{refused}");
        let shown = world.volumes.shown(&uid(&dead));
        assert!(matches!(shown[0].state, State::SettingUp { failure: None, .. }), "{shown:?}");

        // A pod that goes meanwhile is taken down when that has ended, however it does.
        let (volumes, gone) = (world.volumes.clone(), uid(&dead));
        let taken_down = tokio::spawn(async move { volumes.tear_down(&gone).await });
        let pid = fs::read_to_string(dir.join("hanging")).unwrap();
        volume_fs::helper::run("kill", &[pid.trim()], SOON).unwrap();
        match taken_down.await.unwrap() {
            Ok(()) | Err(TearDownError::Held(_)) => {}
            Err(error) => panic!("{error}"),
        }
        for pod in [&dead, &denied, &alive] {
            world.volumes.tear_down(&uid(pod)).await.unwrap();
        }
        assert!(!world.mounted().iter().any(|at| at.starts_with("pods/")), "{:?}", world.mounted());
    });
}
