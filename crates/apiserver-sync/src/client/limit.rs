//! How fast a client may send: a token bucket as `client-go` has it.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use util::TokenBucket;

/// Requests per second over time, and at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    qps: f64,
    burst: f64,
}

impl Limit {
    /// `kubeAPIQPS` and `kubeAPIBurst`, or `eventRecordQPS` and `eventBurst`. Zero stands for `client-go`'s own
    /// defaults (5 and 10), as in the kubelet. A burst below one would never let anything pass: it is one.
    pub fn new(qps: u32, burst: u32) -> Self {
        let or = |value: u32, default: u32| f64::from(if value == 0 { default } else { value });
        Self { qps: or(qps, 5), burst: or(burst, 10) }
    }
}

/// Tokens: one for each request. Requests that find none go one after the other, in the order of their coming.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Whoever is next holds it until there is a token; the others stand in its queue, which is fair.
    level: Arc<Mutex<Level>>,
}

/// Tokens at a moment.
#[derive(Debug, Clone, Copy)]
struct Level {
    tokens: TokenBucket,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(limit: Limit) -> Self {
        let tokens = TokenBucket::new(limit.qps, limit.burst);
        Self { level: Arc::new(Mutex::new(Level { tokens, at: Instant::now() })) }
    }

    /// Returns when the request may be sent. One that is given up while it waits leaves its place to the next and its
    /// token in the bucket: who comes later waits only for those that are still there.
    pub(super) async fn take(&self) {
        let now = Instant::now();
        // Nobody stands in the queue.
        if let Ok(mut level) = self.level.try_lock()
            && level.due(now) <= now
        {
            *level = level.taken(now);
            return;
        }
        let level = Arc::clone(&self.level);
        // On its own feet, so that a request that nobody drives for a while does not hold up those behind it.
        let turn = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut level = level.lock().await;
            let due = level.due(Instant::now());
            sleep_until(due).await;
            *level = level.taken(due);
        }));
        // It fails only when the runtime ends, and the request with it.
        let _ended = turn.await;
    }
}

impl Level {
    fn grown(self, now: Instant) -> Self {
        let tokens = self.tokens.after(now.saturating_duration_since(self.at));
        Self { tokens, at: now.max(self.at) }
    }

    /// When the next token is there.
    fn due(self, now: Instant) -> Instant {
        let Self { tokens, at } = self.grown(now);
        at + tokens.wait()
    }

    /// What is left of it at `due`.
    fn taken(self, due: Instant) -> Self {
        let mut level = self.grown(due);
        level.tokens.spend();
        level
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
        let bucket = Bucket::new(Limit::new(50, 100));
        let start = Instant::now();
        for _ in 0..100 {
            bucket.take().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..50 {
            bucket.take().await;
        }
        let took = start.elapsed();
        // The clock of tokio's timers ticks in milliseconds.
        assert!(took >= Duration::from_secs(1) && took < Duration::from_millis(1100), "{took:?}");
    }

    #[test]
    fn a_pause_fills_the_bucket_to_its_burst_and_not_beyond() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        let start = Instant::now();
        let mut level = Level { tokens: TokenBucket::new(10.0, 2.0), at: start };
        let mut waits = |now: Instant| {
            [(); 4].map(|()| {
                let due = level.due(now);
                level = level.taken(due);
                (due - now).as_millis()
            })
        };
        assert_eq!(waits(start), [0, 0, 100, 200]);
        assert_eq!(waits(start + Duration::from_secs(60)), [0, 0, 100, 200]);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_gave_up_hold_up_nobody() {
        let bucket = Arc::new(Bucket::new(Limit::new(1, 1)));
        let start = Instant::now();
        bucket.take().await;
        let mut crowd = JoinSet::new();
        for _ in 0..1000 {
            let bucket = Arc::clone(&bucket);
            crowd.spawn(async move { bucket.take().await });
        }
        // The first gets its token.
        crowd.join_next().await;
        assert_eq!(start.elapsed().as_secs(), 1);
        crowd.shutdown().await;
        bucket.take().await;
        assert_eq!(start.elapsed().as_secs(), 2);
    }

    #[test]
    fn zero_stands_for_the_defaults_of_client_go() {
        assert_eq!(Limit::new(0, 0), Limit { qps: 5.0, burst: 10.0 });
        assert_eq!(Limit::new(50, 100), Limit { qps: 50.0, burst: 100.0 });
    }
}
