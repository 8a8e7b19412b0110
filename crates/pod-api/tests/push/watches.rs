//! Watches.

use std::time::Duration;

use axum::http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::node::{Node, PODS, SOON, ask, manifest};

/// A watch and what it says.
struct Watching {
    body: Incoming,
    text: Vec<u8>,
}

impl Watching {
    async fn new(node: &Node, query: &str) -> Self {
        Self::of(node, query, "application/json").await
    }

    async fn of(node: &Node, query: &str, accept: &str) -> Self {
        let stream = TokioIo::new(node.connect().await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(format!("/api/v1/pods?watch=true&{query}"))
            .header("host", "localhost")
            .header("accept", accept)
            .body(Empty::<bytes::Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), text: Vec::new() }
    }

    /// The next event, or `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = timeout(SOON, self.body.frame()).await.expect("an event in time")?.unwrap();
            self.text.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    /// What happened to which pod.
    async fn event(&mut self) -> (String, String) {
        let event = self.next().await.expect("an event");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}

fn is(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

async fn version(node: &Node) -> String {
    let list = node.send(ask("GET", PODS)).await.expect(200);
    list["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

async fn label(node: &Node, name: &str, value: &str) {
    let patch = json!({ "metadata": { "labels": { "app": value } } }).to_string();
    let ask = ask("PATCH", &format!("{PODS}/{name}")).kind("application/merge-patch+json").body(patch);
    node.send(ask).await.expect(200);
}

#[tokio::test]
async fn a_watch_begins_with_what_is_there_or_after_a_list() {
    let node = Node::new().await;
    node.create("a").await;
    let mut all = Watching::new(&node, "").await;
    assert_eq!(all.event().await, is("ADDED", "a"));
    let since = version(&node).await;
    node.create("b").await;
    let mut later = Watching::new(&node, &format!("resourceVersion={since}")).await;
    assert_eq!(later.event().await, is("ADDED", "b"));
    node.observe();
    node.send(ask("DELETE", &format!("{PODS}/a?gracePeriodSeconds=0"))).await.expect(200);
    assert_eq!(all.event().await, is("ADDED", "b"));
    for watch in [&mut all, &mut later] {
        let mut changed = [watch.event().await, watch.event().await];
        changed.sort();
        assert_eq!(changed, [is("MODIFIED", "a"), is("MODIFIED", "b")]);
        let gone = watch.next().await.unwrap();
        assert_eq!((&gone["type"], &gone["object"]["kind"]), (&json!("DELETED"), &json!("Pod")));
    }
}

#[tokio::test]
async fn what_begins_to_match_is_new_and_what_no_longer_does_is_gone() {
    let node = Node::new().await;
    node.create("a").await;
    let mut watch = Watching::new(&node, "labelSelector=app%3Dx").await;
    label(&node, "a", "x").await;
    assert_eq!(watch.event().await, is("ADDED", "a"));
    node.observe();
    assert_eq!(watch.event().await, is("MODIFIED", "a"));
    label(&node, "a", "y").await;
    assert_eq!(watch.event().await, is("DELETED", "a"));
    node.send(ask("DELETE", &format!("{PODS}/a?gracePeriodSeconds=0"))).await.expect(200);
    node.send(ask("POST", PODS).body(manifest("b").replace("app: b", "app: x"))).await.expect(201);
    assert_eq!(watch.event().await, is("ADDED", "b"));
    let mut one = Watching::new(&node, "fieldSelector=metadata.name%3Db").await;
    assert_eq!(one.event().await, is("ADDED", "b"));
}

#[tokio::test]
async fn a_watch_list_ends_its_beginning_with_a_bookmark() {
    let node = Node::new().await;
    node.create("a").await;
    let query =
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=1";
    let mut watch = Watching::new(&node, query).await;
    assert_eq!(watch.event().await, is("ADDED", "a"));
    let bookmark = watch.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    let meta = &bookmark["object"]["metadata"];
    assert_eq!(meta["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(meta["resourceVersion"], version(&node).await);
    node.create("b").await;
    assert_eq!(watch.event().await, is("ADDED", "b"));
}

#[tokio::test]
async fn a_version_that_nobody_remembers_is_expired() {
    let node = Node::new().await;
    for since in ["1", "18446744073709551615"] {
        let mut watch = Watching::new(&node, &format!("resourceVersion={since}")).await;
        let error = watch.next().await.unwrap();
        assert_eq!(error["type"], "ERROR", "{since}");
        assert_eq!((&error["object"]["code"], &error["object"]["reason"]), (&json!(410), &json!("Expired")));
        assert_eq!(watch.next().await, None);
    }
}

#[tokio::test]
async fn only_the_first_table_of_a_watch_has_its_columns() {
    let node = Node::new().await;
    node.create("a").await;
    let mut watch = Watching::of(&node, "", "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let first = watch.next().await.unwrap();
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    assert_eq!(first["object"]["rows"][0]["cells"][2], "Pending");
    node.observe();
    let second = watch.next().await.unwrap();
    assert_eq!((&second["type"], &second["object"]["kind"]), (&json!("MODIFIED"), &json!("Table")));
    assert_eq!(second["object"]["columnDefinitions"], json!([]));
    assert_eq!(second["object"]["rows"][0]["cells"][2], "Running");
    let metadata = &second["object"]["rows"][0]["object"]["metadata"];
    assert_eq!(metadata["name"], "a");
    assert_eq!(second["object"]["metadata"]["resourceVersion"], metadata["resourceVersion"]);
}

#[tokio::test]
async fn a_watch_ends_with_its_time_and_with_the_server() {
    let node = Node::new().await;
    let mut short = Watching::new(&node, "timeoutSeconds=1").await;
    let mut long = Watching::new(&node, "").await;
    assert_eq!(short.next().await, None);
    node.cancel.cancel();
    assert_eq!(long.next().await, None);
}

#[tokio::test]
async fn watches_have_half_of_the_places() {
    let node = Node::with(|settings| settings.limits.connections = 4).await;
    let first = Watching::new(&node, "").await;
    let _second = Watching::new(&node, "").await;
    let refused = node.send(ask("GET", &format!("{PODS}?watch=1"))).await;
    assert_eq!(
        (refused.error().1.as_str(), &refused.headers["retry-after"]),
        ("TooManyRequests", &"1".parse().unwrap())
    );
    node.create("a").await;
    drop(first);
    // The server hears of the end a moment later.
    let again = async {
        while node.send(ask("GET", &format!("{PODS}?watch=1&timeoutSeconds=1"))).await.code != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, again).await.unwrap();
}
