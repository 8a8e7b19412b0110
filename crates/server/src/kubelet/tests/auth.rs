//! Who is let in, and to what.

use std::collections::BTreeSet;

use super::*;
use crate::auth::{Access, ClientCa, User};
use crate::host::{AccessReviewer, TokenReviewer};

/// An API server's reviews.
#[derive(Default)]
struct Reviews {
    /// What may be done: `<user> <verb> <subresource>`.
    allowed: Mutex<BTreeSet<String>>,
    broken: Mutex<bool>,
    asked: Mutex<Vec<String>>,
}

impl Reviews {
    fn allow(rights: &[&str]) -> Arc<Self> {
        let reviews = Arc::<Self>::default();
        *reviews.allowed.lock().unwrap() = rights.iter().map(|right| (*right).to_owned()).collect();
        reviews
    }

    fn answer<T: Send + 'static>(&self, question: String, answer: T) -> Answer<'static, T> {
        self.asked.lock().unwrap().push(question);
        let broken = *self.broken.lock().unwrap();
        std::future::ready(if broken { Err(HostError::Failed("no API server".into())) } else { Ok(answer) })
            .boxed()
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn webhook(self: &Arc<Self>) -> Authorization {
        Authorization::webhook(Arc::clone(self) as _, Duration::from_secs(300), Duration::from_secs(30))
    }
}

impl AccessReviewer for Reviews {
    fn review<'a>(&'a self, user: &'a User, access: &'a Access) -> Answer<'a, bool> {
        assert_eq!(access.node, "node1");
        let right = format!("{} {} {}", user.name, access.verb, access.subresource);
        let allowed = self.allowed.lock().unwrap().contains(&right);
        self.answer(right, allowed)
    }
}

impl TokenReviewer for Reviews {
    fn review<'a>(&'a self, token: &'a str) -> Answer<'a, Option<User>> {
        let user = (token == "good").then(|| User { name: "jane".into(), ..User::default() });
        self.answer(format!("token {token}"), user)
    }
}

