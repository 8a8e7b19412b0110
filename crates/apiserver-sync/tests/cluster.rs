//! A real kube-apiserver, as a node with a client certificate and the Node authorizer's rights. Needs root and a
//! kube-apiserver; `cargo xtask test` sees to both and turns on the feature required here.

#![expect(clippy::unwrap_used, reason = "a panic is the report of a test, in its helpers too")]

use std::sync::Arc;
use std::time::Duration;

use apiserver_sync::client::{Access, Limit, RestConfig};
use apiserver_sync::objects::{Error, Kind, Object, Objects};
use apiserver_sync::services::Services;
use kube_model::core::Pod;
use serde_json::{Value, json};
use testkit::env::{Cluster, Run};
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

    let objects = Objects::new(client);
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
