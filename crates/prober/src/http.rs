//! HTTP probes and HTTP lifecycle hooks: GET over a connection of its own, straight to the container (no proxy, no
//! keep-alive, no compression, certificates not verified). Status 200 to 399 is a success; redirects are followed
//! on the same host only (upstream `pkg/probe/http`).

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, LOCATION, TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube_model::core::{Container, HTTPGetAction};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, InvalidMessage};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::attempt::{HandlerError, Verdict};
use crate::dial::{DialError, dial};
use crate::error::chain;
use crate::target::{self, TargetError};
use crate::{HOOK_USER_AGENT, OUTPUT_CAP, USER_AGENT, tls};

mod head;
mod url;

use head::PlainHead;
use url::Url;
pub(crate) use url::authority;

/// As many requests as Go's client makes for one GET.
const MAX_REQUESTS: usize = 10;

/// Makes the requests of probes and hooks. Holds only the TLS configuration, no connections.
#[derive(Debug, Clone)]
pub struct Client {
    tls: Arc<ClientConfig>,
}

/// How a hook's request went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookAnswer {
    /// The status; any one counts as success.
    pub status: StatusCode,
    /// The hook asked for HTTPS but the server speaks plain HTTP, and that worked: the `host:port` for the event
    /// `LifecycleHTTPFallback`.
    pub fell_back: Option<String>,
}

/// A request without an answer.
#[derive(Debug, thiserror::Error)]
#[error("Get {url:?}")]
pub struct GetError {
    /// What was asked for; after a redirect, the redirected URL.
    url: String,
    source: Cause,
}

/// Why a hook's request failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// There is no address to send it to.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// No answer came.
    #[error(transparent)]
    Get(#[from] GetError),
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("invalid header {name:?}")]
    Header { name: String, source: http::Error },
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("http: server gave HTTP response to HTTPS client")]
    PlainServer,
    #[error("tls handshake")]
    Tls(#[source] io::Error),
    #[error("invalid TLS server name")]
    ServerName(#[from] rustls::pki_types::InvalidDnsNameError),
    #[error(transparent)]
    Exchange(#[from] hyper::Error),
    #[error("cannot build the request")]
    Request(#[from] http::Error),
    #[error("stopped after {MAX_REQUESTS} redirects")]
    Redirects,
    #[error("cannot follow the redirect to {0:?}")]
    Location(String),
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// A client that trusts any certificate.
    pub fn new() -> Self {
        Self { tls: tls::trust_any() }
    }

    /// Runs an HTTP probe once. `limit` covers everything from the lookup to the body. No answer in time is a
    /// failure; an answer that breaks off or stalls within its body is an error, as in the kubelet.
    pub async fn probe(
        &self,
        action: &HTTPGetAction,
        container: &Container,
        pod_ip: Option<IpAddr>,
        limit: Duration,
    ) -> Result<Verdict, HandlerError> {
        let deadline = Instant::now() + limit;
        let url = url_of(action, container, pod_ip)?;
        let headers = match headers_of(&url, action, USER_AGENT) {
            Ok(headers) => headers,
            Err(e) => return Ok(Verdict::Failure(chain(&e))),
        };
        let answer = match timeout_at(deadline, self.get(&url, &headers)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(e)) => return Ok(Verdict::Failure(chain(&e))),
            Err(_) => {
                let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
                return Ok(Verdict::Failure(format!("Get \"{url}\": {late}")));
            }
        };
        let status = answer.status();
        let broken = |why: &str| HandlerError::HttpBody(format!("Get \"{url}\": reading the body: {why}"));
        let body = match timeout_at(deadline, answer.body()).await {
            Ok(body) => body.map_err(|e| broken(&chain(&e)))?,
            Err(_) => return Err(broken("context deadline exceeded")),
        };
        Ok(if status.is_redirection() {
            let body = String::from_utf8_lossy(&body);
            Verdict::Warning(format!("Probe terminated redirects, Response body: {body}"))
        } else if status.is_success() {
            Verdict::Success
        } else {
            // Never with the body: events are more widely readable than containers.
            Verdict::Failure(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
        })
    }

    /// Runs an `httpGet` lifecycle hook: any answer is a success, whatever its status, and its body is not read.
    /// HTTPS towards a server that speaks plain HTTP is tried again without TLS and without credentials
    /// (upstream `pkg/kubelet/lifecycle/handlers.go`). No timeout: the caller bounds it by the grace period.
    pub async fn hook(
        &self,
        action: &HTTPGetAction,
        container: &Container,
        pod_ip: Option<IpAddr>,
    ) -> Result<HookAnswer, HookError> {
        let url = url_of(action, container, pod_ip)?;
        let mut headers = headers_of(&url, action, HOOK_USER_AGENT)?;
        match self.get(&url, &headers).await {
            Ok(answer) => Ok(HookAnswer { status: answer.status(), fell_back: None }),
            Err(GetError { source: Cause::PlainServer, .. }) => {
                headers.remove(AUTHORIZATION);
                let plain = Url { tls: false, ..url };
                let status = self.get(&plain, &headers).await?.status();
                Ok(HookAnswer { status, fell_back: Some(plain.authority()) })
            }
            Err(e) => Err(e.into()),
        }
    }

    /// GET, following redirects on the same host. The first answer that is not one of those is the result.
    async fn get(&self, url: &Url, headers: &HeaderMap) -> Result<Answer, GetError> {
        let mut url = url.clone();
        let mut headers = headers.clone();
        for _ in 0..MAX_REQUESTS {
            let answer = self.request(&url, headers.clone()).await.map_err(|cause| cause.of(&url))?;
            let Some(location) = answer.redirect() else { return Ok(answer) };
            let Some(next) = url.join(&location) else { return Err(Cause::Location(location).of(&url)) };
            if next.host != url.host {
                return Ok(answer);
            }
            if url::has_scheme(&location) {
                headers.remove(HOST);
            }
            url = next;
        }
        Err(Cause::Redirects.of(&url))
    }

    async fn request(&self, url: &Url, mut headers: HeaderMap) -> Result<Answer, Cause> {
        let host = match headers.remove(HOST) {
            Some(host) => host,
            None => HeaderValue::try_from(url.authority()).map_err(http::Error::from)?,
        };
        let stream = dial(&url.host, url.port).await?;
        if !url.tls {
            return over_http1(stream, url, host, headers).await;
        }
        let name = ServerName::try_from(url.host.clone())?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.map_err(tls_cause)?;
        if stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2) {
            over_http2(stream, url, host, headers).await
        } else {
            over_http1(stream, url, host, headers).await
        }
    }
}

/// An answer whose body still comes.
struct Answer {
    response: Response<Incoming>,
    /// Moves the bytes; when it goes, the connection closes.
    _connection: AbortOnDropHandle<()>,
}

impl Answer {
    fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The `Location` of a status that redirects a GET; without that header the answer is final (as in Go).
    fn redirect(&self) -> Option<String> {
        if !matches!(self.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        let location = String::from_utf8_lossy(self.response.headers().get(LOCATION)?.as_bytes());
        (!location.is_empty()).then(|| location.into_owned())
    }

    /// The first 10 KiB of the body; the rest is left unread.
    async fn body(self) -> Result<Vec<u8>, hyper::Error> {
        let Self { response, _connection } = self;
        let mut incoming = response.into_body();
        let mut body = Vec::new();
        while body.len() < OUTPUT_CAP
            && let Some(frame) = incoming.frame().await
        {
            body.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
        }
        body.truncate(OUTPUT_CAP);
        Ok(body)
    }
}

/// Header names are written as Go writes them (`User-Agent`), for servers that look at their case.
async fn over_http1<T>(io: T, url: &Url, host: HeaderValue, mut headers: HeaderMap) -> Result<Answer, Cause>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    headers.insert(HOST, host);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let request = request(url.target.parse().map_err(http::Error::from)?, headers);
    let mut builder = http1::Builder::new();
    let io = TokioIo::new(PlainHead::new(io));
    let (mut sender, connection) = builder.title_case_headers(true).handshake(io).await?;
    let connection = drive(connection);
    Ok(Answer { response: sender.send_request(request).await?, _connection: connection })
}

async fn over_http2<T>(io: T, url: &Url, host: HeaderValue, headers: HeaderMap) -> Result<Answer, Cause>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let uri =
        Uri::builder().scheme("https").authority(host.as_bytes()).path_and_query(&*url.target).build()?;
    let executor = TokioExecutor::new();
    let (mut sender, connection) = http2::handshake(executor, TokioIo::new(io)).await?;
    let connection = drive(connection);
    Ok(Answer { response: sender.send_request(request(uri, headers)).await?, _connection: connection })
}

fn request(uri: Uri, headers: HeaderMap) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    request
}

