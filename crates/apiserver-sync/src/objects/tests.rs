use kube::Config;
use serde_json::{Value, json};
use testkit::fake_api::{FakeApi, Stream};
use tokio::time::Instant;

use super::*;

async fn start() -> (FakeApi, Objects) {
    let api = FakeApi::start().await;
    let client = Client::try_from(Config::new(api.url().parse().unwrap())).unwrap();
    (api, Objects::new(client, Strategy::Watch))
}

/// A pod of `shop` that takes its environment from a Secret and a ConfigMap.
fn pod_with(uid: &str, env_from: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": uid, "namespace": "shop", "uid": uid},
        "spec": {"containers": [{"name": "app", "envFrom": env_from}]},
    }))
    .unwrap()
}

fn pod_of_secret(uid: &str) -> Pod {
    pod_with(uid, &json!([{"secretRef": {"name": "password"}}]))
}

fn secret(version: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "password", "namespace": "shop", "resourceVersion": version},
        "data": {"key": value}})
}

/// Serves the first reading, and the watch behind it.
async fn serve(api: &mut FakeApi, object: &Value) -> Stream {
    let call = api.next().await;
    assert!(!call.is_watch());
    assert_eq!(call.path, "/api/v1/namespaces/shop/secrets/password");
    call.json(200, object);
    let call = api.next().await;
    assert!(call.is_watch());
    assert_eq!(call.path, "/api/v1/namespaces/shop/secrets");
    assert_eq!(call.query("fieldSelector").as_deref(), Some("metadata.name=password"));
    assert_eq!(call.query("resourceVersion").as_deref(), object["metadata"]["resourceVersion"].as_str());
    call.stream()
}

async fn password(objects: &Objects) -> Result<Vec<u8>, Error> {
    objects.get(Kind::Secret, "shop", "password").await.map(|object| object.data["key"].clone())
}

