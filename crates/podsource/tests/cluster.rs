//! The API source and a real kube-apiserver. Needs root and a kube-apiserver; `cargo xtask test` sees to both and
//! turns on the features required here.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is the report of a test, in its helpers too")]

use std::sync::Arc;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use podsource::SourceState;
use podsource::api::{Settings, spawn};
use serde_json::{Value, json};
use testkit::env::{Cluster, Run};
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;

fn pod(name: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "work"},
        "spec": {"nodeName": node, "containers": [{"name": "app", "image": "example.test/app:1"}]}})
}

fn names(state: &SourceState) -> Vec<&str> {
    state.pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect()
}

async fn until(
    source: &mut Receiver<Arc<SourceState>>,
    what: &str,
    condition: impl FnMut(&Arc<SourceState>) -> bool,
) -> Arc<SourceState> {
    let state = tokio::time::timeout(Duration::from_secs(90), source.wait_for(condition)).await;
    let state = state.map(|state| state.unwrap().clone());
    state.unwrap_or_else(|_| panic!("{what}: not within 90 s; the state is {:?}", source.borrow()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pods_of_a_node_are_followed_through_restarts_of_the_server() {
    let run = Run::new().unwrap();
    let mut cluster = Cluster::start(&run).unwrap();
    cluster
        .apply(&json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "work"}},
            pod("a", "node1"), pod("b", "node1"), pod("elsewhere", "node2"),
        ]}))
        .unwrap();
    let kubeconfig = Kubeconfig::read_from(cluster.node_kubeconfig("node1").unwrap()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let endpoint = cluster.url().into();
    let settings = Settings { client, endpoint, node_name: "node1".to_owned(), reached: None };
    let mut source = spawn(settings, CancellationToken::new());

    let first = until(&mut source, "the list", |state| state.seen).await;
    assert_eq!(names(&first), ["a", "b"]);
    assert!(first.problems.is_empty(), "{:?}", first.problems);
    assert!(first.pods.iter().all(|pod| pod.metadata.managed_fields.is_none()));
    // A server without streamed lists ignores or refuses them: either way the list was there at once.
    let requests = cluster.audit().unwrap();
    assert!(requests.iter().any(|r| r.verb == "list" && r.uri.contains("resourceVersion=0")), "{requests:?}");

    let pods = "/api/v1/namespaces/work/pods";
    cluster.request("DELETE", &format!("{pods}/b"), None).unwrap();
    let state = until(&mut source, "the wish to delete b", |state| {
        state.pods.get(1).is_some_and(|pod| pod.metadata.deletion_timestamp.is_some())
    })
    .await;
    assert!(Arc::ptr_eq(&first.pods[0], &state.pods[0]));
    let now = json!({"gracePeriodSeconds": 0});
    cluster.request("DELETE", &format!("{pods}/b"), Some(&now)).unwrap();
    until(&mut source, "the end of b", |state| names(state) == ["a"]).await;

    cluster.stop();
    let away = until(&mut source, "the server is away", |state| state.failure().is_some()).await;
    assert_eq!(names(&away), ["a"], "the set stays");
    cluster.start_again().unwrap();
    cluster.apply(&pod("c", "node1")).unwrap();
    cluster.request("DELETE", &format!("{pods}/a"), Some(&now)).unwrap();
    cluster.compact().unwrap();
    let state = until(&mut source, "what was missed", |state| names(state) == ["c"]).await;
    let state = if state.failure().is_none() {
        state
    } else {
        until(&mut source, "the recovery", |s| s.failure().is_none()).await
    };
    assert_eq!(names(&state), ["c"]);
}
