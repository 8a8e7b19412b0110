//! The client's side of the streams that pods have: SPDY/3.1 over an upgraded connection, as the runtime's streaming
//! server speaks it. Either side can end a stream by itself, which WebSocket cannot in the version that all runtimes
//! know: it has no end of stdin.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::mpsc::{self, WeakSender};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::spdy::{self, Frame, Opener};

/// Pieces of a stream that wait for whoever reads it. One stream that is not read holds up the others, as there is no
/// flow control.
const MOST_WAITING: usize = 16;

/// Bytes of a piece that is sent.
const PIECE: usize = 32 * 1024;

/// A stream that the other side has not ended.
struct Open {
    data: mpsc::Sender<Bytes>,
    /// Told when the other side takes the stream.
    taken: Option<oneshot::Sender<()>>,
}

/// By ID; `None` once the connection is over.
type Streams = Arc<Mutex<Option<BTreeMap<u32, Open>>>>;

/// A connection. It ends when this is dropped.
pub struct Session {
    to_writer: mpsc::Sender<Vec<u8>>,
    streams: Streams,
    opener: Opener,
    next: u32,
    _tasks: JoinSet<()>,
}

/// What the other side sends in one stream.
pub type FromStream = mpsc::Receiver<Bytes>;

/// The way to send in one stream.
pub struct ToStream {
    stream: u32,
    to_writer: mpsc::Sender<Vec<u8>>,
}

impl Session {
    /// Takes over a connection that was upgraded.
    pub fn start(connection: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (read, write) = tokio::io::split(connection);
        let (to_writer, from_all) = mpsc::channel(MOST_WAITING);
        let streams = Streams::new(Mutex::new(Some(BTreeMap::new())));
        let mut tasks = JoinSet::new();
        let (open, pongs) = (Arc::clone(&streams), to_writer.downgrade());
        tasks.spawn(async move {
            let Err(error) = reader(read, &open, &pongs).await;
            tracing::debug!(error = %util::causes(&error), "A streaming connection is over");
            // Who reads a stream learns of it by its end.
            *lock(&open) = None;
        });
        tasks.spawn(writer(write, from_all));
        Self { to_writer, streams, opener: Opener::default(), next: 1, _tasks: tasks }
    }

    /// Opens a stream and waits until the other side has taken it: until then it would drop what is sent.
    ///
    /// # Errors
    /// When it does not take it, or the connection is over.
    pub async fn open(&mut self, headers: &[(&str, &str)]) -> io::Result<(ToStream, FromStream)> {
        let stream = self.next;
        // A client's have odd numbers.
        self.next += 2;
        let (data, from_stream) = mpsc::channel(MOST_WAITING);
        let (taken, is_taken) = oneshot::channel();
        if let Some(streams) = &mut *lock(&self.streams) {
            streams.insert(stream, Open { data, taken: Some(taken) });
        }
        let to_stream = ToStream { stream, to_writer: self.to_writer.clone() };
        to_stream.write(self.opener.open(stream, headers)).await?;
        is_taken.await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionReset))?;
        Ok((to_stream, from_stream))
    }
}

