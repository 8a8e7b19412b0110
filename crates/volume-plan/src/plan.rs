//! How far a volume of a pod is, and which operation is next (upstream `pkg/kubelet/volumemanager/reconciler` and
//! `pkg/util/goroutinemap/exponentialbackoff`). Operations of one volume never overlap: while there is one, nothing is
//! next.

use std::collections::BTreeSet;
use std::time::Duration;

use kube_model::Monotonic;
use kube_model::core::{PodSpec, VolumeDevice, VolumeMount};
use kube_model::k8s_openapi::jiff::SignedDuration;
use kube_model::pod;

/// The pause after the first failure: each is twice the one before.
const RETRY: Duration = Duration::from_millis(500);

/// The longest pause, where there is no reason for a shorter one.
pub const LONGEST: Duration = Duration::from_secs(122);

/// From then on an operation may be one that never ends (upstream `podAttachAndMountTimeout`).
const LATE: Duration = Duration::from_secs(123);

/// What can be done to a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It is made; to what is there already nothing is done (upstream `MountVolume.SetUp`).
    SetUp,
    /// It is there, and its content may have changed.
    Refresh,
}

/// How far a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is not there.
    Missing {
        /// Why not, if that was tried.
        failure: Option<Failure>,
    },
    /// It is being made.
    SettingUp {
        /// Since when.
        since: Monotonic,
        /// What came of the attempt before.
        failure: Option<Failure>,
        /// Whether what it is made of has changed meanwhile.
        changed: bool,
    },
    /// It is there, and so may the pod's containers be.
    Mounted {
        /// Since when, as far as this run of the agent knows.
        since: Monotonic,
        /// Whether its content is up to date.
        content: Freshness,
    },
}

/// Whether the content of a mounted volume is what it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// It is, until then at least.
    Current {
        /// When a token in it has to be asked for anew.
        until: Option<Monotonic>,
    },
    /// What it is made of has changed.
    Stale,
    /// It is being written.
    Refreshing {
        /// Since when.
        since: Monotonic,
        /// What came of the attempt before.
        failure: Option<Failure>,
        /// Whether what it is made of has changed since it began.
        changed: bool,
    },
    /// It cannot be made what it is to be; the last good one stays.
    Failed(Failure),
}

/// An operation that failed, and keeps failing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In upstream's words.
    pub message: String,
    /// When it first did.
    pub since: Monotonic,
    /// How often in a row.
    pub attempts: u32,
    /// When it is tried again.
    pub until: Monotonic,
}

impl Default for State {
    fn default() -> Self {
        Self::Missing { failure: None }
    }
}

/// What is to be done for a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This, now.
    Do(Operation),
    /// Nothing before then; while an operation is under way: it is late from then on.
    At(Monotonic),
    /// Nothing, until something is told.
    Nothing,
}

impl State {
    /// What is next.
    pub fn next(&self, now: Monotonic) -> Next {
        let at = |when: Monotonic, operation| match when <= now {
            true => Next::Do(operation),
            false => Next::At(when),
        };
        if let Some((_, since)) = self.operation() {
            let late = late(since);
            return if late <= now { Next::Nothing } else { Next::At(late) };
        }
        match self {
            Self::Missing { failure: None } => Next::Do(Operation::SetUp),
            Self::Missing { failure: Some(failure) } => at(failure.until, Operation::SetUp),
            Self::SettingUp { .. } => Next::Nothing,
            Self::Mounted { content, .. } => match content {
                Freshness::Current { until: Some(until) } => at(*until, Operation::Refresh),
                Freshness::Current { until: None } | Freshness::Refreshing { .. } => Next::Nothing,
                Freshness::Stale => Next::Do(Operation::Refresh),
                Freshness::Failed(failure) => at(failure.until, Operation::Refresh),
            },
        }
    }

    /// The operation that is under way, and since when.
    pub fn operation(&self) -> Option<(Operation, Monotonic)> {
        match self {
            Self::SettingUp { since, .. } => Some((Operation::SetUp, *since)),
            Self::Mounted { content: Freshness::Refreshing { since, .. }, .. } => {
                Some((Operation::Refresh, *since))
            }
            Self::Missing { .. } | Self::Mounted { .. } => None,
        }
    }

    /// Whether an operation is under way that takes so long that somebody should know.
    pub fn is_late(&self, now: Monotonic) -> bool {
        self.operation().is_some_and(|(_, since)| late(since) <= now)
    }

