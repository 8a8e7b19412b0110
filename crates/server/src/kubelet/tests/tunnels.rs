//! exec, attach and port-forward, with a runtime's streaming server made of a socket.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A streaming server: answers each connection with `answer`, then sends back in capitals what it gets.
struct Runtime {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\nfirst ";

impl Runtime {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/exec/token1?x=1", listener.local_addr().unwrap());
        let (heads, open) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let (into, count) = (Arc::clone(&heads), Arc::clone(&open));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (into, count) = (Arc::clone(&into), Arc::clone(&count));
                tokio::spawn(async move {
                    count.fetch_add(1, Ordering::SeqCst);
                    Self::serve(stream, answer, &into).await;
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { url, heads, open, task }
    }

    async fn serve(mut stream: TcpStream, answer: &str, heads: &Mutex<Vec<String>>) {
        let mut head = vec![];
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        heads.lock().unwrap().push(String::from_utf8(head).unwrap());
        stream.write_all(answer.as_bytes()).await.unwrap();
        if !answer.starts_with("HTTP/1.1 101") {
            return;
        }
        let mut bytes = [0; 1024];
        while let Ok(read @ 1..) = stream.read(&mut bytes).await {
            let text = bytes[..read].to_ascii_uppercase();
            stream.write_all(&text).await.unwrap();
            if text.ends_with(b"BYE") {
                return;
            }
        }
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

fn serve_web(server: &Server, runtime: &Runtime) {
    server.view.set(snapshot(vec![running_pod("web", "w")]));
    *server.agent.url.lock().unwrap() = Some(Ok(runtime.url.clone()));
}

const UPGRADE: &[(&str, &str)] = &[
    ("connection", "Upgrade"),
    ("upgrade", "SPDY/3.1"),
    ("authorization", "Bearer secret"),
    ("x-own", "kept"),
];

const EXEC: &str = "/exec/default/web/app?command=sh&command=-c&input=1&output=1";

async fn upgraded(server: &Server, path: &str) -> (TokioIo<hyper::upgrade::Upgraded>, JoinHandle<()>) {
    let (mut response, task) = server.client().open("POST", path, UPGRADE).await;
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
    (TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap()), task)
}

#[tokio::test]
async fn an_upgrade_is_carried_to_the_runtime_and_back() {
    let (server, runtime) = (Server::start(), Runtime::start(SWITCHING).await);
    serve_web(&server, &runtime);
    let (mut stream, _task) = upgraded(&server, EXEC).await;
    stream.write_all(b"hello").await.unwrap();
    let mut bytes = [0; 11];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"first HELLO", "what comes with the head is not lost");
    assert_eq!(
        server.agent.calls(),
        [r#"exec w ["sh", "-c"] Streams { stdin: true, stdout: true, stderr: false, tty: false }"#]
    );
    let head = runtime.heads.lock().unwrap().join("");
    assert!(head.starts_with("POST /exec/token1?x=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("x-own: kept\r\n") && head.contains("x-forwarded-for: 127.0.0.1\r\n"), "{head}");
    assert!(!head.contains("secret"), "{head}");
    let in_flight = "kubelet_http_inflight_requests{long_running=\"true\",method=\"POST\",path=\"exec\",server_type=\"readwrite\"} ";
    assert!(server.get("/metrics").await.body.contains(&format!("{in_flight}1\n")));

    // The runtime's end is the client's.
    stream.write_all(b"bye").await.unwrap();
    let mut rest = vec![];
    tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"BYE");
    let client = server.client();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !client.send("GET", "/metrics", &[]).await.body.contains(&format!("{in_flight}0\n")) {
        assert!(tokio::time::Instant::now() < deadline, "the request is still counted");
    }
}

#[tokio::test]
async fn a_stream_may_be_silent_for_hours() {
    let (server, runtime) = (Server::start(), Runtime::start(SWITCHING).await);
    serve_web(&server, &runtime);
    let (mut stream, _task) = upgraded(&server, EXEC).await;
    let mut bytes = [0; 6];
    stream.read_exact(&mut bytes).await.unwrap();
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(10 * 60 * 60)).await;
    tokio::time::resume();
    stream.write_all(b"hello").await.unwrap();
    stream.read_exact(&mut bytes[..5]).await.unwrap();
    assert_eq!(&bytes[..5], b"HELLO");
}

#[tokio::test]
async fn fifty_sessions_run_at_once_and_a_client_that_vanishes_ends_the_runtimes_leg() {
    let (server, runtime) = (Server::start(), Runtime::start(SWITCHING).await);
    serve_web(&server, &runtime);
    let mut sessions = vec![];
    for _ in 0..50 {
        sessions.push(upgraded(&server, EXEC).await);
    }
    for (stream, _) in &mut sessions {
        stream.write_all(b"a").await.unwrap();
        let mut bytes = [0; 7];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"first A");
    }
    assert_eq!(runtime.open(), 50);
    drop(sessions);
    until("the runtime's side is closed", || runtime.open() == 0).await;
}

#[tokio::test]
async fn streams_end_with_the_server() {
    let (server, runtime) = (Server::start(), Runtime::start(SWITCHING).await);
    serve_web(&server, &runtime);
    let (mut stream, _task) = upgraded(&server, EXEC).await;
    server.task.abort();
    let mut rest = vec![];
    let _reset = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.unwrap();
    until("the runtime's side is closed", || runtime.open() == 0).await;
}

#[tokio::test]
async fn attach_takes_the_terminal_from_the_spec_and_port_forward_the_pod() {
    let (server, runtime) = (Server::start(), Runtime::start(SWITCHING).await);
    let mut web = running_pod("web", "w");
    let spec = Arc::make_mut(&mut web.pod).spec.as_mut().unwrap();
    spec.containers[0].tty = Some(true);
    *server.agent.url.lock().unwrap() = Some(Ok(runtime.url.clone()));
    server.view.set(snapshot(vec![web]));
    upgraded(&server, "/attach/default/web/app?output=1&error=1").await;
    upgraded(&server, "/portForward/default/web/web-uid").await;
    assert_eq!(
        server.agent.calls(),
        [
            "attach w Streams { stdin: false, stdout: true, stderr: false, tty: true }",
            "port-forward web-uid []",
        ]
    );
}

#[tokio::test]
async fn what_cannot_be_streamed_is_said_in_the_kubelets_words() {
    let (server, runtime) = (Server::start(), Runtime::start(SWITCHING).await);
    serve_web(&server, &runtime);
    let websocket = &[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")][..];
    for (path, headers, code, text) in [
        (
            "/exec/default/web/app?command=id",
            UPGRADE,
            400,
            "you must specify at least 1 of stdin, stdout, stderr",
        ),
        ("/exec/default/nope/app?output=1", UPGRADE, 404, "pod does not exist"),
        ("/exec/default/web/nope?output=1", UPGRADE, 500, "container not found (\"nope\")"),
        ("/exec/default/web/other-uid/app?output=1", UPGRADE, 500, "container not found (\"app\")"),
        ("/exec/default/web/app?output=1", &[], 500, "Upgrade request required\n"),
        ("/attach/default/web/nope?output=1", UPGRADE, 500, "container nope not found in pod web_default"),
        ("/portForward/default/web", websocket, 400, "query parameter \"port\" is required"),
        ("/portForward/default/web?port=0", websocket, 400, "port \"0\" must be > 0"),
        ("/portForward/default/web/other-uid", UPGRADE, 404, "pod not found"),
        ("/portForward/default/nope", UPGRADE, 404, "pod does not exist"),
    ] {
        let reply = server.client().send("POST", path, headers).await;
        assert_eq!(reply.answer(), (code, text), "{path}");
    }
    assert_eq!(server.agent.calls(), Vec::<String>::new());

    let refused = "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nstale";
    let plain = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let (refusing, plain) = (Runtime::start(refused).await, Runtime::start(plain).await);
    let (dead, error) = (Runtime::start("").await, HostError::Busy("too many streams".into()));
    for (url, code, text) in [
        (Ok(refusing.url.clone()), 404, "stale"),
        (Ok(plain.url.clone()), 500, "invalid upgrade response: status code 200\n"),
        (Ok(dead.url.clone()), 500, "error sending request: "),
        (Ok("http://127.0.0.1:1/x".to_owned()), 500, "error dialing backend: "),
        (
            Ok("https://127.0.0.1:1/x".to_owned()),
            500,
            "the runtime's stream URL \"https://127.0.0.1:1/x\" is not",
        ),
        (Ok("nonsense".to_owned()), 500, "the runtime's stream URL \"nonsense\" is not of the form"),
        (Err(error), 429, "too many streams"),
        (Err(HostError::NotFound("no such container".into())), 404, "no such container"),
        (Err(HostError::Failed("broken".into())), 500, "broken"),
    ] {
        *server.agent.url.lock().unwrap() = Some(url);
        let reply = server.client().send("POST", EXEC, UPGRADE).await;
        assert_eq!(reply.status, code, "{}", reply.body);
        assert!(reply.body.starts_with(text), "{}", reply.body);
    }
}

#[tokio::test]
async fn a_websocket_goes_to_the_runtime_as_it_is_when_the_gate_is_off() {
    let asks: &[(&str, &str)] = &[
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "v5.channel.k8s.io"),
    ];
    for (extend_websockets, upgrade) in [(true, "upgrade: SPDY/3.1\r\n"), (false, "upgrade: websocket\r\n")] {
        let server = Server::start_serving(
            Authentication::default().anonymous(true),
            Authorization::always_allow(),
            Handlers { extend_websockets, ..Handlers::default() },
        );
        let runtime = Runtime::start("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
        serve_web(&server, &runtime);
        server.client().send("GET", EXEC, asks).await;
        let head = runtime.heads.lock().unwrap().join("");
        assert!(head.to_lowercase().contains(&upgrade.to_lowercase()), "{head}");
    }
}
