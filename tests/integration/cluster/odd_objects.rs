//! Objects as large as they come, references to what is not there (any more), and a neighbour on the same runtime.

use serde_json::{Value, json};
use testkit::env::{Agent, AgentOptions, BUSYBOX, Cluster, Containerd, Line, Login, Run, binary, pod, until};

use super::{ClusterNode, PODS, SOON, is_ready, node_args, pod_path};

fn object(kind: &str, name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default"}, "stringData": data,
           "data": data})
}

impl ClusterNode {
    /// Writes a ConfigMap or Secret with these texts.
    fn write_data(&self, kind: &str, name: &str, data: &Value) {
        let mut object = object(kind, name, data);
        let other = if kind == "Secret" { "data" } else { "stringData" };
        object.as_object_mut().unwrap().remove(other);
        let path = format!("/api/v1/namespaces/default/{}s", kind.to_lowercase());
        let (code, answer) = self.cluster.request("POST", &path, Some(&object)).unwrap();
        assert_eq!(code, 201, "{answer}");
    }
}

fn waiting(pod: &Value) -> (&str, &str) {
    let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
    (waiting["reason"].as_str().unwrap_or_default(), waiting["message"].as_str().unwrap_or_default())
}

#[test]
fn objects_of_a_megabyte_do_what_small_ones_do() {
    let node = ClusterNode::start(Line::V2_1);
    // Linux takes no variable beyond 128 KiB, and an object has no more than 1 MiB.
    let large: Value = (0..8).map(|n| (format!("V{n}"), json!("x".repeat(125_000)))).collect();
    node.write_data("ConfigMap", "large", &large);
    node.write_data("Secret", "large", &large);
    let count = json!(["sh", "-c", "test $(env | wc -c) -gt 1000000 && sleep 3600"]);
    let from = |source: &str| {
        json!({"containers": [{"name": "app", "image": BUSYBOX, "command": count,
                               "envFrom": [{source: {"name": "large"}}]}]})
    };
    node.create("map", from("configMapRef"));
    node.create("secret", from("secretRef"));
    let env: Vec<Value> =
        (0..9).map(|n| json!({"name": format!("V{n}"), "value": "x".repeat(120_000)})).collect();
    let large_pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "large", "namespace": "default", "annotations": {"large": "x".repeat(250_000)}},
        "spec": {"nodeName": "node1", "terminationGracePeriodSeconds": 1,
                 "containers": [{"name": "app", "image": BUSYBOX, "command": count, "env": env}]},
    });
    let (code, answer) = node.cluster.request("POST", PODS, Some(&large_pod)).unwrap();
    assert_eq!(code, 201, "{answer}");
    // One that no process can have.
    node.create(
        "too-large",
        json!({"containers": [{"name": "app", "image": BUSYBOX, "command": ["true"],
                               "env": [{"name": "V", "value": "x".repeat(200_000)}]}]}),
    );
    node.create("small", json!({}));
    for name in ["small", "map", "secret", "large"] {
        node.until_pod(name, "is ready", is_ready);
    }
    node.until_pod("too-large", "has failed, and is tried again", |pod| {
        let status = &pod["status"]["containerStatuses"][0];
        status["lastState"]["terminated"]["exitCode"] == 1 && status["restartCount"] != 0
    });
    node.until_kubectl(&["logs", "too-large"], |log| log.contains("argument list too long"));
    for name in ["large", "too-large"] {
        node.delete(name);
        node.until_gone(name);
    }
}

