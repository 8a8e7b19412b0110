//! The recording of the real kubelet's Node as an oracle: what is created, what the Node comes to, its lease and its
//! events, field by field.
//!
//! Not part of the comparison: what is this machine's own (amounts, versions, addresses, images).

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::env::Line;

use super::recorded::{Recording, differ};
use super::{ClusterNode, LEASE};

/// Where ours differ, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("created.status.conditions[3]", "there are no CSI drivers to wait for: it is what the runtime makes it"),
    ("created.status.features", "the API server of the tests (1.20) does not know it"),
    ("created.status.runtimeHandlers", "the API server of the tests (1.20) does not know it"),
    ("created.status.declaredFeatures", "the API server of the tests (1.20) does not know it"),
    ("created lease.metadata.annotations", "says which agent holds it"),
    ("lease.metadata.annotations", "says which agent holds it"),
];

/// Without what is the machine's own.
fn comparable(node: &Value) -> Value {
    let mut node = node.clone();
    let status = node["status"].as_object_mut().unwrap();
    status.remove("images");
    for list in ["capacity", "allocatable", "nodeInfo"] {
        for (name, value) in status[list].as_object_mut().unwrap() {
            if !["operatingSystem", "architecture", "pods"].contains(&name.as_str()) {
                *value = json!("$HERE");
            }
        }
    }
    status["capacity"]["pods"] = json!("$MAX");
    status["allocatable"]["pods"] = json!("$MAX");
    status["daemonEndpoints"]["kubeletEndpoint"]["Port"] = json!("$PORT");
    for address in status["addresses"].as_array_mut().unwrap() {
        if address["type"] == "InternalIP" {
            address["address"] = json!("$IP");
        }
    }
    for condition in status["conditions"].as_array_mut().unwrap() {
        for time in ["lastHeartbeatTime", "lastTransitionTime"] {
            condition[time] = json!("$TIME");
        }
    }
    // The server fills these in.
    for field in ["creationTimestamp", "resourceVersion", "uid", "managedFields", "selfLink"] {
        node["metadata"].as_object_mut().unwrap().remove(field);
    }
    node
}

fn comparable_lease(lease: &Value) -> Value {
    let mut lease = lease.clone();
    lease["spec"]["renewTime"] = json!("$TIME");
    lease["metadata"]["ownerReferences"][0]["uid"] = json!("$UUID");
    // The server fills these in.
    for field in ["creationTimestamp", "resourceVersion", "uid", "managedFields", "selfLink"] {
        lease["metadata"].as_object_mut().unwrap().remove(field);
    }
    lease
}

fn created(requests: impl IntoIterator<Item = (String, Value)>, collection: &str) -> Value {
    let is_create = |uri: &str| uri.split('?').next() == Some(collection);
    requests.into_iter().find(|(uri, _)| is_create(uri)).unwrap_or_else(|| panic!("{collection}: nothing")).1
}

#[test]
fn the_node_and_its_lease_are_what_the_kubelet_makes_of_them() {
    let node = ClusterNode::start(Line::V2_1);
    let lease = node.until("the lease", LEASE, |_| true);
    let recording = Recording::load("node1").content;
    let ours = || {
        let audit = node.cluster.audit().unwrap().into_iter();
        audit.filter(|r| r.verb == "create" && r.code == 201).map(|r| (r.uri, r.body))
    };
    let theirs = || {
        let requests = recording["requests"].as_array().unwrap().iter();
        requests
            .filter(|r| r["verb"] == "create")
            .map(|r| (r["uri"].as_str().unwrap().to_owned(), r["body"].clone()))
    };
    let nodes = "/api/v1/nodes";
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let conditions = |node: &Value| comparable(node)["status"]["conditions"].clone();
    let mut differences = Vec::new();
    for (what, found, expected) in [
        ("created", comparable(&created(ours(), nodes)), comparable(&created(theirs(), nodes))),
        ("conditions", conditions(&node.until_node("is there", |_| true)), conditions(&recording["node"])),
        (
            "created lease",
            comparable_lease(&created(ours(), leases)),
            comparable_lease(&created(theirs(), leases)),
        ),
        ("lease", comparable_lease(&lease), comparable_lease(&recording["lease"])),
    ] {
        differ(what, &found, &expected, &mut differences);
    }
    let (known, unknown): (Vec<_>, Vec<_>) =
        differences.iter().partition(|d| DIFFERENT.iter().any(|(path, _)| d.starts_with(path)));
    assert!(unknown.is_empty(), "{unknown:#?}");
    for (path, why) in DIFFERENT {
        assert!(known.iter().any(|d| d.starts_with(path)), "{path} is as recorded, though {why}");
    }

    let events = |events: &Value| -> BTreeSet<_> {
        let events = events.as_array().unwrap().iter();
        events.map(|e| format!("{} {} {}", e["type"], e["reason"], e["message"])).collect()
    };
    let mut expected = events(&recording["events"]);
    // It measures the disks before it says anything of them.
    expected.retain(|event| !event.contains("InvalidDiskCapacity"));
    node.until("the node's events are the recorded ones", "/api/v1/namespaces/default/events", |list| {
        events(&list["items"]) == expected
    });
}
