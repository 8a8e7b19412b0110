//! Connections: certificates that change, clients that are silent or speak something else, HTTP/2.

use std::fs;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// The serial number of the certificate that the server shows.
async fn shown(server: &Server, ca: &Ca) -> Vec<u8> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
    let stream = TlsConnector::from(client_config(ca, None)).connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_changed_certificate_is_shown_to_the_next_client_and_a_broken_one_to_none() {
    let server = Server::start();
    let ca = server.ca.as_ref().unwrap();
    let first = shown(&server, ca).await;
    assert_eq!(shown(&server, ca).await, first);
    given_tls(ca, server.folder.path());
    let second = shown(&server, ca).await;
    assert_ne!(second, first);
    fs::write(server.folder.path().join("tls.key"), "cut").unwrap();
    assert_eq!(shown(&server, ca).await, second);
    fs::remove_file(server.folder.path().join("tls.crt")).unwrap();
    assert_eq!(shown(&server, ca).await, second);
}

#[tokio::test]
async fn clients_may_speak_http_2() {
    let server = Server::start();
    let mut config = (*client_config(server.ca.as_ref().unwrap(), None)).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut sender = http_2(stream, 65_535).await;
    server.view.set(snapshot(vec![running_pod("web", "w")]));
    let log = "2026-11-23T11:55:00.5Z stdout F 0123456789\n".repeat(20_000);
    server.log("w", &log);
    for (path, length) in [("/healthz", 2), ("/containerLogs/default/web/app", 11 * 20_000)] {
        let response = sender.send_request(get(path)).await.unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), length, "{path}");
    }
}

/// A client that wants to be sent so many bytes of each answer.
async fn http_2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    window: u32,
) -> hyper::client::conn::http2::SendRequest<Empty<Bytes>> {
    let mut client = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    let client = client.initial_stream_window_size(window);
    let (sender, connection) = client.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move {
        let _closed = connection.await;
    });
    sender
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://node1{path}")).body(Empty::new()).unwrap()
}

#[tokio::test]
async fn with_no_window_in_http_2_answers_are_held_within_the_budget() {
    let server = Server::start_read_only();
    let mut web = running_pod("web", "w");
    let annotations = [("long".to_owned(), "x".repeat(3 << 20))].into();
    Arc::make_mut(&mut web.pod).metadata.annotations = Some(annotations);
    server.view.set(snapshot(vec![web]));
    let mut sender = http_2(TcpStream::connect(server.address).await.unwrap(), 0).await;
    let mut held = vec![];
    for _ in 0..21 {
        let response = sender.send_request(get("/pods")).await.unwrap();
        assert_eq!(response.status(), 200);
        held.push(response);
    }
    assert_eq!(sender.send_request(get("/pods")).await.unwrap().status(), 429);
    assert_eq!(server.get("/healthz").await.status, 200);
    drop((held, sender));
    let again = async {
        while server.get("/pods").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, again).await.expect("what they held is given back");
}

