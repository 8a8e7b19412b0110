//! WebSockets that the runtime's streaming server does not speak, translated to SPDY, which it does:
//! exec and attach with `v5.channel.k8s.io`, whose streams can be ended one by one, and SPDY connections of
//! port-forward in messages. Rules: upstream `k8s.io/apiserver` `pkg/util/proxy` `websocket.go`,
//! `streamtranslator.go` and `streamtunnel.go`.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Empty};
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::spdy::{self, Frame};
use crate::host::Streams;
use crate::http1::Body;

/// The protocol whose streams can be ended one by one.
const CHANNELS: &str = "v5.channel.k8s.io";
/// The same over SPDY.
const CHANNELS_SPDY: &str = "v4.channel.k8s.io";
/// The protocol that carries a SPDY connection.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const TUNNEL_SPDY: &str = "portforward.k8s.io";

/// The channels of a session, the first byte of each message.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
/// Ends the stream that its second byte names.
const CLOSE: u8 = 255;

/// Longest message of a client, in bytes: as upstream's.
const MOST_MESSAGE_BYTES: usize = 32 << 20;

/// Longest status, in bytes.
const MOST_STATUS_BYTES: usize = 64 * 1024;

/// Bytes read at once.
const BLOCK: usize = 32 * 1024;

/// How long a runtime may be silent after the status before its streams have ended: output comes before it.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// How long a client may take to read what is left when all is said.
const FINISH_LIMIT: Duration = Duration::from_secs(15 * 60);

/// What is done with the messages of a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Translation {
    /// Each is of a channel; they become these streams.
    Channels(Streams),
    /// They are pieces of a SPDY connection.
    Tunnel,
}

impl Translation {
    /// Of exec and attach.
    pub(crate) fn of_session(headers: &HeaderMap, wanted: Streams) -> Option<Self> {
        asks_for(headers, CHANNELS).then_some(Self::Channels(wanted))
    }

    /// Of port-forward.
    pub(crate) fn of_ports(headers: &HeaderMap) -> Option<Self> {
        asks_for(headers, TUNNEL).then_some(Self::Tunnel)
    }

    fn protocols(self) -> (&'static str, &'static str) {
        match self {
            Self::Channels(_) => (CHANNELS, CHANNELS_SPDY),
            Self::Tunnel => (TUNNEL, TUNNEL_SPDY),
        }
    }

    /// The answer to a good handshake; else what is wrong with it.
    pub(super) fn accept<B>(self, request: &Request<B>) -> Result<Response<Body>, String> {
        let response = create_response_with_body(request, || Empty::new().boxed_unsync());
        let mut response = response.map_err(|error| error.to_string())?;
        let protocol = HeaderValue::from_static(self.protocols().0);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        Ok(response)
    }

    /// The headers that ask the runtime's server for SPDY.
    pub(super) fn onward(self) -> HeaderMap {
        HeaderMap::from_iter([
            (header::CONNECTION, HeaderValue::from_static("Upgrade")),
            (header::UPGRADE, HeaderValue::from_static("SPDY/3.1")),
            (
                header::HeaderName::from_static("x-stream-protocol-version"),
                HeaderValue::from_static(self.protocols().1),
            ),
        ])
    }

    /// Carries what is said until one side has gone, or all is said.
    pub(super) async fn carry<C, R>(self, client: C, runtime: R)
    where
        C: AsyncRead + AsyncWrite + Unpin,
        R: AsyncRead + AsyncWrite + Unpin,
    {
        let config =
            WebSocketConfig::default().max_message_size(Some(MOST_MESSAGE_BYTES)).read_buffer_size(BLOCK);
        let client = WebSocketStream::from_raw_socket(client, Role::Server, Some(config)).await;
        match self {
            Self::Channels(wanted) => channels(client, runtime, wanted).await,
            Self::Tunnel => tunnel(client, runtime).await,
        }
    }
}

fn asks_for(headers: &HeaderMap, protocol: &str) -> bool {
    let values = |name| headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values(header::UPGRADE).any(|value| value.eq_ignore_ascii_case("websocket"))
        && values(header::SEC_WEBSOCKET_PROTOCOL)
            .any(|value| value.split(',').any(|one| one.trim() == protocol))
}

/// Which stream a channel has.
struct Opened([Option<u32>; 5]);

