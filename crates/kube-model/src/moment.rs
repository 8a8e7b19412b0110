//! Two kinds of time. Wall time is for what is shown and stored: it jumps when somebody sets the clock. Monotonic
//! time is for everything that is waited for or measured: it only goes on, at one pace.
//!
//! Moments that come as wall time from elsewhere (the runtime's `finishedAt`, the API's `startTime`) are placed on
//! the monotonic timeline once, when they are first seen, and kept so: see [`Now::placed`].

use std::ops::{Add, Sub};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A moment on a timeline that never jumps. Its beginning is arbitrary and differs from process to process, so it is
/// never stored or shown; moments before it are negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(SignedDuration);

impl Monotonic {
    /// The moment `elapsed` after the beginning of the timeline.
    pub fn after_start(elapsed: Duration) -> Self {
        Self(SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::MAX))
    }

    /// How long after `earlier` this is; negative if it is before.
    pub fn since(self, earlier: Self) -> SignedDuration {
        self.0.saturating_sub(earlier.0)
    }

    /// How long it is until this comes; zero if it has come.
    pub fn left(self, now: Self) -> Duration {
        Duration::try_from(self.since(now)).unwrap_or_default()
    }
}

/// At the end of all time it stays there.
impl Add<SignedDuration> for Monotonic {
    type Output = Self;

    fn add(self, delay: SignedDuration) -> Self {
        Self(self.0.saturating_add(delay))
    }
}

impl Sub<SignedDuration> for Monotonic {
    type Output = Self;

    fn sub(self, age: SignedDuration) -> Self {
        Self(self.0.saturating_sub(age))
    }
}

/// The present by both clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For what is shown and stored.
    pub wall: Timestamp,
    /// For what is waited for and measured.
    pub mono: Monotonic,
}

impl Now {
    /// Where a wall time of the past stands on the monotonic timeline, going by its age on today's clock. One that
    /// lies ahead was written before the clock was set back: it counts as the present, so that nothing is waited
    /// for longer than from now on.
    pub fn placed(self, past: Timestamp) -> Monotonic {
        self.mono - self.wall.duration_since(past).max(SignedDuration::ZERO)
    }

    /// What the wall clock, as it goes now, said or will say at `moment`.
    pub fn shown(self, moment: Monotonic) -> Timestamp {
        // Only calendar units are an error: beyond the ends of time it is the end.
        self.wall.saturating_add(moment.since(self.mono)).unwrap_or(self.wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(wall: i64, mono: u64) -> Now {
        let wall = Timestamp::from_second(wall).unwrap();
        Now { wall, mono: Monotonic::after_start(Duration::from_secs(mono)) }
    }

    #[test]
    fn wall_times_are_placed_by_their_age_and_never_ahead() {
        let past = Timestamp::from_second(1000).unwrap();
        for (wall, age) in [(1000, 0), (1007, 7), (900, 0), (1_000_000_000, 999_999_000)] {
            let now = now(wall, 50);
            assert_eq!(now.mono.since(now.placed(past)).as_secs(), age, "at {wall}");
        }
        // Before the timeline began.
        assert!(now(1100, 50).placed(past) < Monotonic::default());
    }

    #[test]
    fn moments_are_shown_as_the_clock_goes_now() {
        let at = Monotonic::after_start(Duration::from_secs(60));
        for (wall, shown) in [(1000, 1010), (400, 410), (5000, 5010)] {
            assert_eq!(now(wall, 50).shown(at).as_second(), shown);
        }
    }

    #[test]
    fn the_ends_of_time_are_held() {
        let now = now(1000, 50);
        let never = now.mono + SignedDuration::MAX;
        assert_eq!(never + SignedDuration::from_secs(1), never);
        assert_eq!(now.shown(never), Timestamp::MAX);
        assert!(never.left(now.mono) > Duration::from_secs(1 << 40));
        assert_eq!(now.mono.left(never), Duration::ZERO);
        assert_eq!(now.shown(Monotonic::default() - SignedDuration::MAX), Timestamp::MIN);
    }
}
