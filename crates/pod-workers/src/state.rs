//! The state of a pod worker, and what changes it. Pure: the registry does what [`transition`] says.
//! Counterpart: upstream `pkg/kubelet/pod_workers.go` `podSyncStatus`.

use std::sync::Arc;

use kube_model::core::Pod;
use kube_model::{Monotonic, PodUid};
use pod_lifecycle::Intent;

/// How far a pod worker is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum WorkerState {
    /// The pod is wanted. It has no worker before the runtime was listed and no other pod of its name is there.
    WaitingForName,
    /// The pod is to end. It has no worker before the runtime was listed; other pods of its name do not matter.
    WaitingForRuntime(Termination),
    /// It is not known whether the node takes the pod, or the node does not take it.
    Admitting,
    /// The pod is kept running (upstream `SyncPod`).
    Syncing,
    /// The pod is wanted and has ended: nothing of it is to run, ever, so that the node need not take it again. What only a
    /// running pod needs was given back.
    Ended,
    /// The pod is being stopped (upstream `TerminatingPod`).
    Terminating(Termination),
    /// Nothing of it runs: what the node holds for it is cleaned up (upstream `TerminatedPod`).
    Terminated(Termination),
    /// It has no worker any more; its final status stays until its source drops it.
    Finished,
    /// Nobody knows it.
    Gone,
}

/// How a pod is ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Termination {
    /// Since when: the grace period counts from here.
    pub(crate) since: Monotonic,
    /// The grace period in seconds. It only becomes shorter.
    pub(crate) grace_seconds: i64,
    /// Whose end it is.
    pub(crate) of: Terminating,
    /// What comes afterwards.
    pub(crate) then: Then,
}

/// What a pod was before it was to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terminating {
    /// The node had taken it, or may have.
    Admitted,
    /// The node had not taken it: it has no share of what the node has.
    NotAdmitted,
    /// Only the runtime knows it (upstream: an orphaned pod, `SyncTerminatingRuntimePod`).
    RuntimeOnly,
}

/// What becomes of a pod that has been terminated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Then {
    /// No source has it any more.
    Forget,
    /// Its source keeps it until it has ended, and then drops it.
    Keep,
    /// It is wanted again (upstream `restartRequested`).
    Restart(Arc<Pod>),
}

/// What happens to a pod.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// A source wants it, new or changed.
    Set(Arc<Pod>),
    /// It is deleted, with so many seconds, at a source which keeps it until it has ended.
    Delete { pod: Arc<Pod>, grace_seconds: i64, now: Monotonic },
    /// Others have written into its status.
    Reconcile(Arc<Pod>),
    /// Its source has it no longer.
    Remove {
        /// Its own grace period, in seconds.
        grace_seconds: i64,
        /// The time that it has if it was deleted by force.
        forced: Option<i64>,
        /// Whether the runtime may have something of it.
        may_run: bool,
        now: Monotonic,
    },
    /// The runtime has it and no source wants it.
    Orphaned { pod: Arc<Pod>, grace_seconds: i64, now: Monotonic },
    /// The runtime was listed, and no other pod stands before it.
    Start,
    /// The node has taken it, be it before the agent was started.
    Admitted,
    /// It has ended by itself, and has given back what only a running pod needs.
    Ended,
    /// Nothing of it runs any more.
    Stopped,
    /// What the node held for it is gone, but for what is dead of it in the runtime and cannot be removed for now.
    CleanedUp { garbage: bool },
}

/// What is to be done for a pod.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Its life begins.
    Begin(Arc<Pod>),
    /// The same, and it was here before.
    Restart(Arc<Pod>),
    /// Its worker goes by this pod from now on.
    Update(Arc<Pod>),
    /// Its worker, if it has one, is told what it works towards now.
    Pursue,
    /// Its worker starts.
    Spawn,
    /// It waits for the pod with this UID to be gone.
    ShowBlocked(PodUid),
    /// Its last status stays shown.
    Finish,
    /// What is dead of it in the runtime is tried to be removed from time to time.
    CollectGarbage,
    /// No source has it: that is counted.
    CountOrphan,
    /// It is gone.
    Forget,
}

impl WorkerState {
    /// What is to become of the pod.
    pub(crate) fn intent(&self) -> Intent {
        match self.termination() {
            Some(t) => Intent::Remove { since: t.since, grace_seconds: Some(t.grace_seconds) },
            None => Intent::Run,
        }
    }

    /// How it ends, if it is to.
    pub(crate) fn termination(&self) -> Option<&Termination> {
        match self {
            Self::WaitingForRuntime(t) | Self::Terminating(t) | Self::Terminated(t) => Some(t),
            Self::WaitingForName
            | Self::Admitting
            | Self::Syncing
            | Self::Ended
            | Self::Finished
            | Self::Gone => None,
        }
    }

    /// What it is to be when it has ended, if it is wanted again.
    pub(crate) fn restart(&self) -> Option<&Arc<Pod>> {
        match &self.termination()?.then {
            Then::Restart(pod) => Some(pod),
            Then::Forget | Then::Keep => None,
        }
    }

