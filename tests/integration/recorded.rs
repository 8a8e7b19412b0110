//! The recordings of the real kubelet as an oracle for the whole agent: the same manifests come to the same pods,
//! field by field, or are refused as they were.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use testkit::env::{BUSYBOX, Line, pod, until};

use crate::node::{Node, SOON, on_both_lines};

/// The image of the recordings.
const IMAGE: &str = "registry.k8s.io/e2e-test-images/busybox:1.37.0-1";

/// Recordings that show nothing here, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("crashloop", "where a crash loop stands depends on the time: see pods.rs"),
    ("deadline", "takes its deadline: see pod-lifecycle"),
    ("env-fieldref", "was refused for what its YAML means, and is kept as JSON"),
    ("image-latest-default-policy", "asks a registry"),
    ("init-fails", "where a crash loop stands depends on the time: see pods.rs"),
    ("no-command", "where a crash loop stands depends on the time: see pods.rs"),
    ("ports-hostport", "takes a fixed port of the machine"),
    ("too-much-cpu", "how much is missing depends on the other pods: see allocatable.rs"),
    // Refused by the kubelet: here a node has ConfigMaps and Secrets of its own, see push.rs.
    ("configmap-env-refused", "waits for its ConfigMap"),
    ("secret-refused", "waits for its Secret"),
    (
        "hostpath-wrong-type",
        "its container says why it waits, which the kubelet leaves to an event: see volumes/recorded.rs",
    ),
    ("image-volume", "mounts an image that is not here: see volumes/images.rs"),
    ("recursive-readonly", "only one line of containerd can: see volumes/recorded.rs"),
    // What the agent does not do yet.
    ("userns", "user namespaces"),
];

on_both_lines! {
    fn recorded_manifests_come_to_the_recorded_pods(node with "--cluster-dns=10.96.0.10", "--cluster-domain=cluster.local") {
        // Of an image with two names the runtime may show either.
        node.containerd.ctr(&["images", "tag", BUSYBOX, IMAGE]).unwrap();
        node.containerd.ctr(&["images", "rm", BUSYBOX]).unwrap();
        let recordings = recordings();
        for (name, recording) in &recordings {
            node.agent.write_manifest(&format!("{name}.json"), &recording["manifest"].to_string()).unwrap();
        }
        let (refused, pods): (Vec<_>, Vec<_>) =
            recordings.iter().partition(|(_, recording)| recording["refused"].is_string());
        // So many pods at once take a slow machine long.
        let recorded = until("all pods are as they were recorded", 3 * SOON, || {
            let view = node.agent.pods().map_err(|e| e.to_string())?;
            let mut differences = Vec::new();
            for (name, recording) in &pods {
                let found = pod(&view, name).cloned().unwrap_or_default();
                let uid = found["metadata"]["uid"].as_str().unwrap_or("$UID").to_owned();
                let expected = comparable(&recording["pod_after_100s"], "$UID", &node);
                differ(name, &comparable(&found, &uid, &node), &expected, &mut differences);
            }
            if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
        });
        recorded.unwrap();
        let shown = node.agent.table().unwrap();
        assert_eq!(refused.len(), 2);
        for (name, _) in refused {
            assert!(shown.contains(&format!("/{name}.json:")), "{name} is not refused: {shown}");
            assert!(pod(&node.agent.pods().unwrap(), name).is_none(), "{name} runs");
        }
    }
}

fn recordings() -> BTreeMap<String, Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pods");
    let mut recordings: BTreeMap<_, Value> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
        })
        .collect();
    for (name, _) in LEFT_OUT {
        recordings.remove(*name).unwrap_or_else(|| panic!("there is no recording {name}"));
    }
    recordings
}

/// Without what differs from run to run and from node to node.
fn comparable(pod: &Value, uid: &str, node: &Node) -> Value {
    let text = pod.to_string().replace(uid, "$UID");
    let mut pod = serde_json::from_str(&text).unwrap();
    strip(&mut pod, node.containerd.line());
    pod
}

fn strip(value: &mut Value, line: Line) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| match name.as_str() {
                "lastProbeTime"
                | "lastTransitionTime"
                | "startTime"
                | "startedAt"
                | "finishedAt"
                | "kubernetes.io/config.seen"
                | "hostIP"
                | "hostIPs"
                | "imageID"
                | "apiVersion"
                | "kind" => false,
                // This line does not tell it.
                "user" => line != Line::V1_6,
                // Go leaves an empty text out.
                _ => value != "",
            });
            for (name, value) in fields {
                match name.as_str() {
                    "containerID" => *value = json!("$ID"),
                    "podIP" | "ip" => *value = json!("$IP"),
                    _ => strip(value, line),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| strip(value, line)),
        _ => {}
    }
}

/// Notes where two values differ.
fn differ(path: &str, found: &Value, expected: &Value, differences: &mut Vec<String>) {
    match (found, expected) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for name in names {
                differ(&format!("{path}.{name}"), &found[name], &expected[name], differences);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differ(&format!("{path}[{i}]"), a, b, differences);
            }
        }
        _ if found == expected => {}
        _ => differences.push(format!("{path}: found {found}, recorded {expected}")),
    }
}
