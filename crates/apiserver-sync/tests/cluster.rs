//! A real kube-apiserver, as a node with a client certificate and the Node authorizer's rights. Needs root and a
//! kube-apiserver; `cargo xtask test` sees to both and turns on the feature required here.

#![expect(clippy::unwrap_used, reason = "a panic is the report of a test, in its helpers too")]

use std::sync::Arc;
use std::time::Duration;

use apiserver_sync::client::{Access, Limit, RestConfig};
use apiserver_sync::objects::{Error, Kind, Object, Objects, Strategy};
use apiserver_sync::services::Services;
use apiserver_sync::tokens::{Request, Tokens};
use futures::FutureExt as _;
use kube_model::PodUid;
use kube_model::core::Pod;
use serde_json::{Value, json};
use testkit::env::{Cluster, Run};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(60);

fn object(kind: &str, name: &str, more: Value) -> Value {
    let mut object =
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "work"}});
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

fn pod() -> Value {
    let env = json!([{"secretRef": {"name": "password"}}, {"configMapRef": {"name": "settings"}}]);
    object(
        "Pod",
        "web",
        json!({"spec": {"nodeName": "node1",
        "containers": [{"name": "app", "image": "example.test/app:1", "envFrom": env}]}}),
    )
}

/// Asks until the answer is as expected.
async fn until(
    objects: &Objects,
    kind: Kind,
    name: &str,
    expected: impl Fn(&Result<Arc<Object>, Error>) -> bool,
) {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = objects.get(kind, "work", name).await;
        if expected(&answer) {
            return;
        }
        assert!(Instant::now() < deadline, "{kind} {name}: not within {SOON:?}, but {answer:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn holds(value: &'static str) -> impl Fn(&Result<Arc<Object>, Error>) -> bool {
    move |answer| answer.as_ref().is_ok_and(|object| object.data["key"] == value.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_follows_what_its_pods_refer_to_and_the_services() {
    let run = Run::new().unwrap();
    let mut cluster = Cluster::start(&run).unwrap();
    let secret = |value: &str| object("Secret", "password", json!({"stringData": {"key": value}}));
    let map = object("ConfigMap", "settings", json!({"data": {"key": "plain"}, "immutable": true}));
    let web = object("Service", "web", json!({"spec": {"clusterIP": "10.96.7.7", "ports": [{"port": 80}]}}));
    cluster
        .apply(&json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "work"}},
            secret("one"), map, web, object("Secret", "of-others", json!({})), pod(),
        ]}))
        .unwrap();
    let access = Access::load(&cluster.node_kubeconfig("node1").unwrap(), "node-agent/test").unwrap();
    let client = access.client(RestConfig::limited(Limit::new(50, 100)));

    let services = Services::watch(client.clone(), CancellationToken::new());
    tokio::time::timeout(SOON, services.synced()).await.unwrap();
    let variables = services.environment("work", true).unwrap();
    assert_eq!(variables["WEB_SERVICE_HOST"], "10.96.7.7");
    assert_eq!(variables["KUBERNETES_SERVICE_HOST"], "10.96.0.1");
    assert_eq!(variables["KUBERNETES_SERVICE_PORT_HTTPS"], "443");

    let objects = Objects::new(client, Strategy::Watch);
    let pod: Pod = serde_json::from_value(pod()).unwrap();
    objects.register(&pod);
    until(&objects, Kind::Secret, "password", holds("one")).await;
    until(&objects, Kind::ConfigMap, "settings", holds("plain")).await;
    assert!(objects.get(Kind::ConfigMap, "work", "settings").await.unwrap().immutable);

    cluster.apply(&secret("two")).unwrap();
    until(&objects, Kind::Secret, "password", holds("two")).await;
    let path = "/api/v1/namespaces/work/secrets/password";
    assert_eq!(cluster.request("DELETE", path, None).unwrap().0, 200);
    until(&objects, Kind::Secret, "password", |answer| matches!(answer, Err(Error::NotFound(_)))).await;
    cluster.apply(&secret("three")).unwrap();
    until(&objects, Kind::Secret, "password", holds("three")).await;

    // Nothing that a node needs is denied to it.
    let denied: Vec<_> = cluster.audit().unwrap().into_iter().filter(|request| request.code == 403).collect();
    assert!(denied.is_empty(), "{denied:?}");

    // While the server is away what was read stays; afterwards history is gone, and the news come all the same.
    cluster.stop();
    assert!(holds("three")(&objects.get(Kind::Secret, "work", "password").await));
    cluster.compact().unwrap();
    cluster.start_again().unwrap();
    cluster.apply(&secret("four")).unwrap();
    until(&objects, Kind::Secret, "password", |answer| {
        // Not even while the server does not know yet which pods are the node's.
        assert!(answer.is_ok(), "{answer:?}");
        holds("four")(answer)
    })
    .await;

    // What no pod of this node refers to the server does not give.
    let mut others = pod.clone();
    others.metadata.uid = Some("another".to_owned());
    let env_from = json!([{"secretRef": {"name": "of-others"}}]);
    others.spec.as_mut().unwrap().containers[0].env_from = serde_json::from_value(env_from).unwrap();
    objects.register(&others);
    until(&objects, Kind::Secret, "of-others", |answer| matches!(answer, Err(Error::Forbidden { .. }))).await;
}

