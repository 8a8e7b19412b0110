//! How pods come and go at the API server, and what is asked of it for that.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::env::{AuditedRequest, BUSYBOX, Line, pod, until};

use super::{ClusterNode, PODS, SOON, is_ready, pod_path};

impl ClusterNode {
    /// What the node has asked about this pod, as verb and sub-resource.
    fn asked(&self, name: &str) -> Vec<String> {
        let path = pod_path(name);
        let audit = self.cluster.audit().unwrap().into_iter();
        let part = |r: AuditedRequest| {
            let rest = r.uri.split('?').next()?.strip_prefix(&path)?.to_owned();
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{}{rest}", r.verb))
        };
        audit.filter_map(part).collect()
    }

    fn patch(&self, name: &str, patch: &Value) {
        let (code, answer) = self.cluster.request("PATCH", &pod_path(name), Some(patch)).unwrap();
        assert_eq!(code, 200, "{answer}");
    }
}

/// What a node may ask when nothing happens.
fn is_heartbeat(request: &AuditedRequest) -> bool {
    request.uri.contains("/leases/node1") || request.uri.starts_with("/api/v1/nodes/node1")
}

#[test]
fn pods_come_and_go_with_few_requests_and_without_delay() {
    let node = ClusterNode::start(Line::V2_1);
    let version = node.until("pods", PODS, |_| true)["metadata"]["resourceVersion"].clone();
    node.create("plain", json!({}));
    node.until_pod("plain", "is ready", is_ready);
    let changes = node.cluster.changes_since(PODS, version.as_str().unwrap()).unwrap();

    node.create(
        "gate",
        json!({"containers": [{
            "name": "app", "image": BUSYBOX, "command": ["sleep", "3600"],
            "readinessProbe": {"exec": {"command": ["test", "-f", "/ready"]}, "periodSeconds": 1, "failureThreshold": 1},
        }]}),
    );
    node.until_pod("gate", "runs", |pod| pod["status"]["phase"] == "Running" && !is_ready(pod));
    for (ready, command) in [(true, "touch"), (false, "rm"), (true, "touch")] {
        node.kubectl(&["exec", "gate", "--", command, "/ready"]);
        node.until_here("gate", "has changed", |pod| is_ready(pod) == ready);
        let changed = Instant::now();
        node.until_pod("gate", "shows it", |pod| is_ready(pod) == ready);
        // Not with the next round of anything: the kubelet's come every ten seconds.
        assert!(changed.elapsed() < Duration::from_secs(9), "{:?}", changed.elapsed());
    }

    let before = node.until_pod("plain", "is ready", is_ready);
    for turn in ["1", "2"] {
        node.patch("plain", &json!({"metadata": {"annotations": {"turn": turn}}}));
    }
    node.until_here("plain", "has the last update", |pod| pod["metadata"]["annotations"]["turn"] == "2");
    let after = node.until_pod("plain", "is ready", is_ready);
    assert_eq!(after["status"], before["status"], "an annotation changes nothing");
    let asked = node.asked("plain");
    assert!(asked.iter().all(|what| what == "patch/status") && asked.len() <= 3, "{asked:?}: {changes:#?}");
}

#[test]
fn a_pod_ends_with_its_last_word_whoever_wants_it_gone() {
    let node = ClusterNode::start(Line::V1_6);
    let slow = json!({
        "terminationGracePeriodSeconds": 120,
        "containers": [{"name": "app", "image": BUSYBOX, "command":
            ["sh", "-c", "trap 'sleep 2; exit 7' TERM; touch /trap; sleep 3600 & wait"],
            "readinessProbe": {"exec": {"command": ["test", "-f", "/trap"]}, "periodSeconds": 1}}],
    });
    for name in ["slow", "forced", "held"] {
        node.create(name, slow.clone());
    }
    for name in ["slow", "forced", "held"] {
        node.until_pod(name, "is ready", is_ready);
    }
    node.patch("held", &json!({"metadata": {"finalizers": ["example.com/hold"]}}));
    let version = node.until("pods", PODS, |_| true)["metadata"]["resourceVersion"].clone();

    let asked = Instant::now();
    node.delete("slow");
    node.delete("held");
    let now = json!({"gracePeriodSeconds": 0});
    assert_eq!(node.cluster.request("DELETE", &pod_path("forced"), Some(&now)).unwrap().0, 200);
    assert_eq!(
        node.cluster.request("GET", &pod_path("forced"), None).unwrap().0,
        404,
        "nobody waits for the node"
    );
    let gone = node.agent.wait_for("the forced pod ends here, too", SOON, |view| match pod(view, "forced") {
        None => Ok(()),
        Some(pod) => Err(pod["status"].to_string()),
    });
    gone.unwrap();
    node.until_gone("slow");
    let took = asked.elapsed();
    assert!(
        (Duration::from_secs(2)..Duration::from_secs(60)).contains(&took),
        "its own time to end: {took:?}"
    );
    let changes = node.cluster.changes_since(PODS, version.as_str().unwrap()).unwrap();
    let last = changes
        .iter()
        .rfind(|c| c["type"] == "DELETED" && c["object"]["metadata"]["name"] == "slow")
        .unwrap();
    let ended = &last["object"]["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(ended["exitCode"], 7, "{last:#}");

    // It has ended, and stays at the server until somebody else has done their part.
    let held = node.until_pod("held", "has ended", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 7
            && pod["metadata"]["deletionGracePeriodSeconds"] == 0
    });
    assert_eq!(held["metadata"]["finalizers"], json!(["example.com/hold"]));

    // With nothing to do the node only shows that it lives.
    let count = || node.cluster.audit().unwrap().into_iter().filter(|r| !is_heartbeat(r)).count();
    let quiet = until("everything is told", SOON, || {
        let before = count();
        std::thread::sleep(Duration::from_secs(2));
        if count() == before { Ok(()) } else { Err("requests still come".to_owned()) }
    });
    quiet.unwrap();
    let before = node.cluster.audit().unwrap().len();
    // Not a wait for anything: the time in which nothing may come.
    std::thread::sleep(Duration::from_secs(25));
    let mut idle = node.cluster.audit().unwrap().split_off(before);
    // A watch is told of when it ends, as one may just now: each lasts some minutes.
    idle.retain(|request| request.verb != "watch");
    assert!(idle.iter().all(is_heartbeat), "{idle:#?}");
    // The lease every ten seconds; the status of the node every five minutes, or after a change.
    assert!((2..=6).contains(&idle.len()), "{idle:#?}");

    let deletes = node.asked("held").iter().filter(|what| *what == "delete").count();
    assert_eq!(deletes, 1, "{:?}", node.asked("held"));
    node.patch("held", &json!({"metadata": {"finalizers": null}}));
    node.until_gone("held");
}
