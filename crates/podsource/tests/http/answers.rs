//! Answers that are wrong: the pods stay, and it is told why.

use std::convert::Infallible;
use std::io::Write;
use std::time::Instant;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{StreamExt, stream};
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use podsource::http::MAX_BYTES;

use super::server::Body;
use super::*;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(text).unwrap();
    packed.finish().unwrap()
}

fn packed(body: Vec<u8>) -> Response<Body> {
    let mut answer = text(body);
    answer.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    answer
}

fn streamed(chunks: impl futures::Stream<Item = Bytes> + Send + Sync + 'static) -> Response<Body> {
    Response::new(BodyExt::boxed(StreamBody::new(
        chunks.map(|chunk| Ok::<_, Infallible>(Frame::data(chunk))),
    )))
}

/// A source with one pod.
async fn running(server: &Server) -> Source {
    server.answers_text(pod("a", "one"));
    let mut source = Source::start(server);
    source.until_images(&["one"]).await;
    source
}

/// Has the URL read: the pod stays, and this is said. Then the server recovers.
async fn stays(source: &mut Source, server: &Server, said: &str) {
    let before = source.state();
    source.poll();
    let state = source.until_problem(said).await;
    assert!(state.seen && Arc::ptr_eq(&state.pods[0], &before.pods[0]), "{said}");
    assert_eq!(state.read_at, before.read_at, "{said}");
    assert!(problems(&state)[0].contains(&*state.location), "{state:?}");
    server.answers_text(pod("a", "one"));
    source.poll();
    let after = source.until_images(&["one"]).await;
    assert!(Arc::ptr_eq(&after.pods[0], &before.pods[0]), "{said}");
}