/// What a token says of itself.
fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_tokens_for_its_own_pods_only() {
    let run = Run::new().unwrap();
    let cluster = Cluster::start(&run).unwrap();
    let pod = |name: &str, node: &str| {
        let spec = json!({"nodeName": node, "serviceAccountName": "web", "automountServiceAccountToken": false,
            "containers": [{"name": "app", "image": "example.test/app:1"}]});
        object("Pod", name, json!({"spec": spec}))
    };
    cluster
        .apply(&json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "work"}},
            object("ServiceAccount", "web", json!({})),
            pod("mine", "node1"), pod("other", "node2"),
        ]}))
        .unwrap();
    let uid = |name: &str| {
        let path = format!("/api/v1/namespaces/work/pods/{name}");
        let (_, pod) = cluster.request("GET", &path, None).unwrap();
        PodUid::from(pod["metadata"]["uid"].as_str().unwrap())
    };
    let access = Access::load(&cluster.node_kubeconfig("node1").unwrap(), "node-agent/test").unwrap();
    let tokens = Tokens::new(access.client(RestConfig::limited(Limit::new(50, 100))));
    let (mine, other) = (uid("mine"), uid("other"));
    let request = |pod, uid, expiration_seconds| Request {
        namespace: "work",
        service_account: "web",
        pod,
        uid,
        audience: "vault",
        expiration_seconds,
    };
    let asked = request("mine", &mine, 600);
    // A server that was only just started does not know yet which pods are the node's.
    let deadline = Instant::now() + SOON;
    let token = loop {
        match tokens.get(asked).await {
            Ok(token) => break token,
            Err(error) => assert!(Instant::now() < deadline, "no token within {SOON:?}: {error}"),
        }
        sleep(Duration::from_millis(20)).await;
    };
    let claims = claims(&token.token);
    assert_eq!(claims["aud"], json!(["vault"]));
    let bound = &claims["kubernetes.io"];
    assert_eq!((&bound["pod"]["name"], &bound["pod"]["uid"]), (&json!("mine"), &json!(mine.as_str())));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
    let fresh = token.refresh_at.duration_since(Instant::now()).as_secs();
    assert!((400..=480).contains(&fresh), "{fresh}");
    assert_eq!(tokens.get(asked).await.unwrap(), token);

    let why = |error: apiserver_sync::tokens::Error| error.to_string();
    let denied = why(tokens.get(request("other", &other, 600)).await.unwrap_err());
    assert!(denied.starts_with("failed to fetch token: ") && denied.contains("forbidden"), "{denied}");
    let short = why(tokens.get(request("mine", &mine, 10)).await.unwrap_err());
    assert!(short.contains("expirationSeconds"), "{short}");
    let path = "/api/v1/namespaces/work/serviceaccounts/web";
    assert_eq!(cluster.request("DELETE", path, None).unwrap().0, 200);
    assert_eq!(tokens.get(asked).await.unwrap(), token, "it is good for a while");
    let gone = why(tokens.get(request("mine", &mine, 700)).await.unwrap_err());
    assert_eq!(gone, "failed to fetch token: serviceaccounts \"web\" not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_watches_objects_are_read_when_they_are_wanted() {
    let run = Run::new().unwrap();
    let cluster = Cluster::start(&run).unwrap();
    let secret = |value: &str| object("Secret", "password", json!({"stringData": {"key": value}}));
    let map = object("ConfigMap", "settings", json!({"data": {"key": "plain"}}));
    cluster
        .apply(&json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "work"}}, secret("one"), map, pod(),
        ]}))
        .unwrap();
    let access = Access::load(&cluster.node_kubeconfig("node1").unwrap(), "node-agent/test").unwrap();
    let pod: Pod = serde_json::from_value(pod()).unwrap();
    let node = watch::Sender::new(None);
    let (now_and_then, never) = (Duration::from_millis(100), Duration::from_secs(3600));
    for strategy in
        [Strategy::Get { refresh: now_and_then }, Strategy::Cache { node: node.subscribe(), refresh: never }]
    {
        let is_get = matches!(strategy, Strategy::Get { .. });
        cluster.apply(&secret("one")).unwrap();
        let objects = Objects::new(access.client(RestConfig::limited(Limit::new(50, 100))), strategy);
        objects.register(&pod);
        until(&objects, Kind::Secret, "password", holds("one")).await;
        until(&objects, Kind::ConfigMap, "settings", holds("plain")).await;
        while objects.changes().next().now_or_never().is_some() {}
        cluster.apply(&secret("two")).unwrap();
        if is_get {
            // Nobody asks; it is heard of all the same.
            let keys = tokio::time::timeout(SOON, objects.changes().next()).await.unwrap();
            assert_eq!(keys.iter().map(|key| &*key.name).collect::<Vec<_>>(), ["password"]);
            assert!(holds("two")(&objects.get(Kind::Secret, "work", "password").await));
        } else {
            assert!(holds("one")(&objects.get(Kind::Secret, "work", "password").await));
            let mut second = pod.clone();
            second.metadata.uid = Some("second".to_owned());
            objects.register(&second);
            assert!(holds("two")(&objects.get(Kind::Secret, "work", "password").await));
        }
    }
    let watches = |request: &testkit::env::AuditedRequest| {
        request.user == "system:node:node1" && request.verb == "watch"
    };
    assert!(!cluster.audit().unwrap().iter().any(watches));
}
