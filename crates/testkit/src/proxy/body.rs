//! A body on its way through: counted, and ended early where that is wanted.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming};
use tokio::time::{Sleep, sleep};

/// How long the bytes before a break have to leave: HTTP/2 throws away what still waits when a stream is reset.
const LEAVE: Duration = Duration::from_millis(50);

/// How a body goes on after the bytes that it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// As though it were whole.
    Whole,
    /// With the stream broken.
    Broken,
    /// Not at all: nothing comes any more.
    Silent,
}

/// A body that counts its bytes.
pub(super) struct Counted {
    inner: Incoming,
    bytes: Arc<AtomicU64>,
    limit: Option<(usize, End)>,
    leaving: Option<Pin<Box<Sleep>>>,
}

impl Counted {
    pub(super) fn new(inner: Incoming, bytes: Arc<AtomicU64>, limit: Option<(usize, End)>) -> Self {
        Self { inner, bytes, limit, leaving: None }
    }
}

type Failure = Box<dyn Error + Send + Sync>;

impl Body for Counted {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if let Some((0, end)) = self.limit {
            return match end {
                End::Whole => Poll::Ready(None),
                End::Broken => {
                    let leaving = self.leaving.get_or_insert_with(|| Box::pin(sleep(LEAVE)));
                    ready!(leaving.as_mut().poll(context));
                    Poll::Ready(Some(Err("the proxy was told to break the stream".into())))
                }
                End::Silent => Poll::Pending,
            };
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let Some(Ok(frame)) = frame else {
            return Poll::Ready(frame.map(|broken| broken.map_err(Into::into)));
        };
        let frame = match (frame.into_data(), &mut self.limit) {
            (Ok(mut data), Some((left, _))) => {
                data.truncate(*left);
                *left -= data.len();
                Frame::data(data)
            }
            (Ok(data), None) => Frame::data(data),
            (Err(trailers), _) => trailers,
        };
        if let Some(data) = frame.data_ref() {
            self.bytes.fetch_add(data.len() as u64, Relaxed);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.limit.is_none() && self.inner.is_end_stream()
    }
}
