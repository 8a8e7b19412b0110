//! When a connection becomes busy: once its request has arrived as a whole.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::Request;
use hyper::body::{Frame, Incoming, SizeHint};

use serving::{Busy, Slot};

/// Keeps the place of a connection from the moment when its request has arrived; `None` inside: it was lost before.
pub(super) type Held = Arc<OnceLock<Option<Arc<Busy>>>>;

/// The request with a body that marks the connection as busy at its end.
pub(super) fn request(request: Request<Incoming>, connection: &Arc<Slot>) -> (Request<Body>, Held) {
    let held = Held::default();
    let request = request.map(|inner| {
        let body = Received { inner, connection: Arc::clone(connection), held: Arc::clone(&held) };
        // A request without one has arrived already. Should its place be gone, nobody waits for the answer.
        let _lost = body.arrived(false);
        Body::new(body)
    });
    (request, held)
}

struct Received {
    inner: Incoming,
    connection: Arc<Slot>,
    held: Held,
}

impl Received {
    /// Takes note of the end. An error if the place was lost before: whoever reads the body must not act on it.
    fn arrived(&self, ended: bool) -> Result<(), axum::Error> {
        if !ended && !self.inner.is_end_stream() {
            return Ok(());
        }
        match self.held.get_or_init(|| self.connection.busy().map(Arc::new)) {
            Some(_) => Ok(()),
            None => Err(axum::Error::new("too many connections: this one had to make room")),
        }
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(match self.arrived(frame.is_none()) {
            Err(lost) => Some(Err(lost)),
            Ok(()) => frame.map(|frame| frame.map_err(axum::Error::new)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
