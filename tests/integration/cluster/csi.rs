//! Drivers of volumes (CSI): how the cluster hears of them, and what pods have of them.

use node_proto::csi::v1::{NodeExpandVolumeRequest, NodePublishVolumeRequest, NodeStageVolumeRequest};
use serde_json::{Value, json};
use testkit::env::{BUSYBOX, Line, until};
use testkit::fake_csi::{Capability, Code, CsiOptions, FakeCsi, Fault, attachment_name};

use super::{ClusterNode, SOON, is_ready};

const CSI_NODE: &str = "/apis/storage.k8s.io/v1/csinodes/node1";

impl ClusterNode {
    /// Has a driver make itself known to the agent.
    fn register(&self, driver: &FakeCsi) {
        // What it was told by an earlier run of the agent does not count.
        let before = driver.statuses().len();
        driver.register(&self.agent.root().join("plugins_registry")).unwrap();
        let told = until("the driver is told that it is registered", SOON, || {
            match driver.statuses().get(before..).and_then(<[_]>::last) {
                Some(status) if status.plugin_registered => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        told.unwrap();
    }

    fn until_drivers(&self, want: &Value) {
        self.until(&format!("the CSINode has {want}"), CSI_NODE, |object| {
            let none = json!([]);
            let drivers = &object["spec"]["drivers"];
            (if drivers.is_null() { &none } else { drivers }) == want
        });
    }
}

#[test]
fn the_cluster_hears_of_drivers_that_come_and_go() {
    let mut node = ClusterNode::start(Line::V2_1);
    node.until_drivers(&json!([]));
    let uid = node.until_node("is there", |_| true)["metadata"]["uid"].clone();
    let owners =
        node.until("the CSINode is there", CSI_NODE, |_| true)["metadata"]["ownerReferences"].clone();
    assert_eq!(owners, json!([{"apiVersion": "v1", "kind": "Node", "name": "node1", "uid": uid}]));

    let options = CsiOptions::new("one.csi.test").max_volumes(7).topology("topology.test/zone", "a");
    let one = FakeCsi::start(options).unwrap();
    let two = FakeCsi::start(CsiOptions::new("two.csi.test")).unwrap();
    node.register(&one);
    let has_one = json!({
        "name": "one.csi.test", "nodeID": "node-of-one.csi.test", "topologyKeys": ["topology.test/zone"],
        "allocatable": {"count": 7},
    });
    node.until_drivers(&json!([has_one]));
    node.register(&two);
    let has_two = json!({"name": "two.csi.test", "nodeID": "node-of-two.csi.test", "topologyKeys": null});
    node.until_drivers(&json!([has_one, has_two]));
    node.until_node("says what drivers call it", |node| {
        let ids =
            node["metadata"]["annotations"]["csi.volume.kubernetes.io/nodeid"].as_str().unwrap_or_default();
        let ids: Value = serde_json::from_str(ids).unwrap_or_default();
        ids == json!({"one.csi.test": "node-of-one.csi.test", "two.csi.test": "node-of-two.csi.test"})
            && node["metadata"]["labels"]["topology.test/zone"] == "a"
    });

    // Those that are not there yet after a restart are left as they are.
    node.agent.kill9();
    one.unregister();
    node.agent.start_again().unwrap();
    node.agent.wait_healthy().unwrap();
    node.register(&two);
    node.until_drivers(&json!([has_one, has_two]));
    two.unregister();
    node.until_drivers(&json!([has_one]));
    node.until_node("has forgotten one", |node| {
        let ids = node["metadata"]["annotations"]["csi.volume.kubernetes.io/nodeid"].as_str();
        ids == Some("{\"one.csi.test\":\"node-of-one.csi.test\"}")
    });
    let denied: Vec<_> =
        node.cluster.audit().unwrap().into_iter().filter(|r| r.code == 403 || r.code == 401).collect();
    assert!(denied.is_empty(), "{denied:?}");
}

const STORAGE: &str = "/apis/storage.k8s.io/v1";
const DRIVER: &str = "disk.csi.test";
const HANDLE: &str = "volume-1";

impl ClusterNode {
    fn make(&self, path: &str, object: &Value) -> Value {
        let (code, answer) = self.cluster.request("POST", path, Some(object)).unwrap();
        assert_eq!(code, 201, "{answer}");
        answer
    }

    fn patch_at(&self, path: &str, patch: &Value) {
        let (code, answer) = self.cluster.request("PATCH", path, Some(patch)).unwrap();
        assert_eq!(code, 200, "{answer}");
    }

    fn csi_driver(&self, name: &str, spec: &Value) {
        let object = json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": name}, "spec": spec});
        self.make(&format!("{STORAGE}/csidrivers"), &object);
    }

    /// A volume of the driver, and a claim that is bound to it, as the controllers of a cluster leave them.
    fn bound_volume(&self, name: &str, csi: &Value) {
        let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeName": name, "storageClassName": ""});
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec});
        let claim = self.make(claims, &claim);
        let mut source = json!({"driver": DRIVER, "volumeHandle": HANDLE, "fsType": "ext4"});
        source.as_object_mut().unwrap().extend(csi.as_object().unwrap().clone());
        let reference = json!({"kind": "PersistentVolumeClaim", "namespace": "default", "name": name, "uid": claim["metadata"]["uid"]});
        let spec = json!({
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "claimRef": reference, "csi": source,
            "storageClassName": "",
        });
        self.make(
            "/api/v1/persistentvolumes",
            &json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}),
        );
        let bound = json!({"status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}});
        self.patch_at(&format!("{claims}/{name}/status"), &bound);
    }

    /// As the attach-detach controller and the driver's attacher.
    fn attach(&self, volume: &str, handle: &str) {
        let name = attachment_name(handle, DRIVER, "node1");
        let spec =
            json!({"attacher": DRIVER, "nodeName": "node1", "source": {"persistentVolumeName": volume}});
        let object = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": name}, "spec": spec});
        self.make(&format!("{STORAGE}/volumeattachments"), &object);
        let status = json!({"status": {"attached": true, "attachmentMetadata": {"disk": "sdx"}}});
        self.patch_at(&format!("{STORAGE}/volumeattachments/{name}/status"), &status);
    }

    fn create_user(&self, pod: &str, volume: &Value) {
        let mut volume = volume.clone();
        volume["name"] = json!("data");
        self.create(
            pod,
            json!({
                "volumes": [volume],
                "containers": [{
                    "name": "app", "image": BUSYBOX, "command": ["sleep", "3600"],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }],
            }),
        );
    }

    fn until_event(&self, pod: &str, text: &str) {
        let selector = format!("involvedObject.name={pod}");
        self.until_kubectl(&["get", "events", "--field-selector", &selector], |events| events.contains(text));
    }

    fn said_in(&self, pod: &str, line: &str) -> String {
        self.kubectl(&["exec", pod, "--", "sh", "-c", line])
    }

    /// Nothing of volumes is mounted or kept below the agent's folders any more.
    fn until_nothing_is_left(&self) {
        let left = until("no volume is left", SOON, || {
            let root = self.agent.root();
            let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            let below = format!("{}/", root.display());
            let mounts: Vec<_> =
                table.lines().filter(|line| line.contains(&below)).map(str::to_owned).collect();
            let staged = files_below(&root.join("plugins/kubernetes.io/csi"));
            let pods = files_below(&root.join("pods"))
                .into_iter()
                .filter(|path| path.contains("csi"))
                .collect::<Vec<_>>();
            if mounts.is_empty() && staged.is_empty() && pods.is_empty() {
                Ok(())
            } else {
                Err(format!("{mounts:?} {staged:?} {pods:?}"))
            }
        });
        left.unwrap();
    }
}

fn files_below(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = entries.flat_map(|path| {
        let below = if path.is_symlink() || !path.is_dir() { Vec::new() } else { files_below(&path) };
        if below.is_empty() && (path.is_file() || path.ends_with("mount") || path.ends_with("globalmount")) {
            vec![path.display().to_string()]
        } else {
            below
        }
    });
    all.collect()
}

fn claim(name: &str) -> Value {
    json!({"persistentVolumeClaim": {"claimName": name}})
}

#[test]
fn a_pod_has_a_volume_of_its_own_from_a_driver() {
    let node = ClusterNode::start(Line::V2_1);
    let driver = FakeCsi::start(CsiOptions::new(DRIVER)).unwrap();
    node.register(&driver);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "stringData": {"key": "hunter"}});
    node.make("/api/v1/namespaces/default/secrets", &secret);
    let csi = json!({"csi": {
        "driver": DRIVER, "volumeAttributes": {"size": "small"}, "nodePublishSecretRef": {"name": "login"},
    }});
    // Without an object nobody knows that the driver has such volumes.
    node.create_user("user", &csi);
    node.until_event(
        "user",
        "volume mode \"Ephemeral\" not supported by driver disk.csi.test (no CSIDriver object)",
    );
    node.csi_driver(
        DRIVER,
        &json!({"attachRequired": false, "podInfoOnMount": true, "volumeLifecycleModes": ["Ephemeral"]}),
    );
    let pod = node.until_pod("user", "is ready", is_ready);
    let published = driver.calls_of::<NodePublishVolumeRequest>().pop().unwrap();
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let of = |name: &str| published.volume_context.get(name).map(String::as_str);
    assert_eq!(of("size"), Some("small"));
    assert_eq!(of("csi.storage.k8s.io/pod.name"), Some("user"));
    assert_eq!(of("csi.storage.k8s.io/pod.uid"), Some(uid));
    assert_eq!(of("csi.storage.k8s.io/ephemeral"), Some("true"));
    assert_eq!(published.secrets.get("key").map(String::as_str), Some("hunter"));
    let volume = node.agent.root().join("pods").join(uid).join("volumes/kubernetes.io~csi/data");
    assert_eq!(published.target_path, volume.join("mount").display().to_string());
    let data = std::fs::read_to_string(volume.join("vol_data.json")).unwrap();
    let data: Value = serde_json::from_str(&data).unwrap();
    assert_eq!(
        data,
        json!({
            "attachmentID": attachment_name(&published.volume_id, DRIVER, "node1"), "driverName": DRIVER,
            "nodeName": "node1", "specVolID": "data", "volumeHandle": published.volume_id,
            "volumeLifecycleMode": "Ephemeral",
        })
    );
    std::fs::write(driver.data(&published.volume_id).join("file"), "from the driver").unwrap();
    assert_eq!(node.said_in("user", "cat /data/file; echo back > /data/other"), "from the driver");
    assert_eq!(std::fs::read_to_string(driver.data(&published.volume_id).join("other")).unwrap(), "back\n");

    node.delete("user");
    node.until_gone("user");
    node.until_nothing_is_left();
    assert_eq!(driver.changes().last(), Some(&"NodeUnpublishVolume"));
}

