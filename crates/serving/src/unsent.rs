//! Answers on their way to clients. All that are not sent have so many bytes together, whoever reads how slowly; and they
//! go out in pieces: the next is made when the socket has taken the last, and not only got it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::task::AtomicWaker;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// What servers may have unsent together.
#[derive(Debug, Clone)]
pub struct Budget {
    all: Arc<Semaphore>,
    /// All that one may have: an answer that is larger has the whole.
    most: usize,
    piece: usize,
}

/// What an answer has of the budget.
#[derive(Debug)]
pub struct Share {
    all: PollSemaphore,
    most: usize,
    piece: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// So many bytes, of which one answer has at most a `piece` on the way.
    pub fn new(bytes: usize, piece: usize) -> Self {
        let most = bytes.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        Self { all: Arc::new(Semaphore::new(most)), most, piece }
    }

    /// The share of an answer of this length; one whose length is not known gets shares as its pieces come. `None`: the
    /// others have all.
    pub fn share(&self, length: Option<u64>) -> Option<Share> {
        let permit = length.map(|length| {
            let bytes = usize::try_from(length).unwrap_or(usize::MAX);
            Arc::clone(&self.all).try_acquire_many_owned(permits(bytes, self.most))
        });
        let all = PollSemaphore::new(Arc::clone(&self.all));
        Some(Share { all, most: self.most, piece: self.piece, permit: permit.transpose().ok()? })
    }
}

fn permits(bytes: usize, most: usize) -> u32 {
    u32::try_from(bytes.min(most)).unwrap_or(u32::MAX)
}

impl Share {
    /// The body in pieces. Its share and the `guard` are held until the last of them is sent.
    pub fn send<B, G>(self, body: B, guard: G) -> Sending<B, G> {
        let channel = Channel { taken: AtomicBool::new(false), free: AtomicWaker::new(), _guard: guard };
        let Self { all, most, piece, permit } = self;
        let (whole, permit) = (permit.is_some(), permit.map(Arc::new));
        Sending { body, rest: Bytes::new(), all, most, piece, whole, permit, channel: Arc::new(channel) }
    }
}

/// The way to one client, with room for one piece.
struct Channel<G> {
    taken: AtomicBool,
    free: AtomicWaker,
    _guard: G,
}

/// A piece that is on the way: whoever has sent it drops it.
struct Piece<G> {
    bytes: Bytes,
    channel: Arc<Channel<G>>,
    _permit: Option<Arc<OwnedSemaphorePermit>>,
}

impl<G> AsRef<[u8]> for Piece<G> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<G> Drop for Piece<G> {
    fn drop(&mut self) {
        self.channel.taken.store(false, Ordering::Release);
        self.channel.free.wake();
    }
}

/// A body that is sent.
pub struct Sending<B, G> {
    body: B,
    /// What came of the body and did not go out yet.
    rest: Bytes,
    all: PollSemaphore,
    most: usize,
    piece: usize,
    /// Whether the share is that of the whole answer.
    whole: bool,
    permit: Option<Arc<OwnedSemaphorePermit>>,
    channel: Arc<Channel<G>>,
}

impl<B: Body<Data = Bytes> + Unpin, G: Send + Sync + 'static> Body for Sending<B, G> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        // Before the look, so that nothing falls between the two.
        this.channel.free.register(cx.waker());
        if this.channel.taken.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        while this.rest.is_empty() {
            if !this.whole {
                this.permit = None;
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
        if this.permit.is_none() {
            let permit = ready!(this.all.poll_acquire_many(cx, permits(this.rest.len(), this.most)));
            // Nobody closes it.
            this.permit = permit.map(Arc::new);
        }
        this.channel.taken.store(true, Ordering::Release);
        let (bytes, permit) = (this.rest.split_to(this.rest.len().min(this.piece)), this.permit.clone());
        let piece = Piece { bytes, channel: Arc::clone(&this.channel), _permit: permit };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (of_body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + rest);
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{FutureExt as _, StreamExt as _, stream};
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::*;

    const ALL: usize = 1 << 20;

    fn budget() -> Budget {
        Budget::new(ALL, 8)
    }

    fn left(budget: &Budget) -> usize {
        budget.all.available_permits()
    }

    #[test]
    fn what_is_not_sent_counts_and_beyond_the_budget_there_is_no_share() {
        let budget = budget();
        let body = Full::new(Bytes::from_static(&[b'x'; 12]));
        let mut first = budget.share(Some(12)).unwrap().send(body, ());
        assert_eq!(left(&budget), ALL - 12);
        let rest = budget.share(Some(ALL as u64 - 12)).unwrap();
        assert!(budget.share(Some(1)).is_none());
        drop(rest);
        let mut piece =
            || first.frame().now_or_never().map(|frame| frame.unwrap().unwrap().into_data().unwrap());
        let begin = piece().unwrap();
        assert!(begin.len() == 8 && piece().is_none(), "the next is made when the last is sent");
        drop(begin);
        let end = piece().unwrap();
        // Handed over is not sent.
        assert!(first.is_end_stream());
        drop(first);
        assert_eq!((end.len(), left(&budget)), (4, ALL - 12));
        drop(end);
        assert_eq!(left(&budget), ALL);
        assert!(budget.share(Some(2 * ALL as u64)).is_some(), "one may have all");
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_has_the_share_of_what_is_on_the_way() {
        let budget = budget();
        let (tell, texts) = futures::channel::mpsc::channel::<&'static str>(1);
        let mut tell = tell;
        let frames = texts.map(|text| Ok::<_, Infallible>(Frame::data(Bytes::from_static(text.as_bytes()))));
        let guard = Arc::new(());
        let body = StreamBody::new(frames.chain(stream::empty()));
        let mut answer = budget.share(None).unwrap().send(body, Arc::clone(&guard));
        assert_eq!(left(&budget), ALL);
        tell.try_send("hello").unwrap();
        let first = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(first == "hello" && left(&budget) == ALL - 5);
        tell.try_send("again").unwrap();
        let waiting =
            tokio::spawn(async move { answer.frame().await.unwrap().unwrap().into_data().unwrap() });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        let second = waiting.await.unwrap();
        assert!(second == "again" && left(&budget) == ALL - 5 && Arc::strong_count(&guard) == 2);
        drop(second);
        assert_eq!((left(&budget), Arc::strong_count(&guard)), (ALL, 1));
    }
}
