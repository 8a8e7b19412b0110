//! An API server whose every answer the test gives: what a real one will not do on demand.
//!
//! Requests wait in a queue until the test takes them with [`FakeApi::next`] and answers, or drops them, which
//! breaks the connection.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt as _;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

/// How long a test waits for a request that should come.
const DEADLINE: Duration = Duration::from_secs(20);

type Body = BoxBody<Bytes, io::Error>;

/// The server.
#[derive(Debug)]
pub struct FakeApi {
    address: SocketAddr,
    calls: mpsc::Receiver<Call>,
    front: Front,
    listening: tokio::task::JoinHandle<()>,
}

/// The side of the server that takes connections.
#[derive(Debug, Clone)]
pub struct Front(mpsc::Sender<Call>);

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl FakeApi {
    /// Listens for plain HTTP on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// If there is no free port.
    #[expect(clippy::expect_used, reason = "a test has nothing better to do")]
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("the address of a listener");
        // No test leaves that many requests unanswered.
        let (sender, calls) = mpsc::channel(1024);
        let front = Front(sender);
        let accepting = front.clone();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let front = accepting.clone();
                tokio::spawn(async move { front.serve(stream).await });
            }
        });
        Self { address, calls, front, listening }
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// For connections that the test takes itself, over TLS for example.
    pub fn front(&self) -> Front {
        self.front.clone()
    }

    /// The next request.
    ///
    /// # Panics
    /// If none comes within 20 seconds.
    #[expect(clippy::panic, reason = "a test has nothing better to do")]
    pub async fn next(&mut self) -> Call {
        match tokio::time::timeout(DEADLINE, self.calls.recv()).await {
            Ok(Some(call)) => call,
            _ => panic!("no request came within {DEADLINE:?}"),
        }
    }

    /// Whether no request waits, now.
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }
}

impl Front {
    /// Serves one connection, HTTP/1 or 2, to its end.
    pub async fn serve(&self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let sender = self.0.clone();
        let service = service_fn(move |request| answer(sender.clone(), request));
        // Tests break connections on purpose.
        let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service).await;
    }
}

async fn answer(sender: mpsc::Sender<Call>, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let (answer, answered) = oneshot::channel();
    let call = Call {
        method: parts.method,
        version: parts.version,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body,
        answer,
    };
    sender.send(call).await.map_err(|_| io::Error::other("the test is over"))?;
    answered.await.map_err(|_| io::Error::other("the test does not answer"))
}

/// A request that waits for its answer.
#[derive(Debug)]
pub struct Call {
    /// GET, PATCH, ...
    pub method: Method,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// Without the query.
    pub path: String,
    query: String,
    /// All headers.
    pub headers: HeaderMap,
    /// What was sent.
    pub body: Bytes,
    answer: oneshot::Sender<Response<Body>>,
}

impl Call {
    /// A parameter of the query, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| decoded(value)).next()
    }

    /// Whether this is a watch.
    pub fn is_watch(&self) -> bool {
        self.query("watch").is_some_and(|watch| watch == "true" || watch == "1")
    }

    /// Answers with JSON.
    pub fn json(self, status: u16, body: &Value) {
        self.text(status, &body.to_string());
    }

    /// Answers with a `Status`, as the API server refuses things.
    pub fn refuse(self, status: u16, reason: &str, message: &str) {
        let body = serde_json::json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": status});
        self.json(status, &body);
    }

    /// Refuses as API Priority and Fairness does: no `Status`, and in a header when to ask again.
    #[expect(clippy::expect_used, reason = "a test has nothing better to do")]
    pub fn too_many_requests(self, seconds: u32) {
        let body = Full::from("Too many requests, please try again later.\n");
        let response = Response::builder().status(429).header("retry-after", seconds);
        let body = body.map_err(|never: Infallible| match never {}).boxed();
        // Whoever asked may have gone.
        let _ = self.answer.send(response.body(body).expect("a status and a number"));
    }

    /// Answers with any text.
    pub fn text(self, status: u16, body: &str) {
        let body =
            Full::new(Bytes::from(body.to_owned())).map_err(|never: Infallible| match never {}).boxed();
        self.respond(status, body);
    }

    /// Begins an answer that goes on.
    pub fn stream(self) -> Stream {
        self.stream_as(200)
    }

    /// The same with any status.
    pub fn stream_as(self, status: u16) -> Stream {
        let (sender, receiver) = mpsc::channel(16);
        let frames = ReceiverStream::new(receiver).map(|part: io::Result<Bytes>| part.map(Frame::data));
        self.respond(status, http_body_util::BodyExt::boxed(StreamBody::new(frames)));
        Stream(sender)
    }

    #[expect(clippy::expect_used, reason = "a test has nothing better to do")]
    fn respond(self, status: u16, body: Body) {
        let response = Response::builder().status(status).header("content-type", "application/json");
        // Whoever asked may have gone.
        let _ = self.answer.send(response.body(body).expect("a status and a fixed header"));
    }
}

/// The answer to a watch. Dropping it ends the answer in good order.
#[derive(Debug)]
pub struct Stream(mpsc::Sender<io::Result<Bytes>>);

impl Stream {
    /// Sends an event: `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub async fn event(&self, kind: &str, object: &Value) {
        self.text(&format!("{}\n", serde_json::json!({"type": kind, "object": object}))).await;
    }

    /// Sends any text.
    pub async fn text(&self, text: &str) {
        // Whoever watched may have gone.
        let _ = self.0.send(Ok(Bytes::from(text.to_owned()))).await;
    }

    /// Breaks the connection.
    pub async fn reset(self) {
        let _ = self.0.send(Err(io::Error::other("reset by the test"))).await;
    }

    /// Waits until the client has given up the watch.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// Percent-decoding of a query.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let code = std::str::from_utf8(&digits).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
                code.unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