#[test]
fn a_volume_of_a_claim_is_attached_staged_and_published_and_survives_restarts() {
    let mut node = ClusterNode::start(Line::V2_1);
    let options = CsiOptions::new(DRIVER).can(Capability::StageUnstageVolume);
    let driver = FakeCsi::start(options).unwrap();
    node.register(&driver);
    std::fs::write(driver.data(HANDLE).join("file"), "kept").unwrap();
    node.csi_driver(DRIVER, &json!({"attachRequired": true}));
    node.bound_volume("pv1", &json!({"volumeAttributes": {"pool": "fast"}}));
    node.create_user("one", &claim("pv1"));
    node.until_event(
        "one",
        "MountVolume.WaitForAttach failed for volume \"pv1\" : volume volume-1 has GET error",
    );
    assert!(driver.changes().is_empty(), "{:?}", driver.changes());
    node.attach("pv1", HANDLE);
    let one = node.until_pod("one", "is ready", is_ready);
    assert_eq!(node.said_in("one", "cat /data/file; echo more > /data/more"), "kept");
    let staged = driver.calls_of::<NodeStageVolumeRequest>().pop().unwrap();
    assert_eq!(staged.publish_context.get("disk").map(String::as_str), Some("sdx"));
    assert_eq!(staged.volume_context.get("pool").map(String::as_str), Some("fast"));

    // Of two pods each has it mounted, and it is staged once.
    node.create_user("two", &claim("pv1"));
    node.until_pod("two", "is ready", is_ready);
    assert_eq!(node.said_in("two", "cat /data/more"), "more\n");
    assert_eq!(driver.changes(), ["NodeStageVolume", "NodePublishVolume", "NodePublishVolume"]);

    // The agent comes back without touching a mount, the driver being away for a while.
    let table = || {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let root = node_root(&node);
        table.lines().filter(|line| line.contains(&root)).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = table();
    assert_eq!(before.iter().filter(|line| line.contains("csi")).count(), 3, "{before:?}");
    node.agent.kill9();
    driver.unregister();
    node.agent.start_again().unwrap();
    node.agent.wait_healthy().unwrap();
    let uid = one["metadata"]["uid"].as_str().unwrap();
    node.until_here("one", "is ready", |pod| pod["status"]["phase"] == "Running");
    let root = node_root(&node);
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let after: Vec<_> = table.lines().filter(|line| line.contains(&root)).collect();
    assert_eq!(after, before);

    // A pod that ends meanwhile waits for the driver, and says so.
    node.delete("one");
    let left = node.agent.root().join("pods").join(uid).join("volumes/kubernetes.io~csi/pv1/vol_data.json");
    let log = until("it is said that the driver is missing", SOON, || {
        let log = std::fs::read_to_string(node.agent.log()).unwrap();
        if log.contains("driver name disk.csi.test not found in the list of registered CSI drivers") {
            Ok(())
        } else {
            Err(log.lines().last().unwrap_or_default().to_owned())
        }
    });
    log.unwrap();
    assert!(left.exists());
    driver.forget_calls();
    node.register(&driver);
    node.until_gone("one");
    assert!(!driver.changes().contains(&"NodeUnstageVolume"), "another pod has it: {:?}", driver.changes());
    assert_eq!(node.said_in("two", "cat /data/more"), "more\n");
    node.delete("two");
    node.until_gone("two");
    node.until_nothing_is_left();
    assert_eq!(driver.changes().last(), Some(&"NodeUnstageVolume"));
    assert_eq!(std::fs::read_to_string(driver.data(HANDLE).join("file")).unwrap(), "kept");
    // An attachment that is not there yet is none of the node's.
    let denied = node.cluster.audit().unwrap().into_iter().filter(|r| r.code == 403 || r.code == 401);
    let denied: Vec<_> = denied.filter(|r| !r.uri.contains("/volumeattachments/")).collect();
    assert!(denied.is_empty(), "{denied:?}");
}

fn node_root(node: &ClusterNode) -> String {
    format!("{}/", node.agent.root().display())
}

/// The kubelet says nothing of a driver that is missing.
#[test]
fn a_driver_that_is_missing_refuses_or_hangs_is_told_and_tried_again() {
    let mut node = ClusterNode::start(Line::V2_1);
    node.csi_driver(DRIVER, &json!({"attachRequired": false}));
    node.bound_volume("pv1", &json!({}));
    node.create_user("user", &claim("pv1"));
    let missing = "MountVolume.MountDevice failed for volume \"pv1\" : kubernetes.io/csi: attacher.MountDevice failed \
                   to create newCsiDriverClient: driver name disk.csi.test not found in the list of registered CSI drivers";
    node.until_event("user", missing);
    node.until_pod("user", "says what it waits for", |pod| {
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        waiting["message"]
            .as_str()
            .is_some_and(|message| message.contains("driver name disk.csi.test not found"))
    });

    let options = CsiOptions::new(DRIVER).can(Capability::StageUnstageVolume);
    let driver = FakeCsi::start(options).unwrap();
    let refused = Fault::Fail(Code::Internal, "no such disk".to_owned());
    driver.fault_once(refused, |_: &NodeStageVolumeRequest| true);
    node.register(&driver);
    node.until_event(
        "user",
        "MountVolume.MountDevice failed for volume \"pv1\" : rpc error: code = Internal desc = no such disk",
    );

    // Killed while the driver is at it: it has mounted the volume, and nobody has heard.
    driver.fault_once(Fault::LoseReply, |_: &NodePublishVolumeRequest| true);
    let published = until("it is published", SOON, || {
        let asked = driver.calls_of::<NodePublishVolumeRequest>().len();
        if asked > 0 { Ok(()) } else { Err(format!("{:?}", driver.methods())) }
    });
    published.unwrap();
    node.agent.kill9();
    driver.clear_faults();
    // Another half-way: nothing of it is there when it is asked again.
    driver.fault_once(Fault::Fail(Code::Aborted, "busy".to_owned()), |_: &NodeStageVolumeRequest| true);
    node.agent.start_again().unwrap();
    node.agent.wait_healthy().unwrap();
    node.until_pod("user", "is ready", is_ready);
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = node_root(&node);
    let mounts = table.lines().filter(|line| line.contains(&root) && line.contains("csi")).count();
    assert_eq!(mounts, 2, "{table}");

    // What cannot be read of a volume does not keep it: it is unmounted all the same.
    let pod = node.until_pod("user", "is there", |_| true);
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let data = node.agent.root().join("pods").join(uid).join("volumes/kubernetes.io~csi/pv1/vol_data.json");
    std::fs::write(&data, "{\"driverName\":\"di").unwrap();
    node.delete("user");
    node.until_gone("user");
    node.until_nothing_is_left();
    assert_eq!(driver.changes().last(), Some(&"NodeUnstageVolume"), "{:?}", driver.changes());
}

/// The claim is read with the node's own rights, and told so; nothing of the pod is touched.
#[test]
fn a_volume_grows_while_a_pod_has_it() {
    let node = ClusterNode::start_given(Line::V2_1, &["--sync-frequency=1s"], |cluster| {
        cluster.node_kubeconfig("node1").unwrap()
    });
    node.until_node("is ready", is_ready);
    let options = CsiOptions::new(DRIVER).can(Capability::StageUnstageVolume).can(Capability::ExpandVolume);
    let driver = FakeCsi::start(options).unwrap();
    node.register(&driver);
    node.csi_driver(DRIVER, &json!({"attachRequired": false}));
    node.bound_volume("pv1", &json!({}));
    node.create_user("user", &claim("pv1"));
    node.until_pod("user", "is ready", is_ready);
    driver.forget_calls();

    let (volume, claim) =
        ("/api/v1/persistentvolumes/pv1", "/api/v1/namespaces/default/persistentvolumeclaims/pv1");
    let refused = Fault::Fail(Code::Internal, "busy".to_owned());
    driver.fault_once(refused, |_: &NodeExpandVolumeRequest| true);
    node.patch_at(volume, &json!({"spec": {"capacity": {"storage": "2Gi"}}}));
    let waits = json!({"type": "FileSystemResizePending", "status": "True"});
    node.patch_at(&format!("{claim}/status"), &json!({"status": {"conditions": [waits]}}));
    node.until("the claim says so", claim, |claim| {
        claim["status"]["capacity"]["storage"] == "2Gi" && claim["status"]["conditions"].is_null()
    });
    let asked = driver.calls_of::<NodeExpandVolumeRequest>();
    assert_eq!((asked.len(), asked[1].capacity_range.unwrap().required_bytes), (2, 2 << 30));
    assert_eq!(driver.changes(), ["NodeExpandVolume", "NodeExpandVolume"]);
    node.until_event(
        "user",
        "NodeExpandVolume.NodeExpandVolume failed for volume \"pv1\" : Expander.NodeExpand failed to expand the volume : \
         rpc error: code = Internal desc = busy",
    );
    // About the pod, and about the claim.
    for about in ["user", "pv1"] {
        node.until_event(about, "MountVolume.NodeExpandVolume succeeded for volume \"pv1\" node1");
    }
    let denied: Vec<_> =
        node.cluster.audit().unwrap().into_iter().filter(|r| r.code == 403 || r.code == 401).collect();
    assert!(denied.is_empty(), "{denied:?}");
}
