//! Claims of an API server, as the recordings of the real kubelet have them: the same folders with the same modes and
//! owners, the same mounts inside, the same words in events.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testkit::env::{BUSYBOX, Line, until};

use super::{ClusterNode, PODS, SOON, is_ready, pod_path};
use crate::volumes::disk::{comparable, list, mount_line};

/// The image of the recordings.
const IMAGE: &str = "registry.k8s.io/e2e-test-images/busybox:1.37.0-1";

pub(crate) const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
pub(crate) const VOLUMES: &str = "/api/v1/persistentvolumes";

/// One recording, with the folder of the node, or the disk, that its volumes are.
struct Recording {
    name: &'static str,
    host: PathBuf,
    disk: Option<Loop>,
    value: Value,
}

/// A disk of the machine, freed at the end of a test, however that ends.
struct Loop(String);

impl Loop {
    fn new(dir: &Path) -> Self {
        let image = dir.join("disk.img");
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let made = Command::new("losetup").args(["-f", "--show"]).arg(&image).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        Self(String::from_utf8(made.stdout).unwrap().trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // An agent that was killed has not let go of it.
        let holders = Command::new("losetup").args(["-j", &self.0, "-n", "-O", "NAME"]).output();
        let holders =
            holders.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default();
        for device in holders.lines().chain([self.0.as_str()]) {
            let _ = Command::new("losetup").args(["-d", device.trim()]).status();
        }
    }
}

impl Recording {
    fn new(node: &ClusterNode, name: &'static str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/volumes/{name}.json"));
        let host = node.run.dir().join(format!("host-{name}"));
        fs::create_dir_all(&host).unwrap();
        fs::set_permissions(&host, fs::Permissions::from_mode(0o755)).unwrap();
        let mut text = fs::read_to_string(file).unwrap().replace("$HOST", host.to_str().unwrap());
        let disk = text.contains("$LOOP").then(|| Loop::new(node.run.dir()));
        if let Some(disk) = &disk {
            text = text.replace("$LOOP", &disk.0);
        }
        let value: Value = serde_json::from_str(&text).unwrap();
        let before = value["host_before"].as_array().or_else(|| {
            // One that the kubelet has not changed.
            value["host"].as_array().filter(|_| name == "pv-local-readonly")
        });
        for line in before.into_iter().flatten() {
            make(&host, line.as_str().unwrap());
        }
        Self { name, host, disk, value }
    }

    /// Makes the objects: claims with the phase that a controller would give them, and the names of pods.
    fn apply(&self, node: &ClusterNode) -> Vec<String> {
        let mut uids: BTreeMap<String, String> = BTreeMap::new();
        let mut pods = Vec::new();
        for object in self.value["created"].as_array().unwrap() {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let mut text = object.to_string();
            for (of, uid) in &uids {
                text = text.replace(&format!("\"$UID_{of}\""), &format!("{uid:?}"));
            }
            let path = match object["kind"].as_str().unwrap() {
                "PersistentVolumeClaim" => CLAIMS,
                "PersistentVolume" => VOLUMES,
                "Pod" => PODS,
                other => panic!("{other}"),
            };
            let made = node.post_to(path, &serde_json::from_str(&text).unwrap());
            uids.insert(name.clone(), made["metadata"]["uid"].as_str().unwrap().to_owned());
            match path {
                CLAIMS if self.name != "pvc-unbound" => node.bind(&name),
                PODS => pods.push(name),
                _ => {}
            }
        }
        pods
    }

    /// Compares what is on disk, what each container sees, and the folder of the node.
    fn compare(&self, node: &ClusterNode, pod: &str) {
        let recorded = &self.value["pods"][pod];
        let dir = node.pod_dir(pod);
        assert_eq!(comparable(list(&dir)), lines(&recorded["disk"]["ls"]), "{pod}");
        for (container, inside) in recorded["inside"].as_object().into_iter().flatten() {
            let found = node.kubectl(&["exec", pod, "-c", container, "--", "cat", "/proc/self/mountinfo"]);
            let by_point = |line: String| (line.split(' ').next().unwrap_or_default().to_owned(), line);
            let found: BTreeMap<_, _> = found.lines().filter_map(mount_line).map(by_point).collect();
            for line in inside["mountinfo"].as_array().unwrap() {
                let (point, expected) = by_point(mount_line(line.as_str().unwrap()).unwrap());
                assert_eq!(found.get(&point), Some(&expected), "{pod} {container}");
            }
            for (file, content) in inside["files"].as_object().unwrap() {
                let found = node.kubectl(&["exec", pod, "-c", container, "--", "cat", file]);
                assert_eq!(found, content.as_str().unwrap(), "{pod} {container} {file}");
            }
        }
        if let Some(host) = self.value["host"].as_array() {
            let host: Vec<_> = host.iter().map(|line| line.as_str().unwrap().to_owned()).collect();
            assert_eq!(comparable(list(&self.host)), comparable(host), "{pod}");
        }
    }
}

/// What a line of a listing says.
fn make(host: &Path, line: &str) {
    let (words, target) = line.split_once(" -> ").unwrap_or((line, ""));
    let words: Vec<_> = words.split(' ').collect();
    let number = |from_end: usize, radix| u32::from_str_radix(words[words.len() - from_end], radix).unwrap();
    let path = host.join(words[0]);
    match words[1] {
        "directory" => fs::create_dir_all(&path).unwrap(),
        "symbolic" => symlink(target, &path).unwrap(),
        _ => fs::write(&path, "f").unwrap(),
    }
    lchown(&path, Some(number(3, 10)), Some(number(2, 10))).unwrap();
    if target.is_empty() {
        fs::set_permissions(&path, fs::Permissions::from_mode(number(4, 8))).unwrap();
    }
}

fn lines(list: &Value) -> Vec<String> {
    comparable(list.as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()))
}