#[tokio::test]
async fn nobody_is_let_in_without_a_name_unless_the_anonymous_user_is() {
    let server = Server::start_with(Authentication::default(), Authorization::always_allow());
    for path in ["/healthz", "/pods", "/metrics", "/exec/default/web/app", "/nope"] {
        assert_eq!(server.get(path).await.answer(), (401, "Unauthorized"), "{path}");
    }
    let open = Server::start();
    assert_eq!(open.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_client_certificate_says_who_the_client_is() {
    let clients = Ca::new("clients");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clients.crt");
    std::fs::write(&file, clients.pem()).unwrap();
    let reviews = Reviews::allow(&["jane get pods"]);
    let server = Server::start_with(
        Authentication::default().anonymous(true).client_ca(ClientCa::open(&file).unwrap()),
        reviews.webhook(),
    );
    let ca = server.ca.as_ref().unwrap();
    let client =
        |own: &(String, String)| Client { address: server.address, tls: Some(client_config(ca, Some(own))) };

    let jane = clients.sign("jane", &["devs"], ExtendedKeyUsagePurpose::ClientAuth);
    assert_eq!(client(&jane).send("GET", "/pods", &[]).await.status, 200);
    let joe = clients.sign("joe", &[], ExtendedKeyUsagePurpose::ClientAuth);
    assert_eq!(
        client(&joe).send("GET", "/pods", &[]).await.answer(),
        (403, "Forbidden (user=joe, verb=get, resource=nodes, subresource(s)=[pods proxy])\n")
    );

    // Whoever shows something wrong is not taken for the anonymous user.
    let untrusted = Ca::new("untrusted").sign("jane", &[], ExtendedKeyUsagePurpose::ClientAuth);
    let serving = clients.sign("jane", &[], ExtendedKeyUsagePurpose::ServerAuth);
    let nameless =
        clients.sign_with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let expired = clients.sign_with(|params| {
        params.distinguished_name.push(DnType::CommonName, "jane");
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    for (what, own) in
        [("untrusted", untrusted), ("serving", serving), ("nameless", nameless), ("expired", expired)]
    {
        assert_eq!(client(&own).send("GET", "/pods", &[]).await.answer(), (401, "Unauthorized"), "{what}");
    }
    assert_eq!(server.get("/pods").await.status, 403, "the anonymous user");

    // Another CA in the file counts for the next request, and no CA at all leaves the last one.
    let newer = Ca::new("newer");
    std::fs::write(&file, newer.pem()).unwrap();
    let new_jane = newer.sign("jane", &[], ExtendedKeyUsagePurpose::ClientAuth);
    assert_eq!(client(&new_jane).send("GET", "/pods", &[]).await.status, 200);
    assert_eq!(client(&jane).send("GET", "/pods", &[]).await.status, 401);
    std::fs::write(&file, "nothing").unwrap();
    assert_eq!(client(&new_jane).send("GET", "/pods", &[]).await.status, 200);
}

#[tokio::test]
async fn a_token_is_reviewed_once_in_a_while_and_a_wrong_one_is_refused() {
    let reviews = Reviews::allow(&["jane get metrics"]);
    let tokens =
        Authentication::default().anonymous(true).tokens(Arc::clone(&reviews) as _, Duration::from_secs(120));
    let server = Server::start_with(tokens, Authorization::always_allow());
    let client = server.client();
    let status =
        async |header: &str| client.send("GET", "/metrics", &[("authorization", header)]).await.status;
    assert_eq!(status("Bearer good").await, 200);
    assert_eq!(status("bearer good").await, 200);
    assert_eq!(reviews.asked(), ["token good"]);
    assert_eq!(status("Bearer lie").await, 401);
    assert_eq!(status("Bearer lie").await, 401);
    assert_eq!(reviews.asked(), ["token lie"]);
    // No token at all, as it seems: the anonymous user.
    for header in ["Basic good", "Bearer", "Bearer "] {
        assert_eq!(status(header).await, 200, "{header}");
    }
    assert!(reviews.asked().is_empty());
    // What could not be reviewed is not remembered.
    *reviews.broken.lock().unwrap() = true;
    assert_eq!(status("Bearer other").await, 401);
    assert_eq!(status("Bearer good").await, 200);
    *reviews.broken.lock().unwrap() = false;
    assert_eq!(status("Bearer other").await, 401);
    assert_eq!(reviews.asked(), ["token other", "token other"]);
}

#[tokio::test]
async fn each_right_is_tried_in_order_and_one_is_enough() {
    let anonymous = "system:anonymous";
    for (rights, method, path, status, asked) in [
        (&["get pods"][..], "GET", "/pods", 200, &["get pods"][..]),
        (&["get proxy"], "GET", "/pods", 200, &["get pods", "get proxy"]),
        (&["get proxy"], "GET", "/healthz/ping", 200, &["get healthz", "get proxy"]),
        (&["get configz"], "GET", "/configz", 200, &["get configz"]),
        (&["get metrics"], "GET", "/metrics/resource", 200, &["get metrics"]),
        (&["get proxy"], "GET", "/metrics", 403, &["get metrics"]),
        (&["get stats"], "GET", "/stats/summary", 200, &["get stats"]),
        (&["get stats"], "POST", "/stats/summary", 403, &["create stats"]),
        (&["get log"], "GET", "/logs/", 200, &["get log"]),
        (&["get log"], "GET", "/containerLogs/default/web/app", 403, &["get proxy"]),
        (&["get pods", "get metrics"], "POST", "/exec/default/web/app?command=id", 403, &["create proxy"]),
        (&["get proxy"], "GET", "/nope", 404, &["get proxy"]),
        (&[], "GET", "/nope", 403, &["get proxy"]),
        (&[], "HEAD", "/healthz", 403, &[" healthz", " proxy"]),
        // Rights are asked for what is served.
        (&["get metrics"], "GET", "/%6detrics", 200, &["get metrics"]),
        (&["get metrics"], "GET", "/exec%2Fdefault%2Fweb%2Fapp", 403, &["get proxy"]),
    ] {
        let named = |right: &str| format!("{anonymous} {right}");
        let rights: Vec<String> = rights.iter().map(|right| named(right)).collect();
        let reviews = Reviews::allow(&rights.iter().map(String::as_str).collect::<Vec<_>>());
        let server = Server::start_with(Authentication::default().anonymous(true), reviews.webhook());
        assert_eq!(server.client().send(method, path, &[]).await.status, status, "{method} {path}");
        assert_eq!(
            reviews.asked(),
            asked.iter().map(|right| named(right)).collect::<Vec<_>>(),
            "{method} {path}"
        );
        server.client().send(method, path, &[]).await;
        assert!(reviews.asked().is_empty(), "{method} {path} was not remembered");
    }
}

#[tokio::test]
async fn a_right_that_cannot_be_found_out_is_an_error_and_asked_for_again() {
    let reviews = Reviews::allow(&["system:anonymous get pods"]);
    let server = Server::start_with(Authentication::default().anonymous(true), reviews.webhook());
    *reviews.broken.lock().unwrap() = true;
    let text = "Authorization error (user=system:anonymous, verb=get, resource=nodes, subresource=pods)";
    assert_eq!(server.get("/pods").await.answer(), (500, text));
    *reviews.broken.lock().unwrap() = false;
    assert_eq!(server.get("/pods").await.status, 200);
}

#[tokio::test]
async fn a_stream_over_get_may_be_made_to_need_create() {
    let (get, create) = ("system:anonymous get proxy", "system:anonymous create proxy");
    let exec = "/exec/default/web/app?command=id&output=1";
    for (need, rights, method, path, refused) in [
        (false, &[get][..], "GET", exec, None),
        (true, &[get], "GET", exec, Some("create")),
        (true, &[get], "GET", "/attach/default/web/app?output=1", Some("create")),
        (true, &[get], "GET", "/portForward/default/web", Some("create")),
        (true, &[get], "GET", "/containerLogs/default/web/app", None),
        (true, &[create], "GET", exec, Some("get")),
        (true, &[get, create], "GET", exec, None),
        (true, &[create], "POST", exec, None),
    ] {
        let authorization = Reviews::allow(rights).webhook().streams_need_create(need);
        let server = Server::start_with(Authentication::default().anonymous(true), authorization);
        let reply = server.client().send(method, path, &[]).await;
        let said = refused.map(|verb| {
            format!(
                "Forbidden (user=system:anonymous, verb={verb}, resource=nodes, subresource(s)=[proxy])\n"
            )
        });
        assert_eq!((reply.status == 403).then_some(reply.body), said, "{need} {rights:?} {method} {path}");
    }
}
