//! What others do to the Node, and what the runtime does to it.

use serde_json::{Value, json};
use testkit::env::{Line, until};

use super::{ClusterNode, PODS, SOON, condition, is_ready};

const NODES: &str = "/api/v1/nodes";
const NODE: &str = "/api/v1/nodes/node1";

fn patch(node: &ClusterNode, path: &str, patch: &Value) {
    let (code, answer) = node.cluster.request("PATCH", path, Some(patch)).unwrap();
    assert_eq!(code, 200, "{answer}");
}

#[test]
fn a_node_that_was_given_up_says_that_it_is_there_and_hears_of_taints_and_cordons() {
    let node = ClusterNode::start(Line::V2_1);
    // What the controller of nodes does when it has not heard of one.
    let unknown = json!({"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
        "message": "Kubelet stopped posting node status."});
    patch(&node, &format!("{NODE}/status"), &json!({"status": {"conditions": [unknown]}}));
    let ready = node.until_node("is ready again", is_ready);
    assert_eq!(condition(&ready, "Ready")["reason"], "KubeletReady");

    let taint = json!([{"key": "example.com/leave", "effect": "NoExecute"}]);
    patch(&node, NODE, &json!({"spec": {"taints": taint, "unschedulable": true}}));
    node.until("the event of the cordon", "/api/v1/namespaces/default/events", |events| {
        events["items"].as_array().into_iter().flatten().any(|e| e["reason"] == "NodeNotSchedulable")
    });
    node.create("kept-out", json!({}));
    let out = node.until_pod("kept-out", "is rejected", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(out["status"]["reason"], "TaintToleration", "{out}");

    // Bound in the same moment in which the taint goes.
    patch(&node, NODE, &json!({"spec": {"taints": null}}));
    node.create("let-in", json!({}));
    node.until_pod("let-in", "is ready", is_ready);

    // What the cluster's controller gives the node's pods is the runtime's business.
    patch(&node, NODE, &json!({"spec": {"podCIDR": "10.77.0.0/24", "podCIDRs": ["10.77.0.0/24"]}}));
    let metrics = "/api/v1/nodes/node1/proxy/metrics";
    let counted = r#"kubelet_runtime_operations_total{operation_type="update_runtime_config"} 1"#;
    let heard = until("the runtime hears of the pods' addresses", SOON, || {
        let metrics = node.cluster.kubectl(&["get", "--raw", metrics]).map_err(|e| e.to_string())?;
        let refused = metrics.contains(r#"operations_errors_total{operation_type="update_runtime_config"}"#);
        if metrics.contains(counted) && !refused { Ok(()) } else { Err(metrics) }
    });
    heard.unwrap();
}

#[test]
fn a_pod_that_others_declare_ended_is_stopped() {
    let node = ClusterNode::start(Line::V2_1);
    node.create("lost", json!({}));
    let ready = node.until_pod("lost", "is ready", is_ready);
    let id = ready["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let status = json!({"phase": "Failed", "reason": "NodeLost", "message": "nobody heard of it"});
    patch(&node, &format!("{}/status", super::pod_path("lost")), &json!({ "status": status }));
    let ended = node.until_pod("lost", "has been stopped", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["terminated"].is_object() && !is_ready(pod)
    });
    for field in ["phase", "reason", "message"] {
        assert_eq!(ended["status"][field], status[field], "{ended}");
    }
    let tasks = node.containerd.ctr(&["tasks", "list"]).unwrap();
    let id = id.strip_prefix("containerd://").unwrap();
    assert!(!tasks.lines().any(|line| line.starts_with(id) && line.contains("RUNNING")), "{tasks}");
}

#[test]
fn a_runtime_that_is_restarted_takes_no_node_out_of_service() {
    let mut node = ClusterNode::start(Line::V2_1);
    node.create("before", json!({}));
    let before = node.until_pod("before", "is ready", is_ready);
    let since = before["metadata"]["resourceVersion"].as_str().unwrap();

    node.containerd.kill9();
    let lost = until("the agent has noticed", SOON, || {
        let shown = node.agent.table().map_err(|e| e.to_string())?;
        if shown.contains("is not ready") { Ok(()) } else { Err(shown) }
    });
    lost.unwrap();
    node.containerd.start_again().unwrap();
    node.create("after", json!({}));
    node.until_pod("after", "is ready", is_ready);
    for (list, name) in [(NODES, "node1"), (PODS, "before")] {
        for change in node.cluster.changes_since(list, since).unwrap() {
            let same = change["object"]["metadata"]["name"] == name;
            assert!(!same || is_ready(&change["object"]), "{change:#}");
        }
    }
}
