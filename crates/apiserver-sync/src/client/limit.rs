//! How fast a lane may send: a token bucket as `client-go` has it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

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
    limit: Limit,
    /// Tokens at a moment; below zero when requests wait for theirs.
    level: Mutex<(f64, Instant)>,
}

impl Bucket {
    pub(super) fn new(limit: Limit) -> Self {
        Self { limit, level: Mutex::new((limit.burst, Instant::now())) }
    }

    /// Returns when the request may be sent. One that is given up while it waits has used its token.
    pub(super) async fn take(&self) {
        let wait = self.reserve(Instant::now());
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    fn reserve(&self, now: Instant) -> Duration {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, at) = *level;
        let grown = now.saturating_duration_since(at).as_secs_f64() * self.limit.qps;
        let tokens = (tokens + grown).min(self.limit.burst) - 1.0;
        *level = (tokens, now.max(at));
        Duration::from_secs_f64((-tokens).max(0.0) / self.limit.qps)
    }
}

#[cfg(test)]
mod tests {
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
        let bucket = Bucket::new(Limit::new(10, 2));
        let start = Instant::now();
        let waits = |at: Instant| [(); 3].map(|()| bucket.reserve(at).as_millis());
        assert_eq!(waits(start), [0, 0, 100]);
        assert_eq!(waits(start + Duration::from_secs(60)), [0, 0, 100]);
    }

    #[test]
    fn zero_stands_for_the_defaults_of_client_go() {
        assert_eq!(Limit::new(0, 0), Limit { qps: 5.0, burst: 10.0 });
        assert_eq!(Limit::new(50, 100), Limit { qps: 50.0, burst: 100.0 });
    }
}
