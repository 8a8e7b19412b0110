//! Against real servers on loopback.

use std::convert::Infallible;
use std::sync::Mutex;

use http_body_util::Full;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use kube_model::core::{ContainerPort, HTTPHeader};
use kube_model::k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);
/// Enough to connect, also on a busy machine.
const SHORT: Duration = Duration::from_secs(2);

type Reply = Response<Full<Bytes>>;

/// Runs `serve` on each connection to a port of 127.0.0.1 until it is dropped.
struct Server {
    port: u16,
    _task: AbortOnDropHandle<()>,
}

async fn serve<F, Fut>(handle: F) -> Server
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(handle(stream));
        }
    });
    Server { port, _task: AbortOnDropHandle::new(task) }
}

/// An HTTP server.
async fn web(answer: impl Fn(Request<Incoming>) -> Reply + Clone + Send + Sync + 'static) -> Server {
    serve(move |stream| http_connection(stream, answer.clone())).await
}

async fn http_connection(
    io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    answer: impl Fn(Request<Incoming>) -> Reply + Send + Sync + 'static,
) {
    let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(request))));
    // An error is a client that hung up.
    let _ = server::Builder::new().serve_connection(TokioIo::new(io), service).await;
}

async fn tls_web(answer: impl Fn(Request<Incoming>) -> Reply + Clone + Send + Sync + 'static) -> Server {
    tls_server(&[], answer).await
}

/// An HTTPS server with a certificate that nobody vouches for, expired and for another name.
async fn tls_server(
    protocols: &[&[u8]],
    answer: impl Fn(Request<Incoming>) -> Reply + Clone + Send + Sync + 'static,
) -> Server {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["elsewhere.example".into()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    serve(move |stream| {
        let (acceptor, answer) = (acceptor.clone(), answer.clone());
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            if stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2) {
                let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(request))));
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            } else {
                http_connection(stream, answer).await;
            }
        }
    })
    .await
}

