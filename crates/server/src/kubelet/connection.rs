//! Connections: how many, how long they may go on without progress, and what goes on in them after an upgrade.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::TcpListenerStream;

use super::service::Service;
use super::traffic::{IDLE_LIMIT, Traffic, Watched, stuck};
use crate::http1;

/// Connections at once, streams after an upgrade too; more wait in the socket's backlog.
const MOST_CONNECTIONS: usize = 1024;

/// Longest time for a TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Longest time to say goodbye to a client that makes no progress.
const GOODBYE_LIMIT: Duration = Duration::from_secs(5);

/// Longest request line with headers, in bytes: as Go's, as a command may be as long as the system allows and stands
/// in the line. A connection has one at a time.
const MOST_HEADER_BYTES: usize = 1 << 20;

/// Longest headers of a request in HTTP/2, in bytes. Nothing long travels there, as commands need an upgrade; and a
/// connection may have hundreds at once.
const MOST_HEADER_BYTES_EACH: u32 = 32 * 1024;

/// What requests of one connection share.
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    /// What the client showed, its own first.
    pub(super) certificates: Vec<CertificateDer<'static>>,
    traffic: watch::Sender<Traffic>,
    tunnel: Mutex<Option<BoxFuture<'static, ()>>>,
}

/// A request whose answer is not sent: it keeps its connection from being idle.
pub(super) struct Busy {
    traffic: watch::Sender<Traffic>,
    untaken: bool,
}

impl Connection {
    fn new(
        peer: SocketAddr,
        certificates: Vec<CertificateDer<'static>>,
        traffic: watch::Sender<Traffic>,
    ) -> Arc<Self> {
        Arc::new(Self { peer, certificates, traffic, tunnel: Mutex::default() })
    }

    pub(super) fn busy(&self) -> Busy {
        self.traffic.send_modify(|traffic| {
            traffic.begun = true;
            traffic.open += 1;
        });
        Busy { traffic: self.traffic.clone(), untaken: false }
    }

    /// Says that a log or a stream was asked for: its reader may take a while.
    pub(super) fn patient(&self) {
        self.traffic.send_modify(|traffic| traffic.patient = true);
    }

    /// What goes on in the connection once it was upgraded. It is run in the place of the connection, so that it
    /// counts as one and ends with the server.
    pub(super) fn upgrade(&self, tunnel: BoxFuture<'static, ()>) {
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    }
}

impl Busy {
    /// Whether there is a piece of the answer that the client has not taken, as far as is known.
    pub(super) fn untaken(&mut self, untaken: bool) {
        if untaken != self.untaken {
            self.untaken = untaken;
            self.traffic.send_modify(|traffic| match untaken {
                true => traffic.untaken += 1,
                false => traffic.untaken -= 1,
            });
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.untaken(false);
        self.traffic.send_modify(|traffic| traffic.open -= 1);
    }
}

/// Serves until it is dropped.
pub(super) async fn serve_all(listener: TcpListener, tls: Option<TlsAcceptor>, service: Arc<Service>) {
    http1::serve_all(TcpListenerStream::new(listener), MOST_CONNECTIONS, |stream| {
        serve(stream, tls.clone(), Arc::clone(&service))
    })
    .await;
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, service: Arc<Service>) {
    let Ok(peer) = stream.peer_addr() else { return };
    // A client that vanishes without a word is noticed after a while; small frames are not held back.
    let _best_effort = stream.set_nodelay(true);
    let _best_effort = keep_alive(&stream);
    let traffic = watch::Sender::<Traffic>::default();
    let stream = Watched::new(stream, traffic.clone());
    let Some(tls) = tls else {
        return requests(stream, Connection::new(peer, vec![], traffic), service).await;
    };
    match tokio::time::timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let shown = shown.iter().map(|certificate| certificate.clone().into_owned()).collect();
            requests(stream, Connection::new(peer, shown, traffic), service).await;
        }
        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
    }
}

fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(15))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15))
}

async fn requests<S>(stream: S, connection: Arc<Connection>, service: Arc<Service>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handle = service_fn(|request: Request<Incoming>| {
        let (service, connection) = (Arc::clone(&service), Arc::clone(&connection));
        async move { Ok::<_, Infallible>(service.handle(request, &connection).await) }
    });
    {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new()).header_read_timeout(IDLE_LIMIT).max_buf_size(MOST_HEADER_BYTES);
        http.http2().timer(TokioTimer::new()).max_header_list_size(MOST_HEADER_BYTES_EACH);
        let mut served = pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), handle));
        // Cancel-safe: the connection is polled on afterwards, its time is over.
        let ended = tokio::select! {
            ended = served.as_mut() => ended,
            () = stuck(&connection.traffic) => {
                served.as_mut().graceful_shutdown();
                tokio::time::timeout(GOODBYE_LIMIT, served).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %connection.peer, %error, "A client went away or sent no HTTP");
        }
    }
    let tunnel = connection.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(tunnel) = tunnel {
        connection.traffic.send_modify(|traffic| traffic.upgraded = true);
        tokio::select! {
            () = tunnel => {}
            // Given up on purpose.
            () = stuck(&connection.traffic) => {
                tracing::debug!(peer = %connection.peer, "A client does not read its stream");
            }
        }
    }
}
