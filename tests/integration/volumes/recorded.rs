//! The recordings of the real kubelet as an oracle: the same mounts, the same folders with the same modes, the same
//! errors.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::env::{BUSYBOX, Line};

use super::disk::{comparable, list, mount_line};
use crate::node::{Node, eventually, id_of, on_both_lines, uid_of};

/// The image of the recordings.
const IMAGE: &str = "registry.k8s.io/e2e-test-images/busybox:1.37.0-1";

/// As large as what the recorded node had for pods.
const ALLOCATABLE: &str = "size=24581252k";

/// One recording, with the folder of the node that its pods mount.
struct Recording {
    name: &'static str,
    text: String,
    host: PathBuf,
}

impl Recording {
    fn new(node: &Node, name: &'static str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/volumes/{name}.json"));
        let host = node.run.dir().join(format!("host-{name}"));
        fs::create_dir_all(&host).unwrap();
        fs::set_permissions(&host, fs::Permissions::from_mode(0o755)).unwrap();
        let text = fs::read_to_string(file).unwrap().replace("$HOST", host.to_str().unwrap());
        Self { name, text, host }
    }

    fn value(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// Has the node run its pods.
    fn apply(&self, node: &Node) {
        for object in self.value()["created"].as_array().unwrap() {
            let file = format!("{}.yaml", object["metadata"]["name"].as_str().unwrap());
            node.agent.write_manifest(&file, &object.to_string()).unwrap();
        }
    }

    /// Compares what the runtime was told, what is on disk and what each container sees.
    fn compare(&self, node: &Node, pod: &Value) {
        let dir = node.agent.root().join("pods").join(uid_of(pod));
        let recorded = self.value();
        self.compare_mounts(node, pod);
        assert_eq!(comparable(list(&dir)), lines(&recorded["disk"]["ls"]), "{}", self.name);
        self.compare_inside(node);
    }

    /// What the runtime was told.
    fn compare_mounts(&self, node: &Node, pod: &Value) {
        let uid = uid_of(pod);
        let recorded = self.value();
        let place =
            |text: &str| text.replace(node.agent.root().to_str().unwrap(), "$ROOT").replace(&uid, "$UID");
        for container in node.containers(&uid) {
            let name = container.metadata.unwrap().name;
            let mounts = node.container_status(&container.id).mounts;
            let mounts: Vec<_> = mounts
                .iter()
                .map(|m| {
                    let mut mount =
                        json!({"container_path": m.container_path, "host_path": place(&m.host_path)});
                    let propagation = ["", "PROPAGATION_HOST_TO_CONTAINER", "PROPAGATION_BIDIRECTIONAL"];
                    let propagation = propagation[usize::try_from(m.propagation).unwrap()];
                    let fields = [
                        ("readonly", json!(m.readonly), m.readonly),
                        ("recursive_read_only", json!(m.recursive_read_only), m.recursive_read_only),
                        ("propagation", json!(propagation), !propagation.is_empty()),
                    ];
                    for (field, value, told) in fields {
                        if told {
                            mount[field] = value;
                        }
                    }
                    mount
                })
                .filter(|m| m["container_path"] != "/dev/termination-log")
                .collect();
            let mut expected = recorded["mounts"][&name].as_array().unwrap().clone();
            expected.retain(|m| m["container_path"] != "/dev/termination-log");
            assert_eq!(mounts, expected, "{} {name}", self.name);
        }
    }

    /// What each container sees.
    fn compare_inside(&self, node: &Node) {
        let recorded = self.value();
        for (container, inside) in recorded["inside"].as_object().into_iter().flatten() {
            let found = node.exec(self.name, container, "cat /proc/self/mountinfo");
            let found: BTreeMap<_, _> = found.lines().filter_map(mount_line).map(by_point).collect();
            for line in inside["mountinfo"].as_array().unwrap() {
                let (point, expected) = by_point(mount_line(line.as_str().unwrap()).unwrap());
                let mut found = found.get(&point).cloned().unwrap_or_default();
                if expected.ends_with(ALLOCATABLE) {
                    // That much of another node.
                    found.truncate(found.rfind("size=").unwrap());
                    found.push_str(ALLOCATABLE);
                }
                assert_eq!(found, expected, "{} {container} {point}", self.name);
            }
            for (file, content) in inside["files"].as_object().unwrap() {
                let found = node.exec(self.name, container, &format!("cat {file}"));
                assert_eq!(found, content.as_str().unwrap(), "{} {container} {file}", self.name);
            }
        }
    }

    /// Takes the pod away: nothing of it stays.
    fn delete(&self, node: &Node, uid: &str) {
        node.delete(self.name);
        node.until_gone(self.name);
        let dir = node.agent.root().join("pods").join(uid);
        eventually("the pod's folder is gone", || {
            if dir.exists() { Err(format!("{:?}", list(&dir))) } else { Ok(()) }
        });
    }
}

fn by_point(line: String) -> (String, String) {
    (line.split(' ').next().unwrap_or_default().to_owned(), line)
}

fn lines(list: &Value) -> Vec<String> {
    comparable(list.as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()))
}

