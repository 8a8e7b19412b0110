//! The rules of probing (upstream `pkg/kubelet/prober/worker.go`): when a probe may run, how its
//! verdicts add up to an outcome, and when it is done with. Pure: time is an argument.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use kube_model::core::Probe;
use kube_model::probe::{ContainerProbes, ProbeKind, ProbeOutcome};
use kube_model::{Monotonic, PodUid};

/// A probe's numbers, with the API's defaults for those that are unset or not positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// No probe before this long after the container's start. Default 0.
    pub initial_delay: Duration,
    /// From one probe to the next. Default 10 s.
    pub period: Duration,
    /// A probe that takes longer fails. Default 1 s.
    pub timeout: Duration,
    /// Successes in a row that make the outcome a success. Default 1.
    pub success_threshold: u32,
    /// Failures in a row that make it a failure. Default 3.
    pub failure_threshold: u32,
}

impl From<&Probe> for Settings {
    fn from(probe: &Probe) -> Self {
        let number = |value: Option<i32>, default: u32| {
            value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
        };
        let seconds = |value, default| Duration::from_secs(number(value, default).into());
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            success_threshold: number(probe.success_threshold, 1),
            failure_threshold: number(probe.failure_threshold, 3),
        }
    }
}

/// Adds up the verdicts on one container instance. A new instance gets a new tracker.
#[derive(Debug, Clone)]
pub struct Tracker {
    kind: ProbeKind,
    success_threshold: u32,
    failure_threshold: u32,
    settled: Option<ProbeOutcome>,
    last: Option<ProbeOutcome>,
    run: u32,
}

impl Tracker {
    /// `known` is the outcome already settled for this instance, by an earlier probe or an earlier life of the agent.
    pub fn new(kind: ProbeKind, settings: &Settings, known: Option<ProbeOutcome>) -> Self {
        Self {
            kind,
            success_threshold: settings.success_threshold,
            failure_threshold: settings.failure_threshold,
            settled: known,
            last: None,
            run: 0,
        }
    }

    /// Counts a verdict; returns the outcome if that changed it. A probe that could not be run has no verdict: it
    /// changes neither the outcome nor the count, so it is not passed in.
    pub fn record(&mut self, verdict: ProbeOutcome) -> Option<ProbeOutcome> {
        self.run = if self.last == Some(verdict) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(verdict);
        let threshold = match verdict {
            ProbeOutcome::Success => self.success_threshold,
            ProbeOutcome::Failure => self.failure_threshold,
        };
        if self.run < threshold || self.settled == Some(verdict) {
            return None;
        }
        self.settled = Some(verdict);
        self.settled
    }

    /// Whether this instance is not probed any more: a startup probe that has settled, and a liveness probe that
    /// has failed (the container is about to be restarted).
    pub fn is_done(&self) -> bool {
        match self.kind {
            ProbeKind::Startup => self.settled.is_some(),
            ProbeKind::Liveness => self.settled == Some(ProbeOutcome::Failure),
            ProbeKind::Readiness => false,
        }
    }
}

/// Whether a probe must wait for its container's startup probe to succeed.
pub fn held_back(kind: ProbeKind, has_startup_probe: bool, known: ContainerProbes) -> bool {
    kind != ProbeKind::Startup && has_startup_probe && known.startup != Some(ProbeOutcome::Success)
}

/// Whether a probe of this kind runs at all: once the pod terminates, only readiness does (upstream
/// `pkg/kubelet/prober/prober_manager.go`).
pub fn runs(kind: ProbeKind, terminating: bool) -> bool {
    !terminating || kind == ProbeKind::Readiness
}

/// How long from `now` to the first probe of a container instance.
///
/// The initial delay counts from the container's start. When the agent finds a container that is older than itself,
/// and it started less than one period ago, the first probe comes after `spread` of a period, or else a restarted
/// agent would run all its probes at once. (The kubelet delays new containers too, and those that wait for their first
/// outcome; that has no use.)
pub fn first_delay(
    settings: &Settings,
    agent_started: Monotonic,
    container_started: Monotonic,
    now: Monotonic,
    spread: f64,
) -> Duration {
    let since = |then: Monotonic| now.left(then);
    let delay = settings.initial_delay.saturating_sub(since(container_started));
    let just_restarted = container_started < agent_started && since(agent_started) < settings.period;
    if just_restarted { delay.max(settings.period.mul_f64(spread.clamp(0.0, 1.0))) } else { delay }
}

/// The share of a period, in 0..1, that [`first_delay`] takes: even over the probes of a node, and the same each time,
/// so that nothing here needs a source of randomness.
pub fn spread(pod: &PodUid, container: &str, kind: ProbeKind) -> f64 {
    let mut hasher = DefaultHasher::new();
    (pod, container, kind).hash(&mut hasher);
    f64::from((hasher.finish() >> 32) as u32) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests;