impl Opened {
    /// The status is always there, a size only where there is a terminal. Clients' IDs are odd.
    fn new(wanted: Streams) -> Self {
        let mut next = 1;
        let mut id = |wanted: bool| {
            wanted.then(|| {
                next += 2;
                next - 2
            })
        };
        let status = id(true);
        Self([id(wanted.stdin), id(wanted.stdout), id(wanted.stderr), status, id(wanted.tty)])
    }

    fn streams(&self) -> Vec<(u32, &'static str)> {
        let names = ["stdin", "stdout", "stderr", "error", "resize"];
        let mut streams: Vec<_> =
            self.0.iter().zip(names).filter_map(|(id, name)| Some(((*id)?, name))).collect();
        streams.sort_unstable();
        streams
    }

    fn stream(&self, channel: u8) -> Option<u32> {
        self.0.get(usize::from(channel)).copied().flatten()
    }

    fn channel(&self, stream: u32) -> Option<u8> {
        (0..).zip(self.0).find(|(_, id)| *id == Some(stream)).map(|(channel, _)| channel)
    }
}

type ToClient<C> = SplitSink<WebSocketStream<C>, Message>;
type FromClient<C> = SplitStream<WebSocketStream<C>>;

/// A session, to its status.
async fn channels<C, R>(client: WebSocketStream<C>, runtime: R, wanted: Streams)
where
    C: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite + Unpin,
{
    let (mut to_client, mut from_client) = client.split();
    let (mut from_runtime, mut to_runtime) = tokio::io::split(runtime);
    let opened = Opened::new(wanted);
    let (pings, mut pinged) = mpsc::channel(1);
    let talked = async {
        open(&mut from_runtime, &mut to_runtime, &opened).await?;
        // An empty message says that all is set up, for clients that wait for one.
        let first = [STDOUT, STDERR].into_iter().find(|one| opened.stream(*one).is_some());
        if to_client.send(binary(first.unwrap_or(STATUS), &[])).await.is_err() {
            return Ok(None);
        }
        tokio::select! {
            () = listen(&mut from_client, &mut to_runtime, &opened, &mut pinged) => Ok(None),
            said = tell(&mut from_runtime, &mut to_client, &opened, pings) => said,
        }
    };
    let status = match talked.await {
        Ok(None) => return,
        Ok(Some(status)) if status.is_empty() => {
            json!({"metadata": {}, "status": "Success"}).to_string().into()
        }
        Ok(Some(status)) => status,
        Err(error) => internal_error(&error),
    };
    // Closing at once would reset the connection when the client still sends, and lose what it has not read.
    let _gone = tokio::time::timeout(FINISH_LIMIT, async {
        to_client.send(binary(STATUS, &status)).await.ok()?;
        to_client.send(goodbye()).await.ok()?;
        while let Some(Ok(_)) = from_client.next().await {}
        Some(())
    })
    .await;
}

/// Opens all streams and waits until they are taken: the runtime's server drops what comes before.
async fn open<R>(from: &mut R, to: &mut (impl AsyncWrite + Unpin), opened: &Opened) -> io::Result<()>
where
    R: AsyncRead + Unpin,
{
    let streams = opened.streams();
    to.write_all(&spdy::open(&streams)).await?;
    let mut replies = 0;
    while replies < streams.len() {
        match spdy::read(from).await? {
            Frame::Reply(_) => replies += 1,
            Frame::Ping(id) => to.write_all(&spdy::pong(id)).await?,
            Frame::Other => {}
            Frame::Data { .. } | Frame::Ended(_) => {
                return Err(io::Error::other("the runtime refused a stream"));
            }
        }
    }
    Ok(())
}

