//! The other end of the local socket: reads the view of a running agent, and the logs and streams of its pods.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kube_model::view::{SourcesSnapshot, ViewSnapshot};
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use server::local::socket_path;
use server::streams::Session;

/// Longest time for an answer to begin.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Why the local view cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket, or nobody listens on it.
    #[error("no agent runs with --root-dir {} (nobody listens on {})", root_dir.display(), socket_path(root_dir).display())]
    NotRunning {
        /// The folder.
        root_dir: PathBuf,
    },
    /// The socket is for root only.
    #[error("not allowed to use {}: it is for the user that runs the agent", .0.display())]
    Denied(PathBuf),
    /// Connecting failed in another way.
    #[error("connecting to {}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The agent accepted but does not answer.
    #[error("the agent at {} does not answer within {} s", .0.display(), ANSWER_LIMIT.as_secs())]
    Silent(PathBuf),
    /// The connection broke, or does not carry HTTP.
    #[error("talking to the agent at {}", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What went wrong.
        source: hyper::Error,
    },
    /// The agent refused.
    #[error("the agent at {} refused: {status}: {message}", socket.display())]
    Refused {
        /// The socket.
        socket: PathBuf,
        /// The HTTP status.
        status: StatusCode,
        /// Its words.
        message: String,
    },
    /// What is asked for cannot be part of a URL.
    #[error("asking for {path:?}")]
    Path {
        /// The path with its query.
        path: String,
        /// Why not.
        source: http::Error,
    },
    /// The agent answered something else: another version, perhaps.
    #[error("reading the answer of the agent at {}", socket.display())]
    Answer {
        /// The socket.
        socket: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
}

/// A client of the agent that runs with one root folder. It needs a tokio runtime.
#[derive(Debug, Clone)]
pub struct Client {
    root_dir: PathBuf,
    socket: PathBuf,
}

impl Client {
    /// A client of the agent at `root_dir`; connects with each request.
    pub fn new(root_dir: &Path) -> Self {
        Self { root_dir: root_dir.to_owned(), socket: socket_path(root_dir) }
    }

    /// What the agent sees now.
    ///
    /// # Errors
    /// When no agent runs there or it does not answer as it should.
    pub async fn snapshot(&self) -> Result<ViewSnapshot, ClientError> {
        let response = self.get("/v1/pods").await?;
        let body = response.into_body().collect().await.map_err(|error| self.broken(error))?;
        self.decode(&body.to_bytes())
    }

    /// Where the agent takes its pods from.
    ///
    /// # Errors
    /// As for [`snapshot`](Self::snapshot).
    pub async fn sources(&self) -> Result<SourcesSnapshot, ClientError> {
        let response = self.get("/v1/sources").await?;
        let body = response.into_body().collect().await.map_err(|error| self.broken(error))?;
        self.decode(&body.to_bytes())
    }

    /// What the agent sees now and after each change.
    ///
    /// # Errors
    /// As for [`snapshot`](Self::snapshot).
    pub async fn watch(&self) -> Result<Watch, ClientError> {
        let body = self.get("/v1/pods?watch=true").await?.into_body();
        Ok(Watch { client: self.clone(), body, pending: BytesMut::new() })
    }

    /// The answer to a GET of one of the endpoints of pods, as it comes.
    pub(crate) async fn stream(&self, path: &str) -> Result<Body, ClientError> {
        Ok(Body { client: self.clone(), body: self.get(path).await?.into_body() })
    }

    /// Goes over to SPDY on one of the endpoints of pods. `protocol` is what Kubernetes speaks in its streams.
    pub(crate) async fn upgrade(&self, path: &str, protocol: &'static str) -> Result<Session, ClientError> {
        let mut request = self.request(Method::POST, path)?;
        let headers = request.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        headers.insert("x-stream-protocol-version", HeaderValue::from_static(protocol));
        let mut response = self.send(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.refused(response).await);
        }
        let upgraded = hyper::upgrade::on(&mut response).await.map_err(|error| self.broken(error))?;
        Ok(Session::start(TokioIo::new(upgraded)))
    }

    async fn get(&self, path: &str) -> Result<Response<Incoming>, ClientError> {
        let response = self.send(self.request(Method::GET, path)?).await?;
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response).await) }
    }

    fn request(&self, method: Method, path: &str) -> Result<Request<Empty<Bytes>>, ClientError> {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .body(Empty::new())
            .map_err(|source| ClientError::Path { path: path.to_owned(), source })
    }

    async fn refused(&self, response: Response<Incoming>) -> ClientError {
        let status = response.status();
        let body = match response.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return self.broken(error),
        };
        let message = String::from_utf8_lossy(&body).trim().to_owned();
        ClientError::Refused { socket: self.socket.clone(), status, message }
    }

    async fn send(&self, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        let answer = tokio::time::timeout(ANSWER_LIMIT, async {
            let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unconnected(error))?;
            let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
                .await
                .map_err(|error| self.broken(error))?;
            // Its error is also that of the request or the body.
            tokio::spawn(connection.with_upgrades());
            sender.send_request(request).await.map_err(|error| self.broken(error))
        });
        answer.await.map_err(|_| ClientError::Silent(self.socket.clone()))?
    }

    fn unconnected(&self, source: io::Error) -> ClientError {
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { root_dir: self.root_dir.clone() }
            }
            io::ErrorKind::PermissionDenied => ClientError::Denied(self.socket.clone()),
            _ => ClientError::Connect { socket: self.socket.clone(), source },
        }
    }

    fn broken(&self, source: hyper::Error) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), source }
    }

    fn decode<T: DeserializeOwned>(&self, json: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(json)
            .map_err(|source| ClientError::Answer { socket: self.socket.clone(), source })
    }
}

/// An answer that comes piece by piece.
#[derive(Debug)]
pub(crate) struct Body {
    client: Client,
    body: Incoming,
}

impl Body {
    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(|error| self.client.broken(error))?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// A stream of snapshots.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    body: Incoming,
    pending: BytesMut,
}

impl Watch {
    /// The next snapshot; `None` when the agent stops.
    ///
    /// # Errors
    /// When the connection breaks or the agent sends something else.
    pub async fn next(&mut self) -> Result<Option<ViewSnapshot>, ClientError> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.pending[searched..].iter().position(|&byte| byte == b'\n') {
                let line = self.pending.split_to(searched + end);
                self.pending.advance(1);
                return self.client.decode(&line).map(Some);
            }
            searched = self.pending.len();
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.client.broken(error)),
                Some(Ok(frame)) => self.pending.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
