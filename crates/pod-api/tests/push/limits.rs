//! What clients can not use up.

use std::time::Duration;

use pod_api::Settings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::node::{Node, PODS, SOON, ask, manifest, rest_of};

fn short_idle(settings: &mut Settings) {
    settings.limits.idle = Duration::from_secs(1);
}

async fn begin(node: &Node, text: &str) -> TcpStream {
    let mut stream = node.connect().await;
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

fn head(length: &str) -> String {
    format!("POST {PODS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/yaml\r\n{length}\r\n\r\n")
}

async fn pods(node: &Node) -> usize {
    node.send(ask("GET", PODS)).await.expect(200)["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_head_that_does_not_end_is_cut_off() {
    let node = Node::with(short_idle).await;
    let mut stream = begin(&node, "GET /api HTTP/1.1\r\nHost: localhost\r\n").await;
    let drip = async {
        // Each byte comes in time; the whole does not.
        while stream.write_all(b"x: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, drip).await.expect("the server closes");
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let node = Node::with(short_idle).await;
    let mut fresh = node.connect().await;
    assert_eq!(rest_of(&mut fresh).await, "");
    let mut used = begin(&node, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(rest_of(&mut used).await.ends_with("ok"));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_a_timeout() {
    let node = Node::with(|settings| settings.limits.request = Duration::from_millis(200)).await;
    let mut stream = begin(&node, &(head("Content-Length: 100") + "apiVersion: v1\n")).await;
    let answer = rest_of(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert!(answer.contains("\"reason\": \"Timeout\""), "{answer}");
}

#[tokio::test]
async fn a_body_that_does_not_end_is_too_large() {
    let node = Node::with(|settings| settings.limits.body_bytes = 100_000).await;
    let stream = begin(&node, &head("Transfer-Encoding: chunked")).await;
    let (mut read, mut write) = stream.into_split();
    let sender = tokio::spawn(async move {
        let chunk = format!("1000\r\n{}\r\n", "#".repeat(0x1000));
        while write.write_all(chunk.as_bytes()).await.is_ok() {}
    });
    let answer = rest_of(&mut read).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("limit is 100000"), "{answer}");
    timeout(SOON, sender).await.expect("the server closes").unwrap();
    // One that says so beforehand is not read at all.
    let mut answer = begin(&node, &head("Content-Length: 100001")).await;
    let mut start = [0; 12];
    timeout(SOON, answer.read_exact(&mut start)).await.unwrap().unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_wrong_length_stores_nothing() {
    let node = Node::new().await;
    let body = manifest("web");
    // Longer than what comes: the client went away half-way.
    let mut long = begin(&node, &(head(&format!("Content-Length: {}", body.len() + 1)) + &body)).await;
    long.shutdown().await.unwrap();
    let answer = rest_of(&mut long).await;
    assert!(!answer.contains(" 201 "), "{answer}");
    // Shorter: the rest is no request.
    let cut = body.find("containers").unwrap();
    let mut short = begin(&node, &(head(&format!("Content-Length: {cut}")) + &body)).await;
    let answer = rest_of(&mut short).await;
    assert!(answer.starts_with("HTTP/1.1 422 ") || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    for length in ["Content-Length: x", "Content-Length: -1", "Content-Length: 1\r\nContent-Length: 2"] {
        let mut bad = begin(&node, &(head(length) + &body)).await;
        let answer = rest_of(&mut bad).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{length}: {answer}");
    }
    assert_eq!(pods(&node).await, 0);
}

#[tokio::test]
async fn what_is_no_http_is_answered_and_closed() {
    let node = Node::new().await;
    for text in [
        "hello\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{0}\u{1}",
        "GET /api\u{0} HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = begin(&node, text).await;
        assert!(rest_of(&mut stream).await.starts_with("HTTP/1.1 400 "), "{text:?}");
    }
    let mut large =
        begin(&node, &format!("GET /api HTTP/1.1\r\nHost: localhost\r\nx: {}\r\n", "y".repeat(100_000)))
            .await;
    assert!(rest_of(&mut large).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn idle_connections_are_bounded_and_keep_nobody_out() {
    let node = Node::with(|settings| settings.limits.connections = 8).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(node.connect().await);
    }
    node.create("web").await;
    let open = async {
        let mut open = 0;
        for stream in &mut idle {
            let closed = timeout(Duration::from_millis(400), stream.read(&mut [0])).await;
            open += usize::from(closed.is_err());
        }
        open
    };
    assert!(open.await <= 8, "the others lost their place");
    assert_eq!(pods(&node).await, 1);
}

#[tokio::test]
async fn who_is_not_authenticated_is_closed_and_keeps_nobody_out() {
    let tokens = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(tokens.path(), "secret\n").unwrap();
    let node = Node::with(|settings| {
        settings.limits.connections = 8;
        settings.token_file = Some(tokens.path().to_owned());
    })
    .await;
    let get = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n\r\n")
    };
    // Somebody who is known, and rests.
    let mut known = begin(&node, &get("/healthz")).await;
    let mut answer = [0; 12];
    timeout(SOON, known.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let mut unknown = Vec::new();
    for index in 0..100 {
        unknown.push(match index % 3 {
            0 => node.connect().await,
            1 => begin(&node, "GET /api HTTP/1.1\r\nHost: localhost\r\n").await,
            _ => begin(&node, "GET /api HTTP/1.1\r\nHost: localhost\r\n\r\n").await,
        });
    }
    // One with an answer is closed; the others have lost their places to those who came later.
    let answer = rest_of(&mut unknown[2]).await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("connection: close"), "{answer}");
    let ask = ask("GET", PODS).header("authorization", "Bearer secret");
    timeout(SOON, node.send(ask)).await.expect("a newcomer comes in").expect(200);
    known
        .write_all(get("/livez").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    assert!(rest_of(&mut known).await.ends_with("ok"), "its place was kept");
}

#[tokio::test]
async fn answers_that_are_not_read_are_bounded_together() {
    let node = Node::with(|settings| {
        settings.limits.unsent_bytes = 20 << 20;
        settings.limits.stall = Duration::from_secs(1);
    })
    .await;
    let many = vec![format!("    - {{name: A, value: {}}}\n", "x".repeat(100_000)); 20].concat();
    for index in 0..8 {
        node.send(ask("POST", PODS).body(manifest(&format!("p{index}")) + "    env:\n" + &many))
            .await
            .expect(201);
    }
    // Sixteen megabytes: more than the sockets hold.
    let _unread = begin(&node, &format!("GET {PODS} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    let wait_for = async |code: u16| {
        while node.send(ask("GET", PODS)).await.code != code {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, wait_for(429)).await.expect("the budget is used up");
    timeout(SOON, wait_for(200)).await.expect("who does not read is cut off");
}

#[tokio::test]
async fn more_clients_than_places_all_get_an_answer() {
    let node = Node::with(|settings| settings.limits.connections = 8).await;
    let post = |index: usize| {
        let node = &node;
        async move {
            let stream = node.connect().await;
            let ask = ask("POST", PODS).header("connection", "close").body(manifest(&format!("p{index}")));
            ask.send(stream).await.map(|reply| reply.code)
        }
    };
    let answers = futures::future::join_all((0..64).map(post)).await;
    assert!(answers.iter().all(|answer| *answer == Ok(201)), "{answers:?}");
    assert_eq!(pods(&node).await, 64);
}

#[tokio::test]
async fn bodies_that_do_not_come_hold_no_places() {
    let node = Node::with(|settings| settings.limits.connections = 8).await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        slow.push(begin(&node, &(head("Content-Length: 100") + "apiVersion: v1\n")).await);
    }
    timeout(SOON, node.create("web")).await.expect("one of them makes room");
    assert_eq!(pods(&node).await, 1);
}

#[tokio::test]
async fn a_watch_that_nobody_reads_gives_its_place_back() {
    let node = Node::with(|settings| {
        settings.limits.stall = Duration::from_secs(1);
        settings.limits.connections = 2;
    })
    .await;
    let many = vec![format!("    - {{name: A, value: {}}}\n", "x".repeat(100_000)); 20].concat();
    for index in 0..8 {
        node.send(ask("POST", PODS).body(manifest(&format!("p{index}")) + "    env:\n" + &many))
            .await
            .expect(201);
    }
    // Sixteen megabytes: more than the sockets hold.
    let watch = format!("GET {PODS}?watch=1 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let _unread = begin(&node, &watch).await;
    let another = async {
        loop {
            let mut stream = begin(&node, &watch).await;
            let mut start = [0; 12];
            stream.read_exact(&mut start).await.unwrap();
            match &start {
                b"HTTP/1.1 200" => break,
                start => assert_eq!(start, b"HTTP/1.1 429"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(SOON, another).await.expect("the place of the first one");
}

#[tokio::test]
async fn bodies_together_are_bounded_and_free_again_when_their_clients_go() {
    let node = Node::with(|settings| settings.limits.body_bytes = 2000).await;
    let mut halves = Vec::new();
    for _ in 0..16 {
        halves.push(begin(&node, &(head("Content-Length: 2000") + &"#".repeat(1990))).await);
    }
    let body = manifest("web") + &"#".repeat(1500);
    let attempt =
        || async { node.send(ask("POST", &format!("{PODS}?dryRun=All")).body(body.clone())).await.code };
    let wait_for = |code: u16| {
        let attempt = &attempt;
        async move {
            while attempt().await != code {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    timeout(SOON, wait_for(429)).await.expect("the budget is used up");
    drop(halves);
    timeout(SOON, wait_for(201)).await.expect("the budget is free");
}
