//! The cluster and its proxies themselves: a real kube-apiserver keeps objects over a restart, forgets history
//! when it is told to, gives nodes their rights and no more, and each fault arrives as what it is meant to be.
//! Needs root and a kube-apiserver; `cargo xtask test` sees to both and turns on the feature required here.

#![expect(clippy::unwrap_used, reason = "a panic is the report of a test, in its helpers too")]

use std::time::Duration;

use serde_json::{Value, json};
use testkit::env::{Cluster, ClusterOptions, Run};

const SOON: Duration = Duration::from_secs(20);

fn pod(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "work"},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "app", "image": "example.test/app:1"}],
        },
    })
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "work"}})
}

#[test]
fn objects_outlive_a_restart_and_history_does_not_outlive_a_compaction() {
    let run = Run::new().unwrap();
    let mut cluster = Cluster::start(&run).unwrap();
    cluster
        .apply(&json!({"apiVersion": "v1", "kind": "List", "items": [namespace(), pod("a", "node1")]}))
        .unwrap();
    let listed = cluster.kubectl(&["get", "pods", "-n", "work", "-o", "name"]).unwrap();
    assert_eq!(listed, "pod/a\n");
    let pods = "/api/v1/namespaces/work/pods";
    let (_, list) = cluster.request("GET", pods, None).unwrap();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let (code, _) = cluster.request("POST", pods, Some(&pod("b", "node1"))).unwrap();
    assert_eq!(code, 201);
    // Ends by itself after a second, having told of `b`.
    let watch = format!("{pods}?watch=1&timeoutSeconds=1&resourceVersion={version}");
    let (code, event) = cluster.request("GET", &watch, None).unwrap();
    assert_eq!(
        (code, &event["type"], &event["object"]["metadata"]["name"]),
        (200, &json!("ADDED"), &json!("b"))
    );

    cluster.compact().unwrap();
    let (address, pid) = (cluster.address(), cluster.pid());
    cluster.stop();
    assert_eq!(cluster.pid(), None);
    let error = std::net::TcpStream::connect(address).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let error = cluster.request("GET", pods, None).unwrap_err().to_string();
    assert!(error.contains("does not answer GET /api/v1/namespaces/work/pods"), "{error}");
    cluster.start_again().unwrap();
    assert_ne!(cluster.pid(), pid);
    assert_eq!(cluster.address(), address);

    let names = cluster
        .wait_for("both pods are there", pods, SOON, |list| {
            let names: Vec<&str> = list["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|p| p["metadata"]["name"].as_str().unwrap())
                .collect();
            if names.len() == 2 { Ok(names.join(" ")) } else { Err(format!("{names:?}")) }
        })
        .unwrap();
    assert_eq!(names, "a b");
    let (code, event) = cluster.request("GET", &watch, None).unwrap();
    let gone = if code == 200 { &event["object"] } else { &event };
    assert_eq!((&gone["code"], &gone["reason"]), (&json!(410), &json!("Expired")), "{code} {event}");
}

#[test]
fn a_node_may_do_its_work_and_nothing_for_another_node() {
    let run = Run::new().unwrap();
    let options = ClusterOptions::default().node("node2").user("eve", &[]);
    let cluster = Cluster::start_with(&run, &options).unwrap();
    cluster
        .apply(&json!({"apiVersion": "v1", "kind": "List", "items": [namespace(), pod("a", "node1")]}))
        .unwrap();
    let as_node = |kubeconfig: &std::path::Path, args: &[&str]| {
        testkit::env::output(cluster.kubectl_command().env("KUBECONFIG", kubeconfig).args(args))
    };
    // By certificate, and by token: the same user.
    let by_certificate = cluster.node_kubeconfig("node1").unwrap();
    let login = cluster.token_login("system:node:node1").unwrap();
    let by_token = cluster.kubeconfig("node1-token", &cluster.url(), &login).unwrap();
    for kubeconfig in [&by_certificate, &by_token] {
        let listed =
            as_node(kubeconfig, &["get", "pods", "-A", "--field-selector=spec.nodeName=node1", "-o", "name"]);
        assert_eq!(listed.unwrap(), "pod/a\n");
    }
    let node2 = cluster.node_kubeconfig("node2").unwrap();
    let refused = as_node(&node2, &["delete", "pod", "-n", "work", "a"]).unwrap_err().to_string();
    assert!(refused.contains("can only delete pods with spec.nodeName set to itself"), "{refused}");
    let login = cluster.token_login("eve").unwrap();
    let eve = cluster.kubeconfig("eve", &cluster.url(), &login).unwrap();
    assert!(as_node(&eve, &["get", "pods", "-A"]).unwrap_err().to_string().contains("Forbidden"));

    let audit = cluster.audit().unwrap();
    let seen = |user: &str, verb: &str, code: u16| {
        audit.iter().any(|r| r.user == user && r.verb == verb && r.code == code && r.uri.contains("/pods"))
    };
    assert!(seen("system:node:node1", "list", 200), "{audit:?}");
    assert!(seen("system:node:node2", "delete", 403), "{audit:?}");
    assert!(seen("eve", "list", 403), "{audit:?}");
    assert!(audit.iter().all(|r| r.user != "admin"), "{audit:?}");
    let unknown = cluster.token("system:node:node3").unwrap_err().to_string();
    assert!(
        unknown.contains("no user system:node:node3, only admin, system:node:node1, system:node:node2, eve")
    );
}

#[test]
fn a_cluster_leaves_no_process_and_no_file() {
    let run = Run::new().unwrap();
    let cluster = Cluster::start(&run).unwrap();
    let dir = run.dir().to_owned();
    let processes = || {
        let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        all.filter(|entry| {
            let args = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&args).contains(dir.to_str().unwrap())
        })
        .count()
    };
    assert_eq!(processes(), 2);
    drop(cluster);
    drop(run);
    assert_eq!(processes(), 0);
    assert!(!dir.exists());
}

#[test]
fn a_server_that_does_not_start_says_why() {
    let run = Run::new().unwrap();
    let options = ClusterOptions::default().args(["--no-such-flag"]);
    let error = Cluster::start_with(&run, &options).unwrap_err().to_string();
    assert!(error.contains("cluster-apiserver ended with"), "{error}");
    assert!(error.contains("unknown flag: --no-such-flag"), "{error}");
}
