//! How long a pod waits before an image that failed is tried again.

use std::time::Duration;

use tokio::time::Instant;
use util::doubled;

use crate::ImageError;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);

/// The failures of one image for one pod: 10 s, doubling to 300 s; begins anew when nothing failed for twice
/// the longest time (upstream `pkg/kubelet/images/image_manager.go`).
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    /// In a row.
    failures: u32,
    last: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    at: Instant,
    delay: Duration,
    /// Reason and message.
    text: String,
}

impl Backoff {
    /// Takes note of a failure; answers with the time until the next attempt.
    pub(crate) fn failed(&mut self, now: Instant, error: &ImageError) -> Duration {
        let recent = self.last.as_ref().is_some_and(|last| now.duration_since(last.at) <= 2 * LONGEST);
        self.failures = if recent { self.failures.saturating_add(1) } else { 1 };
        let delay = doubled(FIRST, self.failures, LONGEST);
        let text = format!("{}: {}", error.reason.as_str(), error.message);
        self.last = Some(Failure { at: now, delay, text });
        delay
    }

    /// What is left of the wait; `None` when it is over.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        let last = self.last.as_ref()?;
        last.delay.checked_sub(now.duration_since(last.at)).filter(|left| !left.is_zero())
    }

    /// The next attempt is due; the failures before it count.
    pub(crate) fn retry(&mut self) {
        if let Some(last) = &mut self.last {
            last.delay = Duration::ZERO;
        }
    }

    pub(crate) fn last_failure(&self) -> &str {
        self.last.as_ref().map_or("", |last| &last.text)
    }
}
