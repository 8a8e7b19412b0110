//! What a pod has mounted outlives the agent, and what is left of one that is gone goes.

use std::fs;

use super::disk::list;
use crate::node::{eventually, id_of, on_both_lines, uid_of, was_restarted};

const WRITER: &str = "
terminationGracePeriodSeconds: 0
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, 'echo $(date +%s%N) >> /disk/starts; echo m > /mem/m; sleep 3600']
  volumeMounts:
  - {name: disk, mountPath: /disk}
  - {name: mem, mountPath: /mem}
volumes:
- name: disk
  emptyDir: {}
- name: mem
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
- name: unused
  emptyDir: {}
";

/// With all that is made for volumes: a group's files, memory, a part, content.
const MANY: &str = "
terminationGracePeriodSeconds: 0
securityContext: {fsGroup: 2000}
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, 'sleep 3600']
  volumeMounts:
  - {name: disk, mountPath: /disk, subPath: a/b}
  - {name: mem, mountPath: /mem}
  - {name: info, mountPath: /info}
volumes:
- name: disk
  emptyDir: {}
- name: mem
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
- name: info
  downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}
";

fn mounts_below(dir: &std::path::Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = table.lines().filter(|line| line.contains(dir.to_str().unwrap()));
    below.map(str::to_owned).collect()
}

on_both_lines! {
    fn an_agent_that_starts_anew_touches_no_mount_and_restarts_nothing(node) {
        node.apply("writer", WRITER);
        let before = node.until_ready("writer");
        let dir = node.agent.root().join("pods").join(uid_of(&before));
        // The last that it writes, a line of two bytes.
        let files = eventually("the container has written", || {
            let files = list(&dir);
            let is_there = files.iter().any(|line| line.contains("/mem/m ") && line.ends_with(" 2"));
            if is_there { Ok(files) } else { Err(format!("{files:?}")) }
        });
        let mounts = mounts_below(&dir);
        assert_eq!(mounts.len(), 1, "{mounts:?}");
        assert!(!files.iter().any(|line| line.contains("unused")), "{files:?}");

        node.agent.kill9();
        node.agent.start_again().unwrap();
        node.agent.wait_healthy().unwrap();
        let after = node.until_ready("writer");
        assert!(!was_restarted(&after["status"]["containerStatuses"][0]));
        assert_eq!((mounts_below(&dir), list(&dir)), (mounts.clone(), files));

        // A container that ends comes back with its volumes.
        let id = id_of(&after["status"]["containerStatuses"][0]);
        node.containerd.ctr(&["tasks", "kill", "--signal", "SIGKILL", &id]).unwrap();
        node.until_container("writer", "app", "runs again", |status| {
            status["restartCount"] == 1 && !status["state"]["running"].is_null()
        });
        let starts = eventually("both starts are written", || {
            let starts = fs::read_to_string(dir.join("volumes/kubernetes.io~empty-dir/disk/starts")).unwrap_or_default();
            if starts.lines().count() == 2 { Ok(starts) } else { Err(starts) }
        });
        assert_eq!(starts.lines().count(), 2);
        assert_eq!(mounts_below(&dir), mounts);
        node.delete("writer");
        node.until_gone("writer");
        eventually("nothing is left", || if dir.exists() { Err(list(&dir).join("\n")) } else { Ok(()) });
        assert_eq!(mounts_below(&dir), Vec::<String>::new());
    }

    fn volumes_of_a_pod_that_vanished_while_the_agent_was_away_go_but_not_what_is_mounted_in_them(node) {
        node.apply("writer", WRITER);
        let pod = node.until_ready("writer");
        let dir = node.agent.root().join("pods").join(uid_of(&pod));
        node.agent.kill9();
        node.delete("writer");
        // Somebody has mounted precious data where the pod's folder is.
        let (precious, point) = (node.run.dir().join("precious"), dir.join("volumes/kubernetes.io~empty-dir/disk/p"));
        fs::create_dir(&precious).unwrap();
        fs::write(precious.join("data"), "precious").unwrap();
        fs::create_dir(&point).unwrap();
        rustix::mount::mount_bind(&precious, &point).unwrap();
        node.agent.start_again().unwrap();
        node.agent.wait_healthy().unwrap();
        eventually("the pod's memory is unmounted", || {
            let mounts = mounts_below(&dir);
            if mounts.len() == 1 && mounts[0].contains("/disk/p") { Ok(()) } else { Err(format!("{mounts:?}")) }
        });
        assert_eq!(fs::read_to_string(precious.join("data")).unwrap(), "precious");
        rustix::mount::unmount(&point, rustix::mount::UnmountFlags::empty()).unwrap();
        eventually("nothing is left", || if dir.exists() { Err(list(&dir).join("\n")) } else { Ok(()) });
        assert_eq!(fs::read_to_string(precious.join("data")).unwrap(), "precious");
    }

    fn a_root_folder_that_is_a_link_is_the_folder_that_it_leads_to(node) {
        node.agent.kill9();
        let root = node.agent.root();
        let real = root.with_file_name("elsewhere");
        // It was mounted onto itself where it did not lie on a shared mount.
        let _ = rustix::mount::unmount(&root, rustix::mount::UnmountFlags::empty());
        fs::rename(&root, &real).unwrap();
        std::os::unix::fs::symlink(&real, &root).unwrap();
        node.agent.start_again().unwrap();
        node.apply("writer", WRITER);
        let pod = node.until_ready("writer");
        let dir = real.join("pods").join(uid_of(&pod));
        let mounts = mounts_below(&dir);
        assert_eq!(mounts.len(), 1, "{mounts:?}");

        node.agent.kill9();
        node.agent.start_again().unwrap();
        let after = node.until_ready("writer");
        assert!(!was_restarted(&after["status"]["containerStatuses"][0]));
        assert_eq!(mounts_below(&dir), mounts);
        node.delete("writer");
        node.until_gone("writer");
        eventually("nothing is left", || if dir.exists() { Err(list(&dir).join("\n")) } else { Ok(()) });
        assert_eq!(mounts_below(&dir), Vec::<String>::new());
    }

    /// The moments are random but the same in every run; what is killed when depends on the machine.
    fn an_agent_killed_at_any_moment_mounts_nothing_twice_and_leaves_nothing(node) {
        let names = ["one", "two"];
        let pods = node.agent.root().join("pods");
        let mut seed = 0x5eed_u64;
        let mut kill_soon = |node: &mut crate::node::Node| {
            node.agent.start_again().unwrap();
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Not a wait for anything: the moment of the fault.
            std::thread::sleep(std::time::Duration::from_millis((seed >> 33) % 400));
            node.agent.kill9();
        };
        node.agent.kill9();
        for name in names {
            node.apply(name, MANY);
        }
        for _ in 0..8 {
            kill_soon(&mut node);
        }
        node.agent.start_again().unwrap();
        for name in names {
            node.until_ready(name);
            assert_eq!(node.exec(name, "app", "cat /info/name; echo x > /disk/x; echo x > /mem/x"), format!("{name}-node1"));
        }
        let mounts = mounts_below(&pods);
        // Two memories and a part for each.
        assert_eq!(mounts.len(), 6, "{mounts:#?}");

        node.agent.kill9();
        for name in names {
            node.delete(name);
        }
        for _ in 0..8 {
            kill_soon(&mut node);
        }
        node.agent.start_again().unwrap();
        eventually("nothing is left", || {
            let left = list(&pods);
            if left.len() == 1 { Ok(()) } else { Err(left.join("\n")) }
        });
        assert_eq!(mounts_below(&pods), Vec::<String>::new());
    }
}
