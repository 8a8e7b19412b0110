//! The client against a server with TLS, certificates of its own making, and whatever answers the test gives.

#![expect(clippy::unwrap_used, reason = "a panic is the report of a test, in its helpers too")]

mod server;
#[cfg(feature = "runtime-tests")]
mod silence;

use std::time::Duration;

use apiserver_sync::client::{Limit, RestConfig};
use futures::StreamExt as _;
use kube::api::{Api, WatchEvent, WatchParams};
use kube::{Client, Error};
use kube_model::core::{ConfigMap, Node};
use serde_json::{Value, json};
use server::Server;
use testkit::fake_api::Call;

fn fast() -> RestConfig {
    RestConfig::limited(Limit::new(10_000, 10_000))
}

fn node() -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"}})
}

/// Asks for the node, and answers the question.
async fn ask(client: &Client, server: &mut Server, answer: impl FnOnce(Call)) -> Result<Node, Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let (got, ()) = tokio::join!(nodes.get("node1"), async { answer(server.api.next().await) });
    got
}

/// Everything that went wrong, in one line.
fn text(error: &Error) -> String {
    std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[tokio::test]
async fn watches_share_a_connection_until_its_streams_are_used_up() {
    let mut server = Server::start().await;
    let access = server.access();
    let maps: Api<ConfigMap> = Api::namespaced(access.client(fast()), "shop");
    let mut open = Vec::new();
    for count in 1..=200usize {
        let params = WatchParams::default();
        let (watch, stream) =
            tokio::join!(maps.watch(&params, "1"), async { server.api.next().await.stream() });
        open.push((watch.unwrap(), stream));
        assert_eq!(server.connections(), count.div_ceil(90), "with {count} watches");
    }
    // A place that becomes free is used again, by another client as well.
    open.truncate(80);
    let other = access.client(fast());
    ask(&other, &mut server, |call| call.json(200, &node())).await.unwrap();
    assert_eq!(server.connections(), 3);
    // But the heartbeat has a connection to itself.
    let heartbeat = access.client(RestConfig::heartbeat(Duration::from_secs(10)));
    ask(&heartbeat, &mut server, |call| call.json(200, &node())).await.unwrap();
    assert_eq!(server.connections(), 4);
}

#[tokio::test]
async fn requests_say_who_sends_them() {
    let mut server = Server::start().await;
    server.write("token", "  from-file\n");
    let user = json!({"tokenFile": "token", "token": "inline", "as": "somebody", "as-groups": ["a", "b"]});
    let client = server.access_with(&json!({}), &user).client(fast());
    ask(&client, &mut server, |call| {
        assert_eq!(call.version, http::Version::HTTP_2);
        assert_eq!(call.headers["user-agent"], "test/1");
        assert_eq!(call.headers["authorization"], "Bearer from-file");
        assert_eq!(call.headers["impersonate-user"], "somebody");
        assert_eq!(call.headers.get_all("impersonate-group").iter().count(), 2);
        call.json(200, &node());
    })
    .await
    .unwrap();
    assert_eq!(server.last_peer(), "system:node:node1");
    let password = json!({"username": "me", "password": "pw"});
    let client = server.access_with(&json!({}), &password).client(fast());
    ask(&client, &mut server, |call| {
        assert_eq!(call.headers["authorization"], "Basic bWU6cHc=");
        call.json(200, &node());
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn after_a_refusal_certificates_and_tokens_are_read_anew() {
    let mut server = Server::start().await;
    server.write("token", "old");
    let access = server.access_with(&json!({}), &json!({"tokenFile": "token"}));
    let client = access.client(fast());
    let refused = |call: Call| call.refuse(401, "Unauthorized", "Unauthorized");
    ask(&client, &mut server, refused).await.unwrap_err();

    // A key that does not belong to it is not taken, and the token is not touched by that.
    let good = std::fs::read_to_string(server.dir().join("node.pem")).unwrap();
    server.write("node.pem", good.split_once("-----BEGIN PRIVATE").unwrap().0);
    ask(&client, &mut server, refused).await.unwrap_err();
    assert_eq!((server.connections(), &*server.last_peer()), (1, "system:node:node1"));

    server.issue("system:node:renewed");
    server.write("token", "new\n");
    ask(&client, &mut server, |call| {
        assert_eq!(call.headers["authorization"], "Bearer new");
        call.json(200, &node());
    })
    .await
    .unwrap();
    assert_eq!((server.connections(), &*server.last_peer()), (2, "system:node:renewed"));

    // A token file that vanished: the last token is still good.
    std::fs::remove_file(server.dir().join("token")).unwrap();
    ask(&client, &mut server, refused).await.unwrap_err();
    ask(&client, &mut server, |call| {
        assert_eq!(call.headers["authorization"], "Bearer new");
        call.json(200, &node());
    })
    .await
    .unwrap();
    assert_eq!(server.connections(), 2, "nothing changed, nothing is opened");
    let requests = access.requests().into_iter();
    let requests: Vec<_> =
        requests.map(|r| (r.method.to_string(), r.code.unwrap().as_u16(), r.count)).collect();
    assert_eq!(requests, [("GET".to_owned(), 200, 2), ("GET".to_owned(), 401, 3)]);
}

#[tokio::test]
async fn whom_we_talk_to_is_made_sure_of() {
    let mut server = Server::start().await;
    server.write_other_authority("other.crt");
    let by_address = format!("https://127.0.0.1:{}", server.port());
    let refused = [
        (json!({"certificate-authority": "other.crt"}), "UnknownIssuer"),
        (json!({"certificate-authority": null}), "UnknownIssuer"),
        (json!({"server": by_address}), "not valid for name"),
        (json!({"tls-server-name": "kubernetes"}), "not valid for name"),
    ];
    for (cluster, expected) in refused {
        let client = server.access_with(&cluster, &json!({})).client(fast());
        let error = text(&Api::<Node>::all(client).get("node1").await.unwrap_err());
        assert!(error.contains(expected), "{cluster}: {error}");
    }
    let accepted = [
        json!({"server": by_address, "tls-server-name": "localhost"}),
        json!({"server": by_address, "certificate-authority": null, "insecure-skip-tls-verify": true}),
    ];
    for cluster in accepted {
        let client = server.access_with(&cluster, &json!({})).client(fast());
        ask(&client, &mut server, |call| call.json(200, &node())).await.unwrap();
    }
}

#[tokio::test]
async fn a_path_in_the_address_stands_before_every_request() {
    let mut server = Server::start().await;
    let cluster = json!({"server": format!("https://localhost:{}/clusters/one/", server.port())});
    let client = server.access_with(&cluster, &json!({})).client(fast());
    ask(&client, &mut server, |call| {
        assert_eq!(call.path, "/clusters/one/api/v1/nodes/node1");
        call.json(200, &node());
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_plugin_gives_the_token_and_another_one_after_a_refusal() {
    let mut server = Server::start().await;
    // Each run gives the next number.
    let script = r#"n=$(cat runs 2>/dev/null || echo 0); n=$((n+1)); echo $n > runs
        echo "{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{\"token\":\"token-$n\"}}""#;
    let script = script.replace("runs", server.dir().join("runs").to_str().unwrap());
    let exec =
        json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script]});
    let client = server.access_with(&json!({}), &json!({"exec": exec})).client(fast());
    let bearer = |call: &Call| call.headers["authorization"].to_str().unwrap().to_owned();
    for (expected, code) in [("Bearer token-1", 200), ("Bearer token-1", 401), ("Bearer token-2", 200)] {
        let got = ask(&client, &mut server, |call| {
            assert_eq!(bearer(&call), expected);
            call.json(code, &node());
        });
        assert_eq!(got.await.is_ok(), code == 200);
    }
    let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "/no/such/plugin"});
    let client = server.access_with(&json!({}), &json!({"exec": exec})).client(fast());
    let error = text(&Api::<Node>::all(client).get("node1").await.unwrap_err());
    assert!(error.contains("unable to run auth exec"), "{error}");
}

#[tokio::test]
async fn the_heartbeat_does_not_wait_behind_the_rest() {
    let mut server = Server::start().await;
    let access = server.access();
    let get = |client: &Client| {
        let nodes: Api<Node> = Api::all(client.clone());
        async move { nodes.get("node1").await }
    };
    let slow = access.client(RestConfig::limited(Limit::new(1, 1)));
    // One a second.
    let waiting: Vec<_> = (0..100).map(|_| tokio::spawn(get(&slow))).collect();
    let heartbeat = access.client(RestConfig::heartbeat(Duration::from_secs(10)));
    let beats = async {
        for _ in 0..20 {
            get(&heartbeat).await.unwrap();
        }
    };
    let answers = async {
        loop {
            server.api.next().await.json(200, &node());
        }
    };
    tokio::select! {
        () = beats => {}
        () = answers => {}
    }
    assert!(waiting.iter().any(|request| !request.is_finished()));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_with_its_connection() {
    let mut server = Server::start().await;
    let client = server.access().client(RestConfig::heartbeat(Duration::from_secs(5)));
    let nodes: Api<Node> = Api::all(client.clone());
    let (got, call) = tokio::join!(nodes.get("node1"), server.api.next());
    let error = text(&got.unwrap_err());
    assert!(error.contains("no answer within 5s"), "{error}");
    let before = server.connections();
    ask(&client, &mut server, |call| call.json(200, &node())).await.unwrap();
    assert_eq!(server.connections(), before + 1);
    drop(call);
}

#[tokio::test]
async fn an_answer_that_stalls_is_given_up_with_its_connection_and_a_watch_goes_on() {
    let mut server = Server::start().await;
    let access = server.access();
    let client = access.client(RestConfig::heartbeat(Duration::from_secs(2)));
    let nodes: Api<Node> = Api::all(client.clone());
    let params = WatchParams::default();
    let (watch, stream) = tokio::join!(nodes.watch(&params, "1"), async { server.api.next().await.stream() });
    let mut watch = std::pin::pin!(watch.unwrap());

    let reached = access.reached();
    for connections in [1, 2] {
        let (got, stalled) = tokio::join!(nodes.get("node1"), async {
            let stalled = server.api.next().await.stream();
            stalled.text("{\"kind\": \"Node\",").await;
            stalled
        });
        let error = text(&got.unwrap_err());
        assert!(error.contains("no whole answer within 2s"), "{error}");
        assert_eq!(server.connections(), connections);
        stalled.closed().await;
    }
    assert!(!reached.has_changed().unwrap(), "its beginning alone is no answer");
    ask(&client, &mut server, |call| call.json(200, &node())).await.unwrap();
    assert_eq!(server.connections(), 3);
    assert!(reached.has_changed().unwrap());

    // It is older by now than an answer may be, and lives on a connection that is used no more.
    stream.event("ADDED", &node()).await;
    let event = watch.next().await.unwrap().unwrap();
    assert!(matches!(event, WatchEvent::Added(_)), "{event:?}");
}

#[tokio::test]
async fn the_refusal_of_a_watch_must_end() {
    let mut server = Server::start().await;
    let client = server.access().client(RestConfig::heartbeat(Duration::from_secs(1)));
    let nodes: Api<Node> = Api::all(client);
    let params = WatchParams::default();
    let (watch, _stalled) =
        tokio::join!(nodes.watch(&params, "1"), async { server.api.next().await.stream_as(403) });
    let error = text(&watch.err().unwrap());
    assert!(error.contains("no whole answer within 1s"), "{error}");
}

#[tokio::test]
async fn when_to_ask_again_is_in_the_error() {
    let mut server = Server::start().await;
    let client = server.access().client(fast());
    let error = ask(&client, &mut server, |call| call.too_many_requests(7)).await.unwrap_err();
    let Error::Api(status) = error else { panic!("{error}") };
    assert_eq!((status.code, &*status.message), (429, "Too many requests, please try again later."));
    assert_eq!(status.details.unwrap().retry_after_seconds, 7);
}