    /// Whether it has no worker yet.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self, Self::WaitingForName | Self::WaitingForRuntime(_))
    }

    /// Whether its containers are to run, so that it needs what they need.
    pub(crate) fn needs_preconditions(&self) -> bool {
        matches!(self, Self::Admitting | Self::Syncing)
    }

    /// Whether the node has taken it, and it has not been cleaned up since.
    pub(crate) fn is_admitted(&self) -> bool {
        match self {
            Self::Syncing | Self::Ended => true,
            _ => self.termination().is_some_and(|t| t.of == Terminating::Admitted),
        }
    }

    /// A pod that is not to end yet ends like this.
    fn terminate(self, termination: Termination) -> Self {
        match self {
            Self::Admitting => Self::Terminating(termination),
            Self::Syncing | Self::Ended => {
                Self::Terminating(Termination { of: Terminating::Admitted, ..termination })
            }
            _ => Self::WaitingForRuntime(termination),
        }
    }

    /// A pod that is to end ends otherwise.
    fn amend(self, amend: impl FnOnce(&mut Termination)) -> Self {
        let amended = |mut t| {
            amend(&mut t);
            t
        };
        match self {
            Self::WaitingForRuntime(t) => Self::WaitingForRuntime(amended(t)),
            Self::Terminating(t) => Self::Terminating(amended(t)),
            Self::Terminated(t) => Self::Terminated(amended(t)),
            other => other,
        }
    }
}

/// The next state, and what is to be done. An input that does not concern a state changes nothing: a worker may be
/// told something while it tells something else.
pub(crate) fn transition(state: WorkerState, input: Input) -> (WorkerState, Vec<Effect>) {
    use {Effect as E, WorkerState as S};
    match input {
        Input::Set(pod) => match state {
            S::Gone => (S::WaitingForName, vec![E::Begin(pod)]),
            S::Finished => (S::WaitingForName, vec![E::Restart(pod)]),
            S::WaitingForName | S::Admitting | S::Syncing | S::Ended => (state, vec![E::Update(pod)]),
            S::WaitingForRuntime(_) | S::Terminating(_) | S::Terminated(_) => {
                (state.amend(|t| t.then = Then::Restart(pod)), vec![])
            }
        },
        Input::Delete { pod, grace_seconds, now } => {
            let begins = state == S::Gone;
            let state = match state {
                S::Finished => state,
                S::WaitingForRuntime(_) | S::Terminating(_) | S::Terminated(_) => state.amend(|t| {
                    t.then = Then::Keep;
                    t.grace_seconds = t.grace_seconds.min(grace_seconds);
                }),
                S::Gone | S::WaitingForName | S::Admitting | S::Syncing | S::Ended => {
                    let of = Terminating::NotAdmitted;
                    state.terminate(Termination { since: now, grace_seconds, of, then: Then::Keep })
                }
            };
            (state, vec![if begins { E::Begin(pod) } else { E::Update(pod) }])
        }
        Input::Reconcile(pod) => match state {
            S::Gone => (state, vec![]),
            _ if state.restart().is_some() => (state.amend(|t| t.then = Then::Restart(pod)), vec![]),
            _ => (state, vec![E::Update(pod)]),
        },
        Input::Remove { grace_seconds, forced, may_run, now } => match state {
            S::Gone | S::Finished => (S::Gone, vec![]),
            S::WaitingForName | S::WaitingForRuntime(_) if !may_run => (S::Gone, vec![]),
            S::WaitingForRuntime(_) | S::Terminating(_) | S::Terminated(_) => {
                let amend = |t: &mut Termination| {
                    t.then = Then::Forget;
                    t.grace_seconds = forced.unwrap_or(t.grace_seconds);
                };
                (state.amend(amend), vec![])
            }
            S::WaitingForName | S::Admitting | S::Syncing | S::Ended => {
                let grace_seconds = forced.unwrap_or(grace_seconds);
                let of = Terminating::NotAdmitted;
                let termination = Termination { since: now, grace_seconds, of, then: Then::Forget };
                (state.terminate(termination), vec![])
            }
        },
        Input::Orphaned { pod, grace_seconds, now } => match state {
            S::Gone => {
                let of = Terminating::RuntimeOnly;
                let termination = Termination { since: now, grace_seconds, of, then: Then::Forget };
                (S::WaitingForRuntime(termination), vec![E::Begin(pod)])
            }
            _ => (state, vec![]),
        },
        Input::Start => match state {
            S::WaitingForName => (S::Admitting, vec![E::Spawn]),
            S::WaitingForRuntime(t) => (S::Terminating(t), vec![E::Spawn]),
            _ => (state, vec![]),
        },
        Input::Admitted => match state {
            S::Admitting => (S::Syncing, vec![]),
            _ => (state, vec![]),
        },
        Input::Ended => match state {
            S::Admitting | S::Syncing => (S::Ended, vec![]),
            _ => (state, vec![]),
        },
        Input::Stopped => match state {
            S::Terminating(t) => (S::Terminated(t), vec![]),
            _ => (state, vec![]),
        },
        Input::CleanedUp { garbage } => match state {
            S::Terminated(t) => {
                let (state, then) = match t.then {
                    Then::Forget => (S::Gone, None),
                    Then::Keep => (S::Finished, Some(E::Finish)),
                    Then::Restart(pod) => (S::WaitingForName, Some(E::Restart(pod))),
                };
                (state, garbage.then_some(E::CollectGarbage).into_iter().chain(then).collect())
            }
            _ => (state, vec![]),
        },
    }
}

#[cfg(test)]
mod tests;
