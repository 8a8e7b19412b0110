//! A pod from its binding to its end, and what kubectl shows and does meanwhile.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::env::{BUSYBOX, Line};

use super::{ClusterNode, LEASE, condition, is_ready, listens_on, pod_path};

#[test]
fn kubectl_sees_a_node_and_works_on_its_pods() {
    let node = ClusterNode::start(Line::V2_1);
    let object = node.until_node("has what the kubelet's has", |node| {
        node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].is_u64()
    });
    let version = object["status"]["nodeInfo"]["kubeletVersion"].as_str().unwrap();
    assert!(version.starts_with("v1.36."), "{version}");
    let runtime = object["status"]["nodeInfo"]["containerRuntimeVersion"].as_str().unwrap();
    assert!(runtime.starts_with("containerd://2.1"), "{runtime}");
    let lease = node.until("there is a lease", LEASE, |_| true);
    assert_eq!(lease["spec"]["holderIdentity"], "node1");
    assert_eq!(lease["metadata"]["ownerReferences"][0]["uid"], object["metadata"]["uid"]);

    node.create(
        "web",
        json!({"containers": [{
            "name": "app", "image": BUSYBOX,
            "command": ["sh", "-c", "echo hello from $0; trap 'exit 0' TERM; mkdir -p /www; echo page > /www/index.html; \
                httpd -p 8080 -h /www; sleep 3600 & wait", "the pod"],
            "startupProbe": listens_on(8080),
        }]}),
    );
    let pod = node.until_pod("web", "is ready", is_ready);
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(condition(&pod, "PodReadyToStartContainers")["status"], "True");
    let table = node.kubectl(&["get", "pods", "-o", "wide"]);
    assert!(table.contains("Running") && table.contains("node1"), "{table}");

    node.until_kubectl(&["logs", "web"], |log| log == "hello from the pod\n");
    assert_eq!(node.kubectl(&["exec", "web", "--", "cat", "/www/index.html"]), "page\n");
    let failed = node.cluster.kubectl(&["exec", "web", "--", "sh", "-c", "echo out; exit 7"]).unwrap_err();
    assert!(failed.to_string().contains("exit code 7"), "{failed}");
    node.until_kubectl(&["describe", "pod", "web"], |described| {
        ["Pulled", "Created", "Started"].iter().all(|reason| described.contains(reason))
    });

    node.kubectl(&["delete", "pod", "web", "--wait=false"]);
    node.until_gone("web");
    let events = ["get", "events", "--field-selector", "involvedObject.name=web"];
    node.until_kubectl(&events, |events| events.contains("Killing"));
}

#[test]
fn a_static_pod_has_a_mirror_that_cannot_stop_it() {
    let node = ClusterNode::start(Line::V1_6);
    node.write_static("fixed");
    let mirror = node.until_pod("fixed-node1", "is ready", is_ready);
    let uid = mirror["metadata"]["uid"].clone();
    let container = mirror["status"]["containerStatuses"][0]["containerID"].clone();
    node.kubectl(&["delete", "pod", "fixed-node1", "--force", "--grace-period=0"]);
    let again =
        node.until_pod("fixed-node1", "is back", |pod| pod["metadata"]["uid"] != uid && is_ready(pod));
    assert_eq!(again["status"]["containerStatuses"][0]["containerID"], container, "it was not touched");
    std::fs::remove_file(node.agent.manifests().join("fixed.yaml")).unwrap();
    node.until_gone("fixed-node1");
}

#[test]
fn a_pod_that_ends_stays_ended_and_nothing_that_should_work_is_denied() {
    let node = ClusterNode::start(Line::V2_1);
    node.create(
        "job",
        json!({"restartPolicy": "Never", "containers": [
            {"name": "app", "image": BUSYBOX, "command": ["sh", "-c", "echo done; exit 3"]}]}),
    );
    let pod = node.until_pod("job", "has failed", |pod| pod["status"]["phase"] == "Failed");
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&json!(3), &json!("Error")));
    let (code, _) = node.cluster.request("DELETE", &pod_path("job"), None).unwrap();
    assert_eq!(code, 200);
    node.until_gone("job");
    let denied: Vec<_> =
        node.cluster.audit().unwrap().into_iter().filter(|r| r.code == 403 || r.code == 401).collect();
    assert!(denied.is_empty(), "{denied:?}");
}