fn node_has_image(node: &Node) {
    node.containerd.ctr(&["images", "tag", BUSYBOX, IMAGE]).unwrap();
}

on_both_lines! {
    fn an_empty_dir_is_on_disk_or_in_memory_and_outlives_its_containers(node) {
        node_has_image(&node);
        let recording = Recording::new(&node, "emptydir-kinds");
        recording.apply(&node);
        let pod = node.until_ready(recording.name);
        recording.compare(&node, &pod);

        let full = node.exec(recording.name, "app", "dd if=/dev/zero of=/memlim/x bs=1M count=9 2>&1; rm /memlim/x; echo app > /disk/app");
        assert!(full.contains("No space left on device"), "{full}");
        let id = id_of(&pod["status"]["containerStatuses"][0]);
        node.containerd.ctr(&["tasks", "kill", "--signal", "SIGTERM", &id]).unwrap();
        node.until_container(recording.name, "app", "runs again", |status| {
            status["restartCount"] == 1 && !status["state"]["running"].is_null()
        });
        assert_eq!(node.exec(recording.name, "app", "cat /disk/init /disk/app /mem/init"), "from-init\napp\nm\n");
        recording.delete(&node, &uid_of(&pod));
    }

    fn a_host_path_is_what_its_type_says(node) {
        node_has_image(&node);
        let kinds = Recording::new(&node, "hostpath-kinds");
        fs::create_dir_all(kinds.host.join("dir/sub")).unwrap();
        fs::set_permissions(kinds.host.join("dir"), fs::Permissions::from_mode(0o711)).unwrap();
        fs::write(kinds.host.join("dir/f"), "f\n").unwrap();
        fs::write(kinds.host.join("file"), "file\n").unwrap();
        let _socket = UnixListener::bind(kinds.host.join("sock")).unwrap();
        kinds.apply(&node);

        let links = Recording::new(&node, "hostpath-symlink");
        fs::create_dir(links.host.join("real")).unwrap();
        fs::write(links.host.join("real/f"), "f\n").unwrap();
        symlink(links.host.join("real"), links.host.join("abs")).unwrap();
        symlink("real", links.host.join("rel")).unwrap();
        links.apply(&node);

        let pod = node.until_ready(kinds.name);
        kinds.compare(&node, &pod);
        assert_eq!(comparable(list(&kinds.host)), lines(&kinds.value()["host"]));
        let linked = node.until_ready(links.name);
        links.compare(&node, &linked);
        kinds.delete(&node, &uid_of(&pod));
        assert_eq!(comparable(list(&kinds.host)), lines(&kinds.value()["host"]), "nothing of the node went with the pod");
    }

    fn a_host_path_of_another_type_holds_up_its_pod_and_says_why(node) {
        node_has_image(&node);
        let recording = Recording::new(&node, "hostpath-errors");
        fs::create_dir(recording.host.join("dir")).unwrap();
        fs::write(recording.host.join("file"), "file\n").unwrap();
        symlink("dir", recording.host.join("link-to-dir")).unwrap();
        recording.apply(&node);
        for (name, recorded) in recording.value()["pods"].as_object().unwrap() {
            for event in recorded["events"].as_array().unwrap() {
                node.until_event(name, "FailedMount", event["message"].as_str().unwrap());
            }
            let pod = node.until_pod(name, "waits for its volumes", |pod| {
                pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating"
            });
            let dir = node.agent.root().join("pods").join(uid_of(&pod));
            assert_eq!(comparable(list(&dir)), lines(&recorded["disk"]["ls"]), "{name}");
            assert!(node.sandboxes(&uid_of(&pod)).is_empty(), "{name}: nothing was started");
        }
        // What is put right is seen with the next attempt, and no other pod waits for that.
        fs::create_dir(recording.host.join("no")).unwrap();
        for name in ["hostpath-errors-0", "hostpath-errors-1", "hostpath-errors-2"] {
            node.delete(name);
            node.until_gone(name);
        }
    }
}

on_both_lines! {
    fn a_part_of_a_volume_is_mounted_for_each_container_that_asks_for_it(node) {
        node_has_image(&node);
        let recording = Recording::new(&node, "subpath-kinds");
        recording.apply(&node);
        let pod = node.until_ready(recording.name);
        recording.compare(&node, &pod);
        recording.delete(&node, &uid_of(&pod));
    }

    fn a_part_that_leads_out_of_its_volume_or_cannot_be_named_is_refused(node) {
        node_has_image(&node);
        for name in ["subpath-symlink-escape", "subpathexpr"] {
            let recording = Recording::new(&node, name);
            recording.apply(&node);
            for (pod, recorded) in recording.value()["pods"].as_object().unwrap() {
                let expected = &recorded["state"]["waiting"];
                if expected.is_null() {
                    node.until_ready(pod);
                    continue;
                }
                node.until_container(pod, "app", "waits", |found| {
                    let found = &found["state"]["waiting"];
                    let message = found["message"].as_str().unwrap_or_default();
                    let mut expected_message = expected["message"].as_str().unwrap().to_owned();
                    if pod.ends_with("-through") {
                        // The kubelet notices that this one leads out only when it makes what is not there.
                        expected_message = expected_message.replace("create subPath directory", "prepare subPath");
                    }
                    found["reason"] == expected["reason"] && message.starts_with(&expected_message)
                });
            }
        }
        let inside = node.exec("subpath-symlink-escape-inside", "app", "mount | grep ' /m '");
        assert!(!inside.is_empty());
    }
}

