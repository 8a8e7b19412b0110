//! Serving HTTP/1 to clients that may be slow, silent or many: one request a connection, so that none can
//! occupy a place for longer than its answer takes.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Method, Request, Response, StatusCode, Version, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Longest time that a client may take to send its request.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// A body of either kind: in one piece, or a stream.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A connection as it was accepted, with its peer; one that is gone already has none.
pub(crate) fn with_peer(accepted: io::Result<TcpStream>) -> io::Result<(TcpStream, Option<IpAddr>)> {
    accepted.map(|stream| {
        let peer = stream.peer_addr().ok().map(|peer| peer.ip());
        (stream, peer)
    })
}

/// Reads one request from `stream` and writes the answer of `route`, which may be an upgrade.
pub(crate) async fn serve_one<S, Fut>(stream: S, route: impl Fn(Request<Incoming>) -> Fut)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    Fut: Future<Output = Response<Body>>,
{
    let served = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_LIMIT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service_fn(|request| route(request).map(Ok::<_, Infallible>)))
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(error = %util::causes(&error), "A client went away or sent no HTTP");
    }
}

/// What Go's server does about the header `Host` before anything else: HTTP/1.1 has one, and of no odd characters
/// (upstream `net/http`).
pub(crate) fn refuse_host<B>(request: &Request<B>) -> Option<Response<Body>> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let why = match (hosts.next(), hosts.next()) {
        _ if request.version() >= Version::HTTP_2 => return None,
        (_, Some(_)) => "",
        (None, _) if request.version() == Version::HTTP_11 && request.method() != Method::CONNECT => {
            ": missing required Host header"
        }
        (Some(host), _) if !host.as_bytes().iter().all(|byte| is_host_byte(*byte)) => {
            ": malformed Host header"
        }
        _ => return None,
    };
    let mut refusal = text(StatusCode::BAD_REQUEST, format!("400 Bad Request{why}"));
    refusal.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    Some(refusal)
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(&byte)
}

/// A short answer for people.
pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    whole(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

/// A short answer that was put together.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    whole(status, "text/plain; charset=utf-8", text.into())
}

/// An answer in one piece.
pub(crate) fn whole(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

/// The answer to anything but GET and HEAD; `None` when the method is one of them.
pub(crate) fn refuse_method(request: &Request<Incoming>) -> Option<Response<Body>> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n");
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_one_host_as_go_wants_it() {
        let missing = Some("400 Bad Request: missing required Host header");
        let malformed = Some("400 Bad Request: malformed Host header");
        for (method, version, hosts, refused) in [
            ("GET", Version::HTTP_11, &["node1"][..], None),
            ("GET", Version::HTTP_11, &["[fe80::1%25eth0]:10250"], None),
            ("GET", Version::HTTP_11, &[""], None),
            ("GET", Version::HTTP_11, &[], missing),
            ("CONNECT", Version::HTTP_11, &[], None),
            ("GET", Version::HTTP_10, &[], None),
            ("GET", Version::HTTP_2, &[], None),
            ("GET", Version::HTTP_11, &["node1", "node1"], Some("400 Bad Request")),
            ("GET", Version::HTTP_10, &["node1", "node2"], Some("400 Bad Request")),
            ("GET", Version::HTTP_11, &["node1/healthz"], malformed),
            ("GET", Version::HTTP_11, &["node 1"], malformed),
            ("GET", Version::HTTP_10, &["a@node1"], malformed),
            ("GET", Version::HTTP_11, &["n\u{f6}de"], malformed),
        ] {
            let mut request = Request::builder().method(method).version(version);
            for host in hosts {
                request =
                    request.header(header::HOST, header::HeaderValue::from_bytes(host.as_bytes()).unwrap());
            }
            let refusal = refuse_host(&request.body(()).unwrap()).map(|refusal| {
                assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
                assert_eq!(refusal.headers()[header::CONNECTION], "close");
                refusal.into_body().collect().now_or_never().unwrap().unwrap().to_bytes()
            });
            assert_eq!(refusal.as_deref(), refused.map(str::as_bytes), "{method} {version:?} {hosts:?}");
        }
    }
}