/// Runs a connection until its handle goes. Its errors reach the request and the body too.
fn drive(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async {
        let _ = connection.await;
    }))
}

fn tls_cause(error: io::Error) -> Cause {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        // The first byte is no TLS record type: where TLS was refused like this, the server answered in plain text.
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => Cause::PlainServer,
        _ => Cause::Tls(error),
    }
}

fn url_of(action: &HTTPGetAction, container: &Container, pod_ip: Option<IpAddr>) -> Result<Url, TargetError> {
    let tls = action.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https"));
    let host = target::host(action.host.as_deref(), pod_ip)?;
    let port = target::port(&action.port, container)?;
    Ok(Url::new(tls, host, port, action.path.as_deref().unwrap_or_default()))
}

/// The handler's headers and the defaults for those it does not set. An empty `Accept`, `User-Agent` or `Host` is not
/// sent at all, and what frames the message is the client's business (as in Go).
fn headers_of(url: &Url, action: &HTTPGetAction, user_agent: &'static str) -> Result<HeaderMap, GetError> {
    let mut headers = HeaderMap::new();
    for header in action.http_headers.iter().flatten() {
        let invalid = |source| Cause::Header { name: header.name.clone(), source }.of(url);
        let name = HeaderName::try_from(&header.name).map_err(|e| invalid(e.into()))?;
        let value = HeaderValue::try_from(&header.value).map_err(|e| invalid(e.into()))?;
        headers.append(name, value);
    }
    for (name, default) in [(http::header::USER_AGENT, user_agent), (ACCEPT, "*/*")] {
        headers.entry(name).or_insert(HeaderValue::from_static(default));
    }
    for name in [http::header::USER_AGENT, ACCEPT, HOST] {
        if headers.get(&name).is_some_and(HeaderValue::is_empty) {
            headers.remove(name);
        }
    }
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER] {
        headers.remove(name);
    }
    Ok(headers)
}

impl Cause {
    fn of(self, url: &Url) -> GetError {
        GetError { url: url.to_string(), source: self }
    }
}

#[cfg(test)]
mod tests;