/// A load balancer's controller opens a readiness gate and closes it.
#[test]
fn a_readiness_gate_that_somebody_opens_makes_the_pod_ready() {
    let node = ClusterNode::start(Line::V2_1);
    node.create(
        "gated",
        json!({
            "readinessGates": [{"conditionType": "lb.example.com/registered"}],
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "app", "image": BUSYBOX, "command": ["sleep", "3600"]}],
        }),
    );
    node.until_pod("gated", "waits for its gate", |pod| {
        condition(pod, "ContainersReady")["status"] == "True"
            && condition(pod, "Ready")["reason"] == "ReadinessGatesNotReady"
    });
    for (opened, ready) in [("True", "True"), ("False", "False"), ("True", "True")] {
        let patch =
            json!({"status": {"conditions": [{"type": "lb.example.com/registered", "status": opened}]}});
        let path = format!("{}/status", pod_path("gated"));
        let (code, answer) = node.cluster.request("PATCH", &path, Some(&patch)).unwrap();
        assert_eq!(code, 200, "{answer}");
        let pod =
            node.until_pod("gated", "follows its gate", |pod| condition(pod, "Ready")["status"] == ready);
        assert_eq!(condition(&pod, "lb.example.com/registered")["status"], opened);
    }
}

/// An hour of grace does not count for a pod that is deleted by force, at once or after a graceful deletion.
#[test]
fn a_pod_that_is_deleted_by_force_ends_now_and_its_name_is_free() {
    let node = ClusterNode::start(Line::V1_6);
    for graceful_before in [false, true] {
        let stubborn = json!({
            "terminationGracePeriodSeconds": 3600,
            "containers": [{"name": "app", "image": BUSYBOX, "command": ["sh", "-c", "trap '' TERM; sleep 3600"]}],
        });
        node.create("hour", stubborn.clone());
        let uid = node.until_pod("hour", "is ready", is_ready)["metadata"]["uid"].clone();
        if graceful_before {
            node.kubectl(&["delete", "pod", "hour", "--wait=false"]);
            node.until_here("hour", "is being stopped", |pod| {
                pod["metadata"]["deletionTimestamp"].is_string()
            });
        }
        node.kubectl(&["delete", "pod", "hour", "--grace-period=0", "--force"]);
        node.create("hour", stubborn);
        node.until_pod("hour", "runs anew", |pod| pod["metadata"]["uid"] != uid && is_ready(pod));
        node.kubectl(&["delete", "pod", "hour", "--grace-period=0", "--force"]);
        node.until_gone("hour");
    }
}

/// The API server shows a static pod for as long as it runs, also while it is stopped or replaced.
#[test]
fn a_mirror_stays_until_its_static_pod_has_ended() {
    const GRACE: Duration = Duration::from_secs(6);
    let node = ClusterNode::start(Line::V2_1);
    let manifest = |word: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "slow"},
            "spec": {"terminationGracePeriodSeconds": GRACE.as_secs(), "automountServiceAccountToken": false, "containers": [{
                "name": "app", "image": BUSYBOX, "env": [{"name": "WORD", "value": word}],
                "command": ["sh", "-c", "trap '' TERM; sleep 3600"],
            }]},
        })
        .to_string()
    };
    let path = node.agent.manifests().join("slow.json");
    std::fs::write(&path, manifest("one")).unwrap();
    let first = node.until_pod("slow-node1", "is ready", is_ready);
    let word = |pod: &serde_json::Value| pod["spec"]["containers"][0]["env"][0]["value"].clone();
    assert_eq!(word(&first), "one");

    // The grace is the least time that a container which ignores its signal goes on.
    let replaced = Instant::now();
    std::fs::write(&path, manifest("two")).unwrap();
    let second = node.until_pod("slow-node1", "is another one", |pod| {
        pod["metadata"]["uid"].is_string() && pod["metadata"]["uid"] != first["metadata"]["uid"]
    });
    assert!(replaced.elapsed() >= GRACE, "the first mirror went after {:?}", replaced.elapsed());
    assert_eq!(word(&second), "two");
    node.until_pod("slow-node1", "is ready again", is_ready);

    let removed = Instant::now();
    std::fs::remove_file(&path).unwrap();
    node.until_gone("slow-node1");
    assert!(removed.elapsed() >= GRACE, "the second mirror went after {:?}", removed.elapsed());
}
