//! The API source against a server that does on demand what a real one does on bad days.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is the report of a test, in its helpers too")]

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube_model::{labels, pod};
use podsource::SourceState;
use podsource::api::{Settings, spawn, spawn_held};
use serde_json::{Value, json};
use testkit::fake_api::{Call, FakeApi, Stream};
use tokio::sync::watch::{Receiver, Sender};
use tokio_util::sync::CancellationToken;

struct Node {
    api: FakeApi,
    source: Receiver<Arc<SourceState>>,
}

impl Node {
    async fn start() -> Self {
        let api = FakeApi::start().await;
        let source = source(&api.url());
        Self { api, source }
    }

    /// Serves the streamed list.
    async fn streamed(pods: &[Value]) -> (Self, Stream) {
        let mut node = Self::start().await;
        let watch = node.api.next().await.stream();
        for pod in pods {
            watch.event("ADDED", pod).await;
        }
        watch.event("BOOKMARK", &end_of_list("10")).await;
        (node, watch)
    }

    async fn until(
        &mut self,
        what: &str,
        condition: impl FnMut(&Arc<SourceState>) -> bool,
    ) -> Arc<SourceState> {
        until(&mut self.source, what, condition).await
    }

    fn now(&self) -> Arc<SourceState> {
        self.source.borrow().clone()
    }
}

fn source(url: &str) -> Receiver<Arc<SourceState>> {
    spawn(settings(url), CancellationToken::new())
}

fn settings(url: &str) -> Settings {
    let client = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
    Settings { client, endpoint: url.into(), node_name: "node1".to_owned(), reached: None }
}

async fn until(
    source: &mut Receiver<Arc<SourceState>>,
    what: &str,
    condition: impl FnMut(&Arc<SourceState>) -> bool,
) -> Arc<SourceState> {
    let state = tokio::time::timeout(Duration::from_secs(20), source.wait_for(condition))
        .await
        .map(|s| s.unwrap().clone());
    state.unwrap_or_else(|_| panic!("{what}: not within 20 s; the state is {:?}", source.borrow()))
}

fn pod_of(name: &str, version: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": version},
        "spec": {"nodeName": "node1", "containers": [{"name": "app", "image": "app:1"}]},
        "status": {"phase": "Pending"}})
}

fn end_of_list(version: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"resourceVersion": version,
        "annotations": {"k8s.io/initial-events-end": "true"}}})
}

fn list(version: &str, pods: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": version}, "items": pods})
}

fn names(state: &SourceState) -> Vec<&str> {
    state.pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect()
}

fn is_stream(call: &Call) -> bool {
    call.is_watch() && call.query("sendInitialEvents").as_deref() == Some("true")
}

#[tokio::test]
async fn the_first_list_is_streamed_and_changes_follow() {
    let mut node = Node::start().await;
    let call = node.api.next().await;
    assert_eq!(call.path, "/api/v1/pods");
    assert_eq!(call.query("fieldSelector").as_deref(), Some("spec.nodeName=node1"));
    assert!(is_stream(&call));
    let watch = call.stream();
    watch.event("ADDED", &pod_of("b", "3")).await;
    watch.event("ADDED", &pod_of("a", "4")).await;
    assert!(!node.now().seen, "not before the list is complete");
    watch.event("BOOKMARK", &end_of_list("10")).await;

    let first = node.until("the list", |state| state.seen).await;
    assert_eq!((first.source, &*first.location), ("api", &*node.api.url()));
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(pod::annotation(&first.pods[0], labels::CONFIG_SOURCE), Some("api"));
    let seen = pod::annotation(&first.pods[1], labels::CONFIG_SEEN).unwrap().to_owned();
    assert!(first.problems.is_empty(), "{:?}", first.problems);
    let (uid, _) = pod::identity(&first.pods[0]);
    assert!(first.locations[&uid].path.ends_with("api/v1/namespaces/shop/pods/a"));

    let mut deleted = pod_of("b", "11");
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    watch.event("MODIFIED", &deleted).await;
    let second =
        node.until("the deletion", |state| state.pods[1].metadata.deletion_timestamp.is_some()).await;
    assert!(Arc::ptr_eq(&first.pods[0], &second.pods[0]), "a pod that did not change keeps its Arc");
    assert_eq!(pod::annotation(&second.pods[1], labels::CONFIG_SEEN), Some(&*seen), "seen once");

    watch.event("DELETED", &deleted).await;
    node.until("the end of b", |state| names(state) == ["a"]).await;
}

