//! The proxy of requests.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, TRANSFER_ENCODING,
};
use ::http::uri::{PathAndQuery, Scheme};
use ::http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::Background;
use super::body::{Counted, End};
use crate::env::{Ca, Error as EnvError};

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The server is not asked: the answer is this code with a `Status`, and `Retry-After` in seconds if given.
    Refuse(u16, Option<u32>),
    /// The server is asked this much later.
    Slow(Duration),
    /// The answer's body ends after so many bytes as though it were whole.
    Truncate(usize),
    /// The answer's body breaks off after so many bytes.
    Break(usize),
    /// After so many bytes of the answer's body nothing comes any more, and the connection stays.
    Hang(usize),
}

/// A request that has come through a [`HttpProxy`], and what is known of its answer.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// `GET`, `PATCH`, ...
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// The query without its question mark; empty without one.
    pub query: String,
    /// The answer's code, once there is one.
    pub code: Option<u16>,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
}

impl Exchange {
    /// Whether it asks for changes instead of objects.
    #[must_use]
    pub fn is_watch(&self) -> bool {
        self.query.split('&').any(|part| matches!(part, "watch=1" | "watch=true"))
    }

    /// Bytes of its body that have gone to the server.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Bytes of the answer's body that have come, up to now where it goes on.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }
}

/// A proxy that ends TLS, for HTTP/1.1 and HTTP/2. Clients log in with tokens: a certificate would not get through.
/// Nor do upgraded connections (exec, attach, port-forward).
#[derive(Debug)]
pub struct HttpProxy {
    _background: Background,
    address: SocketAddr,
    shared: Arc<Shared>,
}

type Upstream = Client<HttpsConnector<HttpConnector>, Counted>;

struct Shared {
    upstream: SocketAddr,
    client: Upstream,
    exchanges: Mutex<Vec<Exchange>>,
    rules: Mutex<Vec<Rule>>,
    /// Changes when all connections are to be cut.
    cuts: tokio::sync::watch::Sender<()>,
}

struct Rule {
    fault: Fault,
    left: Option<u32>,
    applies: Box<dyn Fn(&Exchange) -> bool + Send>,
}