impl ClusterNode {
    pub(crate) fn post_to(&self, path: &str, object: &Value) -> Value {
        let (code, answer) = self.cluster.request("POST", path, Some(object)).unwrap();
        assert_eq!(code, 201, "{answer}");
        answer
    }

    /// As the controller that binds claims.
    pub(crate) fn bind(&self, claim: &str) {
        let bound = json!({"status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "10Mi"}}});
        let (code, answer) =
            self.cluster.request("PATCH", &format!("{CLAIMS}/{claim}/status"), Some(&bound)).unwrap();
        assert_eq!(code, 200, "{answer}");
    }

    fn pod_dir(&self, pod: &str) -> PathBuf {
        let (code, object) = self.cluster.request("GET", &pod_path(pod), None).unwrap();
        assert_eq!(code, 200, "{object}");
        self.agent.root().join("pods").join(object["metadata"]["uid"].as_str().unwrap())
    }

    /// Deletes the pod: nothing of it stays, and nothing is mounted.
    fn delete_all(&self, pods: &[String]) {
        let dirs: Vec<_> = pods.iter().map(|pod| self.pod_dir(pod)).collect();
        pods.iter().for_each(|pod| self.delete(pod));
        pods.iter().for_each(|pod| self.until_gone(pod));
        let gone = until("the pods' folders are gone, and what was mounted for the node", SOON, || {
            let left: Vec<_> = dirs.iter().filter(|dir| dir.exists()).flat_map(|dir| list(dir)).collect();
            let mounted = self.mounted_for_node();
            if left.is_empty() && mounted.is_empty() { Ok(()) } else { Err(format!("{left:?} {mounted:?}")) }
        });
        gone.unwrap_or_else(|e| panic!("{e}\n{}", self.log()));
    }

    /// What is mounted below the node's `plugins`.
    fn mounted_for_node(&self) -> Vec<String> {
        let plugins = self.agent.root().join("plugins").to_str().unwrap().to_owned();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().filter(|line| line.contains(&plugins)).map(str::to_owned).collect()
    }

    /// Waits for each event that was recorded of the pod, with the same words, and maybe more behind them.
    fn until_events(&self, recording: &Recording, pod: &str, more: &str) {
        let events = recording.value["pods"][pod]["events"].as_array().unwrap();
        let dir = self.pod_dir(pod);
        for event in events {
            let root = self.agent.root().to_str().unwrap().to_owned();
            let uid = dir.file_name().unwrap().to_str().unwrap();
            let message = event["message"].as_str().unwrap().replace("$ROOT", &root);
            let message = message.replace(&format!("$UID_{pod}"), uid);
            let args = ["get", "events", "-o", "json", "--field-selector"].map(str::to_owned);
            let args: Vec<_> = args.into_iter().chain([format!("involvedObject.name={pod}")]).collect();
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            self.until_kubectl(&args, |said| {
                let said: Value = serde_json::from_str(said).unwrap();
                said["items"].as_array().unwrap().iter().any(|found| {
                    let words = found["message"].as_str().unwrap();
                    found["reason"] == event["reason"]
                        && found["type"] == event["type"]
                        && words.strip_prefix(message.trim_end()).is_some_and(|rest| rest.trim_end() == more)
                })
            });
        }
    }

    fn waits(&self, pod: &str) {
        self.until_pod(pod, "waits", |pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating"
        });
    }
}

fn start() -> ClusterNode {
    let node = ClusterNode::start(Line::V2_1);
    node.containerd.ctr(&["images", "tag", BUSYBOX, IMAGE]).unwrap();
    node
}

#[test]
fn volumes_that_cannot_be_are_told_of_as_by_the_kubelet() {
    let node = start();
    let recordings = ["emptydir-hugepages", "sa-gone"].map(|name| Recording::new(&node, name));
    let mut pods = Vec::new();
    for recording in &recordings {
        for pod in recording.apply(&node) {
            let status = recording.value["pods"][&pod]["status"].as_object().unwrap();
            node.until_pod(&pod, "is as recorded", |pod| {
                status.iter().all(|(field, value)| &pod["status"][field] == value)
            });
            node.until_events(recording, &pod, "");
            pods.push(pod);
        }
    }
    node.delete_all(&pods);
}

#[test]
fn claims_are_mounted_as_by_the_kubelet_and_leave_nothing() {
    let mut node = start();
    let recordings =
        ["pv-hostpath", "pv-local", "pv-local-readonly", "pv-fsgroup-onrootmismatch", "pv-local-fs-on-block"]
            .map(|name| Recording::new(&node, name));
    let pods: Vec<_> = recordings.iter().flat_map(|recording| recording.apply(&node)).collect();
    for pod in &pods {
        node.until_pod(pod, "is ready", is_ready);
    }
    for recording in &recordings {
        recording.compare(&node, recording.name);
    }
    assert_eq!(node.mounted_for_node().len(), 1);

    // Another run of the agent changes nothing, and takes all of it down.
    let root = node.agent.root().to_str().unwrap().to_owned();
    let mounts = || {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().filter(|line| line.contains(&root)).count()
    };
    let before = mounts();
    node.agent.kill9();
    node.agent.start_again().unwrap();
    for pod in &pods {
        node.until_here(pod, "is there", |pod| pod["status"]["phase"] == "Running");
    }
    assert_eq!(mounts(), before);
    node.delete_all(&pods);
    for recording in recordings.iter().filter(|recording| recording.value["host_after"].is_array()) {
        let host = lines(&recording.value["host_after"]);
        assert_eq!(comparable(list(&recording.host)), host, "{}", recording.name);
    }
    let denied: Vec<_> = node.cluster.audit().unwrap().into_iter().filter(|r| r.code == 401).collect();
    assert!(denied.is_empty(), "{denied:?}");
}

#[test]
fn a_disk_as_a_device_is_the_containers_also_when_it_starts_again() {
    let mut node = start();
    let recording = Recording::new(&node, "pv-local-block");
    let pods = recording.apply(&node);
    let [device, mounted] = [&pods[0], &pods[1]];
    let pod = node.until_pod(device, "is ready", is_ready);
    node.until_events(&recording, device, "");
    node.until_events(&recording, mounted, "");
    recording.compare(&node, device);
    let plugins = list(&node.agent.root().join("plugins"));
    let volume = "kubernetes.io~local-volume/volumeDevices/pv-local-block-pv";
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    assert!(plugins.iter().any(|line| line.starts_with(&format!("{volume}/{uid} "))), "{plugins:?}");
    let held = || {
        let all = Command::new("losetup").arg("-a").output().unwrap();
        String::from_utf8(all.stdout).unwrap().matches(uid).count()
    };
    assert_eq!(held(), 1);
    let disk = &recording.disk.as_ref().unwrap().0;
    let write = ["exec", device.as_str(), "--", "sh", "-c", "echo written > /dev/xvda; sync"];
    node.kubectl(&write);
    assert!(fs::read(disk).unwrap().starts_with(b"written"));

    node.agent.kill9();
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let id = id.rsplit('/').next().unwrap();
    node.containerd.ctr(&["tasks", "kill", "--signal", "SIGKILL", id]).unwrap();
    node.agent.start_again().unwrap();
    node.until_pod(device, "runs again", |pod| {
        pod["status"]["containerStatuses"][0]["restartCount"] == 1 && is_ready(pod)
    });
    let read = ["exec", device.as_str(), "--", "head", "-c", "7", "/dev/xvda"];
    assert_eq!(node.kubectl(&read), "written");
    assert_eq!(held(), 1);
    node.delete_all(&pods);
    assert_eq!(held(), 0);
    let left = list(&node.agent.root().join("plugins"));
    assert!(!left.iter().any(|line| line.contains("pv-local-block-pv")), "{left:?}");
}

#[test]
fn what_cannot_be_had_is_told_in_the_kubelets_words_and_had_when_it_is_there() {
    let node = start();
    let unbound = Recording::new(&node, "pvc-unbound");
    let others = ["pvc-missing", "pv-local-wrong-node", "volume-plugins-missing"];
    let others = others.map(|name| Recording::new(&node, name));
    let waiting = unbound.apply(&node);
    let mut pods: Vec<_> = others.iter().flat_map(|recording| recording.apply(&node)).collect();
    node.until_events(&unbound, "pvc-unbound", "");
    for recording in &others {
        for pod in recording.value["pods"].as_object().unwrap().keys() {
            let never = |field: &str, instead: &str| {
                format!(" (volumes of the kind {field} are not mounted: use {instead})")
            };
            match pod.as_str() {
                // The kubelet has a gate for it, which does not bring it back here.
                "volume-plugins-missing-gitrepo" => {}
                "volume-plugins-missing-flex" => node.until_events(
                    recording,
                    pod,
                    &never("flexVolume", "the CSI driver of the storage's vendor"),
                ),
                _ => node.until_events(recording, pod, ""),
            }
            node.waits(pod);
        }
    }
    // The kubelet says nothing of this one.
    let events = ["get", "events", "--field-selector", "involvedObject.name=volume-plugins-missing-iscsi"];
    node.until_kubectl(&events, |said| said.contains("use the CSI driver iscsi.csi.k8s.io"));

    node.bind("pvc-unbound-pvc");
    node.until_pod("pvc-unbound", "is ready", is_ready);
    pods.extend(waiting);
    node.delete_all(&pods);
}
