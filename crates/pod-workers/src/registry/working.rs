//! How many pods are in which stage of their lives, for `kubelet_working_pods` (upstream `pkg/kubelet/kubelet_pods.go`
//! `HandlePodCleanups`).

use std::collections::BTreeMap;
use std::sync::Arc;

use kube_model::{labels, pod};

use super::orphan::NOBODY;
use super::{Slot, Workers};

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
        for slot in self.inner.lock().pods.values() {
            *pods.entry(slot.working()).or_default() += 1;
        }
        pods
    }
}

impl Slot {
    fn working(&self) -> Working {
        let pod = Arc::clone(&self.desired.borrow().pod);
        let removed = self.is_removed();
        let lifecycle = if self.finished || !removed && self.cell.has_ended() {
            Lifecycle::Terminated
        } else if removed {
            Lifecycle::Terminating
        } else {
            Lifecycle::Sync
        };
        let wanted = if !removed || self.kept || self.again.is_some() {
            Wanted::Desired
        } else if pod::annotation(&pod, labels::CONFIG_SOURCE) == Some(NOBODY) {
            Wanted::RuntimeOnly
        } else {
            Wanted::Orphan
        };
        Working { lifecycle, wanted, is_static: pod::is_static(&pod) }
    }
}