/// Waits until `objects` says what is expected.
async fn until(objects: &Objects, expected: impl Fn(&Result<Vec<u8>, Error>) -> bool) {
    let key = Key { kind: Kind::Secret, namespace: "shop".into(), name: "password".into() };
    let mut known = match &objects.inner().objects[&key].source {
        Source::Followed { known, .. } => known.clone(),
        Source::Asked(_) | Source::None(_) => panic!("not watched"),
    };
    let matches = |known: &Known| {
        let known = known.clone().unwrap_or(Err(Error::NotRegistered(key.clone())));
        expected(&known.map(|object| object.data["key"].clone()))
    };
    tokio::time::timeout(Duration::from_secs(20), known.wait_for(matches)).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_object_is_read_once_for_all_pods_followed_and_dropped_with_the_last() {
    let (mut api, objects) = start().await;
    assert!(matches!(password(&objects).await, Err(Error::NotRegistered(_))));
    objects.register(&pod_of_secret("one"));
    objects.register(&pod_of_secret("two"));
    objects.register(&pod_of_secret("two"));
    let watch = serve(&mut api, &secret("5", "b2xk")).await;
    assert_eq!(password(&objects).await.unwrap(), b"old");
    watch.event("MODIFIED", &secret("6", "bmV3")).await;
    until(&objects, |known| known.as_ref().is_ok_and(|value| value == b"new")).await;

    objects.unregister(&"one".into());
    assert_eq!(password(&objects).await.unwrap(), b"new");
    assert!(api.is_idle(), "one reading and one watch");
    objects.unregister(&"two".into());
    tokio::time::timeout(Duration::from_secs(20), watch.closed()).await.unwrap();
    assert!(matches!(password(&objects).await, Err(Error::NotRegistered(_))));
    assert!(objects.inner().pods.is_empty() && objects.inner().objects.is_empty());
}

#[tokio::test]
async fn a_pod_that_changes_keeps_what_it_still_needs() {
    let (mut api, objects) = start().await;
    objects.register(&pod_of_secret("one"));
    let watch = serve(&mut api, &secret("5", "b2xk")).await;
    objects.register(&pod_with(
        "one",
        &json!([{"secretRef": {"name": "password"}}, {"configMapRef": {"name": "more"}}]),
    ));
    let call = api.next().await;
    assert_eq!(call.path, "/api/v1/namespaces/shop/configmaps/more");
    call.json(
        200,
        &json!({"metadata": {"resourceVersion": "7"}, "data": {"a": "b"}, "binaryData": {"c": "AAE="}}),
    );
    let more = objects.get(Kind::ConfigMap, "shop", "more").await.unwrap();
    assert_eq!((&*more.data["a"], &*more.binary_data["c"]), (&b"b"[..], &[0u8, 1][..]));
    objects.register(&pod_with("one", &json!([{"configMapRef": {"name": "more"}}])));
    tokio::time::timeout(Duration::from_secs(20), watch.closed()).await.unwrap();
    assert!(objects.get(Kind::ConfigMap, "shop", "more").await.is_ok());
}

#[tokio::test]
async fn a_pod_that_has_ended_needs_nothing() {
    let (mut api, objects) = start().await;
    objects.register(&pod_of_secret("one"));
    let watch = serve(&mut api, &secret("5", "b2xk")).await;
    for phase in ["Succeeded", "Failed"] {
        let mut job = pod_of_secret("one");
        job.status = serde_json::from_value(json!({"phase": "Running"})).unwrap();
        objects.register(&job);
        assert_eq!(objects.inner().objects.len(), 1);
        job.status = serde_json::from_value(json!({"phase": phase})).unwrap();
        objects.register(&job);
        assert!(objects.inner().objects.is_empty(), "{phase}");
    }
    tokio::time::timeout(Duration::from_secs(20), watch.closed()).await.unwrap();
}

#[tokio::test]
async fn what_is_immutable_is_not_watched() {
    let (mut api, objects) = start().await;
    objects.register(&pod_of_secret("one"));
    let mut fixed = secret("5", "b2xk");
    fixed["immutable"] = json!(true);
    api.next().await.json(200, &fixed);
    assert!(objects.get(Kind::Secret, "shop", "password").await.unwrap().immutable);
    // Had it been watched, this request would not be the next one.
    objects.register(&pod_with("two", &json!([{"configMapRef": {"name": "more"}}])));
    assert_eq!(api.next().await.path, "/api/v1/namespaces/shop/configmaps/more");
    assert_eq!(password(&objects).await.unwrap(), b"old");
}

#[tokio::test]
async fn what_is_not_there_is_told_at_once_and_found_when_it_comes() {
    let (mut api, objects) = start().await;
    objects.register(&pod_of_secret("one"));
    api.next().await.refuse(404, "NotFound", "secrets \"password\" not found");
    let error = password(&objects).await.unwrap_err();
    assert_eq!(error.to_string(), "secret \"shop/password\" not found");
    let call = api.next().await;
    assert!(call.is_watch());
    assert_eq!(call.query("resourceVersion").as_deref(), Some(""), "from the present on");
    let watch = call.stream();
    watch.event("ADDED", &secret("6", "bmV3")).await;
    until(&objects, |known| known.as_ref().is_ok_and(|value| value == b"new")).await;
    watch.event("DELETED", &secret("8", "bmV3")).await;
    until(&objects, |known| matches!(known, Err(Error::NotFound(_)))).await;
    // Resumed where it was, and not read anew.
    drop(watch);
    assert_eq!(api.next().await.query("resourceVersion").as_deref(), Some("8"));
}

#[tokio::test]
async fn a_refusal_is_told_and_asked_again() {
    let (mut api, objects) = start().await;
    objects.register(&pod_of_secret("one"));
    api.next().await.refuse(403, "Forbidden", "no relationship found between node and this object");
    let error = password(&objects).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "secret \"shop/password\" is forbidden: no relationship found between node and this object"
    );
    let watch = serve(&mut api, &secret("5", "b2xk")).await;
    until(&objects, Result::is_ok).await;
    // A server that was only just started refuses what it will give in a moment.
    watch.reset().await;
    api.next().await.refuse(403, "Forbidden", "no relationship found between node and this object");
    let call = api.next().await;
    assert_eq!(password(&objects).await.unwrap(), b"old");
    drop(call);
}

#[tokio::test]
async fn while_the_server_is_away_the_last_content_stays() {
    let (mut api, objects) = start().await;
    objects.register(&pod_of_secret("one"));
    api.next().await.refuse(500, "InternalError", "etcd is away");
    let error = password(&objects).await.unwrap_err();
    assert!(error.to_string().contains("etcd is away"), "{error}");
    let watch = serve(&mut api, &secret("5", "b2xk")).await;
    until(&objects, Result::is_ok).await;
    watch.reset().await;
    api.next().await.refuse(503, "ServiceUnavailable", "away");
    let call = api.next().await;
    assert_eq!(password(&objects).await.unwrap(), b"old");
    call.json(200, &secret("9", "bmV3"));
    until(&objects, |known| known.as_ref().is_ok_and(|value| value == b"new")).await;
}

