use std::os::unix::fs::PermissionsExt as _;

use bytes::BytesMut;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kube_model::view::ViewSnapshot;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::*;
use crate::testing::{FakeAgent, FakeView, pod, pod_streams, running, snapshot};

const PATIENCE: Duration = Duration::from_secs(30);

struct Served {
    folder: TempDir,
    view: Arc<FakeView>,
    server: JoinHandle<Result<(), LocalError>>,
}

fn serve() -> Served {
    let folder = tempfile::tempdir().unwrap();
    let view = FakeView::new(snapshot(vec![pod("web", running())]));
    let socket = LocalSocket::bind(folder.path()).unwrap();
    let server = tokio::spawn(socket.serve(pod_streams(&view)));
    Served { folder, view, server }
}

impl Served {
    fn client(&self) -> Client {
        Client(socket_path(self.folder.path()))
    }

    async fn stop(self) -> TempDir {
        self.server.abort();
        assert!(self.server.await.unwrap_err().is_cancelled());
        self.folder
    }

    /// The whole answer to `request`.
    async fn ask(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(socket_path(self.folder.path())).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

/// Waits until `done`, looking again each time the other tasks had their turn.
async fn eventually(what: &str, done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what}");
}

/// A client of the socket in this folder.
struct Client(PathBuf);

impl Client {
    async fn get(&self, path: &str) -> Response<Incoming> {
        let stream = UnixStream::connect(&self.0).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(path).header("Host", "localhost").body(Empty::<Bytes>::new()).unwrap();
        sender.send_request(request).await.unwrap()
    }

    async fn snapshot(&self) -> ViewSnapshot {
        let answer = self.get("/v1/pods").await;
        assert_eq!(answer.status(), 200);
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    async fn watch(&self) -> Watch {
        let answer = self.get("/v1/pods?watch=true").await;
        assert_eq!(answer.status(), 200);
        Watch { body: answer.into_body(), pending: BytesMut::new() }
    }
}

struct Watch {
    body: Incoming,
    pending: BytesMut,
}

impl Watch {
    /// The next snapshot; `None` when there is no further one.
    async fn next(&mut self) -> Option<ViewSnapshot> {
        loop {
            if let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
                return Some(serde_json::from_slice(&self.pending.split_to(end + 1)).unwrap());
            }
            let frame = self.body.frame().await?.ok()?;
            self.pending.extend_from_slice(frame.data_ref().unwrap());
        }
    }
}

#[tokio::test]
async fn a_snapshot_arrives_whole() {
    let served = serve();
    assert_eq!(served.client().snapshot().await, served.view.snapshot());
}

#[tokio::test]
async fn the_socket_is_for_its_owner_only_and_goes_with_the_server() {
    let served = serve();
    let path = socket_path(served.folder.path());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let folder = served.stop().await;
    assert!(!path.exists());
    drop(folder);
}

#[tokio::test]
async fn a_second_agent_is_refused_and_the_first_goes_on() {
    let served = serve();
    let error = LocalSocket::bind(served.folder.path()).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "another agent (pid {}) already runs with --root-dir {}",
            std::process::id(),
            served.folder.path().display()
        )
    );
    let _served = served.client().snapshot().await;
    let folder = served.stop().await;
    LocalSocket::bind(folder.path()).unwrap();
}

#[tokio::test]
async fn the_socket_of_a_dead_agent_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(socket_path(folder.path())).unwrap());
    fs::write(folder.path().join("agent.lock"), "1\n").unwrap();

    let view = FakeView::new(snapshot(vec![]));
    let _server = tokio::spawn(LocalSocket::bind(folder.path()).unwrap().serve(pod_streams(&view)));
    assert_eq!(Client(socket_path(folder.path())).snapshot().await.pods, []);
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = socket_path(folder.path());
    fs::write(&path, "precious").unwrap();
    let error = LocalSocket::bind(folder.path()).unwrap_err().to_string();
    assert_eq!(error, format!("{} is not a socket: remove it", path.display()));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let error = LocalSocket::bind(&missing).unwrap_err().to_string();
    assert_eq!(error, format!("opening {}", missing.join("agent.lock").display()));

    let long = folder.path().join("x".repeat(100));
    fs::create_dir(&long).unwrap();
    let error = LocalSocket::bind(&long).unwrap_err();
    assert_eq!(error.to_string(), format!("listening on {}", socket_path(&long).display()));
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("too long"));
}