/// A server that reads a little, writes `bytes` and closes, or holds on to the connection.
async fn raw(bytes: &'static [u8], hold: bool) -> Server {
    serve(move |mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(bytes).await;
        if hold {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await
}

fn status(code: u16) -> Reply {
    Response::builder().status(code).body(Full::default()).unwrap()
}

fn redirect(code: u16, to: &str) -> Reply {
    Response::builder().status(code).header(LOCATION, to).body(Full::from("moved")).unwrap()
}

fn action(port: u16) -> HTTPGetAction {
    HTTPGetAction { port: IntOrString::Int(port.into()), path: Some("/healthz".into()), ..Default::default() }
}

fn secure(port: u16) -> HTTPGetAction {
    HTTPGetAction { scheme: Some("HTTPS".into()), ..action(port) }
}

fn with_headers(port: u16, headers: &[(&str, &str)]) -> HTTPGetAction {
    let header = |(name, value): &(&str, &str)| HTTPHeader { name: (*name).into(), value: (*value).into() };
    HTTPGetAction { http_headers: Some(headers.iter().map(header).collect()), ..action(port) }
}

fn local() -> Option<IpAddr> {
    Some("127.0.0.1".parse().unwrap())
}

async fn probe_within(action: &HTTPGetAction, limit: Duration) -> Result<Verdict, HandlerError> {
    Client::new().probe(action, &Container::default(), local(), limit).await
}

async fn probe(action: &HTTPGetAction) -> Verdict {
    probe_within(action, LIMIT).await.unwrap()
}

fn failure(text: impl Into<String>) -> Verdict {
    Verdict::Failure(text.into())
}

#[tokio::test]
async fn statuses_from_200_to_399_succeed() {
    let server = web(|request| status(request.uri().path()[1..].parse().unwrap())).await;
    for code in [200, 201, 204, 206, 299] {
        let action = HTTPGetAction { path: Some(code.to_string()), ..action(server.port) };
        assert_eq!(probe(&action).await, Verdict::Success, "{code}");
    }
    for code in [300, 301, 302, 304, 307, 399] {
        let action = HTTPGetAction { path: Some(code.to_string()), ..action(server.port) };
        let expected = Verdict::Warning("Probe terminated redirects, Response body: ".into());
        assert_eq!(probe(&action).await, expected, "{code} without a Location");
    }
    for code in [400, 404, 499, 500, 503, 599] {
        let action = HTTPGetAction { path: Some(code.to_string()), ..action(server.port) };
        assert_eq!(probe(&action).await, failure(format!("HTTP probe failed with statuscode: {code}")));
    }
}

/// Runs the probe and returns the head of its request as it went over the wire.
async fn request_head(change: impl FnOnce(&mut HTTPGetAction)) -> String {
    let head = Arc::new(Mutex::new(String::new()));
    let seen = head.clone();
    let server = serve(move |mut stream| {
        let seen = seen.clone();
        async move {
            let mut text = Vec::new();
            while !text.ends_with(b"\r\n\r\n") && stream.read_buf(&mut text).await.is_ok_and(|n| n > 0) {}
            *seen.lock().unwrap() = String::from_utf8(text).unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let mut action = action(server.port);
    change(&mut action);
    assert_eq!(probe(&action).await, Verdict::Success);
    let head = head.lock().unwrap().replace(&server.port.to_string(), "PORT");
    let mut lines: Vec<_> = head.trim_end().lines().collect();
    lines[1..].sort_unstable();
    lines.join("|")
}

#[tokio::test]
async fn requests_look_like_the_kubelets() {
    let plain = request_head(|_| ()).await;
    let expected = "GET /healthz HTTP/1.1|Accept: */*|Connection: close|Host: 127.0.0.1:PORT|User-Agent: kube-probe/1.36";
    assert_eq!(plain, expected);

    let custom = request_head(|action| {
        *action = with_headers(
            match action.port {
                IntOrString::Int(port) => port as u16,
                IntOrString::String(_) => unreachable!(),
            },
            &[
                ("Host", "shop.example"),
                ("X-Twice", "a"),
                ("X-Twice", "b"),
                ("user-agent", "mine"),
                ("Accept", ""),
                ("Content-Length", "99"),
            ],
        );
        action.path = Some("a b?c=d".into());
    })
    .await;
    let expected =
        "GET /a%20b?c=d HTTP/1.1|Connection: close|Host: shop.example|User-Agent: mine|X-Twice: a|X-Twice: b";
    assert_eq!(custom, expected);
}

#[tokio::test]
async fn redirects_on_the_same_host_are_followed() {
    let server = web(|request| match request.uri().path() {
        "/healthz" => redirect(302, "/next"),
        "/next" => redirect(307, "final?x=1"),
        "/final" if request.uri().query() == Some("x=1") => status(200),
        _ => status(404),
    })
    .await;
    assert_eq!(probe(&action(server.port)).await, Verdict::Success);
}

#[tokio::test]
async fn a_redirect_may_lead_to_another_port_and_to_https() {
    let secure = tls_web(|request| status(if request.uri() == "/safe" { 200 } else { 404 })).await;
    let to = format!("https://127.0.0.1:{}/safe", secure.port);
    let open = web(move |_| redirect(301, &to)).await;
    assert_eq!(probe(&action(open.port)).await, Verdict::Success);
}

#[tokio::test]
async fn a_custom_host_header_survives_a_relative_redirect_only() {
    let hosts = Arc::new(Mutex::new(Vec::new()));
    let seen = hosts.clone();
    let other =
        web(|request| status(if request.headers()[HOST] == "shop.example" { 500 } else { 200 })).await;
    let to = format!("http://127.0.0.1:{}/", other.port);
    let first = web(move |request| {
        seen.lock().unwrap().push(request.headers()[HOST].to_str().unwrap().to_owned());
        if request.uri() == "/healthz" { redirect(302, "/again") } else { redirect(302, &to) }
    })
    .await;
    let action = with_headers(first.port, &[("Host", "shop.example")]);
    assert_eq!(probe(&action).await, Verdict::Success);
    assert_eq!(*hosts.lock().unwrap(), ["shop.example", "shop.example"]);
}

#[tokio::test]
async fn a_redirect_to_another_host_is_a_success_with_a_warning() {
    let server = web(|_| redirect(302, "http://other.invalid/login")).await;
    let expected = Verdict::Warning("Probe terminated redirects, Response body: moved".into());
    assert_eq!(probe(&action(server.port)).await, expected);
}

#[tokio::test]
async fn redirects_without_end_and_to_nowhere_fail() {
    let requests = Arc::new(Mutex::new(0));
    let count = requests.clone();
    let server = web(move |_| {
        *count.lock().unwrap() += 1;
        redirect(302, "/healthz")
    })
    .await;
    let url = format!("http://127.0.0.1:{}/healthz", server.port);
    assert_eq!(
        probe(&action(server.port)).await,
        failure(format!("Get \"{url}\": stopped after 10 redirects"))
    );
    assert_eq!(*requests.lock().unwrap(), 10);

    let server = web(|_| redirect(302, "ftp://127.0.0.1/")).await;
    let Verdict::Failure(text) = probe(&action(server.port)).await else { panic!("followed ftp") };
    assert!(text.ends_with("cannot follow the redirect to \"ftp://127.0.0.1/\""), "{text}");
}

#[tokio::test]
async fn https_is_not_verified() {
    let server = tls_web(|_| status(200)).await;
    assert_eq!(probe(&secure(server.port)).await, Verdict::Success);
    let named = HTTPGetAction { host: Some("localhost".into()), ..secure(server.port) };
    assert_eq!(probe(&named).await, Verdict::Success);
}

#[tokio::test]
async fn https_servers_that_speak_only_http2_are_probed_too() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = seen.clone();
    let server = tls_server(&[tls::HTTP2], move |request| {
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        keep.lock().unwrap().push(format!("{:?} {host} {}", request.version(), request.uri().path()));
        if request.uri().path() == "/healthz" { redirect(302, "/next") } else { status(200) }
    })
    .await;
    assert_eq!(probe(&secure(server.port)).await, Verdict::Success);
    let address = format!("127.0.0.1:{}", server.port);
    assert_eq!(
        *seen.lock().unwrap(),
        [format!("HTTP/2.0 {address} /healthz"), format!("HTTP/2.0 {address} /next")]
    );
    let headers = [("Host", "shop.example"), ("Connection", "keep-alive")];
    let action = HTTPGetAction { scheme: Some("HTTPS".into()), ..with_headers(server.port, &headers) };
    assert_eq!(probe(&action).await, Verdict::Success);
    assert_eq!(seen.lock().unwrap()[2], "HTTP/2.0 shop.example /healthz");
}

#[tokio::test]
async fn protocol_mismatches_fail() {
    let open = web(|_| status(200)).await;
    let url = format!("https://127.0.0.1:{}/healthz", open.port);
    let expected = format!("Get \"{url}\": http: server gave HTTP response to HTTPS client");
    assert_eq!(probe(&secure(open.port)).await, failure(expected));

    let closed = tls_web(|_| status(200)).await;
    assert!(matches!(probe(&action(closed.port)).await, Verdict::Failure(_)));
}

#[tokio::test]
async fn a_closed_port_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let expected = format!(
        "Get \"http://127.0.0.1:{port}/healthz\": dial tcp 127.0.0.1:{port}: connect: connection refused"
    );
    assert_eq!(probe(&action(port)).await, failure(expected));
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_fails() {
    for bytes in [&b""[..], b"HTTP/1.1 200 OK\r\nContent-Le"] {
        let server = raw(bytes, true).await;
        let expected = format!(
            "Get \"http://127.0.0.1:{}/healthz\": context deadline exceeded \
             (Client.Timeout exceeded while awaiting headers)",
            server.port
        );
        assert_eq!(probe_within(&action(server.port), SHORT).await, Ok(failure(expected)));
    }
}

#[tokio::test]
async fn a_tls_handshake_that_hangs_fails_in_time() {
    let server = raw(b"", true).await;
    let verdict = probe_within(&secure(server.port), SHORT).await.unwrap();
    assert!(matches!(verdict, Verdict::Failure(text) if text.contains("deadline exceeded")));
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_and_not_a_verdict() {
    let stalled = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", true).await;
    let error = probe_within(&action(stalled.port), SHORT).await.unwrap_err();
    assert!(error.to_string().ends_with("reading the body: context deadline exceeded"), "{error}");
    let cut = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", false).await;
    let error = probe_within(&action(cut.port), LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("reading the body: "), "{error}");
}

#[tokio::test]
async fn answers_that_gos_client_takes_are_taken() {
    const OK: &str = "\r\nContent-Length: 2\r\n\r\nok";
    let many: String = (0..150).map(|i| format!("\r\nX-H{i}: v")).collect();
    let megabytes = format!("\r\nX: {}", "y".repeat(9 << 20));
    for (answer, taken) in [
        (format!("HTTP/1.1 200 OK\r\nServer : old{OK}"), true),
        (format!("HTTP/1.1 200 OK{many}{OK}"), true),
        (format!("HTTP/1.1 200 OK{megabytes}{OK}"), true),
        (format!("HTTP/1.1 200 OK\r\nX-A: b\r\n\tc{OK}"), true),
        (format!("HTTP/1.2 200 OK{OK}"), true),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
                .into(),
            true,
        ),
        (format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK{OK}"), true),
        ("HTTP/1.1 200 OK\nServer: x\r\nContent-Length: 2\n\nok".into(), true),
        (format!("ICY 200 OK{OK}"), false),
        (format!("HTTP/1.1 200 OK\r\nServer: x\r{OK}"), false),
        (format!("HTTP/1.1 200 OK\r\n: novalue{OK}"), false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok".into(), false),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\n".into(), false),
    ] {
        let shown = answer.chars().take(80).collect::<String>();
        let server = raw(answer.leak().as_bytes(), false).await;
        let verdict = probe(&action(server.port)).await;
        assert_eq!(verdict == Verdict::Success, taken, "{shown:?}: {verdict:?}");
        assert_eq!(matches!(verdict, Verdict::Failure(_)), !taken, "{shown:?}: {verdict:?}");
    }
}

#[tokio::test]
async fn garbage_fails() {
    for bytes in
        [&b""[..], b"220 ftp ready\r\n", b"\0\xff\0\xff\r\n\r\n", b"HTTP/99 200 OK\r\n\r\n", b"HTTP/1.1 2"]
    {
        let server = raw(bytes, false).await;
        let verdict = probe(&action(server.port)).await;
        let url = format!("Get \"http://127.0.0.1:{}/healthz\": ", server.port);
        assert!(
            matches!(&verdict, Verdict::Failure(text) if text.starts_with(&url)),
            "{}: {verdict:?}",
            bytes.escape_ascii()
        );
    }
}

#[tokio::test]
async fn no_more_than_10_kib_of_a_body_are_read() {
    let server = serve(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let head = b"HTTP/1.1 301 Moved Permanently\r\nContent-Length: 99999999999\r\n\r\n";
        let _ = stream.write_all(head).await;
        // Without end: only the client's hanging up stops it.
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    let Verdict::Warning(text) = probe(&action(server.port)).await else { panic!("301 without Location") };
    assert_eq!(text.matches('x').count(), OUTPUT_CAP);
}

#[tokio::test]
async fn headers_that_cannot_be_sent_fail() {
    for header in [("X-Bad", "a\nb"), ("bad name", "x")] {
        let Verdict::Failure(text) = probe(&with_headers(1, &[header])).await else {
            panic!("{header:?} was sent")
        };
        assert!(text.contains(&format!("invalid header {:?}", header.0)), "{text}");
    }
}

#[tokio::test]
async fn a_target_that_does_not_resolve_is_an_error() {
    let client = Client::new();
    let named = HTTPGetAction { port: IntOrString::String("web".into()), ..Default::default() };
    let container = Container { name: "app".into(), ..Default::default() };
    let missing = TargetError::NoSuchPort { name: "web".into(), container: "app".into() };
    let got = client.probe(&named, &container, local(), LIMIT).await;
    assert_eq!(got, Err(HandlerError::Target(missing)));
    let got = client.probe(&action(80), &container, None, LIMIT).await;
    assert_eq!(got, Err(HandlerError::Target(TargetError::NoPodIp)));

    let server = web(|_| status(200)).await;
    let web_port =
        ContainerPort { name: Some("web".into()), container_port: server.port.into(), ..Default::default() };
    let container = Container { ports: Some(vec![web_port]), ..container };
    assert_eq!(client.probe(&named, &container, local(), LIMIT).await, Ok(Verdict::Success));
}

#[tokio::test]
async fn any_status_is_a_success_for_a_hook() {
    let agent = Arc::new(Mutex::new(String::new()));
    let seen = agent.clone();
    let server = web(move |request| {
        *seen.lock().unwrap() = request.headers()["user-agent"].to_str().unwrap().to_owned();
        status(500)
    })
    .await;
    let answer = Client::new().hook(&action(server.port), &Container::default(), local()).await.unwrap();
    assert_eq!(answer, HookAnswer { status: StatusCode::INTERNAL_SERVER_ERROR, fell_back: None });
    assert_eq!(*agent.lock().unwrap(), "kube-lifecycle/1.36");
}

#[tokio::test]
async fn an_https_hook_falls_back_to_http_without_credentials() {
    let server = web(|request| {
        let leaked = request.headers().contains_key(AUTHORIZATION);
        status(if leaked || request.headers()["x-kept"] != "yes" { 500 } else { 200 })
    })
    .await;
    let headers = [("Authorization", "Bearer secret"), ("X-Kept", "yes")];
    let action = HTTPGetAction { scheme: Some("HTTPS".into()), ..with_headers(server.port, &headers) };
    let answer = Client::new().hook(&action, &Container::default(), local()).await.unwrap();
    let expected =
        HookAnswer { status: StatusCode::OK, fell_back: Some(format!("127.0.0.1:{}", server.port)) };
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn a_hook_without_an_answer_is_an_error() {
    let server = raw(b"garbage\r\n\r\n", false).await;
    let error = Client::new().hook(&action(server.port), &Container::default(), local()).await.unwrap_err();
    assert!(matches!(error, HookError::Get(_)));
    let error = Client::new().hook(&action(1), &Container::default(), None).await.unwrap_err();
    assert!(matches!(error, HookError::Target(TargetError::NoPodIp)));
}