#[tokio::test]
async fn a_server_without_streamed_lists_is_asked_for_a_list_of_its_cache() {
    let mut node = Node::start().await;
    let call = node.api.next().await;
    assert!(is_stream(&call));
    call.refuse(422, "Invalid", "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch");
    let call = node.api.next().await;
    assert!(!call.is_watch());
    assert_eq!(call.query("resourceVersion").as_deref(), Some("0"));
    call.json(200, &list("20", &[pod_of("a", "4")]));
    let call = node.api.next().await;
    assert!(call.is_watch() && call.query("sendInitialEvents").is_none());
    assert_eq!(call.query("resourceVersion").as_deref(), Some("20"));
    let state = node.until("the list", |state| state.seen).await;
    assert_eq!(names(&state), ["a"]);
    assert!(state.problems.is_empty(), "{:?}", state.problems);
}

#[tokio::test]
async fn a_watch_that_breaks_goes_on_where_it_was() {
    let (mut node, watch) = Node::streamed(&[pod_of("a", "4")]).await;
    watch.event("MODIFIED", &pod_of("a", "12")).await;
    let before = node
        .until("the change", |s| {
            s.pods.first().is_some_and(|p| p.metadata.resource_version.as_deref() == Some("12"))
        })
        .await;
    watch.text("{\"type\":\"MODIFIED\",\"object\":{\"metadata\":{\"na").await;
    watch.reset().await;

    let call = node.api.next().await;
    assert!(call.is_watch());
    assert_eq!(call.query("resourceVersion").as_deref(), Some("12"));
    let watch = call.stream();
    watch.event("ADDED", &pod_of("b", "13")).await;
    let after = node.until("the next pod", |state| names(state) == ["a", "b"]).await;
    assert!(Arc::ptr_eq(&before.pods[0], &after.pods[0]));
    assert!(after.problems.is_empty(), "{:?}", after.problems);
}

#[tokio::test]
async fn a_version_that_is_gone_leads_to_a_consistent_list_which_replaces_the_set() {
    let gone = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version: 10 (99)", "reason": "Expired", "code": 410});
    for over_http in [false, true] {
        let (mut node, watch) = Node::streamed(&[pod_of("a", "4"), pod_of("b", "5")]).await;
        let first = node.until("the list", |state| state.seen).await;
        if over_http {
            drop(watch);
            node.api.next().await.json(410, &gone);
        } else {
            watch.event("ERROR", &gone).await;
        }
        let call = node.api.next().await;
        assert!(!call.is_watch());
        assert_eq!(call.query("resourceVersion"), None, "not older than now");
        assert_eq!(names(&node.now()), ["a", "b"], "the set stays until the list is complete");
        call.json(200, &list("99", &[pod_of("b", "5"), pod_of("c", "98")]));
        let state = node.until("the new list", |state| names(state) == ["b", "c"]).await;
        assert!(Arc::ptr_eq(&first.pods[1], &state.pods[0]), "b did not change");
        assert_eq!(node.api.next().await.query("resourceVersion").as_deref(), Some("99"));
    }
}

#[tokio::test]
async fn pods_of_other_nodes_are_nobodys_here() {
    let of = |node: &str, name: &str, version: &str| {
        let mut pod = pod_of(name, version);
        pod["spec"]["nodeName"] = json!(node);
        pod
    };
    let (mut node, watch) =
        Node::streamed(&[of("node1", "a", "4"), of("node2", "b", "5"), of("", "c", "6")]).await;
    let state = node.until("the list", |state| state.seen).await;
    assert_eq!(names(&state), ["a"]);
    watch.event("MODIFIED", &of("node2", "b", "11")).await;
    watch.event("DELETED", &of("node2", "unknown", "12")).await;
    watch.event("ADDED", &of("node1", "d", "13")).await;
    let state = node.until("the pod behind them", |state| state.pods.len() > 1).await;
    assert_eq!((names(&state), state.problems.len()), (vec!["a", "d"], 0));
}