#[test]
fn a_mount_is_read_only_with_all_below_it_where_the_runtime_can_do_that() {
    let node = Node::with(Line::V2_1, &[]);
    node_has_image(&node);
    let recording = Recording::new(&node, "recursive-readonly");
    let sub = recording.host.join("sub");
    fs::create_dir(&sub).unwrap();
    rustix::mount::mount("t1", &sub, "tmpfs", rustix::mount::MountFlags::empty(), c"size=64k").unwrap();
    recording.apply(&node);
    let pod = node.until_ready(recording.name);
    recording.compare(&node, &pod);
    let recorded = recording.value();
    let shell = &recorded["shell"][0];
    assert_eq!(
        node.exec(recording.name, "app", shell["sh"].as_str().unwrap()),
        shell["out"].as_str().unwrap()
    );
    let told: Vec<_> = pod["status"]["containerStatuses"][0]["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["recursiveReadOnly"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told, ["Enabled", "Enabled", "Disabled", "Disabled"]);
    recording.delete(&node, &uid_of(&pod));
    assert!(sub.join("x").exists(), "what was written through the others is there");
}

on_both_lines! {
    fn memory_is_as_large_as_what_the_pods_containers_may_use(node) {
        node_has_image(&node);
        for name in ["emptydir-memory-pod-limit", "emptydir-no-limit-memory"] {
            let recording = Recording::new(&node, name);
            recording.apply(&node);
            let pod = node.until_ready(recording.name);
            recording.compare(&node, &pod);
            recording.delete(&node, &uid_of(&pod));
        }
    }

    fn volumes_of_a_pod_that_has_ended_go_though_it_is_still_there(node) {
        node_has_image(&node);
        let recording = Recording::new(&node, "init-only-volume");
        recording.apply(&node);
        let pod = node.until_phase(recording.name, "Running");
        recording.compare(&node, &pod);
        let pod = node.until_phase(recording.name, "Succeeded");
        let dir = node.agent.root().join("pods").join(uid_of(&pod));
        let expected = lines(&recording.value()["changes"][0]["disk"]["ls"]);
        eventually("its volumes are gone", || {
            let found = comparable(list(&dir));
            if found == expected { Ok(()) } else { Err(found.join("\n")) }
        });
        recording.delete(&node, &uid_of(&pod));
    }

    fn mounts_come_into_containers_and_out_of_them_as_their_propagation_says(node) {
        use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
        node_has_image(&node);
        let recording = Recording::new(&node, "mount-propagation");
        let host = &recording.host;
        let tmpfs = |at: &Path| rustix::mount::mount("t", at, "tmpfs", MountFlags::empty(), c"size=64k").unwrap();
        // Shared, whatever the machine's own disk is.
        tmpfs(host);
        rustix::mount::mount_change(host, MountPropagationFlags::SHARED).unwrap();
        let (from_host, from_container) = (host.join("from-host"), host.join("from-bi"));
        for folder in [&from_host, &from_container] {
            fs::create_dir(folder).unwrap();
        }
        recording.apply(&node);
        let pod = node.until_ready(recording.name);
        recording.compare_mounts(&node, &pod);

        tmpfs(&from_host);
        fs::write(from_host.join("f"), "").unwrap();
        node.exec(recording.name, "bi", "mount -t tmpfs t /h/from-bi && touch /h/from-bi/f");
        let seen = |container| node.exec(recording.name, container, "cd /h; ls -d from-host/f from-bi/f 2>/dev/null; true");
        for (container, sees) in
            [("unset", ""), ("none", ""), ("h2c", "from-bi/f\nfrom-host/f\n"), ("bi", "from-bi/f\nfrom-host/f\n")]
        {
            let mut lines: Vec<_> = seen(container).lines().map(str::to_owned).collect();
            lines.sort();
            assert_eq!(lines, sees.lines().collect::<Vec<_>>(), "{container}");
        }
        // What a container has mounted for the node stays when it is gone.
        recording.delete(&node, &uid_of(&pod));
        assert!(from_container.join("f").exists());
        for mounted in [&from_container, &from_host, host] {
            rustix::mount::unmount(mounted, UnmountFlags::empty()).unwrap();
        }
    }
}