/// Hands on what the client says, until it has gone. What the runtime does not want to hear is not the end.
async fn listen<C>(
    from: &mut FromClient<C>,
    to: &mut (impl AsyncWrite + Unpin),
    opened: &Opened,
    pinged: &mut mpsc::Receiver<u32>,
) where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut is_deaf = false;
    loop {
        let frames = tokio::select! {
            // Cancel-safe, both.
            Some(id) = pinged.recv() => vec![spdy::pong(id)],
            message = from.next() => match message {
                Some(Ok(Message::Binary(bytes))) => heard(&bytes, opened),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        for frame in frames {
            is_deaf = is_deaf || to.write_all(&frame).await.is_err();
        }
    }
}

/// The frames that a message becomes.
fn heard(message: &[u8], opened: &Opened) -> Vec<Vec<u8>> {
    let Some((&channel, bytes)) = message.split_first() else { return vec![] };
    match (channel, bytes) {
        (STDIN | RESIZE, bytes) => opened
            .stream(channel)
            .map(|stream| {
                bytes.chunks(spdy::MOST_DATA).map(|bytes| spdy::data(stream, bytes, false)).collect()
            })
            .unwrap_or_default(),
        (CLOSE, [STDIN]) => {
            opened.stream(STDIN).map(|stream| spdy::data(stream, &[], true)).into_iter().collect()
        }
        _ => vec![],
    }
}

/// Hands on what the runtime says, until it has said all: gives the status, or nothing when the client has gone.
async fn tell<C>(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut ToClient<C>,
    opened: &Opened,
    pings: mpsc::Sender<u32>,
) -> io::Result<Option<Bytes>>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut open: Vec<u8> =
        [STDOUT, STDERR, STATUS].into_iter().filter(|one| opened.stream(*one).is_some()).collect();
    let mut status = vec![];
    while !open.is_empty() {
        let limit = if open.contains(&STATUS) { Duration::MAX } else { CLOSE_LIMIT };
        // Cut off only where nothing follows.
        let Ok(frame) = tokio::time::timeout(limit, spdy::read(from)).await else { break };
        let (stream, bytes, ended) = match frame {
            Ok(Frame::Data { stream, bytes, ended }) => (stream, bytes, ended),
            Ok(Frame::Ended(stream)) => (stream, vec![], true),
            Ok(Frame::Ping(id)) => {
                // One at a time is enough to show that we live.
                let _busy = pings.try_send(id);
                continue;
            }
            Ok(Frame::Reply(_) | Frame::Other) => continue,
            // The status is the last word, whatever else was left open.
            Err(_) if !open.contains(&STATUS) => break,
            Err(error) => return Err(error),
        };
        let Some(channel) = opened.channel(stream) else { continue };
        if channel == STATUS {
            status.extend(bytes);
            status.truncate(MOST_STATUS_BYTES);
            // Its end may never come: the runtime's server ends all streams at last, one by one, and says no more when
            // it gets stuck at one of them.
            if serde_json::from_slice::<IgnoredAny>(&status).is_ok() {
                open.retain(|one| *one != STATUS);
            }
        } else if !bytes.is_empty() && to.send(binary(channel, &bytes)).await.is_err() {
            return Ok(None);
        }
        if ended {
            open.retain(|one| *one != channel);
        }
    }
    Ok(Some(status.into()))
}

fn binary(channel: u8, bytes: &[u8]) -> Message {
    Message::Binary([&[channel], bytes].concat().into())
}

/// A close with a code: clients take one without for a broken connection.
fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }))
}

fn internal_error(error: &io::Error) -> Bytes {
    let said = error.to_string();
    let status = json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
        "message": format!("Internal error occurred: {said}"), "details": {"causes": [{"message": said}]},
    });
    status.to_string().into()
}

/// A SPDY connection between the client and the runtime, in messages on the one side.
async fn tunnel<C, R>(client: WebSocketStream<C>, runtime: R)
where
    C: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite + Unpin,
{
    let (mut to_client, mut from_client) = client.split();
    let (mut from_runtime, mut to_runtime) = tokio::io::split(runtime);
    let up = async {
        while let Some(Ok(message)) = from_client.next().await {
            match message {
                Message::Binary(bytes) => to_runtime.write_all(&bytes).await?,
                Message::Close(_) => break,
                _ => {}
            }
        }
        io::Result::Ok(())
    };
    let down = async {
        let mut bytes = vec![0; BLOCK];
        while let read @ 1.. = from_runtime.read(&mut bytes).await? {
            let piece = bytes.get(..read).unwrap_or_default().to_vec();
            if to_client.send(Message::Binary(piece.into())).await.is_err() {
                break;
            }
        }
        io::Result::Ok(())
    };
    // The other direction is given up on purpose: its end is gone.
    let ended = tokio::select! { ended = up => ended, ended = down => ended };
    if let Err(error) = ended {
        tracing::debug!(error = %util::causes(&error), "A tunnel broke off");
    }
    let _gone = tokio::time::timeout(super::proxy::GOODBYE_LIMIT, to_client.send(goodbye())).await;
}

#[cfg(test)]
mod tests;
