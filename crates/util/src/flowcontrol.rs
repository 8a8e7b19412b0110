//! How often something is done: again after a failure, and at all (upstream `client-go/util/flowcontrol`).

use std::time::Duration;

/// The pause after so many failures in a row: `first`, doubling up to `longest`; none after none.
pub fn doubled(first: Duration, failures: u32, longest: Duration) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
    first.saturating_mul(1 << doublings.min(31)).min(longest)
}

/// Pauses between attempts at one thing.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// The first failure brings the `first` pause, each further one twice the last up to the `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// An attempt has failed. Answers with the pause before the next one.
    pub fn failed(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.pause()
    }

    /// The pause that the last failure brought; none after a success.
    pub fn pause(&self) -> Duration {
        doubled(self.first, self.failures, self.longest)
    }

    /// An attempt has succeeded: the next failure is a first one.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// Tokens that come back at a rate, up to a burst; each deed takes one. Whoever has it keeps the time: what has passed
/// is told before each question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenBucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
}

impl TokenBucket {
    /// A full one. A rate of zero never brings anything back.
    pub fn new(per_second: f64, burst: f64) -> Self {
        Self { per_second, burst, tokens: burst }
    }

    /// Time has passed since the last call of this.
    #[must_use]
    pub fn after(self, passed: Duration) -> Self {
        let tokens = (self.tokens + passed.as_secs_f64() * self.per_second).min(self.burst);
        Self { tokens, ..self }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self) -> bool {
        let enough = self.tokens >= 1.0;
        if enough {
            self.spend();
        }
        enough
    }

    /// Takes a token that was waited for, whatever rounding has left of it.
    pub fn spend(&mut self) {
        self.tokens -= 1.0;
    }

    /// How long until there is a token; [`Duration::MAX`] if there will be none.
    pub fn wait(&self) -> Duration {
        match 1.0 - self.tokens {
            missing if missing > 0.0 => {
                Duration::try_from_secs_f64(missing / self.per_second).unwrap_or(Duration::MAX)
            }
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        for (failures, want) in [(0, 0), (1, 2), (2, 4), (3, 8), (4, 10), (40, 10), (u32::MAX, 10)] {
            assert_eq!(doubled(seconds(2), failures, seconds(10)), seconds(want), "{failures}");
        }
        let mut backoff = Backoff::new(seconds(2), seconds(3));
        assert_eq!(
            [backoff.failed(), backoff.failed(), backoff.failed()],
            [seconds(2), seconds(3), seconds(3)]
        );
        assert_eq!(backoff.pause(), seconds(3));
        backoff.succeeded();
        assert_eq!((backoff.pause(), backoff.failed()), (Duration::ZERO, seconds(2)));
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = TokenBucket::new(0.5, 2.0);
        assert_eq!([bucket.take(), bucket.take(), bucket.take()], [true, true, false]);
        assert_eq!(bucket.wait(), seconds(2));
        bucket = bucket.after(seconds(1));
        assert_eq!((bucket.take(), bucket.wait()), (false, seconds(1)));
        bucket = bucket.after(seconds(1));
        assert_eq!((bucket.wait(), bucket.take(), bucket.take()), (Duration::ZERO, true, false));
        // No more than the burst comes together.
        bucket = bucket.after(seconds(3600));
        assert_eq!([bucket.take(), bucket.take(), bucket.take()], [true, true, false]);
    }
}