impl HttpProxy {
    /// Starts a proxy in front of the server at this address, with a certificate of the authority that the
    /// server's own certificate is of.
    ///
    /// # Errors
    /// When no certificate can be made, or there is no port or no thread to be had.
    pub fn start(ca: &Ca, upstream: SocketAddr) -> Result<Self, EnvError> {
        let failed = |source: io::Error| EnvError::File {
            action: "start a proxy in front of",
            path: upstream.to_string().into(),
            source,
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = acceptor(ca, address)?;
        let shared = Arc::new(Shared {
            upstream,
            client: client(ca).map_err(failed)?,
            exchanges: Mutex::default(),
            rules: Mutex::default(),
            cuts: tokio::sync::watch::Sender::new(()),
        });
        let background = Background::new().map_err(failed)?;
        background.spawn(accept(listener, tls, Arc::clone(&shared)));
        Ok(Self { _background: background, address, shared })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// From now on, this goes wrong with the requests that `when` holds for; the oldest fault that holds counts.
    pub fn fault(&self, fault: Fault, when: impl Fn(&Exchange) -> bool + Send + 'static) {
        lock(&self.shared.rules).push(Rule { fault, left: None, applies: Box::new(when) });
    }

    /// As [`HttpProxy::fault`], for the next `times` requests only.
    pub fn fault_times(&self, times: u32, fault: Fault, when: impl Fn(&Exchange) -> bool + Send + 'static) {
        lock(&self.shared.rules).push(Rule { fault, left: Some(times), applies: Box::new(when) });
    }

    /// Nothing more goes wrong with new requests.
    pub fn clear_faults(&self) {
        lock(&self.shared.rules).clear();
    }

    /// Breaks all connections that there are; new ones are served.
    pub fn cut(&self) {
        self.shared.cuts.send_replace(());
    }

    /// The requests up to now, oldest first.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        lock(&self.shared.exchanges).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

/// TLS towards clients.
fn acceptor(ca: &Ca, address: SocketAddr) -> Result<TlsAcceptor, EnvError> {
    let identity = ca.server(&format!("proxy-{}", address.port()), &["127.0.0.1", "localhost"])?;
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| EnvError::File {
        action: "use",
        path: identity.certificate.clone(),
        source: io::Error::other(error),
    };
    let certificate = CertificateDer::from_pem_file(&identity.certificate).map_err(|e| failed(e.into()))?;
    let key = PrivateKeyDer::from_pem_file(&identity.key).map_err(|e| failed(e.into()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
        .map_err(|e| failed(e.into()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// TLS towards the server.
fn client(ca: &Ca) -> io::Result<Upstream> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(ca.certificate()).map_err(io::Error::other)?;
    roots.add(authority).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .enable_http1()
        .enable_http2()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

async fn accept(listener: std::net::TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, tls.clone(), Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    // Else what is passed on waits for acknowledgements.
    let _best_effort = stream.set_nodelay(true);
    // A client that does not trust the certificate, or goes away, is its own affair.
    let Ok(stream) = tls.accept(stream).await else { return };
    let mut cuts = shared.cuts.subscribe();
    let service = service_fn(move |request| handle(request, Arc::clone(&shared)));
    let builder = auto::Builder::new(TokioExecutor::new());
    tokio::select! {
        _ = builder.serve_connection(TokioIo::new(stream), service) => {}
        _ = cuts.changed() => {}
    }
}

type Answer = Response<Either<Full<Bytes>, Counted>>;

/// Passes one request on, or lets it go wrong. An error breaks the stream, as a server that cannot be reached
/// would.
async fn handle(request: Request<Incoming>, shared: Arc<Shared>) -> io::Result<Answer> {
    let exchange = Exchange {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        code: None,
        sent: Arc::default(),
        received: Arc::default(),
    };
    let fault = shared.fault_for(&exchange);
    let (sent, received) = (Arc::clone(&exchange.sent), Arc::clone(&exchange.received));
    let index = {
        let mut exchanges = lock(&shared.exchanges);
        exchanges.push(exchange);
        exchanges.len() - 1
    };
    let mut limit = None;
    match fault {
        Some(Fault::Refuse(code, retry_after)) => {
            shared.answered(index, code);
            return refusal(code, retry_after);
        }
        Some(Fault::Slow(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::Truncate(bytes)) => limit = Some((bytes, End::Whole)),
        Some(Fault::Break(bytes)) => limit = Some((bytes, End::Broken)),
        Some(Fault::Hang(bytes)) => limit = Some((bytes, End::Silent)),
        None => {}
    }
    let onward = onward(request, shared.upstream, sent)?;
    let answer = shared.client.request(onward).await.map_err(io::Error::other)?;
    shared.answered(index, answer.status().as_u16());
    let (mut parts, body) = answer.into_parts();
    for_one_connection_only(&mut parts.headers);
    if limit.is_some_and(|(_, end)| end == End::Whole) {
        parts.headers.remove(CONTENT_LENGTH);
    }
    // It is set for each side anew.
    parts.version = Version::default();
    Ok(Response::from_parts(parts, Either::Right(Counted::new(body, received, limit))))
}

impl Shared {
    /// The fault for a request, used up if it was for a number of requests.
    fn fault_for(&self, exchange: &Exchange) -> Option<Fault> {
        let mut rules = lock(&self.rules);
        let rule = rules.iter_mut().find(|rule| rule.left != Some(0) && (rule.applies)(exchange))?;
        if let Some(left) = &mut rule.left {
            *left -= 1;
        }
        Some(rule.fault)
    }

    fn answered(&self, index: usize, code: u16) {
        lock(&self.exchanges)[index].code = Some(code);
    }
}

/// The request as the server gets it.
fn onward(request: Request<Incoming>, to: SocketAddr, sent: Arc<AtomicU64>) -> io::Result<Request<Counted>> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    parts.uri = Uri::builder()
        .scheme(Scheme::HTTPS)
        .authority(to.to_string())
        .path_and_query(path)
        .build()
        .map_err(io::Error::other)?;
    for_one_connection_only(&mut parts.headers);
    parts.headers.remove(HOST);
    parts.version = Version::default();
    Ok(Request::from_parts(parts, Counted::new(body, sent, None)))
}

/// Takes out what concerns the connection and not the message.
fn for_one_connection_only(headers: &mut HeaderMap) {
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
}

/// An error as an API server words it.
fn refusal(code: u16, retry_after: Option<u32>) -> io::Result<Answer> {
    let status = StatusCode::from_u16(code).map_err(io::Error::other)?;
    let object = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": format!("the proxy was told to answer {status}"),
        "reason": match code {
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "",
        },
        "details": {"retryAfterSeconds": retry_after},
        "code": code,
    });
    let mut answer = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    if let Some(seconds) = retry_after {
        answer = answer.header(RETRY_AFTER, seconds);
    }
    answer.body(Either::Left(Full::new(object.to_string().into()))).map_err(io::Error::other)
}
