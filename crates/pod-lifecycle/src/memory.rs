//! What an actor tells its [`Memory`]: the only place that changes it, apart from
//! [`Memory::last_status`], which the actor sets to each status it publishes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube_model::core::Pod;
use kube_model::k8s_openapi::jiff::SignedDuration;
use kube_model::observed::{Container, ContainerState, ObservedPod};
use kube_model::{Monotonic, Now, pod};

use crate::backoff::{CrashBackoff, doubled_seconds};
use crate::deadline;
use crate::inputs::{Failure, FailureReason, Memory};
use crate::post_start::has_hook;

/// After so many attempts in a row that failed, nothing waits for the runtime to stop or remove something.
pub(crate) const ATTEMPTS: u32 = 3;

impl Memory {
    /// Takes note of what the runtime reports. To be called before each [`plan`](crate::plan()) and
    /// [`status`](crate::status()), with the same `pod` and `observed`.
    ///
    /// A container whose image or resources changed starts afresh: no back-off, no failed attempts.
    pub fn before_plan(&mut self, pod: &Pod, observed: &ObservedPod, now: Now) {
        if !self.removals.is_empty() {
            let containers = observed.containers.iter().map(|c| c.id.as_str());
            let there: BTreeSet<_> =
                containers.chain(observed.sandboxes.iter().map(|s| s.id.as_str())).collect();
            self.removals.retain(|id, _| there.contains(id.as_str()));
        }
        let Some(spec) = &pod.spec else { return };
        if spec.active_deadline_seconds.is_some() && self.started.is_none() {
            let status = self.last_status.as_deref().or(pod.status.as_ref());
            self.started = Some(now.placed(deadline::started(status, observed).unwrap_or(now.wall)));
        }
        let containers: BTreeMap<_, _> = pod::containers(spec).map(|(_, c)| (c.name.as_str(), c)).collect();
        self.crash_backoff.retain(|name, _| containers.contains_key(name.as_str()));
        self.failures.retain(|name, _| containers.contains_key(name.as_str()));
        self.older.retain(|name, _| containers.contains_key(name.as_str()));
        self.hooks.retain(|name| containers.get(name.as_str()).is_some_and(|c| has_hook(c)));
        let mut instances = BTreeMap::<_, Vec<_>>::new();
        for instance in &observed.containers {
            instances.entry(instance.name.as_str()).or_default().push(instance);
        }
        for (_, container) in pod::containers(spec) {
            let name = &container.name;
            let backoff =
                self.crash_backoff.entry(name.clone()).or_insert_with(|| CrashBackoff::new(container));
            if backoff.is_outdated(container) {
                backoff.start_afresh(container);
                self.failures.remove(name);
            }
            let mut instances = instances.get(name.as_str()).into_iter().flatten().copied();
            if let Some(newest) = instances.next() {
                backoff.observe(newest, now);
            }
            let ended = instances.next().filter(|older| older.state == ContainerState::Exited);
            if let Some(older) = ended.filter(|older| self.older.get(name) != Some(older)) {
                self.older.insert(name.clone(), older.clone());
            }
        }
    }

    /// The instance that ended before `newest`, the last time that both were there.
    pub(crate) fn older(&self, newest: &Container) -> Option<&Container> {
        self.older.get(&newest.name).filter(|older| older.restart_count < newest.restart_count)
    }

    /// An attempt to start `container` failed. `retry_after`: when the one who failed wants to be asked again
    /// (a registry's back-off); `None`: by the delays of [`FailureReason`].
    pub fn container_failed(
        &mut self,
        container: &str,
        reason: FailureReason,
        message: String,
        retry_after: Option<Duration>,
        now: Monotonic,
    ) {
        let failure = next_failure(self.failures.get(container), reason, message, retry_after, 10, now);
        self.failures.insert(container.to_owned(), failure);
        self.hook_failed(container, reason);
    }

    /// What containers refer to came or changed: who could not be configured need not wait any longer.
    pub fn references_changed(&mut self, now: Monotonic) {
        let failures = self.failures.values_mut();
        for failure in failures.filter(|f| f.reason == FailureReason::CreateContainerConfigError) {
            failure.retry_at = failure.retry_at.min(now);
        }
    }

    /// `container` was started and its hook has ended: its failed attempts are history.
    pub fn container_started(&mut self, container: &str) {
        self.failures.remove(container);
        self.hooks.remove(container);
    }

    /// Something that concerns the whole pod failed.
    pub fn pod_failed(&mut self, reason: FailureReason, message: String, now: Monotonic) {
        // Attempts at stopping are counted apart: after some, less is asked of a container.
        let stops = |reason| reason == FailureReason::FailedKillPod;
        let previous = self.pod_failure.as_ref().filter(|f| stops(f.reason) == stops(reason));
        self.pod_failure = Some(next_failure(previous, reason, message, None, 10, now));
    }

    /// A container or sandbox could not be stopped, for whatever reason: stopping pauses before it is tried again.
    pub fn stop_failed(&mut self, message: String, now: Monotonic) {
        self.pod_failed(FailureReason::FailedKillPod, message, now);
    }

    /// The container or sandbox with this ID could not be removed. Tells how often in a row.
    pub fn removal_failed(&mut self, id: String, message: String, now: Monotonic) -> u32 {
        let reason = FailureReason::FailedKillPod;
        let failure = next_failure(self.removals.get(&id), reason, message, None, 60, now);
        let attempts = failure.attempts;
        self.removals.insert(id, failure);
        attempts
    }

    /// Whether a stop failed so often that the runtime is not waited for any longer.
    pub(crate) fn stops_in_vain(&self) -> bool {
        let failure = self.pod_failure.as_ref().filter(|f| f.reason == FailureReason::FailedKillPod);
        failure.is_some_and(|f| f.attempts >= ATTEMPTS)
    }

    /// What failed for the whole pod before works now.
    pub fn pod_succeeded(&mut self) {
        self.pod_failure = None;
    }
}

fn next_failure(
    previous: Option<&Failure>,
    reason: FailureReason,
    message: String,
    retry_after: Option<Duration>,
    max_seconds: i64,
    now: Monotonic,
) -> Failure {
    let attempts = previous.map_or(0, |f| f.attempts).saturating_add(1);
    let delay = match retry_after {
        Some(delay) => SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX),
        None => SignedDuration::from_secs(retry_delay_seconds(reason, attempts, max_seconds)),
    };
    Failure { reason, message, at: now, retry_at: now + delay, attempts }
}

/// Delay before the next attempt when `attempts` have failed in a row.
///
/// Pulls: 10 s doubling to 5 min, as the kubelet's image back-off. All else: 1 s doubling to `max`, so that a
/// short trouble costs little; the kubelet waits 10 to 15 s from the first failure on (upstream
/// `pkg/kubelet/pod_workers.go`).
fn retry_delay_seconds(reason: FailureReason, attempts: u32, max: i64) -> i64 {
    let (initial, max) = if reason.is_pull() { (10_i64, 300) } else { (1, max) };
    doubled_seconds(initial, attempts, max)
}