#[tokio::test]
async fn a_pod_that_can_not_be_decoded_is_a_problem_and_concerns_no_other() {
    let mut bad = pod_of("bad", "5");
    bad["spec"]["containers"][0]["image"] = json!({"name": "app"});
    let mut future = pod_of("future", "6");
    future["spec"]["warp"] = json!(9);
    let (mut node, watch) = Node::streamed(&[pod_of("a", "4"), bad, future]).await;
    let state = node.until("the list", |state| state.seen).await;
    assert_eq!(names(&state), ["a", "future"]);
    let problems: Vec<_> =
        state.problems.iter().map(|p| p.to_string().replace(&node.api.url(), "URL")).collect();
    assert_eq!(
        problems,
        [
            "URL/api/v1/namespaces/shop/pods/bad: spec.containers[0].image: invalid type: map, expected a string",
            "URL/api/v1/namespaces/shop/pods/future: warning: spec.warp: unknown to this version of the agent, \
             ignored",
        ]
    );
    assert_eq!(state.failure(), None, "the server is well");

    // The same in the watch: the last good spec stays, the deletion gets through.
    let mut worse = pod_of("a", "11");
    worse["spec"]["containers"] = json!("none");
    worse["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    watch.event("MODIFIED", &worse).await;
    watch.event("ADDED", &pod_of("c", "12")).await;
    let state = node.until("the pods behind it", |state| names(state) == ["a", "c", "future"]).await;
    assert!(state.pods[0].metadata.deletion_timestamp.is_some());
    assert_eq!(state.pods[0].spec.as_ref().unwrap().containers[0].name, "app");
    assert_eq!(state.problems.len(), 3, "{:?}", state.problems);

    watch.event("MODIFIED", &pod_of("a", "13")).await;
    node.until("a is well again", |state| state.problems.len() == 2).await;
}

#[tokio::test]
async fn trouble_with_the_server_is_told_and_the_set_stays() {
    let (mut node, watch) = Node::streamed(&[pod_of("a", "4")]).await;
    node.until("the list", |state| state.seen).await;
    drop(watch);
    node.api.next().await.refuse(500, "InternalError", "etcd is away");
    let state = node.until("the trouble", |state| state.failure().is_some()).await;
    let message = &state.failure().unwrap().message;
    assert!(
        message.contains("etcd is away") && message.ends_with("the pods that it told before stay"),
        "{message}"
    );
    assert_eq!(names(&state), ["a"]);
    // Nothing of the answer is cut short: the watch goes on, although nothing happens in it.
    let _watch = node.api.next().await.stream();
    node.until("the recovery", |state| state.failure().is_none()).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_a_problem_until_it_comes() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut source = source(&url);
    let state = until(&mut source, "the refusal", |state| state.failure().is_some()).await;
    assert!(!state.seen);
    let message = &state.failure().unwrap().message;
    assert!(message.contains("pods of node1 can not be watched") && message.contains("refused"), "{message}");
}

#[tokio::test]
async fn a_server_that_ends_each_watch_at_once_is_not_asked_without_pause() {
    let (mut node, watch) = Node::streamed(&[]).await;
    drop(watch);
    let start = std::time::Instant::now();
    for _ in 0..10 {
        node.api.next().await.stream();
    }
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
}

#[tokio::test]
async fn the_watch_ends_when_nobody_listens() {
    let (mut node, watch) = Node::streamed(&[]).await;
    node.until("the list", |state| state.seen).await;
    drop(node.source);
    tokio::time::timeout(Duration::from_secs(20), watch.closed()).await.unwrap();
}

#[tokio::test]
async fn pods_are_not_told_before_it_is_known_that_the_node_is_ours_and_stay_when_it_is_lost() {
    let api = FakeApi::start().await;
    let other = Sender::new(None);
    let source = spawn_held(settings(&api.url()), other.subscribe(), CancellationToken::new());
    let mut node = Node { api, source };
    let watch = node.api.next().await.stream();
    watch.event("ADDED", &pod_of("a", "1")).await;
    watch.event("BOOKMARK", &end_of_list("10")).await;
    node.until("the list is there", |state| state.pods.len() == 1).await;
    assert!(!node.now().seen, "nobody knows whose the node is");
    other.send_replace(Some(true));
    let state = node.until("another agent has it", |state| state.failure().is_some()).await;
    assert!(!state.seen && state.failure().unwrap().message.contains("another agent"), "{state:?}");
    other.send_replace(Some(false));
    let state = node.until("it is ours", |state| state.seen).await;
    assert_eq!((state.failure(), state.pods.len()), (None, 1));
    other.send_replace(Some(true));
    node.until("it is lost again", |state| !state.seen && state.pods.len() == 1).await;
    drop(other);
    watch.event("ADDED", &pod_of("b", "11")).await;
    node.until("the watch goes on", |state| !state.seen && state.pods.len() == 2).await;
}
