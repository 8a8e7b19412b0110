//! Hands an upgrade on to the runtime's streaming server and carries the bytes. A client is never sent elsewhere.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1 as client;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Translation;
use crate::http1::{self, Body};

/// Longest time until the runtime's server accepts and answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Longest time to say goodbye to a client.
pub(super) const GOODBYE_LIMIT: Duration = Duration::from_secs(5);

/// Bytes of a client that are read at once.
const BLOCK: usize = 16 * 1024;

/// Longest text of a refusal that is handed on, in bytes.
const MOST_REFUSAL_BYTES: usize = 64 * 1024;

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("the runtime's stream URL {0:?} is not of the form http://host:port/path")]
    Url(String),
    #[error("error dialing backend: {0}")]
    Dial(#[source] io::Error),
    #[error("error dialing backend: no answer from {0}")]
    Silent(String),
    #[error("error sending request: {0}")]
    Send(#[source] hyper::Error),
    #[error("invalid upgrade response: status code {}", .0.as_u16())]
    NotUpgraded(StatusCode),
    #[error("{0}")]
    Handshake(String),
}

/// What came of it.
pub(crate) enum Proxied {
    /// The runtime's server refused; its words.
    Refused(Response<Body>),
    /// It switched protocols: the answer to the client, and the carrying of bytes, to be run when it was sent.
    Upgraded(Response<Body>, BoxFuture<'static, ()>),
}

/// Whether a client asks for another protocol.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .any(|value| value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("upgrade")))
}

/// Sends `request` on to `url`, as it is or translated. A `client` on this machine has no address.
pub(crate) async fn proxy(
    url: &str,
    mut request: Request<Incoming>,
    client: Option<IpAddr>,
    translation: Option<Translation>,
) -> Result<Proxied, ProxyError> {
    let accepted = translation.map(|how| how.accept(&request).map_err(ProxyError::Handshake)).transpose()?;
    let wrong = || ProxyError::Url(url.to_owned());
    let target: Uri = url.parse().map_err(|_| wrong())?;
    let (Some("http"), Some(authority)) = (target.scheme_str(), target.authority()) else {
        return Err(wrong());
    };
    let host = authority.host().trim_matches(['[', ']']);
    let silent = |_| ProxyError::Silent(authority.to_string());
    let stream = timeout(ANSWER_LIMIT, TcpStream::connect((host, authority.port_u16().unwrap_or(80))))
        .await
        .map_err(silent)?
        .map_err(ProxyError::Dial)?;
    let _best_effort = stream.set_nodelay(true);
    let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await.map_err(ProxyError::Send)?;
    // Ends when the stream is handed over, or with the sender.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(error = %util::causes(&error), "The runtime's streaming server broke off");
        }
    });
    let on_client = hyper::upgrade::on(&mut request);
    let onward = onward(&request, &target, authority.as_str(), client, translation);
    let mut answer = timeout(ANSWER_LIMIT, sender.send_request(onward))
        .await
        .map_err(silent)?
        .map_err(ProxyError::Send)?;
    match answer.status() {
        StatusCode::SWITCHING_PROTOCOLS => {
            let on_runtime = hyper::upgrade::on(&mut answer);
            let response = accepted.unwrap_or_else(|| {
                let (parts, _) = answer.into_parts();
                Response::from_parts(parts, Empty::new().boxed_unsync())
            });
            Ok(Proxied::Upgraded(response, Box::pin(carry(on_client, on_runtime, translation))))
        }
        status if status.as_u16() >= 400 => Ok(Proxied::Refused(refusal(answer).await)),
        status => Err(ProxyError::NotUpgraded(status)),
    }
}