/// Has the URL read, and waits until the server was asked.
async fn asked_again(source: &Source, server: &Server) {
    let asked = server.requests().len();
    source.poll();
    let more = async {
        while server.requests().len() == asked {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, more).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_no_document_changes_nothing() {
    let server = Server::start().await;
    let mut source = running(&server).await;
    for (code, said) in [
        (404, "can not be read: the server answered 404 Not Found; the pods that came from it stay"),
        (500, "the server answered 500 Internal Server Error"),
        (204, "the server answered 204 No Content"),
        (206, "the server answered 206 Partial Content"),
        (304, "the server answered 304 Not Modified"),
        (401, "the server answered 401 Unauthorized"),
    ] {
        server.answers(move |_| status(code, &[]));
        stays(&mut source, &server, said).await;
    }
}

#[tokio::test]
async fn a_document_that_can_not_be_used_changes_nothing() {
    let server = Server::start().await;
    let mut source = running(&server).await;
    let no_image = list(&[("a", "one"), ("b", "")]);
    for (body, said) in [
        ("\0\0\0", "/pods:1:1: control character U+0000"),
        ("hello", "/pods: expected one Pod (apiVersion: v1, kind: Pod), found plain text"),
        (" \n", "/pods: the manifest is empty"),
        ("{\"kind\": \"PodList\", \"apiV", "/pods:1:"),
        ("kind: Service\napiVersion: v1\n", "/pods:1:1: kind: \"Service\" can not be run"),
        (&pod("../../etc", "one"), "/pods:4:3: metadata.name: Invalid value: \"../../etc-node1\""),
        (
            &no_image,
            "items[1].spec.containers[0].image: Required value; the last good version of the whole document",
        ),
        ("<!doctype html>\n<html></html>", "/pods: is a web page or XML, no manifest; the last good version"),
    ] {
        server.answers_text(body.to_owned());
        stays(&mut source, &server, said).await;
    }
    server.answers(|_| {
        let mut answer = text("\n<html>");
        answer.headers_mut().insert("content-type", "text/html".parse().unwrap());
        answer
    });
    stays(&mut source, &server, "is a web page or XML (text/html), no manifest").await;
}

#[tokio::test]
async fn what_is_no_manifest_for_a_file_is_none_here() {
    let server = Server::start().await;
    let mut source = running(&server).await;
    // Nothing at all says that nothing is wanted, as for the kubelet.
    for broken in broken::all().into_iter().filter(|broken| !broken.text.is_empty()) {
        server.answers_text(broken.text.clone());
        println!("{}", broken.what);
        let said = broken.message();
        stays(&mut source, &server, if said.is_empty() { "the last good version" } else { &said }).await;
    }
    server.answers_text(broken::GOOD);
    source.poll();
    source.until_images(&["x"]).await;
}

#[tokio::test]
async fn an_answer_that_is_broken_changes_nothing() {
    let server = Server::start().await;
    let mut source = running(&server).await;
    let whole = pod("a", "two");
    let answer = |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{whole}");
    for (bytes, said) in [
        (answer(whole.len() + 1), "the answer is broken: "),
        (answer(whole.len() - 4), "the answer is broken: "),
        (
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{whole}", whole.len()),
            "the answer is broken: ",
        ),
        (
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{whole}"),
            "the answer is broken: ",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n..".to_owned(),
            "the answer is broken: ",
        ),
        (String::new(), "the answer is broken: "),
        ("220 mail.example ESMTP\r\n".to_owned(), "the answer is broken: "),
        (format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1 << 20)), "the answer is broken: "),
    ] {
        server.answers_raw(bytes.as_bytes());
        stays(&mut source, &server, said).await;
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_is_given_up() {
    let server = Server::start().await;
    let mut source = running(&server).await;
    server.answers(|_| streamed(stream::repeat(Bytes::from_static(&[b' '; 1 << 16]))));
    stays(&mut source, &server, &format!("the answer is larger than {MAX_BYTES} bytes")).await;

    server.answers_text(format!("{}#{}", pod("a", "one"), "x".repeat(MAX_BYTES)));
    stays(&mut source, &server, &format!("the answer is larger than {MAX_BYTES} bytes")).await;
}

#[tokio::test]
async fn an_answer_that_is_too_slow_is_given_up_however_often_a_byte_comes() {
    let server = Server::start().await;
    server.answers_text(pod("a", "one"));
    let limit = Duration::from_secs(1);
    let mut source = Source::with(Settings { timeout: limit, ..settings(&server) });
    source.until_images(&["one"]).await;
    let began = Instant::now();
    server.answers(|_| {
        let byte = || async { sleep(Duration::from_millis(5)).await };
        streamed(stream::repeat(()).then(move |()| byte()).map(|()| Bytes::from_static(b" ")))
    });
    stays(&mut source, &server, "no whole answer came within 1s").await;
    assert!(began.elapsed() >= limit);
    for started in ["", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nkind"] {
        server.stalls_after(started.as_bytes());
        stays(&mut source, &server, "no whole answer came within 1s").await;
    }
}

#[tokio::test]
async fn packed_documents_are_unpacked_up_to_the_limit() {
    let server = Server::start().await;
    let mut source = running(&server).await;
    let two = gzip(pod("a", "two").as_bytes());
    let whole = two.clone();
    server.answers(move |_| packed(whole.clone()));
    source.poll();
    source.until_images(&["two"]).await;
    server.answers_text(pod("a", "one"));
    source.poll();
    source.until_images(&["one"]).await;

    let half = two[..two.len() / 2].to_vec();
    server.answers(move |_| packed(half.clone()));
    stays(&mut source, &server, "the answer can not be unpacked: ").await;
    server.answers(|_| packed(pod("a", "two").into()));
    stays(&mut source, &server, "the answer can not be unpacked: ").await;
    let bomb = gzip(&vec![b' '; 8 * MAX_BYTES]);
    assert!(bomb.len() < MAX_BYTES / 50);
    server.answers(move |_| packed(bomb.clone()));
    stays(&mut source, &server, &format!("larger than {MAX_BYTES} bytes when it is unpacked")).await;
    server.answers(|request| match request.header("if-none-match") {
        Some(_) => status(304, &[]),
        None => {
            let mut answer = packed(Vec::from(b"no gzip"));
            answer.headers_mut().insert("etag", "\"1\"".parse().unwrap());
            answer
        }
    });
    source.poll();
    source.until_problem("the answer can not be unpacked: ").await;
    asked_again(&source, &server).await;
    assert_eq!(server.last_request().header("if-none-match"), None);
    stays(&mut source, &server, "the answer can not be unpacked: ").await;
    server.answers(|_| status(200, &[("content-encoding", "br")]));
    stays(&mut source, &server, "is encoded as \"br\", for which it was not asked").await;
}

#[tokio::test]
async fn what_stays_wrong_is_told_once() {
    let server = Server::start().await;
    let mut source = running(&server).await;
    server.answers(|_| status(500, &[]));
    source.frequency.send(Duration::from_millis(1)).unwrap();
    source.until_problem("500").await;
    let asked = server.requests().len();
    let more = async {
        while server.requests().len() < asked + 4 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, more).await.unwrap();
    assert!(!source.states.has_changed().unwrap());
}

#[tokio::test]
async fn a_document_that_stays_wrong_is_not_sent_again_and_stays_told() {
    let server = Server::start().await;
    let mut source = running(&server).await;
    server.answers(|request| match request.header("if-none-match") {
        Some("\"bad\"") => status(304, &[]),
        _ => {
            let mut answer = text("kind: Service\n");
            answer.headers_mut().insert("etag", "\"bad\"".parse().unwrap());
            answer
        }
    });
    source.poll();
    source.until_problem("can not be run").await;
    asked_again(&source, &server).await;
    assert_eq!(server.last_request().header("if-none-match"), Some("\"bad\""));
    stays(&mut source, &server, "can not be run").await;
}

/// Somebody sets the clock, both ways and far: the URL is read on as before, and what is shown has the new time.
#[tokio::test]
async fn a_clock_that_is_set_holds_up_no_poll() {
    use std::sync::atomic::{AtomicI64, Ordering};

    use kube_model::Timestamp;
    use podsource::WallClock;

    const YEAR: i64 = 365 * 24 * 3600;
    let server = Server::start().await;
    server.answers_text(pod("a", "one"));
    let wall = Arc::new(AtomicI64::new(YEAR * 56));
    let clock = Arc::clone(&wall);
    let wall_clock = WallClock::new(move || Timestamp::from_second(clock.load(Ordering::SeqCst)).unwrap());
    let check_frequency = watch::channel(Duration::from_millis(20)).1;
    let cancel = CancellationToken::new();
    let settings = Settings { wall_clock, check_frequency, ..settings(&server) };
    let states = spawn(settings, cancel.clone()).unwrap();
    let _cancel = cancel.drop_guard();
    let mut now = YEAR * 56;
    for step in [0, -600, -3600, -YEAR, YEAR, YEAR, -YEAR] {
        now += step;
        wall.store(now, Ordering::SeqCst);
        let asked = server.requests().len();
        let read_on = async {
            let shown = || states.borrow().read_at.map(Timestamp::as_second);
            while server.requests().len() < asked + 3 || shown() != Some(now) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let went_on = timeout(PATIENCE, read_on).await;
        assert!(
            went_on.is_ok(),
            "after a step of {step} s: {} requests, {:?}",
            server.requests().len(),
            states.borrow()
        );
    }
}
