use kube::Config;
use serde_json::{Value, json};
use testkit::fake_api::FakeApi;
use tokio::time::{Duration, Instant};

use super::*;

fn service(name: &str, version: &str, ip: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": version},
        "spec": {"clusterIP": ip, "ports": [{"port": 80, "targetPort": "http"}]}})
}

#[tokio::test]
async fn services_are_listed_and_followed_and_survive_a_lost_watch() {
    let mut api = FakeApi::start().await;
    let client = Client::try_from(Config::new(api.url().parse().unwrap())).unwrap();
    let services = Services::watch(client, CancellationToken::new());
    assert_eq!(services.environment("shop", true), Err(NotSynced));

    api.next().await.refuse(500, "InternalError", "not now");
    let call = api.next().await;
    assert_eq!(call.path, "/api/v1/services");
    assert_eq!(call.query("fieldSelector").as_deref(), Some("spec.clusterIP!=None"));
    call.refuse(400, "BadRequest", "field label not supported: spec.clusterIP");
    let call = api.next().await;
    assert_eq!(call.query("fieldSelector"), None, "an old server");
    assert_eq!(call.query("resourceVersion").as_deref(), Some("0"));
    call.json(
        200,
        &json!({"apiVersion": "v1", "kind": "ServiceList", "metadata": {"resourceVersion": "9"},
        "items": [service("web", "4", "10.0.0.1"), service("db", "5", "10.0.0.2")]}),
    );
    services.synced().await;
    let host = |name: &str| services.environment("shop", true).unwrap().get(name).cloned();
    assert_eq!(host("WEB_SERVICE_HOST").as_deref(), Some("10.0.0.1"));

    let watch = api.next().await.stream();
    watch.event("MODIFIED", &service("web", "10", "10.0.0.9")).await;
    watch.event("DELETED", &service("db", "11", "10.0.0.2")).await;
    drop(watch);
    // It is resumed behind the last event: by then both were taken.
    assert_eq!(api.next().await.query("resourceVersion").as_deref(), Some("11"));
    assert_eq!(host("WEB_SERVICE_HOST").as_deref(), Some("10.0.0.9"));
    assert_eq!(host("DB_SERVICE_HOST"), None);
    // A server that ends each watch as soon as it began is not asked without a pause.
    let begun = Instant::now();
    for _ in 0..3 {
        drop(api.next().await.stream());
    }
    assert!(begun.elapsed() > Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn who_waits_is_told_when_the_watch_was_cancelled() {
    let api = FakeApi::start().await;
    let client = Client::try_from(Config::new(api.url().parse().unwrap())).unwrap();
    let cancel = CancellationToken::new();
    let services = Services::watch(client, cancel.clone());
    cancel.cancel();
    tokio::time::timeout(std::time::Duration::from_secs(20), services.synced()).await.unwrap();
    assert_eq!(services.environment("shop", true), Err(NotSynced));
}
