//! What the cluster sees of a node's resources, and of the pods that it rejects.

use std::fs;
use std::sync::Arc;

use serde_json::{Value, json};
use testkit::env::{Agent, AgentOptions, BUSYBOX, Cluster, Containerd, Line, Run, binary};

use super::{ClusterNode, is_ready, node_args};

/// A node whose agent has these arguments, too.
fn start(more: &[&str]) -> ClusterNode {
    let run: Arc<Run> = Run::new().unwrap();
    let cluster = Cluster::start(&run).unwrap();
    let containerd = Containerd::start(&run, Line::V2_1).unwrap();
    let kubeconfig = cluster.node_kubeconfig("node1").unwrap();
    let args =
        node_args(&cluster, "node1", &kubeconfig).into_iter().chain(more.iter().map(|a| (*a).to_owned()));
    let options = AgentOptions::new(binary().unwrap(), &containerd.endpoint()).args(args);
    let agent = Agent::start(&run, options).unwrap();
    let node = ClusterNode { agent, containerd, cluster, run };
    node.until_node("is ready", is_ready);
    node
}

fn events(node: &ClusterNode) -> Vec<String> {
    let (_, list) = node.cluster.request("GET", "/api/v1/events", None).unwrap();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    items.iter().filter_map(|event| event["reason"].as_str().map(str::to_owned)).collect()
}

#[test]
fn the_node_tells_of_what_it_has_and_rejected_pods_say_why() {
    let node = start(&["--system-reserved=cpu=200m,memory=100Mi", "--eviction-hard=memory.available<100Mi"]);
    let status = node.until_node("is ready", is_ready)["status"].clone();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let kib: i64 = meminfo.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_eq!(status["capacity"]["memory"], json!(format!("{kib}Ki")));
    let cores: i64 = status["capacity"]["cpu"].as_str().unwrap().parse().unwrap();
    assert_eq!(status["allocatable"]["cpu"], json!(format!("{}m", cores * 1000 - 200)));
    if status["capacity"]["hugepages-2Mi"].as_str().is_none_or(|pages| pages == "0") {
        assert_eq!(status["allocatable"]["memory"], json!(format!("{}Ki", kib - (200 << 10))));
    }
    node.until("the event of the limit", "/api/v1/events", |list| {
        let all = list["items"].as_array().into_iter().flatten();
        all.into_iter().any(|event| event["reason"] == "NodeAllocatableEnforced")
    });

    let create = |name: &str, metadata: Value, spec: Value| {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        pod["metadata"]["name"] = json!(name);
        pod["spec"]["nodeName"] = json!("node1");
        pod["spec"]["automountServiceAccountToken"] = json!(false);
        pod["spec"]["containers"] = json!([{"name": "app", "image": BUSYBOX, "command": ["sleep", "3600"]}]);
        let (code, answer) = node.cluster.request("POST", super::PODS, Some(&pod)).unwrap();
        assert_eq!(code, 201, "{answer}");
    };
    let rejected = |name: &str, reason: &str, message: &str| {
        let pod = node.until_pod(name, "is rejected", |pod| pod["status"]["phase"] == "Failed");
        let found = json!([pod["status"]["reason"], pod["status"]["message"]]);
        assert_eq!(found, json!([reason, format!("Pod was rejected: {message}")]), "{name}");
    };
    let sysctl = json!({"securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}});
    create("unsafe", json!({}), sysctl);
    rejected("unsafe", "SysctlForbidden", "forbidden sysctl: \"net.core.somaxconn\" not allowlisted");
    create("windows", json!({"labels": {"kubernetes.io/os": "windows"}}), json!({}));
    let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
    rejected("windows", "PodOSSelectorNodeLabelDoesNotMatch", message);
    if !std::path::Path::new("/sys/kernel/security/apparmor").exists() {
        let profile = json!({"container.apparmor.security.beta.kubernetes.io/app": "runtime/default"});
        create("confined", json!({"annotations": profile}), json!({}));
        let message = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        rejected("confined", "AppArmor", message);
    }
}

#[test]
fn what_is_not_enforced_is_not_said_to_be() {
    let node = start(&["--enforce-node-allocatable=", "--system-reserved=memory=1Gi"]);
    node.until("the node's events", "/api/v1/events", |list| {
        let all = list["items"].as_array().into_iter().flatten();
        all.into_iter().any(|event| event["reason"] == "NodeReady")
    });
    let all = events(&node);
    assert!(!all.iter().any(|reason| reason == "NodeAllocatableEnforced"), "{all:?}");
}
