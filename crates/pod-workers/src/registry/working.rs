//! How many pods are in which stage of their lives, for `kubelet_working_pods` (upstream `pkg/kubelet/kubelet_pods.go`
//! `HandlePodCleanups`).

use std::collections::BTreeMap;

use kube_model::pod;

use super::Workers;
use crate::pods::Desired;
use crate::state::{Terminating, Termination, Then, WorkerState};

/// What pods are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Working {
    /// How far it is.
    pub lifecycle: Lifecycle,
    /// Who wants it.
    pub wanted: Wanted,
    /// Whether it came from a source other than the API server. Of pods that only the runtime knows nobody can tell.
    pub is_static: bool,
}

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lifecycle {
    /// It is to run.
    Sync,
    /// It is being stopped.
    Terminating,
    /// Nothing of it runs any more, nor will.
    Terminated,
}

/// Who wants a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// Its source has it, be it that it is deleted and has yet to end.
    Desired,
    /// Its source had it.
    Orphan,
    /// No source had it since the agent started: the runtime does.
    RuntimeOnly,
}

/// The pods of each kind that there are.
pub type WorkingPods = BTreeMap<Working, usize>;

impl<R, P> Workers<R, P> {
    /// How many pods there are of each kind; kinds without any are left out.
    pub fn working(&self) -> WorkingPods {
        let mut pods = WorkingPods::new();
        let state = self.inner.lock();
        for (uid, entry) in state.pods.iter() {
            let has_ended = state.workers.get(uid).is_some_and(|worker| worker.status.has_ended());
            *pods.entry(kind(&entry.desired, has_ended)).or_default() += 1;
        }
        pods
    }
}

fn kind(desired: &Desired, has_ended: bool) -> Working {
    let termination = desired.state.termination();
    let lifecycle = match (&desired.state, termination) {
        (WorkerState::Terminated(_) | WorkerState::Finished, _) => Lifecycle::Terminated,
        (_, Some(_)) => Lifecycle::Terminating,
        (_, None) if has_ended => Lifecycle::Terminated,
        (_, None) => Lifecycle::Sync,
    };
    let wanted = match termination {
        Some(Termination { then: Then::Forget, of: Terminating::RuntimeOnly, .. }) => Wanted::RuntimeOnly,
        Some(Termination { then: Then::Forget, .. }) => Wanted::Orphan,
        _ => Wanted::Desired,
    };
    Working { lifecycle, wanted, is_static: pod::is_static(&desired.pod) }
}