    /// Whether the pod's containers may run, as far as this volume is concerned.
    pub fn is_mounted(&self) -> bool {
        matches!(self, Self::Mounted { .. })
    }

    /// What went wrong last.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Missing { failure } | Self::SettingUp { failure, .. } => failure.as_ref(),
            Self::Mounted { content: Freshness::Refreshing { failure, .. }, .. } => failure.as_ref(),
            Self::Mounted { content: Freshness::Failed(failure), .. } => Some(failure),
            Self::Mounted { .. } => None,
        }
    }

    /// An operation of [`State::next`] has begun.
    pub fn begin(&mut self, operation: Operation, now: Monotonic) {
        let failure = self.failure().cloned();
        match (operation, &mut *self) {
            (Operation::SetUp, Self::Missing { .. }) => {
                *self = Self::SettingUp { since: now, failure, changed: false };
            }
            (Operation::Refresh, Self::Mounted { content, .. }) => {
                *content = Freshness::Refreshing { since: now, failure, changed: false };
            }
            // Not what was next.
            _ => {}
        }
    }

    /// The operation that is under way has made the volume what it is to be, until a token in it has to be asked for
    /// anew.
    pub fn succeeded(&mut self, until: Option<Monotonic>, now: Monotonic) {
        let (since, changed) = match self {
            Self::SettingUp { changed, .. } => (now, *changed),
            Self::Mounted { since, content: Freshness::Refreshing { changed, .. } } => (*since, *changed),
            Self::Missing { .. } | Self::Mounted { .. } => return,
        };
        let content = if changed { Freshness::Stale } else { Freshness::Current { until } };
        *self = Self::Mounted { since, content };
    }

    /// The operation that is under way has failed. `usable`: the volume is there nevertheless, as it was before. The pause
    /// before the next attempt is no longer than `longest`.
    pub fn failed(&mut self, message: String, usable: bool, longest: Duration, now: Monotonic) {
        let Some((operation, _)) = self.operation() else { return };
        let before = self.failure();
        let attempts = before.map_or(0, |f| f.attempts).saturating_add(1);
        let since = before.map_or(now, |f| f.since);
        let changed = match self {
            Self::SettingUp { changed, .. }
            | Self::Mounted { content: Freshness::Refreshing { changed, .. }, .. } => *changed,
            Self::Missing { .. } | Self::Mounted { .. } => false,
        };
        let pause = util::doubled(RETRY, attempts, longest);
        let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX);
        // What has changed meanwhile may be what was missing.
        let until = if changed { now } else { now + pause };
        let failure = Failure { message, since, attempts, until };
        match (operation, &mut *self) {
            (Operation::Refresh, Self::Mounted { content, .. }) => *content = Freshness::Failed(failure),
            _ if usable => *self = Self::Mounted { since: now, content: Freshness::Failed(failure) },
            _ => *self = Self::Missing { failure: Some(failure) },
        }
    }

    /// What the volume is made of has changed, came or went: what failed is tried at once.
    pub fn changed(&mut self, now: Monotonic) {
        match self {
            Self::Missing { failure: Some(failure) } => failure.until = failure.until.min(now),
            Self::Missing { failure: None } => {}
            Self::SettingUp { changed, .. } => *changed = true,
            Self::Mounted { content, .. } => match content {
                Freshness::Current { .. } => *content = Freshness::Stale,
                Freshness::Stale => {}
                Freshness::Refreshing { changed, .. } => *changed = true,
                Freshness::Failed(failure) => failure.until = failure.until.min(now),
            },
        }
    }
}

fn late(since: Monotonic) -> Monotonic {
    since + SignedDuration::try_from(LATE).unwrap_or(SignedDuration::MAX)
}

/// The volumes that containers of the pod mount or have as devices; no other is made (upstream
/// `pkg/volume/util/util.go` `GetPodVolumeNames`).
pub fn used(spec: &PodSpec) -> BTreeSet<&str> {
    fn of<'a>(
        mounts: &'a Option<Vec<VolumeMount>>,
        devices: &'a Option<Vec<VolumeDevice>>,
    ) -> impl Iterator<Item = &'a str> {
        let mounts = mounts.iter().flatten().map(|mount| mount.name.as_str());
        mounts.chain(devices.iter().flatten().map(|device| device.name.as_str()))
    }
    let containers = pod::containers(spec).flat_map(|(_, c)| of(&c.volume_mounts, &c.volume_devices));
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    containers.chain(ephemeral.flat_map(|c| of(&c.volume_mounts, &c.volume_devices))).collect()
}

#[cfg(test)]
mod tests;
