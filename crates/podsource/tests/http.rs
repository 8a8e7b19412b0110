//! The URL source as its users see it: a real server, real connections.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "http/answers.rs"]
mod answers;
#[path = "../../manifest/tests/broken/mod.rs"]
mod broken;
#[path = "http/cache.rs"]
mod cache;
#[path = "http/redirects.rs"]
mod redirects;
#[path = "http/server.rs"]
mod server;
#[path = "http/tls.rs"]
mod tls;

use std::sync::Arc;
use std::time::Duration;

use kube_model::core::Pod;
use podsource::SourceState;
use podsource::http::{Settings, spawn};
use server::{Server, status, text};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

/// So long that only [`Source::poll`] can be why the URL is read again.
const NEVER: Duration = Duration::from_secs(3600);
/// Longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

struct Source {
    states: watch::Receiver<Arc<SourceState>>,
    frequency: watch::Sender<Duration>,
    _cancel: DropGuard,
}

impl Source {
    fn start(server: &Server) -> Self {
        Self::with(settings(server))
    }

    fn with(settings: Settings) -> Self {
        let cancel = CancellationToken::new();
        let (frequency, check_frequency) = watch::channel(NEVER);
        let states = spawn(Settings { check_frequency, ..settings }, cancel.clone()).unwrap();
        Self { states, frequency, _cancel: cancel.drop_guard() }
    }

    /// Has the URL read again now.
    fn poll(&self) {
        self.frequency.send(NEVER).unwrap();
    }

    fn state(&self) -> Arc<SourceState> {
        Arc::clone(&self.states.borrow())
    }

    async fn until(&mut self, what: &str, is: impl FnMut(&Arc<SourceState>) -> bool) -> Arc<SourceState> {
        let found = timeout(PATIENCE, self.states.wait_for(is)).await;
        if let Ok(state) = found {
            return Arc::clone(&state.unwrap());
        }
        drop(found);
        panic!("no state came with {what}, the last one is {:?}", self.states.borrow())
    }

    /// Waits for a state without problems and with pods of exactly these images.
    async fn until_images(&mut self, expected: &[&str]) -> Arc<SourceState> {
        let what = format!("{expected:?} and no problem");
        self.until(&what, |state| state.seen && state.problems.is_empty() && images(state) == expected).await
    }

    async fn until_problem(&mut self, part: &str) -> Arc<SourceState> {
        self.until(part, |state| problems(state).iter().any(|problem| problem.contains(part))).await
    }

    /// Has the URL read again, and waits for a good answer that nobody is woken for.
    async fn poll_quietly(&mut self) -> Arc<SourceState> {
        let before = self.states.borrow_and_update().read_at;
        self.poll();
        let answered = async {
            while self.states.borrow().read_at == before {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, answered).await.unwrap_or_else(|_| panic!("no answer: {:?}", self.state()));
        assert!(!self.states.has_changed().unwrap(), "{:?}", self.state());
        self.state()
    }
}

fn settings(server: &Server) -> Settings {
    Settings::new(url(server, "/pods"), "Node1")
}

fn url(server: &Server, path: &str) -> String {
    format!("http://{}{path}", server.address)
}

fn images(state: &SourceState) -> Vec<&str> {
    state.pods.iter().map(|pod| image(pod)).collect()
}

fn image(pod: &Pod) -> &str {
    pod.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap()
}

fn problems(state: &SourceState) -> Vec<String> {
    state.problems.iter().map(ToString::to_string).collect()
}

fn pod(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  containers:\n  - name: c\n    image: {image}\n"
    )
}

fn list(pods: &[(&str, &str)]) -> String {
    let items = pods.iter().map(|(name, image)| {
        serde_json::json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": image}]}})
    });
    let items: Vec<_> = items.collect();
    serde_json::json!({"apiVersion": "v1", "kind": "PodList", "items": items}).to_string()
}

#[tokio::test]
async fn the_pods_of_the_document_are_the_set() {
    let server = Server::start().await;
    server.answers_text(pod("a", "one"));
    let mut source = Source::start(&server);
    assert_eq!((source.state().source, source.state().seen), ("http", false));
    let first = source.until_images(&["one"]).await;
    assert_eq!(*first.location, url(&server, "/pods"));
    assert!(first.read_at.is_some());
    let pod = &first.pods[0];
    assert_eq!(pod.metadata.name.as_deref(), Some("a-node1"));
    let annotations = pod.metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations["kubernetes.io/config.source"], "http");
    assert!(annotations.contains_key("kubernetes.io/config.seen"));
    assert_eq!(pod.spec.as_ref().unwrap().tolerations, None);
    let location = first.locations.values().next().unwrap();
    assert_eq!((location.path.to_str(), location.line), (Some(&*first.location), Some(4)));

    server.answers_text(list(&[("b", "two"), ("a", "one")]));
    source.poll();
    let second = source.until_images(&["one", "two"]).await;
    server.answers_text(list(&[("b", "two"), ("a", "three")]));
    source.poll();
    let third = source.until_images(&["three", "two"]).await;
    assert!(Arc::ptr_eq(&second.pods[1], &third.pods[1]), "an unchanged pod is the same");
    server.answers_text(list(&[]));
    source.poll();
    source.until_images(&[]).await;
}

#[tokio::test]
async fn the_url_is_read_again_and_again() {
    let server = Server::start().await;
    let mut source = Source::start(&server);
    source.frequency.send(Duration::from_millis(5)).unwrap();
    source.until("the first answer", |state| state.seen).await;
    server.answers_text(pod("a", "one"));
    source.until_images(&["one"]).await;
    server.answers_text(pod("a", "two"));
    source.until_images(&["two"]).await;
}