#[tokio::test]
async fn a_version_that_is_gone_is_read_anew_at_once() {
    let (mut api, objects) = start().await;
    objects.register(&pod_of_secret("one"));
    let watch = serve(&mut api, &secret("5", "b2xk")).await;
    let gone = json!({"kind": "Status", "status": "Failure", "message": "too old", "reason": "Expired", "code": 410});
    watch.event("ERROR", &gone).await;
    let again = serve(&mut api, &secret("50", "bmV3")).await;
    until(&objects, |known| known.as_ref().is_ok_and(|value| value == b"new")).await;
    // But a server that says so of each version is not asked without an end.
    let began = Instant::now();
    again.event("ERROR", &gone).await;
    let _watch = serve(&mut api, &secret("60", "bmV3")).await;
    assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_answer_that_can_not_be_decoded_is_told_without_what_is_in_it() {
    let (mut api, objects) = start().await;
    let logged = Logged::default();
    let _guard = tracing::subscriber::set_default(logged.clone());
    objects.register(&pod_of_secret("one"));
    let answers = [
        r#"{"metadata": {}, "data": "very-secret"}"#,
        r#"{"metadata": {"resourceVersion": "5"}, "data": {"key": "very-secret"}}"#,
        r#"{"metadata": {}, "data": {"key": "very-secret"#,
    ];
    for answer in answers {
        api.next().await.text(200, answer);
        until(&objects, |known| matches!(known, Err(Error::Unavailable { .. }))).await;
        let error = format!("{0} {0:?}", password(&objects).await.unwrap_err());
        assert!(error.contains("shop/password") && !error.contains("very-secret"), "{error}");
    }
    let watch = serve(&mut api, &secret("5", "b2xk")).await;
    until(&objects, Result::is_ok).await;
    watch.text("{\"type\":\"MODIFIED\",\"object\":{\"data\":{\"key\":[\"very-secret\"]}}}\n").await;
    // The event behind which nothing is certain: read anew.
    assert!(!api.next().await.is_watch());
    let lines = logged.0.lock().unwrap().join("\n");
    assert!(!lines.is_empty() && !lines.contains("very-secret") && !lines.contains("b2xk"), "{lines}");
}

#[tokio::test]
async fn a_name_that_would_be_another_path_is_not_asked_for() {
    let (api, objects) = start().await;
    objects.register(&pod_with("one", &json!([{"secretRef": {"name": "../../nodes/node1"}}])));
    let error = objects.get(Kind::Secret, "shop", "../../nodes/node1").await.unwrap_err();
    assert!(matches!(error, Error::BadName { .. }), "{error}");
    assert!(api.is_idle());
}

fn key() -> Key {
    Key { kind: Kind::Secret, namespace: "shop".into(), name: "password".into() }
}

/// The next keys that changed.
async fn changed(objects: &Objects) -> Vec<Key> {
    let changes = objects.changes();
    let keys = tokio::time::timeout(Duration::from_secs(20), changes.next()).await;
    keys.expect("nothing changed within 20 s").into_iter().collect()
}

/// Whether nothing is told now.
fn is_quiet(objects: &Objects) -> bool {
    use futures::FutureExt as _;
    objects.changes().next().now_or_never().is_none()
}

#[tokio::test]
async fn a_change_is_told_by_its_key_and_what_says_the_same_is_none() {
    let (mut api, objects) = start().await;
    objects.register(&pod_of_secret("one"));
    assert!(is_quiet(&objects));
    api.next().await.refuse(404, "NotFound", "secrets \"password\" not found");
    assert_eq!(changed(&objects).await, [key()], "it is known now that there is none");
    let watch = api.next().await.stream();
    watch.event("ADDED", &secret("6", "b2xk")).await;
    assert_eq!(changed(&objects).await, [key()]);
    let old = objects.get(Kind::Secret, "shop", "password").await.unwrap();
    watch.event("MODIFIED", &secret("7", "b2xk")).await;
    watch.event("MODIFIED", &secret("8", "bmV3")).await;
    until(&objects, |known| known.as_ref().is_ok_and(|value| value == b"new")).await;
    assert_eq!(changed(&objects).await, [key()]);
    assert!(is_quiet(&objects), "two changes that nobody took are one");
    assert_eq!(old.data["key"], b"old", "who has it keeps it");
    watch.event("DELETED", &secret("9", "bmV3")).await;
    assert_eq!(changed(&objects).await, [key()]);
}

async fn start_with(strategy: Strategy) -> (FakeApi, Objects) {
    let api = FakeApi::start().await;
    let client = Client::try_from(Config::new(api.url().parse().unwrap())).unwrap();
    (api, Objects::new(client, strategy))
}

/// Asks for the password while the server answers the one request that this makes, with the query of that.
async fn asked(api: &mut FakeApi, objects: &Objects, answer: &Value) -> (String, Result<Vec<u8>, Error>) {
    let serve = async {
        let call = tokio::time::timeout(Duration::from_secs(5), api.next()).await.expect("no request");
        assert!(!call.is_watch());
        assert_eq!(call.path, "/api/v1/namespaces/shop/secrets/password");
        let version = call.query("resourceVersion").unwrap_or_default();
        match answer {
            Value::Number(code) => call.refuse(code.as_u64().unwrap() as u16, "Reason", "told"),
            object => call.json(200, object),
        }
        version
    };
    futures::join!(serve, password(objects))
}

const REFRESH: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn with_get_the_server_is_asked_each_time() {
    let (mut api, objects) = start_with(Strategy::Get { refresh: REFRESH }).await;
    objects.register(&pod_of_secret("one"));
    assert!(api.is_idle(), "nobody asked yet");
    for (version, value, plain, is_told) in
        [("5", "b2xk", "old", true), ("5", "b2xk", "old", false), ("6", "bmV3", "new", true)]
    {
        let (from, answer) = asked(&mut api, &objects, &secret(version, value)).await;
        assert_eq!((from.as_str(), answer.unwrap().as_slice()), ("", plain.as_bytes()));
        assert_eq!(is_quiet(&objects), !is_told, "{version}");
    }
    let (_, answer) = asked(&mut api, &objects, &json!(500)).await;
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    let (_, answer) = asked(&mut api, &objects, &json!(404)).await;
    assert!(matches!(answer, Err(Error::NotFound(_))), "{answer:?}");
    assert!(!is_quiet(&objects));
}

#[tokio::test]
async fn with_cache_an_answer_serves_for_a_while_or_until_a_pod_comes() {
    let node = watch::Sender::new(None);
    let (mut api, objects) = start_with(Strategy::Cache { node: node.subscribe(), refresh: REFRESH }).await;
    objects.register(&pod_of_secret("one"));
    // What is not there is asked for each time.
    for _ in 0..2 {
        let (_, answer) = asked(&mut api, &objects, &json!(404)).await;
        assert!(matches!(answer, Err(Error::NotFound(_))), "{answer:?}");
    }
    let (_, answer) = asked(&mut api, &objects, &secret("5", "b2xk")).await;
    assert_eq!(answer.unwrap(), b"old");
    assert_eq!(password(&objects).await.unwrap(), b"old");
    assert!(api.is_idle());
    // A second pod may be made for what is newer.
    objects.register(&pod_of_secret("two"));
    let (from, answer) = asked(&mut api, &objects, &secret("6", "bmV3")).await;
    assert_eq!((from.as_str(), answer.unwrap().as_slice()), ("", &b"new"[..]));

    let mut of_cluster = Node::default();
    let ttl = [("node.alpha.kubernetes.io/ttl".to_owned(), "0".to_owned())];
    of_cluster.metadata.annotations = Some(ttl.into());
    node.send_replace(Some(Arc::new(of_cluster)));
    // Now each answer is old at once; the server may take it from its own cache, which may be older.
    let (from, answer) = asked(&mut api, &objects, &secret("5", "b2xk")).await;
    assert_eq!((from.as_str(), answer.unwrap().as_slice()), ("0", &b"new"[..]));
    let (_, answer) = asked(&mut api, &objects, &json!(500)).await;
    assert_eq!(answer.unwrap(), b"new", "better old than none");
    let mut fixed = secret("7", "bmV3");
    fixed["immutable"] = json!(true);
    asked(&mut api, &objects, &fixed).await.1.unwrap();
    assert_eq!(password(&objects).await.unwrap(), b"new");
    assert!(api.is_idle(), "what can not change is not asked for again");
}

#[tokio::test]
async fn what_is_not_watched_is_read_again_from_time_to_time() {
    let (mut api, objects) = start_with(Strategy::Get { refresh: Duration::from_millis(50) }).await;
    objects.register(&pod_of_secret("one"));
    api.next().await.json(200, &secret("5", "b2xk"));
    assert_eq!(changed(&objects).await, [key()]);
    api.next().await.json(200, &secret("5", "b2xk"));
    api.next().await.json(200, &secret("6", "bmV3"));
    assert_eq!(changed(&objects).await, [key()]);
}

/// Keeps what is logged, of all crates and levels.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Logged {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                self.0 += &format!("{field}={value:?} ");
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
