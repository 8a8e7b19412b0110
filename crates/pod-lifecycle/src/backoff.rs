//! Crash back-off: the first restart at once, then 10 s doubling to 5 min, forgotten after a run of 10 min
//! (upstream `pkg/kubelet/kuberuntime/kuberuntime_manager.go` `doBackOff`).
//!
//! Every end of a container that is to run again counts, whatever its exit code; the wait is measured from
//! `finishedAt`, which is placed on the monotonic timeline when it is first seen. It starts afresh when the image or
//! the resources change (upstream `pkg/kubelet/kuberuntime/helpers.go` `GetBackoffKey`).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use kube_model::core::Container;
use kube_model::k8s_openapi::jiff::SignedDuration;
use kube_model::{Monotonic, Now, observed};

/// Delay before the second restart in a row, in seconds.
const INITIAL_SECONDS: i64 = 10;
/// The longest delay, in seconds.
const MAX_SECONDS: i64 = 300;
/// A container that ran longer than this before it ended has not crashed in a row, in seconds.
const FORGET_AFTER_SECONDS: i64 = 600;

/// Crash back-off of one container, fed with every observation of its newest instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrashBackoff {
    /// Over image and resources: a changed container has not crashed yet.
    fingerprint: u64,
    /// ID of the instance last seen.
    instance: Option<String>,
    /// When that instance began, as far as it was seen to be there at all.
    began: Option<Monotonic>,
    /// What the end of that instance costs, or of the next one if it has already been counted.
    next_delay_seconds: i64,
    /// The wait that the end of `instance` brought.
    wait: Option<CrashWait>,
}

/// A wait before a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashWait {
    /// Its whole length, in seconds.
    pub delay_seconds: i64,
    /// When the container ended.
    pub since: Monotonic,
    /// When it may start again.
    pub until: Monotonic,
}

impl CrashBackoff {
    /// The state for a container of which no instance has been seen.
    pub fn new(container: &Container) -> Self {
        Self {
            fingerprint: fingerprint(container),
            instance: None,
            began: None,
            next_delay_seconds: 0,
            wait: None,
        }
    }

    /// Whether image or resources differ from those that this state was made for.
    pub fn is_outdated(&self, container: &Container) -> bool {
        self.fingerprint != fingerprint(container)
    }

    /// Forgets the past: the container was changed. The end of the instance that ran until now is its first.
    pub fn start_afresh(&mut self, container: &Container) {
        *self = Self { instance: self.instance.take(), began: self.began, ..Self::new(container) };
    }

    /// Takes note of the newest instance.
    ///
    /// The first instance seen may be one of many when the agent was restarted: its restart count then stands
    /// for crashes in a row, so that a crash loop does not start over with short delays. The kubelet forgets
    /// them; here we are kinder to the node on purpose.
    pub fn observe(&mut self, newest: &observed::Container, now: Now) {
        if self.instance.as_deref() != Some(newest.id.as_str()) {
            if self.instance.is_none() {
                self.next_delay_seconds = delay_after(newest.restart_count);
            }
            self.instance = Some(newest.id.clone());
            self.began = None;
            self.wait = None;
        }
        let began = newest.started_at.unwrap_or(newest.created_at);
        let began = *self.began.get_or_insert_with(|| now.placed(began));
        let Some(finished_at) = newest.finished_at else { return };
        if newest.state != observed::ContainerState::Exited || self.wait.is_some() {
            return;
        }
        let since = now.placed(finished_at);
        let forgiven = since.since(began).as_secs() > FORGET_AFTER_SECONDS;
        let delay_seconds = if forgiven { 0 } else { self.next_delay_seconds };
        let until = since + SignedDuration::from_secs(delay_seconds);
        self.wait = Some(CrashWait { delay_seconds, since, until });
        self.next_delay_seconds = (delay_seconds * 2).clamp(INITIAL_SECONDS, MAX_SECONDS);
    }

    /// The wait that is not over at `now`.
    pub fn pending(&self, now: Monotonic) -> Option<CrashWait> {
        self.wait.filter(|w| w.until > now)
    }

    /// When the newest instance ended, if it has.
    pub(crate) fn ended(&self) -> Option<Monotonic> {
        self.wait.map(|w| w.since)
    }
}

/// `first`, doubled with each of so many failures in a row but the first, up to `longest`; 0 without any.
pub(crate) fn doubled_seconds(first: i64, failures: u32, longest: i64) -> i64 {
    let duration = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
    util::doubled(duration(first), failures, duration(longest)).as_secs().try_into().unwrap_or(longest)
}

/// What the end of an instance with this restart count costs, if all before it crashed in a row.
fn delay_after(restart_count: u32) -> i64 {
    doubled_seconds(INITIAL_SECONDS, restart_count, MAX_SECONDS)
}

fn fingerprint(container: &Container) -> u64 {
    let mut hasher = DefaultHasher::new();
    container.image.hash(&mut hasher);
    if let Some(resources) = &container.resources {
        for list in [&resources.limits, &resources.requests] {
            for (name, quantity) in list.iter().flatten() {
                (name, &quantity.0).hash(&mut hasher);
            }
            // Tells {limits: x} from {requests: x}.
            0_u8.hash(&mut hasher);
        }
    }
    hasher.finish()
}