#[tokio::test]
async fn a_document_with_an_entity_tag_is_sent_once() {
    let server = Server::start().await;
    let serve = |tag: &'static str, image: &'static str| {
        move |request: &server::Request| match request.header("if-none-match") {
            Some(known) if known == tag => status(304, &[]),
            _ => {
                let mut answer = text(pod("a", image));
                answer.headers_mut().insert("etag", tag.parse().unwrap());
                answer
            }
        }
    };
    server.answers(serve("\"1\"", "one"));
    let mut source = Source::start(&server);
    let first = source.until_images(&["one"]).await;
    for asked in 2..5 {
        let same = source.poll_quietly().await;
        assert!(Arc::ptr_eq(&same.pods[0], &first.pods[0]) && same.read_at > first.read_at);
        assert_eq!(server.requests().len(), asked);
        assert_eq!(server.last_request().header("if-none-match"), Some("\"1\""));
    }
    server.answers(serve("\"2\"", "two"));
    source.poll();
    source.until_images(&["two"]).await;
}

#[tokio::test]
async fn a_time_of_modification_counts_when_no_change_can_hide_in_it() {
    const MODIFIED: &str = "Wed, 21 Oct 2026 07:28:00 GMT";
    let server = Server::start().await;
    let dated = |date: &'static str| {
        move |request: &server::Request| match request.header("if-modified-since") {
            Some(_) => status(304, &[]),
            None => {
                let mut answer = text(pod("a", "one"));
                answer.headers_mut().insert("last-modified", MODIFIED.parse().unwrap());
                answer.headers_mut().insert("date", date.parse().unwrap());
                answer
            }
        }
    };
    server.answers(dated("Wed, 21 Oct 2026 07:28:01 GMT"));
    let mut source = Source::start(&server);
    source.until_images(&["one"]).await;
    server.answers(dated("Wed, 21 Oct 2026 07:28:02 GMT"));
    source.poll_quietly().await;
    assert_eq!(server.last_request().header("if-modified-since"), None, "it was changed just before");
    source.poll_quietly().await;
    assert_eq!(server.last_request().header("if-modified-since"), Some(MODIFIED));
}

#[tokio::test]
async fn the_same_bytes_are_nothing_new() {
    let server = Server::start().await;
    server.answers_text(pod("a", "one"));
    let mut source = Source::start(&server);
    let first = source.until_images(&["one"]).await;
    let same = source.poll_quietly().await;
    assert!(Arc::ptr_eq(&first.pods[0], &same.pods[0]));
    server.answers_text(format!("# the same pod\n{}", pod("a", "one")));
    let same = source.poll_quietly().await;
    assert!(Arc::ptr_eq(&first.pods[0], &same.pods[0]));
}

#[tokio::test]
async fn an_empty_body_means_no_pods_and_is_told() {
    let server = Server::start().await;
    server.answers_text("");
    let mut source = Source::start(&server);
    let state = source.until("the answer", |state| state.seen).await;
    assert_eq!(state.pods, []);
    assert!(problems(&state)[0].ends_with(": warning: the document is empty: no pods are wanted from here"));
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_says_nothing_about_what_is_wanted() {
    let gone = Server::start().await;
    let settings = settings(&gone);
    let address = gone.address;
    drop(gone);
    let mut source = Source::with(settings);
    let state = source.until_problem("can not be read: can not connect to 127.0.0.1:").await;
    assert!(!state.seen && state.read_at.is_none());
    assert!(problems(&state)[0].starts_with(&format!("http://{address}/pods: ")), "{state:?}");
    assert_eq!(state.failure(), state.problems.first());
}

#[tokio::test]
async fn headers_and_credentials_are_sent_and_shown_nowhere() {
    let server = Server::start().await;
    server.answers(|_| status(403, &[]));
    let headers = [("X-Token", "hidden1"), ("x-token", "hidden2"), ("User-Agent", "us")];
    let mut source = Source::with(Settings {
        url: format!("http://me:hid%20den3@{}/pods?key=hidden4", server.address),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..settings(&server)
    });
    let state = source.until_problem("the server answered 403 Forbidden").await;
    let asked = server.last_request();
    assert_eq!(asked.path, "/pods?key=hidden4");
    assert_eq!(asked.header("host"), Some(&*server.address.to_string()));
    assert_eq!(asked.header("authorization"), Some("Basic bWU6aGlkIGRlbjM="));
    assert_eq!(asked.header("user-agent"), Some("us"));
    assert_eq!(asked.header("accept-encoding"), Some("gzip"));
    assert_eq!(asked.headers.get_all("x-token").iter().collect::<Vec<_>>(), ["hidden1", "hidden2"]);
    assert!(!format!("{state:?}").contains("hid"), "{state:?}");
    assert_eq!(*state.location, url(&server, "/pods?…"));

    server.answers_text("broken: [");
    source.poll();
    let state = source.until_problem("pods?…:").await;
    assert!(!format!("{state:?}").contains("hid"), "{state:?}");
}

#[tokio::test]
async fn it_ends_when_it_is_cancelled_even_in_the_middle_of_an_answer() {
    let server = Server::start().await;
    server.stalls_after(b"HTTP/1.1 200 OK\r\n");
    let cancel = CancellationToken::new();
    let mut states = spawn(settings(&server), cancel.clone()).unwrap();
    cancel.cancel();
    let ended = async { while states.changed().await.is_ok() {} };
    timeout(PATIENCE, ended).await.unwrap();
}
