//! From sockets to requests: TLS, HTTP/1.1, who may connect, and what a connection may use up.
//!
//! HTTP/2 is left out: with it one connection could hold any number of requests, and kubectl needs none of it.

mod received;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use serving::{Patience, Slot, Watched};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::access::{Access, Peer};
use super::error::ApiError;
use super::files::OfFiles;
use super::listen::{Io, Listener};
use super::rest::client::Origin;
use super::rest::{self, Api, Refusal};

/// Most bytes that are held for a connection: the head of a request, or what of an answer is not sent yet. It is all that
/// somebody who is not authenticated can take, so it is not much more than the longest head that anybody needs.
const BUFFER: usize = 16 << 10;
/// How long requests that are under way have when the server ends.
const DRAIN: Duration = Duration::from_secs(5);

/// What all connections share.
struct Shared {
    tls: Option<OfFiles<ServerConfig>>,
    access: Access,
    api: Arc<Api>,
    router: Router,
    cancel: CancellationToken,
}

/// Serves until `cancel` is cancelled and the requests that are under way have ended, or had time to.
pub(super) async fn serve(
    listener: Listener,
    tls: Option<OfFiles<ServerConfig>>,
    access: Access,
    api: Arc<Api>,
    cancel: CancellationToken,
) {
    let router = rest::router(Arc::clone(&api));
    let most = api.limits.connections;
    let shared = Arc::new(Shared { tls, access, api, router, cancel: cancel.clone() });
    let mut connections = JoinSet::new();
    {
        let incoming = pin!(stream::unfold(&listener, async |listener| {
            let accepted = listener.accept().await;
            Some((accepted.map(|(stream, peer, from)| ((stream, Origin(from)), peer)), listener))
        }));
        let accept = serving::serve_all(incoming, most, &mut connections, |(stream, from), place| {
            serve_connection(stream, from, place, Arc::clone(&shared))
        });
        cancel.run_until_cancelled(accept).await;
    }
    drop(listener);
    // Whoever takes longer is cut off.
    let _late = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
}

async fn serve_connection(stream: Box<dyn Io>, from: Origin, connection: Arc<Slot>, shared: Arc<Shared>) {
    let (stream, peer): (Box<dyn Io>, _) = match &shared.tls {
        None => (stream, Peer { certified: false }),
        Some(tls) => {
            let accept = async { TlsAcceptor::from(tls.current().await).accept(stream).await };
            match timeout(shared.api.limits.idle, accept).await {
                Ok(Ok(stream)) => {
                    // Those that are there have been verified.
                    let certified = stream.get_ref().1.peer_certificates().is_some();
                    (Box::new(stream), Peer { certified })
                }
                Ok(Err(error)) => {
                    tracing::debug!(error = %util::causes(&error), "No TLS connection to the push API came about");
                    return;
                }
                Err(_too_slow) => return,
            }
        }
    };
    serve_http(stream, peer, &from, &connection, &shared).await;
}

async fn serve_http(
    stream: Box<dyn Io>,
    peer: Peer,
    from: &Origin,
    connection: &Arc<Slot>,
    shared: &Arc<Shared>,
) {
    let service = hyper::service::service_fn(|mut request: axum::http::Request<Incoming>| {
        request.extensions_mut().insert(from.clone());
        let (connection, shared) = (Arc::clone(connection), Arc::clone(shared));
        async move { Ok::<_, Infallible>(answer(request, peer, &connection, &shared).await) }
    });
    let http = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.api.limits.idle)
        .max_buf_size(BUFFER)
        .serve_connection(
            TokioIo::new(Watched::new(stream, Patience::new(shared.api.limits.stall))),
            service,
        );
    let mut http = std::pin::pin!(http);
    let ended = tokio::select! {
        ended = http.as_mut() => ended,
        () = shared.cancel.cancelled() => {
            http.as_mut().graceful_shutdown();
            http.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %util::causes(&error), "A connection of the push API ended early");
    }
}

async fn answer(
    request: axum::http::Request<Incoming>,
    peer: Peer,
    connection: &Arc<Slot>,
    shared: &Shared,
) -> Response {
    let (request, busy) = received::request(request, connection);
    let answered = match shared.access.check(peer, request.uri(), request.headers()).await {
        Err(error) => {
            let mut refused = Refusal::from(error).into_response();
            // One who is not authenticated has the answer, and no slot any more.
            refused.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            refused
        }
        Ok(()) => {
            connection.set_known();
            let answered = timeout(shared.api.limits.request, shared.router.clone().oneshot(request)).await;
            answered.map_or_else(
                |_| {
                    let why = "Timeout: the request did not complete within the allotted time";
                    Refusal::from(ApiError::new(504, "Timeout", why)).into_response()
                },
                |answer| answer.unwrap_or_else(|never| match never {}),
            )
        }
    };
    // Until the last of the answer is written; a watch is busy for as long as it sends.
    let busy = busy.get_or_init(|| connection.busy().map(Arc::new)).clone();
    match shared.api.unsent.share(answered.body().size_hint().exact()) {
        Some(share) => answered.map(|body| Body::new(share.send(body, busy))),
        None => {
            let why = "too many answers at once, please try again later";
            Refusal::from(ApiError::new(429, "TooManyRequests", why)).into_response()
        }
    }
}
