//! A real HTTP server for the tests, which answers as it is told and writes down what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

pub(crate) type Body = BoxBody<Bytes, Infallible>;
type Service = Arc<dyn Fn(&Request) -> Response<Body> + Send + Sync>;

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

#[derive(Clone)]
enum Answer {
    /// An answer of HTTP.
    Service(Service),
    /// These bytes, whatever is asked; then the connection is closed, or left open.
    Raw(Vec<u8>, bool),
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<Mutex<Vec<Request>>>,
    _accepting: AbortOnDropHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(None).await
    }

    pub(crate) async fn with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(Answer::Service(Arc::new(|_| text("")))));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answers, seen) = (Arc::clone(&answer), Arc::clone(&requests));
        let accepting = tokio::spawn(async move {
            // Dropped with this task, so that a server that is gone closes its connections.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen, tls) = (Arc::clone(&answers), Arc::clone(&seen), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, &answer, seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &answer, seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, answer, requests, _accepting: AbortOnDropHandle::new(accepting) }
    }

    pub(crate) fn answers(&self, service: impl Fn(&Request) -> Response<Body> + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Answer::Service(Arc::new(service));
    }

    pub(crate) fn answers_text(&self, body: impl Into<Bytes>) {
        let body = body.into();
        self.answers(move |_| text(body.clone()));
    }

    pub(crate) fn answers_raw(&self, bytes: &[u8]) {
        *self.answer.lock().unwrap() = Answer::Raw(bytes.to_vec(), false);
    }

    /// Sends these bytes, and then nothing more for ever.
    pub(crate) fn stalls_after(&self, bytes: &[u8]) {
        *self.answer.lock().unwrap() = Answer::Raw(bytes.to_vec(), true);
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn last_request(&self) -> Request {
        self.requests().pop().unwrap()
    }
}

async fn serve<S>(mut stream: S, answer: &Mutex<Answer>, seen: Arc<Mutex<Vec<Request>>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = answer.lock().unwrap().clone();
    match answer {
        Answer::Raw(bytes, stall) => {
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked).await;
            let _ = stream.write_all(&bytes).await;
            let _ = stream.flush().await;
            if stall {
                std::future::pending::<()>().await;
            }
            let _ = stream.shutdown().await;
        }
        Answer::Service(service) => {
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
                let path = request.uri().to_string();
                let request = Request { path, headers: request.headers().clone() };
                seen.lock().unwrap().push(request.clone());
                let answer = service(&request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        }
    }
}

pub(crate) fn text(body: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(body.into()).boxed())
}

pub(crate) fn status(status: u16, headers: &[(&str, &str)]) -> Response<Body> {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(Full::default().boxed()).unwrap()
}
