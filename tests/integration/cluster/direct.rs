//! Clients that come to 10250 themselves, as an API server, a monitor or a stranger does.

use std::fs;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{SinkExt as _, StreamExt as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use testkit::env::{BUSYBOX, Line, usage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{ClusterNode, SOON, is_ready, listens_on};

pub(super) type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// The node's server, and who one is there.
pub(super) struct Direct {
    port: u16,
    pub(super) token: String,
    tls: TlsConnector,
}

impl Direct {
    pub(super) fn new(node: &ClusterNode) -> Self {
        let object = node.until_node("tells its port", |node| {
            node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].is_u64()
        });
        let port = object["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(node.cluster.ca().certificate()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            port: port.try_into().unwrap(),
            token: node.cluster.token("admin").unwrap().to_owned(),
            tls: TlsConnector::from(Arc::new(config)),
        }
    }

    /// Without a word.
    pub(super) async fn connect_plainly(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    pub(super) async fn connect(&self) -> TlsStream<TcpStream> {
        let name = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
        let connected = async { self.tls.connect(name, self.connect_plainly().await).await };
        tokio::time::timeout(SOON, connected).await.unwrap().unwrap()
    }

    /// Sends the head of a request, with an `Authorization` for this token.
    pub(super) async fn open(
        &self,
        method: &str,
        path: &str,
        token: &str,
        headers: &str,
    ) -> TlsStream<TcpStream> {
        let mut stream = self.connect().await;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: node1\r\nAuthorization: Bearer {token}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    /// The code and what else was answered until the server closed.
    pub(super) async fn ask(&self, method: &str, path: &str, token: &str, headers: &str) -> (u16, String) {
        let headers = format!("Connection: close\r\n{headers}");
        let mut stream = self.open(method, path, token, &headers).await;
        let mut answer = vec![];
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        // After a refused upgrade TLS' word of parting may be missing, as with Go.
        if let Err(error) = read {
            assert!(error.kind() == ErrorKind::UnexpectedEof && !answer.is_empty(), "{path}: {error}");
        }
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Opens a WebSocket with this protocol.
    pub(super) async fn websocket(&self, path: &str, protocol: &str) -> Result<Socket, Error> {
        let mut request = format!("wss://127.0.0.1:{}{path}", self.port).into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        request.headers_mut().insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        let answered = tokio_tungstenite::client_async(request, self.connect().await);
        // The agent itself waits two minutes for the runtime.
        let answered = tokio::time::timeout(3 * SOON, answered).await;
        let (socket, response) = answered.unwrap_or_else(|_| panic!("no answer to {path}"))?;
        assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
        Ok(socket)
    }

    /// Follows the log of `default/box` and reads its first line.
    async fn follow(&self) -> TlsStream<TcpStream> {
        let path = "/containerLogs/default/box/app?follow=true";
        let mut stream = self.open("GET", path, &self.token, "").await;
        let mut seen = String::new();
        while !seen.contains("serving\n") {
            let mut bytes = [0; 1024];
            let read = tokio::time::timeout(SOON, stream.read(&mut bytes)).await.unwrap().unwrap();
            assert!(read > 0, "{seen:?}");
            seen += &String::from_utf8_lossy(&bytes[..read]);
        }
        stream
    }
}

/// The next message that is not empty: its channel and the bytes.
pub(super) async fn receive(socket: &mut Socket) -> (u8, Vec<u8>) {
    loop {
        let message = tokio::time::timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap();
        if let Message::Binary(bytes) = message
            && let Some((channel, bytes @ [_, ..])) = bytes.split_first()
        {
            return (*channel, bytes.to_vec());
        }
    }
}

pub(super) async fn send(socket: &mut Socket, channel: u8, bytes: &[u8]) {
    let message = [&[channel], bytes].concat();
    socket.send(Message::Binary(message.into())).await.unwrap();
}

pub(super) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// A node with a pod `box` that has said `serving`.
pub(super) fn node_with_box(line: Line) -> ClusterNode {
    let node = ClusterNode::start(line);
    node.create(
        "box",
        json!({"containers": [{"name": "app", "image": BUSYBOX, "command":
            ["sh", "-c", "echo serving; nc -ll -p 7000 -e cat & trap 'exit 0' TERM; sleep 3600 & wait"],
            "startupProbe": listens_on(7000)}]}),
    );
    node.until_pod("box", "is ready", is_ready);
    node
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n";

#[test]
fn what_is_not_there_or_not_allowed_is_told_in_the_kubelets_words() {
    let node = node_with_box(Line::V2_1);
    let direct = Direct::new(&node);
    let exec = "/exec/default/box/app?command=id&output=1";
    let admin = direct.token.as_str();
    let node1 = node.cluster.token("system:node:node1").unwrap();
    block_on(async {
        for (method, path, headers, code, text) in [
            ("GET", "/containerLogs/default/nope/app", "", 404, "pod \"nope\" does not exist"),
            ("GET", "/containerLogs/other/box/app", "", 404, "pod \"box\" does not exist"),
            (
                "GET",
                "/containerLogs/default/box/nope",
                "",
                404,
                "container \"nope\" not found in pod \"box\"",
            ),
            ("POST", "/exec/default/nope/app?output=1", UPGRADE, 404, "pod does not exist"),
            ("POST", "/exec/default/box/nope?output=1", UPGRADE, 500, "container not found (\"nope\")"),
            (
                "POST",
                "/attach/default/box/nope?output=1",
                UPGRADE,
                500,
                "container nope not found in pod box_default",
            ),
            ("POST", "/portForward/default/nope", UPGRADE, 404, "pod does not exist"),
            ("POST", "/portForward/default/box/other-uid", UPGRADE, 404, "pod not found"),
            (
                "POST",
                "/exec/default/box/app?command=id",
                UPGRADE,
                400,
                "you must specify at least 1 of stdin, stdout, stderr",
            ),
            ("POST", exec, "", 500, "Upgrade request required"),
            // Tricks with paths lead nowhere else: they are no endpoint, or sent to the clean path to be judged there.
            ("GET", "/containerLogs/default/box/../box/app", "", 307, "Temporary Redirect"),
            ("GET", "/logs/%2e%2e/%2e%2e/etc/passwd", "", 307, "Temporary Redirect"),
            ("GET", "/logs/..%2f..%2fetc/passwd", "", 307, "Temporary Redirect"),
            ("GET", "/containerLogs/default%2fbox%2fapp/app", "", 404, "404: Page Not Found"),
            ("GET", "/containerLogs/default/..%00/app", "", 404, "does not exist"),
            ("GET", "/containerLogs/default/box%ff/app", "", 400, "the path is no text"),
        ] {
            let (is, body) = direct.ask(method, path, admin, headers).await;
            assert!(is == code && body.contains(text), "{method} {path}: {is} {body}");
        }

        // Who one says to be is not who one is.
        for token in ["", "wrong", "admin", &format!("{admin}x"), &admin[1..]] {
            let (code, body) = direct.ask("GET", "/pods", token, "").await;
            assert_eq!((code, body.as_str()), (401, "Unauthorized"), "{token:?}");
        }
        for claim in ["X-Remote-User: admin", "Impersonate-User: admin", "X-Forwarded-For: 127.0.0.1"] {
            let (code, _) = direct.ask("GET", "/pods", "wrong", &format!("{claim}\r\n")).await;
            assert_eq!(code, 401, "{claim}");
            let (code, body) = direct.ask("POST", exec, node1, &format!("{claim}\r\n{UPGRADE}")).await;
            assert!(code == 403 && body.starts_with("Forbidden (user=system:node:node1"), "{code} {body}");
        }

        // Upgrades to what nobody speaks, and streams that break off at once or speak nonsense.
        let odd = "Connection: Upgrade\r\nUpgrade: h2c\r\n";
        let (code, _) = direct.ask("POST", exec, admin, odd).await;
        assert!(code >= 400, "{code}");
        let old =
            "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v99.channel.k8s.io\r\n";
        let (code, body) = direct.ask("POST", exec, admin, old).await;
        assert!(code >= 400 && body.contains("v4.channel.k8s.io"), "{code} {body}");
        for nonsense in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0x80, 3, 0, 1, 0xff, 0xff, 0xff, 0xff, 9]] {
            let version = format!("{UPGRADE}X-Stream-Protocol-Version: v4.channel.k8s.io\r\n");
            let mut stream = direct.open("POST", exec, admin, &version).await;
            let mut head = [0; 12];
            stream.read_exact(&mut head).await.unwrap();
            assert_eq!(&head, b"HTTP/1.1 101");
            stream.write_all(nonsense).await.unwrap();
        }
        assert_eq!(direct.ask("GET", "/healthz", admin, "").await, (200, "ok".to_owned()));
    });
}

#[test]
fn who_may_only_get_runs_nothing_if_streams_need_create() {
    let flags = ["--streams-need-create"];
    let node = ClusterNode::start_given(Line::V2_1, &flags, |cluster| {
        let rbac = "rbac.authorization.k8s.io";
        let role = json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": "getter"},
            "rules": [{"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": ["get"]}],
        });
        let binding = json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "getter"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "getter"},
            "subjects": [{"apiGroup": rbac, "kind": "User", "name": "system:node:node1"}],
        });
        for object in [role, binding] {
            cluster.apply(&object).unwrap();
        }
        cluster.node_kubeconfig("node1").unwrap()
    });
    let direct = Direct::new(&node);
    let (admin, getter) = (direct.token.as_str(), node.cluster.token("system:node:node1").unwrap());
    let exec = "/exec/default/nope/app?command=id&output=1";
    block_on(async {
        assert_eq!(direct.ask("GET", "/pods", getter, "").await.0, 200);
        let (code, body) = direct.ask("GET", exec, getter, UPGRADE).await;
        let want =
            "Forbidden (user=system:node:node1, verb=create, resource=nodes, subresource(s)=[proxy])\n";
        assert_eq!((code, body.as_str()), (403, want));
        assert_eq!(direct.ask("GET", exec, admin, UPGRADE).await.0, 404);
    });
}

