//! `/log`, with somebody behind it who repeats what was asked.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use pod_api::{Logs, NoLog};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::node::{Node, PODS, SOON, ask, rest_of};

/// Says what it was asked for; then, for followers, waits for the end of the container.
#[derive(Debug)]
struct Echo(watch::Receiver<bool>);

impl Logs for Echo {
    fn log<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        container: &'a str,
        query: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Bytes>, NoLog>> {
        let follow = query.contains("follow=true");
        let answer = match query.contains("previous=true") {
            true => Err(NoLog {
                code: 400,
                message: format!("previous terminated container {container:?} not found"),
            }),
            false => Ok(format!("{namespace}/{pod}/{container}?{query}\n")),
        };
        let mut ended = self.0.clone();
        std::future::ready(answer.map(|first| {
            let rest = async move {
                if follow {
                    ended.wait_for(|ended| *ended).await.unwrap();
                }
                Bytes::from_static(b"the end\n")
            };
            futures::stream::iter([Bytes::from(first)]).chain(rest.into_stream()).boxed()
        }))
        .boxed()
    }
}

const TWO: &str = "apiVersion: v1
kind: Pod
metadata: {name: two}
spec:
  initContainers: [{name: setup, image: busybox:1}]
  containers: [{name: app, image: busybox:1}, {name: side, image: busybox:1}]
";

async fn node() -> (Node, watch::Sender<bool>) {
    let (ended, ends) = watch::channel(false);
    let node = Node::new().await;
    node.push.handle.serve_logs(Arc::new(Echo(ends)));
    node.create("one").await;
    node.send(ask("POST", PODS).body(TWO)).await.expect(201);
    (node, ended)
}

#[tokio::test]
async fn a_log_is_that_of_the_container_that_is_meant() {
    let (node, _ended) = node().await;
    for (path, log) in [
        ("one/log", "default/one/app?\nthe end\n"),
        ("one/log?container=app&tailLines=5", "default/one/app?container=app&tailLines=5\nthe end\n"),
        ("two/log?container=setup", "default/two/setup?container=setup\nthe end\n"),
    ] {
        let reply = node.send(ask("GET", &format!("{PODS}/{path}"))).await;
        assert_eq!((reply.code, reply.text.as_str()), (200, log), "{path}");
    }
    let resources = node.send(ask("GET", "/api/v1")).await.expect(200);
    let has = |name: &str| resources["resources"].as_array().unwrap().iter().any(|r| r["name"] == name);
    assert!(has("pods/log") && has("pods/status"), "{resources}");
}

#[tokio::test]
async fn what_has_no_log_is_refused_in_the_words_of_the_api_server() {
    let (node, _ended) = node().await;
    for (path, code, reason, message) in [
        ("none/log", 404, "NotFound", "pods \"none\" not found"),
        (
            "two/log",
            400,
            "BadRequest",
            "a container name must be specified for pod two, choose one of: [app side] or one of the init containers: \
             [setup]",
        ),
        ("two/log?container=x", 400, "BadRequest", "container x is not valid for pod two"),
        ("one/log?previous=true", 400, "BadRequest", "previous terminated container \"app\" not found"),
        (
            "one/log?tailLines=x",
            400,
            "BadRequest",
            "tailLines=\"x\" is no number: invalid digit found in string",
        ),
        (
            "one/log?tailLines=-1&limitBytes=0",
            422,
            "Invalid",
            "PodLogOptions \"one\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0, \
             limitBytes: Invalid value: 0: must be greater than or equal to 1",
        ),
    ] {
        let error = node.send(ask("GET", &format!("{PODS}/{path}"))).await.error();
        assert_eq!(error, (code, reason.to_owned(), message.to_owned()), "{path}");
    }
    let error = node.send(ask("POST", &format!("{PODS}/one/log"))).await.error();
    assert_eq!((error.0, error.1.as_str()), (405, "MethodNotAllowed"));
}

#[tokio::test]
async fn without_anybody_who_knows_them_there_are_no_logs() {
    let node = Node::new().await;
    node.create("one").await;
    let error = node.send(ask("GET", &format!("{PODS}/one/log"))).await.error();
    assert_eq!(error, (404, "NotFound".to_owned(), "the logs of pods are not served here".to_owned()));
    let resources = node.send(ask("GET", "/api/v1")).await.expect(200).to_string();
    assert!(!resources.contains("pods/log"), "{resources}");
}

#[tokio::test]
async fn a_log_is_followed_until_its_end_or_that_of_the_server() {
    for ends_by_itself in [true, false] {
        let (node, ended) = node().await;
        let mut stream = node.connect().await;
        let request = format!(
            "GET {PODS}/one/log?follow=true HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut begun = Vec::new();
        while !begun.ends_with(b"?follow=true\n") {
            begun.push(timeout(SOON, stream.read_u8()).await.unwrap().unwrap());
        }
        if ends_by_itself {
            ended.send_replace(true);
        } else {
            node.cancel.cancel();
        }
        let text = timeout(SOON, rest_of(&mut stream)).await.unwrap();
        assert_eq!(text.contains("the end"), ends_by_itself, "{text}");
    }
}