#[tokio::test]
async fn a_connection_is_used_again_and_odd_ones_do_no_harm() {
    let server = Server::start_read_only();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: node1\r\n\r\n").await.unwrap();
        let mut answer = vec![];
        while !answer.ends_with(b"\r\n\r\nok") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
    for odd in
        [&b"\x16\x03\x01 no HTTP\r\n\r\n"[..], b"GET /\xff HTTP/1.1\r\n\r\n", b"GET /" /* and gone */]
    {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(odd).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = vec![];
        tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{}", answer.escape_ascii());
    }
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_sent_away() {
    const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: n\r\n\r\n";
    let server = Server::start_read_only();
    for (first, rest, wait) in [
        (false, &b""[..], 10..=20),
        (false, &REQUEST[..10], 10..=20),
        (true, b"", 85..=100),
        (true, &REQUEST[..3], 85..=100),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if first {
            stream.write_all(REQUEST).await.unwrap();
            let mut answer = vec![];
            while !answer.ends_with(b"ok") {
                assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{}", answer.escape_ascii());
            }
        }
        stream.write_all(rest).await.unwrap();
        // Not sooner: the clock jumps whenever all wait, also for what is on its way.
        tokio::time::pause();
        let began = tokio::time::Instant::now();
        stream.read_to_end(&mut vec![]).await.unwrap();
        let waited = began.elapsed().as_secs();
        tokio::time::resume();
        assert!(wait.contains(&waited), "{waited} s after {first} {}", rest.escape_ascii());
    }
}

#[tokio::test]
async fn a_body_that_never_comes_is_not_waited_for() {
    let server = Server::start();
    let mut stream = server.client().connect().await;
    let head = b"PUT /debug/flags/v HTTP/1.1\r\nHost: n\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    // What is left is to wait for the body.
    tokio::time::pause();
    let mut answer = [0; 24];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400 Bad Request");
}

/// More than all the buffers on the way hold.
const LONG: usize = 32 << 20;

#[tokio::test]
async fn a_reader_of_a_log_may_stop_for_hours_but_not_for_ever() {
    let server = Server::start();
    server.view.set(snapshot(vec![running_pod("web", "w")]));
    let row = format!("2026-11-23T11:55:00.5Z stdout F {}\n", "x".repeat(8000));
    server.log("w", &row.repeat(LONG / row.len()));
    // The paused clock may jump while something is on its way yet, so the second is for several times the limit.
    for (hours, all) in [(3, true), (48, false)] {
        let (response, _task) = server.client().open("GET", "/containerLogs/default/web/app", &[]).await;
        let mut body = response.into_body();
        body.frame().await.unwrap().unwrap();
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(hours * 60 * 60)).await;
        tokio::time::resume();
        assert_eq!(body.collect().await.is_ok(), all, "after {hours} hours");
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let agent = Arc::<FakeAgent>::default();
    let view = FakeView::new(snapshot(vec![]));
    let host = Host::new(
        PodStreams::new(view, Arc::clone(&agent) as _, crate::testing::wall),
        Arc::clone(&agent) as _,
        agent,
    );
    let error = KubeletServer::bind_read_only(address, host).unwrap_err();
    assert_eq!(error.to_string(), format!("listening on {address}"));
}

#[tokio::test]
async fn idle_connections_keep_nobody_out() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // Both ends of each are here.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let server = Server::start_read_only();
    let mut crowd = vec![];
    for _ in 0..1024 {
        crowd
            .push(tokio::time::timeout(DEADLINE, TcpStream::connect(server.address)).await.unwrap().unwrap());
    }
    let began = std::time::Instant::now();
    assert_eq!(server.get("/healthz").await.status, 200);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}, so the idle ones were waited for");
    let mut first = crowd.swap_remove(0);
    let read = tokio::time::timeout(DEADLINE, first.read(&mut [0])).await.expect("it had to make room");
    assert!(matches!(read, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_client_that_was_never_authenticated_is_disconnected_when_refused() {
    let server = Server::start_with(Authentication::default(), Authorization::always_allow());
    let mut stream = server.client().connect().await;
    stream.write_all(b"GET /pods HTTP/1.1\r\nHost: node1\r\n\r\n").await.unwrap();
    let mut answer = vec![];
    tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("connection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn a_request_names_one_host() {
    for server in [Server::start(), Server::start_read_only()] {
        for (request, answer) in [
            ("HTTP/1.0\r\n", "HTTP/1.0 200 OK"),
            ("HTTP/1.1\r\n", "HTTP/1.1 400 Bad Request"),
            ("HTTP/1.1\r\nHost: a\r\nHost: a\r\n", "HTTP/1.1 400 Bad Request"),
            ("HTTP/1.1\r\nHost: a b\r\n", "HTTP/1.1 400 Bad Request"),
        ] {
            let mut stream = server.client().connect().await;
            stream.write_all(format!("GET /healthz {request}\r\n").as_bytes()).await.unwrap();
            let mut read = vec![];
            tokio::time::timeout(DEADLINE, stream.read_to_end(&mut read)).await.unwrap().unwrap();
            assert!(read.starts_with(answer.as_bytes()), "{request}: {}", read.escape_ascii());
        }
    }
}

#[tokio::test]
async fn a_command_may_be_long_and_unfinished_heads_are_bounded() {
    let server = Server::start();
    let long = format!("/nope?command={}", "x".repeat(60 << 10));
    assert_eq!(server.get(&long).await.status, 404);
    let head = format!("GET /healthz HTTP/1.1\r\nHost: n\r\nX: {}", "x".repeat(64 << 10));
    let mut crowd = vec![];
    for _ in 0..64 {
        let mut stream = server.client().connect().await;
        // Some are cut off before they have sent all.
        let _cut = stream.write_all(head.as_bytes()).await;
        crowd.push(stream);
    }
    // 3 MiB are beyond what each may hold, and 1 MiB is shared.
    let cut = async {
        while crowd.len() > 24 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            crowd.retain_mut(|stream| stream.read(&mut [0]).now_or_never().is_none());
        }
    };
    tokio::time::timeout(DEADLINE, cut).await.expect("what is too much is cut off");
    assert!(crowd.len() >= 16, "{}", crowd.len());
    assert_eq!(server.get("/healthz").await.status, 200);
    drop(crowd);
    // As soon as the server has seen that they are gone.
    let again = async {
        while server.client().try_get(&long).await != Some(404) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, again).await.expect("what they held is given back");
}

#[tokio::test]
async fn answers_that_nobody_reads_leave_room_for_short_ones_only() {
    let server = Server::start_read_only();
    let mut web = running_pod("web", "w");
    let annotations = [("long".to_owned(), "x".repeat(20 << 20))].into();
    Arc::make_mut(&mut web.pod).metadata.annotations = Some(annotations);
    server.view.set(snapshot(vec![web]));
    let mut silent = vec![];
    for _ in 0..3 {
        silent.push(server.client().open("GET", "/pods", &[]).await);
    }
    let refused = server.get("/pods").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
    assert_eq!(server.get("/healthz").await.status, 200);
    let (response, _task) = silent.pop().unwrap();
    assert!(response.into_body().collect().await.unwrap().to_bytes().len() > 20 << 20);
    assert_eq!(server.get("/pods").await.status, 200, "one was read");
    drop(silent);
}