impl ToStream {
    /// Sends data; waits while the connection is busy.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn send(&self, data: &[u8]) -> io::Result<()> {
        for piece in data.chunks(PIECE) {
            self.write(spdy::data(self.stream, piece, false)).await?;
        }
        Ok(())
    }

    /// Says that nothing more comes. The other direction stays open.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn finish(&self) -> io::Result<()> {
        self.write(spdy::data(self.stream, &[], true)).await
    }

    async fn write(&self, frame: Vec<u8>) -> io::Result<()> {
        self.to_writer.send(frame).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Hands out what comes until the connection is over; the error says how.
async fn reader(
    connection: impl AsyncRead,
    streams: &Streams,
    pongs: &WeakSender<Vec<u8>>,
) -> io::Result<std::convert::Infallible> {
    let mut connection = std::pin::pin!(BufReader::new(connection));
    loop {
        match spdy::read(&mut connection).await? {
            Frame::Reply(stream) => {
                let taken = lock(streams).as_mut().and_then(|open| open.get_mut(&stream)?.taken.take());
                // Whoever opened it may have given up.
                let _gone = taken.map(|taken| taken.send(()));
            }
            Frame::Data { stream, bytes, ended } => {
                let data = lock(streams).as_ref().and_then(|open| Some(open.get(&stream)?.data.clone()));
                if let Some(data) = data.filter(|_| !bytes.is_empty()) {
                    // Nobody need read what does not interest them.
                    let _unread = data.send(bytes.into()).await;
                }
                if ended {
                    close(streams, stream);
                }
            }
            Frame::Ended(stream) => close(streams, stream),
            Frame::Ping(id) => {
                // When so much waits to be written that there is no room, the other side hears of us anyway.
                let _full = pongs.upgrade().map(|pongs| pongs.try_send(spdy::pong(id)));
            }
            Frame::Other => {}
        }
    }
}

async fn writer(connection: impl AsyncWrite, mut frames: mpsc::Receiver<Vec<u8>>) {
    let mut connection = std::pin::pin!(connection);
    while let Some(frame) = frames.recv().await {
        if let Err(error) = connection.write_all(&frame).await {
            return tracing::debug!(error = %util::causes(&error), "A streaming connection broke off");
        }
    }
}

fn close(streams: &Streams, stream: u32) {
    if let Some(open) = &mut *lock(streams) {
        open.remove(&stream);
    }
}

fn lock(streams: &Streams) -> MutexGuard<'_, Option<BTreeMap<u32, Open>>> {
    streams.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, DuplexStream};

    use super::*;

    /// Reads the frame that opens a stream and takes it.
    async fn take(theirs: &mut DuplexStream, stream: u32) {
        let mut head = [0; 12];
        theirs.read_exact(&mut head).await.unwrap();
        assert_eq!((&head[..4], &head[8..]), (&[0x80, 3, 0, 1][..], &stream.to_be_bytes()[..]));
        let mut rest = vec![0; usize::from(head[7]) - 4];
        theirs.read_exact(&mut rest).await.unwrap();
        let reply = [&[0x80, 3, 0, 2, 0, 0, 0, 4][..], &stream.to_be_bytes()].concat();
        theirs.write_all(&reply).await.unwrap();
    }

    async fn session() -> (Session, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        (Session::start(ours), theirs)
    }

    #[tokio::test]
    async fn each_direction_of_a_stream_ends_by_itself() {
        let (mut session, mut theirs) = session().await;
        let (opened, ()) = tokio::join!(session.open(&[("streamtype", "x")]), take(&mut theirs, 1));
        let (stdin, mut stdout) = opened.unwrap();
        let (opened, ()) = tokio::join!(session.open(&[("streamtype", "y")]), take(&mut theirs, 3));
        let (_other, mut other) = opened.unwrap();
        stdin.send(&[7; PIECE + 1]).await.unwrap();
        stdin.finish().await.unwrap();
        for (bytes, ended) in [(PIECE, false), (1, false), (0, true)] {
            let frame = spdy::read(&mut theirs).await.unwrap();
            assert_eq!(frame, Frame::Data { stream: 1, bytes: vec![7; bytes], ended });
        }
        for frame in [
            spdy::data(1, b"out", false),
            spdy::pong(8),
            spdy::data(1, b"put", true),
            spdy::data(1, b"too late", false),
            spdy::data(99, b"nobody's", false),
            spdy::data(3, b"on", false),
        ] {
            theirs.write_all(&frame).await.unwrap();
        }
        assert_eq!(stdout.recv().await.unwrap(), "out");
        assert_eq!(stdout.recv().await.unwrap(), "put");
        assert_eq!(stdout.recv().await, None);
        assert_eq!(other.recv().await.unwrap(), "on");
        assert_eq!(spdy::read(&mut theirs).await.unwrap(), Frame::Ping(8), "a ping comes back");
        drop(theirs);
        assert_eq!(other.recv().await, None, "the end of the connection is that of its streams");
    }

    #[tokio::test]
    async fn nothing_is_sent_in_a_stream_that_is_not_taken() {
        let (mut session, mut theirs) = session().await;
        let refuse = async {
            let Frame::Other = spdy::read(&mut theirs).await.unwrap() else { panic!("no stream") };
            theirs.write_all(&[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 3]).await.unwrap();
        };
        let (opened, ()) = tokio::join!(session.open(&[]), refuse);
        assert!(opened.is_err());
        drop(theirs);
        assert!(session.open(&[]).await.is_err(), "nor when the connection is over");
    }
}
