//! A node that serves the push API, and a client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use kube_model::view::{Event, EventType, PodView};
use manifest::SourceState;
use pod_api::{Listen, Push, Settings, start};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long anything that should happen may take.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";

/// A manifest of the pod `name`.
pub(crate) fn manifest(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels: {{app: {name}}}\nspec:\n  containers:\n  - name: app\n    \
         image: busybox:1\n"
    )
}

/// A node that runs nothing.
pub(crate) struct Node {
    pub(crate) push: Push,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) cancel: CancellationToken,
}

impl Node {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings than the default ones.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::new("127.0.0.1:0".parse().unwrap(), "node1", dir.path().join("push"));
        settings.anonymous = true;
        change(&mut settings);
        let cancel = CancellationToken::new();
        let push = start(settings, cancel.clone()).await.unwrap();
        Self { push, dir, cancel }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self.push.address {
            Listen::Tcp(address) => address,
            Listen::Unix(_) => panic!("no TCP address"),
        }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.unwrap()
    }

    /// Sends one request on a connection of its own.
    pub(crate) async fn send(&self, ask: Ask) -> Reply {
        ask.send(self.connect().await).await.unwrap()
    }

    pub(crate) async fn create(&self, name: &str) -> Value {
        self.send(ask("POST", PODS).body(manifest(name))).await.expect(201)
    }

    pub(crate) fn observe(&self) {
        self.push.handle.observe(&views(&self.push.state.borrow().clone()));
    }
}

/// How the pushed pods would be if they ran; those that were deleted have ended.
pub(crate) fn views(state: &SourceState) -> Vec<Arc<PodView>> {
    let view = |pod: &Arc<kube_model::core::Pod>| {
        let ended = pod.metadata.deletion_timestamp.is_some();
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let event = |kind, reason: &str| Event {
            kind,
            reason: reason.to_owned(),
            message: format!("{reason} it"),
            container: Some("app".to_owned()),
            first: now,
            last: now,
            count: 2,
        };
        let status = json!({
            "phase": "Running",
            "podIP": "10.88.0.5",
            "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": [{
                "name": "app", "ready": true, "restartCount": 0, "image": "busybox:1", "imageID": "",
                "state": { "running": {} },
            }],
        });
        Arc::new(PodView {
            pod: Arc::clone(pod),
            status: Arc::new(serde_json::from_value(status).unwrap()),
            removing: ended,
            finished: ended,
            waits: Vec::new(),
            doing: None,
            events: vec![event(EventType::Normal, "Started"), event(EventType::Warning, "Unhealthy")],
        })
    };
    state.pods.iter().map(view).collect()
}

impl Drop for Node {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// A request.
pub(crate) struct Ask {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// A request; its body is YAML unless it says otherwise.
pub(crate) fn ask(method: &str, path: &str) -> Ask {
    Ask { method: method.to_owned(), path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
}

impl Ask {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn kind(self, content_type: &str) -> Self {
        self.header("content-type", content_type)
    }

    pub(crate) async fn send(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Reply, String> {
        let says = self.headers.iter().any(|(name, _)| name == "content-type");
        let kind = (!self.body.is_empty() && !says).then_some("application/yaml");
        let exchange = async {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| error.to_string())?;
            let _driver = tokio::spawn(connection);
            let mut request = Request::builder().method(&*self.method).uri(&self.path);
            if !self.headers.iter().any(|(name, _)| name == "host") {
                request = request.header("host", "localhost");
            }
            for (name, value) in &self.headers {
                request = request.header(name, value);
            }
            if let Some(kind) = kind {
                request = request.header("content-type", kind);
            }
            let request = request
                .body(Full::<bytes::Bytes>::new(self.body.into()))
                .map_err(|error| error.to_string())?;
            let (head, body) =
                sender.send_request(request).await.map_err(|error| error.to_string())?.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            let text = String::from_utf8(body.to_vec()).map_err(|error| error.to_string())?;
            Ok(Reply { code: head.status.as_u16(), headers: head.headers, text })
        };
        timeout(SOON, exchange).await.map_err(|_| "no answer".to_owned())?
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The object of an answer that has this code.
    pub(crate) fn expect(&self, code: u16) -> Value {
        assert_eq!(self.code, code, "{self:?}");
        self.json()
    }

    /// The error in it: code, reason and message.
    pub(crate) fn error(&self) -> (u16, String, String) {
        let status = self.json();
        assert_eq!((&status["kind"], &status["apiVersion"]), (&json!("Status"), &json!("v1")), "{self:?}");
        assert_eq!(status["status"], "Failure");
        assert_eq!(status["code"], self.code);
        assert_eq!(status["details"].is_object(), self.code != 401, "{self:?}");
        let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
        (self.code, text("reason"), text("message"))
    }

    pub(crate) fn warnings(&self) -> Vec<&str> {
        self.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect()
    }
}

/// All that comes until the other side closes.
pub(crate) async fn rest_of(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    // A connection that is cut off has said what it had to say.
    let _ = timeout(SOON, stream.read_to_end(&mut text)).await.expect("the other side closes");
    String::from_utf8_lossy(&text).into_owned()
}

impl Ask {
    /// For messages.
    pub(crate) fn shown(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        format!("{} {} {:?} {body:?}", self.method, self.path, self.headers)
    }
}
