//! Whose a bearer token is. The API server is asked about each once in a while, and the answers are kept; anybody may
//! send anything as a token, so neither its length nor the number of questions is the client's to choose.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use ring::digest;

use super::User;
use super::authenticate::Unauthenticated;
use super::cache::Cache;
use crate::host::{HostError, TokenReviewer};

/// Tokens whose owners are remembered.
const MOST_TOKENS: usize = 4096;

/// Longest token that anybody is asked about, in bytes. Those of service accounts have about one KiB.
const LONGEST: usize = 16 * 1024;

/// Tokens that the API server is asked about at once: a few seconds' worth of what may be sent there.
const MOST_REVIEWS: usize = 256;

/// What stands for a token, so that none is kept.
type Hash = [u8; digest::SHA256_OUTPUT_LEN];

/// `None`: nobody's.
type Owner = Result<Option<User>, HostError>;
type Review = BoxFuture<'static, Owner>;

pub(super) struct Tokens {
    reviewer: Arc<dyn TokenReviewer>,
    ttl: Duration,
    known: Cache<Hash, Option<User>>,
    /// Gone as soon as nobody waits for the answer any more.
    under_way: Mutex<HashMap<Hash, WeakShared<Review>>>,
}

impl Tokens {
    pub(super) fn new(reviewer: Arc<dyn TokenReviewer>, ttl: Duration) -> Self {
        Self { reviewer, ttl, known: Cache::new(MOST_TOKENS), under_way: Mutex::default() }
    }

    pub(super) async fn owner(&self, token: &str) -> Result<User, Unauthenticated> {
        if token.len() > LONGEST {
            return Err(Unauthenticated::Token);
        }
        let mut hash = [0; digest::SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        let owner = match self.known.get(&hash) {
            Some(owner) => owner,
            None => {
                let review = self.review(hash, token).map_err(Unauthenticated::Review)?;
                let owner = review.await.map_err(Unauthenticated::Review)?;
                self.known.put(hash, owner.clone(), self.ttl);
                owner
            }
        };
        owner.ok_or(Unauthenticated::Token)
    }

    /// The review of this token that is under way, or a new one.
    fn review(&self, hash: Hash, token: &str) -> Result<Shared<Review>, HostError> {
        // A panic cannot leave a map half changed.
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(review) = under_way.get(&hash).and_then(WeakShared::upgrade) {
            return Ok(review);
        }
        under_way.retain(|_, review| review.upgrade().is_some());
        if under_way.len() >= MOST_REVIEWS {
            return Err(HostError::Busy("too many tokens are being reviewed".to_owned()));
        }
        let (reviewer, token) = (Arc::clone(&self.reviewer), token.to_owned());
        let review = async move { reviewer.review(&token).await }.boxed().shared();
        if let Some(weak) = review.downgrade() {
            under_way.insert(hash, weak);
        }
        Ok(review)
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;

    use super::*;
    use crate::host::Answer;

    /// Answers as often as it is allowed to: every token is its own user's.
    struct Slow {
        asked: Mutex<Vec<String>>,
        answers: Semaphore,
    }

    impl TokenReviewer for Slow {
        fn review<'a>(&'a self, token: &'a str) -> Answer<'a, Option<User>> {
            self.asked.lock().unwrap().push(token.to_owned());
            Box::pin(async {
                self.answers.acquire().await.unwrap().forget();
                Ok(Some(User { name: token.to_owned(), ..User::default() }))
            })
        }
    }

    fn tokens() -> (Arc<Slow>, Arc<Tokens>) {
        let slow = Arc::new(Slow { asked: Mutex::default(), answers: Semaphore::new(0) });
        (Arc::clone(&slow), Arc::new(Tokens::new(slow, Duration::from_secs(60))))
    }

    #[tokio::test]
    async fn those_who_show_one_token_at_once_wait_for_one_review() {
        let (slow, tokens) = tokens();
        slow.answers.add_permits(1);
        let owners = join_all([(); 5].map(|()| tokens.owner("jane"))).await;
        assert!(owners.into_iter().all(|owner| owner.unwrap().name == "jane"));
        assert_eq!(*slow.asked.lock().unwrap(), ["jane"]);
    }

    #[tokio::test]
    async fn a_review_that_nobody_waits_for_is_given_up() {
        let (slow, tokens) = tokens();
        assert!(tokens.owner("jane").now_or_never().is_none());
        slow.answers.add_permits(1);
        assert_eq!(tokens.owner("jane").await.unwrap().name, "jane");
        assert_eq!(*slow.asked.lock().unwrap(), ["jane", "jane"]);
    }

    #[tokio::test]
    async fn the_number_of_reviews_at_once_is_limited() {
        let (slow, tokens) = tokens();
        let mut crowd = JoinSet::new();
        for i in 0..MOST_REVIEWS {
            let tokens = Arc::clone(&tokens);
            crowd.spawn(async move { tokens.owner(&i.to_string()).await.map(|user| user.name) });
        }
        while slow.asked.lock().unwrap().len() < MOST_REVIEWS {
            tokio::task::yield_now().await;
        }
        let refused = tokens.owner("jane").await.unwrap_err();
        assert!(matches!(refused, Unauthenticated::Review(HostError::Busy(_))), "{refused}");
        crowd.shutdown().await;
        slow.answers.add_permits(1);
        assert_eq!(tokens.owner("jane").await.unwrap().name, "jane");
    }

    #[tokio::test]
    async fn nobody_is_asked_about_a_token_that_is_too_long() {
        let (slow, tokens) = tokens();
        slow.answers.add_permits(2);
        assert!(tokens.owner(&"x".repeat(LONGEST)).await.is_ok());
        assert!(matches!(tokens.owner(&"x".repeat(LONGEST + 1)).await, Err(Unauthenticated::Token)));
        assert_eq!(slow.asked.lock().unwrap().len(), 1);
    }
}
