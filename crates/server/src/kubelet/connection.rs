//! Connections: how many, how long they may go on without progress, and what goes on in them after an upgrade.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use reload::Reloaded;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use serving::{Slot, Watched};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::TcpListenerStream;

use super::heads::Heads;
use super::service::Service;
use super::traffic::{IDLE_LIMIT, Traffic, TrafficWatch, stuck};
use crate::tls::TlsError;
use crate::{http1, listen};

/// Connections at once, streams after an upgrade too. A new one may have the place of one that is idle.
const MOST_CONNECTIONS: usize = 1024;

/// Longest time for a TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Longest time to say goodbye to a client that makes no progress.
const GOODBYE_LIMIT: Duration = Duration::from_secs(5);

/// Longest request line with headers, in bytes: the longest path that hyper takes, in which a command stands, and 16 KiB.
/// A connection has one at a time, and [`Heads`] bounds all together.
const MOST_HEADER_BYTES: usize = (64 + 16) << 10;

/// Most requests of one connection at once, in HTTP/2.
const MOST_STREAMS: u32 = 32;

/// Bytes that wait somewhere for one of them in HTTP/2, and for all in TLS: the headers of a request, its body, its
/// answer. Nothing long comes in HTTP/2, as commands need an upgrade.
const BUFFER: u32 = 16 << 10;

/// Bytes that a client may send in HTTP/2 of all bodies together: no less can be asked for.
const WINDOW: u32 = (1 << 16) - 1;

/// What connections are accepted with.
pub(super) type Tls = Reloaded<ServerConfig, TlsError>;

/// What requests of one connection share.
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    /// What the client showed, its own first.
    pub(super) certificates: Vec<CertificateDer<'static>>,
    traffic: watch::Sender<Traffic>,
    tunnel: Mutex<Option<BoxFuture<'static, ()>>>,
    slot: Arc<Slot>,
    /// Somebody who is not authenticated was refused.
    refused: Notify,
}

/// A request whose answer is not sent: it keeps its connection from being idle.
pub(super) struct Busy {
    traffic: watch::Sender<Traffic>,
    untaken: bool,
    _slot: serving::Busy,
}

impl Connection {
    fn new(
        peer: SocketAddr,
        certificates: Vec<CertificateDer<'static>>,
        traffic: watch::Sender<Traffic>,
        slot: Arc<Slot>,
    ) -> Arc<Self> {
        let (tunnel, refused) = (Mutex::default(), Notify::new());
        Arc::new(Self { peer, certificates, traffic, tunnel, slot, refused })
    }

    /// `None` if another connection has got its slot, so that this one will have no answer.
    pub(super) fn busy(&self) -> Option<Busy> {
        let slot = self.slot.busy()?;
        self.traffic.send_modify(|traffic| {
            traffic.requests += 1;
            traffic.open += 1;
        });
        Some(Busy { traffic: self.traffic.clone(), untaken: false, _slot: slot })
    }

    /// Says that a user was let in.
    pub(super) fn set_known(&self) {
        self.slot.set_known();
    }

    /// Says that a user was refused: the connection of one who is not authenticated ends with the answer. True if it does.
    pub(super) fn refuse(&self) -> bool {
        let unknown = !self.slot.is_known();
        if unknown {
            self.refused.notify_one();
        }
        unknown
    }

    /// Says that a log or a stream was asked for: its reader may take a while.
    pub(super) fn patient(&self) {
        self.traffic.send_modify(|traffic| traffic.patient = true);
    }

    /// What goes on in the connection once it was upgraded. It is run in the place of the connection, so that it
    /// counts as one and ends with the server.
    pub(super) fn upgrade(&self, tunnel: BoxFuture<'static, ()>) {
        let busy = self.slot.busy();
        let tunnel = tunnel.map(move |()| drop(busy)).boxed();
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
pub(super) async fn serve_all(listener: TcpListener, tls: Option<Arc<Tls>>, service: Arc<Service>) {
    let incoming = TcpListenerStream::new(listener).map(http1::with_peer);
    let heads = Heads::default();
    let mut connections = JoinSet::new();
    serving::serve_all(incoming, MOST_CONNECTIONS, &mut connections, |stream, slot| {
        serve(stream, slot, heads.clone(), tls.clone(), Arc::clone(&service))
    })
    .await;
}

async fn serve(
    stream: TcpStream,
    slot: Arc<Slot>,
    heads: Heads,
    tls: Option<Arc<Tls>>,
    service: Arc<Service>,
) {
    let Ok(peer) = listen::peer(&stream) else { return };
    // A client that vanishes without a word is noticed after a while; small frames are not held back.
    let _best_effort = stream.set_nodelay(true);
    let _best_effort = keep_alive(&stream);
    let traffic = watch::Sender::<Traffic>::default();
    let stream = Watched::new(stream, TrafficWatch::new(traffic.clone(), heads));
    let Some(tls) = tls else {
        return requests(stream, Connection::new(peer, vec![], traffic, slot), service).await;
    };
    let accepted = async {
        let acceptor = TlsAcceptor::from(tls.current().await);
        acceptor.accept_with(stream, |tls| tls.set_buffer_limit(Some(BUFFER as usize))).await
    };
    match tokio::time::timeout(HANDSHAKE_LIMIT, accepted).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let shown = shown.iter().map(|certificate| certificate.clone().into_owned()).collect();
            requests(stream, Connection::new(peer, shown, traffic, slot), service).await;
        }
        Ok(Err(error)) => tracing::debug!(%peer, error = %util::causes(&error), "TLS handshake failed"),
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
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MOST_STREAMS)
            .max_header_list_size(BUFFER)
            .initial_stream_window_size(BUFFER)
            .initial_connection_window_size(WINDOW)
            .max_send_buf_size(BUFFER as usize);
        let mut served = pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), handle));
        let over = async {
            tokio::select! {
                () = stuck(&connection.traffic) => {}
                () = connection.refused.notified() => {}
            }
        };
        // Cancel-safe: the connection is polled on afterwards, its time is over.
        let ended = tokio::select! {
            ended = served.as_mut() => ended,
            () = over => {
                served.as_mut().graceful_shutdown();
                tokio::time::timeout(GOODBYE_LIMIT, served).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %connection.peer, error = %util::causes(&*error), "A client went away or sent no HTTP");
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
