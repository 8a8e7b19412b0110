//! What the server answers, as it comes: an answer that is to end ends in time, or with an error.
//!
//! A server or load balancer that answers pings may still stall a body, and kube waits for it without an end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tower::BoxError;

use super::Transport;
use super::transport::Stream;

/// The server began to answer and did not come to the end.
#[derive(Debug, thiserror::Error)]
#[error("no whole answer within {0:?}")]
struct Unfinished(Duration);

/// The body of an answer.
pub(super) struct Answer {
    /// `None`: it was given up.
    body: Option<Incoming>,
    /// The body keeps its place on the connection until it is dropped.
    _stream: Stream,
    /// `None`: it has ended, or need not.
    due: Option<Due>,
}

/// When it must have ended, and who hears of how it did.
struct Due {
    at: Pin<Box<Sleep>>,
    transport: Arc<Transport>,
}

impl Answer {
    /// With a time when it must have ended, the transport is told how it ended.
    pub(super) fn new(body: Incoming, stream: Stream, due: Option<(Instant, Arc<Transport>)>) -> Self {
        let due = due.map(|(at, transport)| Due { at: Box::pin(sleep_until(at)), transport });
        Self { body: Some(body), _stream: stream, due }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self { body: left, due: until, .. } = &mut *self;
        let Some(body) = left else { return Poll::Ready(None) };
        // What is there is given also after the time: only who waits for the server may be waiting in vain.
        let frame = Pin::new(body).poll_frame(context).map_err(BoxError::from);
        let Some(due) = until else { return frame };
        match &frame {
            Poll::Ready(Some(Ok(_))) => frame,
            Poll::Ready(end) => {
                due.transport.access.note(end.is_none());
                *until = None;
                frame
            }
            Poll::Pending => {
                if due.at.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                due.transport.give_up();
                let error = Unfinished(due.transport.timeout);
                (*left, *until) = (None, None);
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}