#[test]
fn a_secret_that_vanishes_is_missed_at_the_next_start_and_its_return_is_noticed() {
    let node = ClusterNode::start(Line::V1_6);
    node.write_data("Secret", "fleeting", &json!({"key": "value"}));
    let env = |optional: bool| json!([{"name": "V", "valueFrom": {"secretKeyRef": {"name": "fleeting", "key": "key", "optional": optional}}}]);
    // The `touch` that ends it has a second to end before: with the container's first process it would be killed.
    let short = |optional: bool| {
        json!({"containers": [{"name": "app", "image": BUSYBOX, "env": env(optional),
                               "command": ["sh", "-c", "while ! test -f /end; do sleep 1; done; sleep 1"]}]})
    };
    for (name, optional) in [("needs", false), ("takes", true)] {
        node.create(name, short(optional));
        node.until_pod(name, "is ready", is_ready);
    }
    let (code, _) =
        node.cluster.request("DELETE", "/api/v1/namespaces/default/secrets/fleeting", None).unwrap();
    assert_eq!(code, 200);
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0);
    for name in ["needs", "takes"] {
        assert_eq!(restarts(&node.until_pod(name, "still runs", is_ready)), 0);
        node.kubectl(&["exec", name, "--", "touch", "/end"]);
    }
    node.until_pod("takes", "runs again without it", |pod| restarts(pod) == 1 && is_ready(pod));
    let missed =
        node.until_pod("needs", "cannot start", |pod| waiting(pod).0 == "CreateContainerConfigError");
    assert_eq!(waiting(&missed).1, "secret \"fleeting\" not found");
    node.write_data("Secret", "fleeting", &json!({"other": "value"}));
    node.until_pod("needs", "misses the key", |pod| {
        waiting(pod).1 == "couldn't find key key in Secret default/fleeting"
    });
    let patch = json!({"stringData": {"key": "again"}});
    let path = "/api/v1/namespaces/default/secrets/fleeting";
    assert_eq!(node.cluster.request("PATCH", path, Some(&patch)).unwrap().0, 200);
    node.until_pod("needs", "runs again", |pod| restarts(pod) == 1 && is_ready(pod));
}

#[test]
fn two_nodes_on_one_runtime_leave_each_others_pods_alone() {
    let node = ClusterNode::start(Line::V2_1);
    node.create("of-first", json!({}));
    node.write_static("fixed");
    for name in ["of-first", "fixed-node1"] {
        node.until_pod(name, "is ready", is_ready);
    }
    let containers = |node: &ClusterNode| {
        let listed = node.containerd.ctr(&["containers", "ls", "-q"]).unwrap();
        let mut ids: Vec<String> = listed.lines().map(str::to_owned).collect();
        ids.sort();
        ids
    };
    let first = containers(&node);
    assert_eq!(first.len(), 4, "two sandboxes, two containers: {first:?}");
    let second = neighbour(&node.run, &node.cluster, &node.containerd);
    let (code, answer) = node
        .cluster
        .request(
            "POST",
            PODS,
            Some(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "of-second"}, "spec": {
                "nodeName": "node2", "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "app", "image": BUSYBOX, "command": ["sleep", "3600"]}]}})),
        )
        .unwrap();
    assert_eq!(code, 201, "{answer}");
    node.until_pod("of-second", "is ready", is_ready);
    let view = second.pods().unwrap();
    assert!(pod(&view, "of-first").is_none() && pod(&view, "fixed-node1").is_none(), "{view}");
    let view = node.agent.pods().unwrap();
    assert!(pod(&view, "of-second").is_none(), "{view}");
    node.delete("of-second");
    node.until_gone("of-second");
    until("only what was there is there", SOON, || {
        let now = containers(&node);
        if now == first { Ok(()) } else { Err(format!("{now:?}, before {first:?}")) }
    })
    .unwrap();
    let (_, object) = node.cluster.request("GET", &pod_path("of-first"), None).unwrap();
    assert_eq!(object["status"]["containerStatuses"][0]["restartCount"], 0, "{object}");
}

/// An agent of another node name with a root of its own.
fn neighbour(run: &std::sync::Arc<Run>, cluster: &Cluster, containerd: &Containerd) -> Agent {
    let identity = cluster.ca().client("node2", "system:node:node2", "system:nodes").unwrap();
    let kubeconfig = cluster.kubeconfig("node2", &cluster.url(), &Login::Certificate(identity)).unwrap();
    let options = AgentOptions::new(binary().unwrap(), &containerd.endpoint())
        .name("neighbour")
        .args(node_args(cluster, "node2", &kubeconfig));
    Agent::start(run, options).unwrap()
}
