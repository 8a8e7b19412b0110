//! What pods of an API server find in their volumes: ConfigMaps, Secrets, tokens that the server gives out.

use serde_json::{Value, json};
use testkit::env::{BUSYBOX, Line, until};

use super::{ClusterNode, SOON, is_ready};

const NAMESPACE: &str = "/api/v1/namespaces/default";

impl ClusterNode {
    fn post(&self, plural: &str, object: &Value) {
        let (code, answer) =
            self.cluster.request("POST", &format!("{NAMESPACE}/{plural}"), Some(object)).unwrap();
        assert!(code == 201 || code == 409, "{answer}");
    }

    fn merge(&self, path: &str, patch: &Value) {
        let (code, answer) =
            self.cluster.request("PATCH", &format!("{NAMESPACE}/{path}"), Some(patch)).unwrap();
        assert_eq!(code, 200, "{answer}");
    }

    fn in_pod(&self, pod: &str, line: &str) -> String {
        self.kubectl(&["exec", pod, "--", "sh", "-c", line])
    }

    fn until_in_pod(&self, pod: &str, line: &str, expected: &str) {
        let seen = until(&format!("{line:?} says {expected:?} in {pod}"), SOON, || {
            let found = self.in_pod(pod, line);
            if found == expected { Ok(()) } else { Err(found) }
        });
        seen.unwrap();
    }
}

fn config_map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// Everything that pods of a cluster usually mount, read by the container, changed while it runs, and gone with the pod.
#[test]
fn a_pod_finds_its_objects_and_its_token_and_sees_changes() {
    let node = ClusterNode::start(Line::V2_1);
    node.post(
        "serviceaccounts",
        &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
    );
    node.post("configmaps", &config_map("settings", &json!({"level": "one", "a.conf": "x=1\n"})));
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "stringData": {"password": "hunter"}});
    node.post("secrets", &secret);
    node.create(
        "reader",
        json!({
            "serviceAccountName": "default",
            "volumes": [
                {"name": "settings", "configMap": {"name": "settings"}},
                {"name": "login", "secret": {"secretName": "login", "defaultMode": 0o400}},
                {"name": "access", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
                    {"configMap": {"name": "settings", "items": [{"key": "level", "path": "sub/level"}]}},
                    {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                ]}},
                {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            ],
            "containers": [{
                "name": "app", "image": BUSYBOX, "command": ["sleep", "3600"],
                "volumeMounts": [
                    {"name": "settings", "mountPath": "/settings"},
                    {"name": "settings", "mountPath": "/one", "subPath": "level"},
                    {"name": "login", "mountPath": "/login"},
                    {"name": "access", "mountPath": "/access"},
                    {"name": "scratch", "mountPath": "/scratch"},
                ],
            }],
        }),
    );
    let pod = node.until_pod("reader", "is ready", is_ready);
    assert_eq!(node.in_pod("reader", "cat /settings/level /settings/a.conf /one"), "onex=1\none");
    assert_eq!(
        node.in_pod("reader", "cat /login/password; stat -L -c ' %a' /login/password"),
        "hunter 400\n"
    );
    assert_eq!(node.in_pod("reader", "cat /access/sub/level /access/name"), "onereader");
    assert_eq!(node.in_pod("reader", "echo kept > /scratch/f && stat -f -c %T /scratch"), "tmpfs\n");
    let token = node.in_pod("reader", "cat /access/token");
    let review =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let (_, review) =
        node.cluster.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", Some(&review)).unwrap();
    assert_eq!(review["status"]["user"]["username"], "system:serviceaccount:default:default", "{review}");
    assert_eq!(review["status"]["user"]["extra"]["authentication.kubernetes.io/pod-name"], json!(["reader"]));

    node.merge("configmaps/settings", &json!({"data": {"level": "two", "new": "here"}}));
    node.until_in_pod("reader", "cat /settings/level /settings/new /access/sub/level", "twoheretwo");
    assert_eq!(node.in_pod("reader", "cat /one"), "one", "a part of a volume stays as it was");
    node.merge("secrets/login", &json!({"stringData": {"password": "other"}}));
    node.until_in_pod("reader", "cat /login/password", "other");

    // The object goes, its content stays, and so it is after a restart of the agent.
    let (code, _) =
        node.cluster.request("DELETE", &format!("{NAMESPACE}/configmaps/settings"), None).unwrap();
    assert_eq!(code, 200);
    assert_eq!(node.in_pod("reader", "cat /settings/level /scratch/f"), "twokept\n");

    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let folder = node.agent.root().join("pods").join(uid);
    assert!(folder.join("volumes/kubernetes.io~projected/access/..data/token").exists());
    node.delete("reader");
    node.until_gone("reader");
    let gone = until("the pod's folder is gone", SOON, || {
        if folder.exists() {
            Err(format!("{:?}", std::fs::read_dir(&folder).map(Iterator::count)))
        } else {
            Ok(())
        }
    });
    gone.unwrap();
    let denied: Vec<_> =
        node.cluster.audit().unwrap().into_iter().filter(|r| r.code == 403 || r.code == 401).collect();
    assert!(denied.is_empty(), "{denied:?}");
}

/// The kubelet finds a missing object two minutes after it came; here the pod starts when the watch says so.
#[test]
fn a_pod_whose_objects_are_missing_says_which_and_starts_when_they_come() {
    let node = ClusterNode::start(Line::V1_6);
    node.create(
        "early",
        json!({
            "volumes": [
                {"name": "settings", "configMap": {"name": "late"}},
                {"name": "login", "secret": {"secretName": "later"}},
                {"name": "maybe", "configMap": {"name": "never", "optional": true}},
            ],
            "containers": [{
                "name": "app", "image": BUSYBOX, "command": ["sleep", "3600"],
                "volumeMounts": [
                    {"name": "settings", "mountPath": "/settings"},
                    {"name": "login", "mountPath": "/login"},
                    {"name": "maybe", "mountPath": "/maybe"},
                ],
            }],
        }),
    );
    let events = ["get", "events", "--field-selector", "involvedObject.name=early"];
    node.until_kubectl(&events, |events| {
        events.contains("FailedMount")
            && events.contains("MountVolume.SetUp failed for volume \"settings\"")
            && events.contains("configmap \"late\" not found")
            && events.contains("secret \"later\" not found")
    });
    let pod = node.until_pod("early", "waits", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating"
    });
    assert!(pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap_or_default().is_empty());
    node.post("configmaps", &config_map("late", &json!({"k": "v"})));
    node.post("secrets", &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "later"}, "stringData": {"s": "t"}}));
    node.until_pod("early", "is ready", is_ready);
    assert_eq!(node.in_pod("early", "cat /settings/k /login/s; ls /maybe"), "vt");
}
