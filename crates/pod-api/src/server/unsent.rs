//! Answers on their way to clients: together they have so many bytes, whoever reads how slowly. They go out in pieces, so
//! that what is sent already, and not only handed over, is known.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

use crate::error::ApiError;
use serving::Busy;

/// Bytes of one piece.
const PIECE: usize = 8 << 10;

/// The share that an answer has of what all may have.
#[derive(Debug)]
pub(super) struct Unsent {
    budget: PollSemaphore,
    /// All that one may have: an answer that is larger has the whole.
    most: usize,
    share: Option<OwnedSemaphorePermit>,
}

impl Unsent {
    /// The share of an answer of this length; one whose length is not known gets shares as its pieces come.
    ///
    /// # Errors
    /// 429: the others have all.
    pub(super) fn new(length: Option<u64>, budget: &Arc<Semaphore>, most: usize) -> Result<Self, ApiError> {
        let many =
            |_| ApiError::new(429, "TooManyRequests", "too many answers at once, please try again later");
        let length = length.map(|length| permits(usize::try_from(length).unwrap_or(usize::MAX), most));
        let share = length.map(|length| Arc::clone(budget).try_acquire_many_owned(length));
        Ok(Self {
            budget: PollSemaphore::new(Arc::clone(budget)),
            most,
            share: share.transpose().map_err(many)?,
        })
    }

    /// The body in pieces. It holds its share, and its connection busy, until the last of them was taken.
    pub(super) fn send(self, body: Body, busy: Option<Arc<Busy>>) -> Sending {
        let whole = self.share.is_some();
        Sending { body, rest: Bytes::new(), whole, unsent: self, _busy: busy }
    }
}

fn permits(bytes: usize, most: usize) -> u32 {
    u32::try_from(bytes.min(most)).unwrap_or(u32::MAX)
}

/// A body that is sent.
pub(super) struct Sending {
    body: Body,
    /// What came of the body and was not taken yet.
    rest: Bytes,
    /// Whether the share is that of the whole answer.
    whole: bool,
    unsent: Unsent,
    _busy: Option<Arc<Busy>>,
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        while this.rest.is_empty() {
            if !this.whole {
                // The piece before is out.
                this.unsent.share = None;
            }
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            }
        }
        if this.unsent.share.is_none() {
            let wanted = permits(this.rest.len(), this.unsent.most);
            // Nobody closes it.
            this.unsent.share = ready!(this.unsent.budget.poll_acquire_many(cx, wanted));
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let of_body = self.body.size_hint();
        let rest = self.rest.len() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + rest);
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
