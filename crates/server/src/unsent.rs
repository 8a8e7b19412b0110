//! Answers on their way to clients. All that are not sent have so many bytes together, whoever reads how slowly; and of
//! one that comes in pieces there is one at a time: the next is made when the socket has taken the last.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::task::AtomicWaker;
use http::{Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http1::{self, Body};

/// Bytes of all answers that are not sent.
const MOST: u32 = 64 << 20;

/// Shorter answers do not count, so that health can be asked for whatever others do.
const FREE: u32 = 1 << 10;

/// What an answer counts for whose length is not known: a piece of it.
pub(crate) const PIECE: u32 = 32 << 10;

/// When to ask again, in seconds.
const RETRY_AFTER: &str = "1";

/// What servers may have unsent together.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST as usize)))
    }
}

impl Budget {
    /// The answer with its share; 429 if the others have all.
    pub(crate) fn send(&self, answer: Response<Body>) -> Response<Body> {
        let length = answer.body().size_hint().exact();
        let counts = length.map_or(PIECE, |length| u32::try_from(length).unwrap_or(MOST).min(MOST));
        if counts <= FREE {
            return answer;
        }
        match Arc::clone(&self.0).try_acquire_many_owned(counts) {
            Ok(share) => answer.map(|body| {
                let way = Channel { taken: AtomicBool::new(false), free: AtomicWaker::new(), _share: share };
                Sending { body, way: Arc::new(way) }.boxed_unsync()
            }),
            Err(_) => {
                let text = "too many answers that nobody reads, please try again later\n";
                let mut refusal = http1::plain(StatusCode::TOO_MANY_REQUESTS, text);
                let seconds = header::HeaderValue::from_static(RETRY_AFTER);
                refusal.headers_mut().insert(header::RETRY_AFTER, seconds);
                refusal
            }
        }
    }
}

/// The way to one client, with room for one piece. It has its share until the answer and its last piece are gone.
struct Channel {
    taken: AtomicBool,
    free: AtomicWaker,
    _share: OwnedSemaphorePermit,
}

/// A piece that is on the way: whoever has sent it drops it.
struct Piece {
    bytes: Bytes,
    way: Arc<Channel>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.way.taken.store(false, Ordering::Release);
        self.way.free.wake();
    }
}

struct Sending {
    body: Body,
    way: Arc<Channel>,
}

impl hyper::body::Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // Before the look, so that nothing falls between the two.
        self.way.free.register(context.waker());
        if self.way.taken.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let send = |bytes| {
            self.way.taken.store(true, Ordering::Release);
            Bytes::from_owner(Piece { bytes, way: Arc::clone(&self.way) })
        };
        Poll::Ready(frame.map(|Ok(frame)| Ok(frame.map_data(send))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use futures::{FutureExt as _, StreamExt as _};
    use http_body_util::StreamBody;

    use super::*;

    const ALL: usize = MOST as usize;

    fn left(budget: &Budget) -> usize {
        budget.0.available_permits()
    }

    fn answer(bytes: usize) -> Response<Body> {
        http1::whole(StatusCode::OK, "text/plain", vec![b'x'; bytes].into())
    }

    #[test]
    fn what_is_not_sent_counts_and_beyond_the_budget_large_answers_are_refused() {
        let budget = Budget::default();
        let mut first = budget.send(answer(ALL - 2048));
        assert_eq!(left(&budget), 2048);
        let second = budget.send(answer(2048));
        assert_eq!((second.status(), left(&budget)), (StatusCode::OK, 0));
        let refused = budget.send(answer(2048));
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.headers()[header::RETRY_AFTER], RETRY_AFTER);
        assert_eq!(budget.send(answer(FREE as usize)).status(), StatusCode::OK, "a short one is free");
        // Handed over is not sent.
        let piece = first.body_mut().frame().now_or_never().unwrap().unwrap().unwrap().into_data().unwrap();
        drop((first, second));
        assert_eq!(left(&budget), 2048);
        drop(piece);
        assert_eq!(left(&budget), ALL);
        assert_eq!(budget.send(answer(2 * ALL)).status(), StatusCode::OK, "one may have all");
    }

    #[tokio::test]
    async fn the_next_piece_is_made_when_the_last_is_sent() {
        let (budget, made) = (Budget::default(), Arc::new(AtomicU32::new(0)));
        let pieces = futures::stream::iter(["a", "b"]).map({
            let made = Arc::clone(&made);
            move |piece| {
                made.fetch_add(1, Ordering::Relaxed);
                Ok(Frame::data(Bytes::from_static(piece.as_bytes())))
            }
        });
        let mut answer = budget.send(Response::new(StreamBody::new(pieces).boxed_unsync()));
        assert_eq!(left(&budget), ALL - PIECE as usize);
        let first = answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
        let waiting = tokio::spawn(async move {
            let second = answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(answer.body_mut().frame().now_or_never().is_none(), "the last is not sent either");
            second
        });
        tokio::task::yield_now().await;
        assert!(first == "a" && !waiting.is_finished() && made.load(Ordering::Relaxed) == 1);
        drop(first);
        assert_eq!(waiting.await.unwrap(), "b");
        assert_eq!(left(&budget), ALL);
    }
}