/// What the agent holds: open files, threads, resident bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    files: usize,
    threads: usize,
    pub(super) resident: u64,
}

pub(super) fn held(node: &ClusterNode) -> Held {
    let pid = node.agent.pid().unwrap();
    let usage = usage(pid).unwrap();
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    Held { files, threads: usage.context_switches.len(), resident: usage.resident }
}

/// Waits until the agent has let go of all but a few files.
pub(super) async fn until_let_go(node: &ClusterNode, before: Held) -> Held {
    let deadline = Instant::now() + SOON;
    loop {
        let now = held(node);
        if now.files <= before.files + 8 {
            return now;
        }
        assert!(Instant::now() < deadline, "{before:?} {now:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Gives back what it is told. No `cat`: those are the pod's own, and stay as zombies until its `nc` is asked again.
const ECHO: &str = "/exec/default/box/app?command=tee&input=1&output=1";

/// 100 followed logs and 50 sessions that answer; then the clients vanish without a word.
async fn crowd(node: &ClusterNode, direct: &Direct) -> Held {
    let (mut logs, mut sessions) = (vec![], vec![]);
    for _ in 0..100 {
        logs.push(direct.follow().await);
    }
    for protocol in ["v4.channel.k8s.io", "v5.channel.k8s.io"].repeat(25) {
        sessions.push(direct.websocket(ECHO, protocol).await.unwrap());
    }
    for session in &mut sessions {
        send(session, 0, b"hello").await;
        assert_eq!(receive(session).await, (1, b"hello".to_vec()));
    }
    held(node)
}

#[test]
fn a_hundred_followed_logs_and_fifty_sessions_leave_nothing_behind() {
    let node = node_with_box(Line::V2_1);
    let direct = Direct::new(&node);
    block_on(async {
        let mut rounds = vec![];
        for _ in 0..4 {
            let before = held(&node);
            let during = crowd(&node, &direct).await;
            rounds.push((before, during, until_let_go(&node, before).await));
        }
        let (start, (_, during, after)) = (rounds[0].0, rounds[3]);
        // None for each stream; how many read files at the same time depends on how busy the machine is.
        assert!(during.threads <= start.threads + 30 && after.threads <= start.threads + 30, "{rounds:#?}");
        // What the first crowds needed is kept for the next.
        let settled = rounds[1];
        assert!(during.resident <= settled.1.resident + (2 << 20), "{rounds:#?}");
        assert!(after.resident <= settled.2.resident + (2 << 20), "{rounds:#?}");
        assert!(during.resident <= start.resident + (24 << 20), "{rounds:#?}");
    });
    // Nobody holds the other ends any more.
    let command = "for i in $(seq 600); do pidof tee || exit 0; usleep 100000; done; ps; exit 1";
    node.kubectl(&["exec", "box", "--", "sh", "-c", command]);
}

#[test]
fn who_does_not_read_costs_no_memory() {
    let node = node_with_box(Line::V2_1);
    let direct = Direct::new(&node);
    block_on(async {
        let yes = "/exec/default/box/app?command=yes&output=1";
        let before = held(&node);
        let mut silent = vec![];
        for protocol in ["v4.channel.k8s.io", "v5.channel.k8s.io"].repeat(5) {
            silent.push(direct.websocket(yes, protocol).await.unwrap());
        }
        // Not a wait for anything: the time in which memory would be filled.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let during = held(&node);
        assert!(during.resident <= before.resident + (16 << 20), "{before:?} {during:?}");
        drop(silent);
        until_let_go(&node, before).await;
    });
}
