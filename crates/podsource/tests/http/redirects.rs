//! Where redirects may lead, and what goes along.

use podsource::http::Redirects;

use super::*;

#[tokio::test]
async fn redirects_within_the_server_are_followed_with_everything() {
    let server = Server::start().await;
    server.answers(|request| match request.path.as_str() {
        "/pods" => status(302, &[("location", "v1/")]),
        "/v1/" => status(308, &[("location", "../deep/./pods.yaml?x=1")]),
        "/deep/pods.yaml?x=1" => text(pod("a", "one")),
        _ => status(404, &[]),
    });
    let mut source = Source::with(Settings {
        url: format!("http://me:secret@{}/pods", server.address),
        headers: vec![("X-Token".to_owned(), "t".to_owned())],
        ..settings(&server)
    });
    let state = source.until_images(&["one"]).await;
    assert_eq!(*state.location, url(&server, "/pods"));
    let asked = server.requests();
    assert_eq!(asked.len(), 3);
    for request in asked {
        assert_eq!(request.header("x-token"), Some("t"));
        assert_eq!(request.header("authorization"), Some("Basic bWU6c2VjcmV0"));
    }
}

#[tokio::test]
async fn redirects_to_another_server_are_followed_only_if_they_may_and_without_secrets() {
    let other = Server::start().await;
    other.answers_text(pod("a", "one"));
    // By its name it is another server, even if it is the same.
    let target = format!("http://you:hidden@localhost:{}/pods?k=hidden", other.address.port());
    let server = Server::start().await;
    let location = target.clone();
    server.answers(move |_| status(301, &[("location", &location)]));
    let settings = Settings {
        url: format!("http://me:secret@{}/pods", server.address),
        headers: vec![("X-Token".to_owned(), "t".to_owned()), ("Host".to_owned(), "inner".to_owned())],
        ..settings(&server)
    };
    let mut source = Source::with(settings.clone());
    let state = source.until_problem("the redirect leads to another server, http://localhost:").await;
    assert!(!format!("{state:?}").contains("hidden"), "{state:?}");
    assert_eq!((state.seen, other.requests().len()), (false, 0));
    assert_eq!(server.last_request().header("host"), Some("inner"));

    let mut source = Source::with(Settings { redirects: Redirects::Any, ..settings });
    source.until_images(&["one"]).await;
    let asked = other.last_request();
    assert_eq!(asked.header("host"), Some(&*format!("localhost:{}", other.address.port())));
    assert_eq!((asked.header("x-token"), asked.header("authorization")), (None, None));
}

#[tokio::test]
async fn redirects_that_lead_nowhere_are_told() {
    let server = Server::start().await;
    server.answers(|_| status(302, &[("location", "/pods")]));
    let mut source = Source::start(&server);
    source.until_problem("there are more than 10 redirects").await;
    assert_eq!(server.requests().len(), 11);
    for location in ["ftp://h/x", "http://", "http://a b/"] {
        server.answers(|_| status(500, &[]));
        source.poll();
        source.until_problem("500").await;
        server.answers(move |_| status(302, &[("location", location)]));
        source.poll();
        source.until_problem("the redirect leads to no http or https URL").await;
    }
    server.answers(|_| status(500, &[]));
    source.poll();
    source.until_problem("500").await;
    server.answers(|_| status(307, &[]));
    source.poll();
    source.until_problem("the redirect leads to no http or https URL").await;
}

#[tokio::test]
async fn a_document_in_another_place_is_another_one_whatever_its_tag() {
    let server = Server::start().await;
    let leading_to = |place: &'static str| {
        move |request: &server::Request| match request.path.as_str() {
            "/pods" => status(302, &[("location", place)]),
            _ if request.header("if-none-match").is_some() => status(304, &[]),
            path => {
                let mut answer = text(pod("a", &path[1..]));
                answer.headers_mut().insert("etag", "\"same\"".parse().unwrap());
                answer
            }
        }
    };
    server.answers(leading_to("/one"));
    let mut source = Source::start(&server);
    source.until_images(&["one"]).await;
    source.poll_quietly().await;
    assert!(server.last_request().header("if-none-match").is_some());
    server.answers(leading_to("/two"));
    source.poll();
    source.until_images(&["two"]).await;
}
