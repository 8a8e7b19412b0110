//! Answers that are not sent: what they count for, and how one is refused that has no room.

use http::{Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use crate::http1::{self, Body};

/// Bytes of all answers that are not sent.
const MOST: usize = 64 << 20;

/// Shorter answers do not count, so that health can be asked for whatever others do.
const FREE: u64 = 1 << 10;

/// What an answer counts for whose length is not known: a piece of it. It has that from the beginning, as it is made anew
/// for each.
pub(crate) const PIECE: usize = 32 << 10;

/// When to ask again, in seconds.
const RETRY_AFTER: &str = "1";

/// What servers may have unsent together.
#[derive(Debug, Clone)]
pub(crate) struct Budget(serving::Budget);

impl Default for Budget {
    fn default() -> Self {
        Self(serving::Budget::new(MOST, PIECE))
    }
}

impl Budget {
    /// The answer with its share; 429 if the others have all.
    pub(crate) fn send(&self, answer: Response<Body>) -> Response<Body> {
        let counts = answer.body().size_hint().exact().unwrap_or(PIECE as u64);
        if counts <= FREE {
            return answer;
        }
        if let Some(share) = self.0.share(Some(counts)) {
            return answer.map(|body| share.send(body, ()).boxed_unsync());
        }
        let text = "too many answers that nobody reads, please try again later\n";
        let mut refusal = http1::plain(StatusCode::TOO_MANY_REQUESTS, text);
        refusal.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(RETRY_AFTER));
        refusal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: usize) -> Response<Body> {
        http1::whole(StatusCode::OK, "text/plain", vec![b'x'; bytes].into())
    }

    #[test]
    fn beyond_the_budget_large_answers_are_refused() {
        let budget = Budget::default();
        let first = budget.send(answer(MOST - 2048));
        let second = budget.send(answer(2048));
        assert_eq!(second.status(), StatusCode::OK);
        let unknown = || http_body_util::StreamBody::new(futures::stream::pending::<Result<_, _>>());
        for large in [answer(2048), Response::new(unknown().boxed_unsync())] {
            let refused = budget.send(large);
            assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(refused.headers()[header::RETRY_AFTER], RETRY_AFTER);
        }
        assert_eq!(budget.send(answer(1024)).status(), StatusCode::OK, "a short one is free");
        drop((first, second));
        assert_eq!(budget.send(answer(2 * MOST)).status(), StatusCode::OK, "one may have all");
    }
}