#[tokio::test]
async fn only_getting_pods_is_served() {
    let served = serve();
    for (request, status) in [
        ("GET /v1/pods HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK"),
        ("POST /v1/pods HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "405 Method Not Allowed"),
        ("GET /v1/pod HTTP/1.1\r\nHost: x\r\n\r\n", "404 Not Found"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404 Not Found"),
        ("nonsense\r\n\r\n", "400 Bad Request"),
    ] {
        let answer = served.ask(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?}: {answer}");
    }
    let huge = format!("GET /v1/pods HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let mut stream = UnixStream::connect(socket_path(served.folder.path())).await.unwrap();
    // The server may hang up before all of it is sent.
    let _sent = stream.write_all(huge.as_bytes()).await;
    let _served = served.client().snapshot().await;
}

#[tokio::test]
async fn logs_and_streams_of_pods_are_served_as_on_10250() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("0.log");
    fs::write(&log, "2026-11-23T11:59:00Z stdout F hello\n").unwrap();
    let agent = Arc::<FakeAgent>::default();
    agent.logs.lock().unwrap().insert("w".to_owned(), log);
    let mut status = running();
    status["containerStatuses"][0]["containerID"] = "containerd://w".into();
    let view = FakeView::new(snapshot(vec![pod("web", status)]));
    let pod_streams = PodStreams::new(Arc::clone(&view) as _, Arc::clone(&agent) as _, crate::testing::wall);
    let server = tokio::spawn(LocalSocket::bind(folder.path()).unwrap().serve(pod_streams));
    let served = Served { folder, view, server };
    let upgrade = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n";
    for (request, expected) in [
        ("GET /containerLogs/default/web-node1/app?tailLines=1", "hello\n"),
        ("GET /containerLogs/default/web-node1/nope", "container \"nope\" not found in pod \"web-node1\""),
        ("POST /exec/default/web-node1/app?command=ls&output=1", "no streaming server"),
        ("POST /portForward/default/web-node1", "no streaming server"),
        ("GET /metrics", "only /v1/pods,"),
    ] {
        let answer = served.ask(&format!("{request} HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n")).await;
        assert!(answer.contains(expected), "{request}: {answer}");
    }
    let calls = agent.calls();
    assert!(calls.iter().any(|call| call.starts_with("exec w [\"ls\"]")), "{calls:?}");
    assert!(calls.iter().any(|call| call.starts_with("port-forward web-uid")), "{calls:?}");
}

#[tokio::test]
async fn a_watch_sends_one_snapshot_at_once_and_then_the_newest_after_changes() {
    let served = serve();
    let mut watch = served.client().watch().await;
    assert_eq!(watch.next().await, Some(served.view.snapshot()));
    for name in ["a", "b", "c"] {
        served.view.set(snapshot(vec![pod(name, running())]));
    }
    // The three changes came faster than snapshots are sent, so they are one.
    assert_eq!(watch.next().await, Some(snapshot(vec![pod("c", running())])));

    served.view.set(snapshot(vec![]));
    assert_eq!(watch.next().await, Some(snapshot(vec![])));
    served.stop().await;
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn watches_are_limited_and_freed_when_their_client_goes() {
    let served = serve();
    let client = served.client();
    let mut watches = Vec::new();
    for _ in 0..MOST_LONG {
        let mut watch = client.watch().await;
        assert!(watch.next().await.is_some());
        watches.push(watch);
    }
    let refused = client.get("/v1/pods?watch=true").await;
    assert_eq!(refused.status(), 503);
    assert_eq!(
        refused.into_body().collect().await.unwrap().to_bytes(),
        "too many watches, logs and streams\n"
    );
    let _served = client.snapshot().await;

    watches.clear();
    eventually("the watches end with their clients", || served.view.watches() == 0).await;
    client.watch().await;
}

#[tokio::test]
async fn a_watcher_that_never_reads_costs_no_memory_and_nobody_else_waits() {
    let served = serve();
    // Larger than all buffers on the way, so the first snapshot cannot leave.
    let many = |round: usize| snapshot((0..2000).map(|i| pod(&format!("p{round}-{i}"), running())).collect());
    served.view.set(many(0));
    let mut stuck = UnixStream::connect(socket_path(served.folder.path())).await.unwrap();
    stuck.write_all(b"GET /v1/pods?watch=true HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    eventually("the watch begins", || served.view.watches() == 1).await;
    for round in 1..4 {
        served.view.set(many(round));
        assert_eq!(served.client().snapshot().await.pods.len(), 2000);
    }
}

#[tokio::test]
async fn silent_clients_make_room_for_others() {
    let served = serve();
    let path = socket_path(served.folder.path());
    let mut silent = Vec::new();
    for _ in 0..MOST_CONNECTIONS + 8 {
        silent.push(UnixStream::connect(&path).await.unwrap());
    }
    let answer = served.ask("GET /v1/pods HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}
