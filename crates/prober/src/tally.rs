//! How the probes went, for those who count: by probe, not by container instance, so that a restart of the container
//! goes on counting. A tally goes with its probe (upstream `pkg/kubelet/prober/prober_manager.go`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube_model::core::Pod;
use kube_model::probe::ProbeKind;

use crate::attempt::{HandlerError, Verdict};

/// Upper bounds of how long probes take, in seconds: Prometheus' default ones.
pub const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How one probe of a container went.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// As it should be, redirects to another host among them.
    pub successful: u64,
    /// The container did not do what the probe asks for.
    pub failed: u64,
    /// The probe could not be run.
    pub unknown: u64,
    /// How many took at most as long as the same place of [`SECONDS`] says, and longer than the place before. Of
    /// those that failed nothing is said, as by the kubelet: most of them would tell of their timeout.
    pub buckets: [u64; SECONDS.len()],
    /// How many were timed.
    pub timed: u64,
    /// How long those took together, in seconds.
    pub seconds: f64,
}

impl Tally {
    pub(crate) fn count(&mut self, result: &Result<Verdict, HandlerError>, took: Duration) {
        match result {
            Ok(Verdict::Success | Verdict::Warning(_)) => self.successful += 1,
            Ok(Verdict::Failure(_)) => {
                self.failed += 1;
                return;
            }
            Err(_) => self.unknown += 1,
        }
        let took = took.as_secs_f64();
        self.timed += 1;
        self.seconds += took;
        let bucket = SECONDS.iter().position(|bound| took <= *bound);
        if let Some(count) = bucket.and_then(|bucket| self.buckets.get_mut(bucket)) {
            *count += 1;
        }
    }
}

/// A tally, and whose it is.
#[derive(Debug, Clone)]
pub struct Tallied {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Name of the container in its spec.
    pub container: Arc<str>,
    /// Which of its probes.
    pub kind: ProbeKind,
    /// How that went.
    pub tally: Tally,
}

/// The tally of one probe, shared by the worker that counts and the prober that is asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Tally>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Tally> {
        // A tally that a panic left half counted is still a tally.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_and_timed_unless_they_failed() {
        let mut tally = Tally::default();
        let cannot = || Err(HandlerError::NoHandler("app".into()));
        for (result, millis) in [
            (Ok(Verdict::Success), 5),
            (Ok(Verdict::Success), 6),
            (Ok(Verdict::Warning("moved".into())), 11_000),
            (Ok(Verdict::Failure("refused".into())), 7),
            (cannot(), 1_000),
        ] {
            tally.count(&result, Duration::from_millis(millis));
        }
        assert_eq!((tally.successful, tally.failed, tally.unknown), (3, 1, 1));
        assert_eq!(tally.buckets, [1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!((tally.timed, (tally.seconds * 1000.0).round()), (4, 12_011.0));
    }
}