/// The request as the runtime's server gets it: the same headers, without what only concerns us; or one for SPDY.
fn onward(
    request: &Request<Incoming>,
    target: &Uri,
    host: &str,
    client: Option<IpAddr>,
    translation: Option<Translation>,
) -> Request<Empty<Bytes>> {
    let mut onward = Request::new(Empty::new());
    *onward.method_mut() = if translation.is_some() { Method::POST } else { request.method().clone() };
    *onward.uri_mut() = target.path_and_query().map(|path| Uri::from(path.clone())).unwrap_or_default();
    let headers = onward.headers_mut();
    *headers = translation.map_or_else(|| request.headers().clone(), Translation::onward);
    headers.remove(header::AUTHORIZATION);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    if let Ok(host) = HeaderValue::try_from(host) {
        headers.insert(header::HOST, host);
    }
    if let Some(client) = client {
        let before = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
        let forwarded = before.map_or_else(|| client.to_string(), |before| format!("{before}, {client}"));
        if let Ok(forwarded) = HeaderValue::try_from(forwarded) {
            headers.insert("x-forwarded-for", forwarded);
        }
    }
    onward
}

async fn refusal(answer: Response<Incoming>) -> Response<Body> {
    let (parts, body) = answer.into_parts();
    let text = timeout(ANSWER_LIMIT, Limited::new(body, MOST_REFUSAL_BYTES).collect()).await;
    let text = text.ok().and_then(Result::ok).map(|text| text.to_bytes()).unwrap_or_default();
    let mut response = http1::text(parts.status, text);
    if let Some(kind) = parts.headers.get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    response
}

/// Carries bytes once both sides have switched.
async fn carry(client: OnUpgrade, runtime: OnUpgrade, translation: Option<Translation>) {
    // What was read beyond the headers comes first out of these.
    let (client, runtime) = match tokio::try_join!(client, runtime) {
        Ok((client, runtime)) => (TokioIo::new(client), TokioIo::new(runtime)),
        Err(error) => {
            return tracing::debug!(error = %util::causes(&error), "The client went away before the stream began");
        }
    };
    match translation {
        Some(translation) => translation.carry(client, runtime).await,
        None => exchange(client, runtime).await,
    }
}

/// Carries bytes until one side ends, then closes the other: a client that vanished must not leave a process
/// attached to nobody.
async fn exchange<C, R>(client: C, runtime: R)
where
    C: AsyncRead + AsyncWrite,
    R: AsyncRead + AsyncWrite,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_runtime, mut to_runtime) = tokio::io::split(runtime);
    let ended = tokio::select! {
        // The other copy is given up on purpose: its end is gone.
        ended = hand_on(&mut from_client, &mut to_runtime) => ended,
        ended = tokio::io::copy(&mut from_runtime, &mut to_client) => ended.map(drop),
    };
    if let Err(error) = ended {
        tracing::debug!(error = %util::causes(&error), "A stream broke off");
    }
    let _gone = timeout(GOODBYE_LIMIT, async {
        let _gone = to_client.shutdown().await;
        let _gone = to_runtime.shutdown().await;
    })
    .await;
}

/// Copies until the client ends. A runtime that does not listen any more may have said what is not read yet, the
/// exit code for example, so that is for the other direction to end.
async fn hand_on(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut bytes = vec![0; BLOCK];
    while let read @ 1.. = from.read(&mut bytes).await? {
        if to.write_all(bytes.get(..read).unwrap_or_default()).await.is_err() {
            return std::future::pending().await;
        }
        to.flush().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{duplex, join};

    use super::*;

    #[tokio::test]
    async fn the_last_output_of_a_runtime_that_does_not_listen_any_more_arrives() {
        let (mut client, ours) = duplex(1024);
        let (mut says, heard) = duplex(1024);
        // Nobody is at the other end.
        let (deaf, _) = duplex(1024);
        let carried = tokio::spawn(exchange(ours, join(heard, deaf)));
        client.write_all(b"more and more").await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        says.write_all(b"exit code 3").await.unwrap();
        drop(says);
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "exit code 3");
        carried.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_ends_ends_the_runtimes_side() {
        let (client, ours) = duplex(1024);
        let (theirs, mut runtime) = duplex(1024);
        tokio::spawn(exchange(ours, theirs));
        drop(client);
        assert_eq!(runtime.read(&mut [0]).await.unwrap(), 0);
    }
}
