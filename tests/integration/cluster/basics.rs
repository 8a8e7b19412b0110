//! A pod from its binding to its end, and what kubectl shows and does meanwhile.

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
