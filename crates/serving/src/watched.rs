//! Streams of which somebody hears whether the other side takes what it is sent: a client that asks for something and does
//! not read it would hold what its answer holds for good, a watch's place for example.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Hears what goes on in a stream.
pub trait Watch: Unpin {
    /// So many bytes came.
    ///
    /// # Errors
    /// They are not taken, and the stream fails.
    fn arrived(&mut self, _bytes: usize) -> io::Result<()> {
        Ok(())
    }

    /// Something was to be written: whether it has to wait. `cx` is that of the writing.
    ///
    /// # Errors
    /// The stream fails.
    fn wrote(&mut self, cx: &mut Context<'_>, waits: bool) -> io::Result<()>;
}

/// A stream of which somebody hears.
pub struct Watched<S, W> {
    stream: S,
    watch: W,
}

impl<S, W: Watch> Watched<S, W> {
    /// `watch` hears what goes on in `stream`.
    pub fn new(stream: S, watch: W) -> Self {
        Self { stream, watch }
    }

    fn wrote<T>(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match self.watch.wrote(cx, wrote.is_pending()) {
            Ok(()) => wrote,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

/// Fails with `TimedOut` when nothing could be written for so long.
pub struct Patience {
    most: Duration,
    /// Runs since the first write that had to wait.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// `most`: how long nothing may be taken.
    pub fn new(most: Duration) -> Self {
        Self { most, stalled: None }
    }
}

impl Watch for Patience {
    fn wrote(&mut self, cx: &mut Context<'_>, waits: bool) -> io::Result<()> {
        if !waits {
            self.stalled = None;
            return Ok(());
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.most)));
        match stalled.as_mut().poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl<S: AsyncRead + Unpin, W: Watch> AsyncRead for Watched<S, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        Poll::Ready(self.watch.arrived(buffer.filled().len() - before))
    }
}

impl<S: AsyncWrite + Unpin, W: Watch> AsyncWrite for Watched<S, W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.wrote(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.wrote(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_ends_the_stream_and_a_slow_one_does_not() {
        let (mut reader, stream) = tokio::io::duplex(10);
        let mut stream = Watched::new(stream, Patience::new(Duration::from_secs(30)));
        stream.write_all(&[0; 10]).await.unwrap();
        let slow = tokio::spawn(async move {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                reader.read_exact(&mut [0; 10]).await.unwrap();
            }
            reader
        });
        stream.write_all(&[0; 100]).await.unwrap();
        let _reader = slow.await.unwrap();
        let began = Instant::now();
        let error = stream.write_all(&[0; 10]).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::TimedOut, Duration::from_secs(30)));
    }
}
