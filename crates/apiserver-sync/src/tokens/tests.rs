use kube::Config;
use serde_json::{Value, json};
use testkit::fake_api::{Call, FakeApi};

use super::*;

async fn start() -> (FakeApi, Tokens) {
    let api = FakeApi::start().await;
    let client = Client::try_from(Config::new(api.url().parse().unwrap())).unwrap();
    (api, Tokens::new(client))
}

fn request<'a>(uid: &'a PodUid, audience: &'a str) -> Request<'a> {
    let seconds = 3600;
    Request {
        namespace: "shop",
        service_account: "web",
        pod: "web-1",
        uid,
        audience,
        expiration_seconds: seconds,
    }
}

fn answer(token: &str, seconds: u64) -> Value {
    json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
        "spec": {"audiences": ["a"], "expirationSeconds": seconds},
        "status": {"token": token, "expirationTimestamp": "2020-01-01T00:00:00Z"}})
}

/// Asks for the token while the server answers the one request that this makes.
async fn fetched(
    api: &mut FakeApi,
    tokens: &Tokens,
    request: Request<'_>,
    serve: impl FnOnce(Call),
) -> Result<Token, Error> {
    let served = async {
        let call = tokio::time::timeout(Duration::from_secs(60), api.next()).await.expect("no request");
        assert_eq!(call.path, "/api/v1/namespaces/shop/serviceaccounts/web/token");
        serve(call);
    };
    futures::join!(tokens.get(request), served).0
}

#[tokio::test]
async fn a_token_is_bound_to_its_pod_and_asked_for_once() {
    let (mut api, tokens) = start().await;
    let uid = PodUid::from("u1");
    for audience in ["", "vault"] {
        let serve = |call: Call| {
            let body: Value = serde_json::from_slice(&call.body).unwrap();
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "name": "web-1", "uid": "u1"});
            let mut spec = json!({"boundObjectRef": pod, "expirationSeconds": 3600});
            if !audience.is_empty() {
                spec["audiences"] = json!([audience]);
            }
            assert_eq!((call.method.as_str(), &body["spec"]), ("POST", &spec));
            call.json(201, &answer("very-secret", 3600));
        };
        let token = fetched(&mut api, &tokens, request(&uid, audience), serve).await.unwrap();
        assert_eq!(&*token.token, "very-secret");
        assert!(!format!("{token:?} {tokens:?}").contains("very-secret"));
        assert_eq!(tokens.get(request(&uid, audience)).await.unwrap(), token);
    }
    assert!(api.is_idle());
    tokens.forget(&"another".into());
    tokens.get(request(&uid, "")).await.unwrap();
    tokens.forget(&uid);
    assert!(tokens.kept().is_empty());
}

#[tokio::test]
async fn one_token_is_asked_for_by_one_request_however_many_want_it() {
    let (mut api, tokens) = start().await;
    let uid = PodUid::from("u1");
    let serve = async { api.next().await.json(201, &answer("t", 3600)) };
    let (a, b, ()) = futures::join!(tokens.get(request(&uid, "")), tokens.get(request(&uid, "")), serve);
    assert_eq!(a.unwrap(), b.unwrap());
    assert!(api.is_idle());
}

#[test]
fn a_token_is_used_for_four_fifths_of_its_life_and_a_day_at_most() {
    let key = |n: u64| Key {
        uid: PodUid::from(format!("u{n}").as_str()),
        namespace: "shop".into(),
        service_account: "web".into(),
        audience: "".into(),
        expiration_seconds: 600,
    };
    const DAY: u64 = 24 * 3600;
    for (life, most) in [(600, 480), (3607, 2885), (DAY, DAY * 4 / 5), (DAY * 365, DAY), (0, 11)] {
        let all: Vec<_> = (0..50).map(|n| fresh(Duration::from_secs(life), &key(n)).as_secs_f64()).collect();
        let (most, least) = (most as f64, (most as f64 - 10.0).max(1.0));
        assert!(all.iter().all(|s| *s > least - 1.0 && *s <= most + 1.0), "{life}: {all:?}");
        assert!(life == 0 || all.iter().any(|s| (s - all[0]).abs() > 1.0), "not all at once: {all:?}");
    }
}

#[tokio::test]
async fn one_that_can_not_be_had_anew_is_used_while_it_is_good_and_no_longer() {
    let (mut api, tokens) = start().await;
    let uid = PodUid::from("u1");
    let refuse = |call: Call| call.refuse(500, "InternalError", "etcd is away");
    let none = fetched(&mut api, &tokens, request(&uid, ""), refuse).await.unwrap_err();
    assert_eq!(none.to_string(), "failed to fetch token: etcd is away");
    let first = fetched(&mut api, &tokens, request(&uid, ""), |call| call.json(201, &answer("one", 600)));
    let first = first.await.unwrap();
    let held = || Arc::clone(tokens.kept().values().next().unwrap());
    held().lock().await.as_mut().unwrap().token.refresh_at = Instant::now();

    let stale = fetched(&mut api, &tokens, request(&uid, ""), refuse).await.unwrap();
    assert_eq!(stale.token, first.token);
    let left = stale.refresh_at.duration_since(Instant::now());
    assert!(left > Duration::from_secs(20) && left <= RETRY, "asked for again in {left:?}");

    {
        let slot = held();
        let mut held = slot.lock().await;
        let held = held.as_mut().unwrap();
        (held.token.refresh_at, held.expires_at) = (Instant::now(), Instant::now());
    }
    let expired = fetched(&mut api, &tokens, request(&uid, ""), refuse).await.unwrap_err();
    assert_eq!(
        expired.to_string(),
        "token \"web\"/\"shop\"/\"\"/3600/\"u1\" expired and refresh failed: etcd is away"
    );
    let new = fetched(&mut api, &tokens, request(&uid, ""), |call| call.json(201, &answer("two", 600)));
    assert_eq!(&*new.await.unwrap().token, "two");
}

#[tokio::test]
async fn why_there_is_no_token() {
    let (mut api, tokens) = start().await;
    let uid = PodUid::from("u1");
    for (name, why) in [
        ("serviceaccounts/token", "failed to fetch token: serviceaccounts \"web\" not found"),
        (
            "serviceaccounts",
            "failed to fetch token: the API server does not have TokenRequest endpoints enabled",
        ),
    ] {
        let served = async {
            api.next().await.refuse(404, "NotFound", "serviceaccounts \"web\" not found");
            let call = api.next().await;
            assert_eq!(call.path, "/api/v1");
            let resource =
                json!({"name": name, "singularName": "", "namespaced": true, "kind": "K", "verbs": []});
            call.json(
                200,
                &json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [resource]}),
            );
        };
        let (answer, ()) = futures::join!(tokens.get(request(&uid, "")), served);
        assert_eq!(answer.unwrap_err().to_string(), why);
    }
    let odd = fetched(&mut api, &tokens, request(&uid, ""), |call| {
        call.text(201, r#"{"status": {"token": ["very-secret"]}}"#);
    });
    let odd = odd.await.unwrap_err().to_string();
    assert!(odd.contains("is not what it should be") && !odd.contains("very-secret"), "{odd}");
    let bad = Request { service_account: "../secrets/x", ..request(&uid, "") };
    let bad = tokens.get(bad).await.unwrap_err().to_string();
    assert!(bad.starts_with("failed to fetch token: there can be no service account"), "{bad}");
    assert!(api.is_idle());
}
