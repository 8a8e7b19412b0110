//! The two clocks that the actors go by.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kube_model::{Monotonic, Now, Timestamp};
use tokio::time::Instant;

/// Two readings of the monotonic clock that are further apart than this do not belong to the wall time between them.
const TOGETHER: Duration = Duration::from_micros(50);

/// How often they are taken anew when the thread was interrupted in between.
const ATTEMPTS: usize = 4;

/// Tells the time. Waits go by tokio's clock, which is the kernel's monotonic one; the wall clock is the one that the
/// runtime's timestamps come from. All clones have the same timeline.
#[derive(Clone)]
pub struct Clock {
    start: Instant,
    wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("start", &self.start).finish_non_exhaustive()
    }
}

impl Clock {
    /// A timeline that begins now, beside this wall clock.
    pub fn new(wall: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { start: Instant::now(), wall: Arc::new(wall) }
    }

    /// The present by both clocks.
    pub fn now(&self) -> Now {
        let mut before = self.mono();
        let mut attempts = 1;
        loop {
            let (wall, mono) = ((self.wall)(), self.mono());
            if attempts == ATTEMPTS || mono.left(before) <= TOGETHER {
                return Now { wall, mono };
            }
            attempts += 1;
            before = mono;
        }
    }

    /// The present, as far as it is only to be waited from.
    pub fn mono(&self) -> Monotonic {
        Monotonic::after_start(self.start.elapsed())
    }

    /// The wall clock.
    pub fn wall(&self) -> Timestamp {
        (self.wall)()
    }
}
