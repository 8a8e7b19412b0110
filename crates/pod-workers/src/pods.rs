//! The pods that there are, and who of them goes first. Pure: the registry does what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube_model::core::Pod;
use kube_model::{Monotonic, PodKey, PodUid, pod};

use crate::cache::Cache;
use crate::orphan;
use crate::state::{Effect, Input, WorkerState, transition};

/// Grace period of a pod that only the runtime knows, in seconds (upstream `pkg/kubelet/pod_workers.go`; the planner
/// makes it 2). Better on purpose: one that another of its name replaces has its own, as with a manifest that changes.
const ORPHAN_GRACE_SECONDS: i64 = 1;

/// Grace period of a deleted pod at least, in seconds (upstream `pkg/kubelet/pod_workers.go`; the planner makes it 2).
const LEAST_GRACE_SECONDS: i64 = 1;

/// All pods that are wanted or on their way out.
#[derive(Default)]
pub(crate) struct Pods {
    pods: BTreeMap<PodUid, Entry>,
    /// What the runtime has.
    pub(crate) cache: Cache,
    /// Of which the runtime has something dead that cannot be removed for now: they have no worker, or a new one.
    garbage: BTreeSet<PodUid>,
    sources_ready: bool,
    arrivals: u64,
}

/// One pod.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: PodKey,
    /// Counts up: of several pods with one name the first to arrive goes first.
    pub(crate) arrival: u64,
    pub(crate) desired: Desired,
}

/// What a worker works towards.
#[derive(Debug, Clone)]
pub(crate) struct Desired {
    pub(crate) pod: Arc<Pod>,
    pub(crate) state: WorkerState,
}

/// What is to be done, in this order.
pub(crate) type Effects = Vec<(PodUid, Effect)>;

impl Pods {
    pub(crate) fn get(&self, uid: &PodUid) -> Option<&Entry> {
        self.pods.get(uid)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PodUid, &Entry)> {
        self.pods.iter()
    }

    /// Whether every source has told what it wants, and the runtime what it has.
    pub(crate) fn all_known(&self) -> bool {
        self.sources_ready && self.cache.listed
    }

    pub(crate) fn set(&mut self, pod: Arc<Pod>) -> Effects {
        self.input(pod::identity(&pod).0, Input::Set(pod))
    }

    /// Its `metadata.deletionGracePeriodSeconds` count from the first call on.
    pub(crate) fn delete(&mut self, pod: Arc<Pod>, now: Monotonic) -> Effects {
        let grace = pod.metadata.deletion_grace_period_seconds;
        let grace = grace.unwrap_or_else(|| pod::termination_grace_seconds(&pod));
        let grace_seconds = grace.max(LEAST_GRACE_SECONDS);
        self.input(pod::identity(&pod).0, Input::Delete { pod, grace_seconds, now })
    }

    /// Our own words, which come back the same way, change nothing. Rule: upstream `pkg/kubelet/kubelet.go`
    /// `HandlePodReconcile`.
    pub(crate) fn reconcile(&mut self, pod: Arc<Pod>) -> Effects {
        let uid = pod::identity(&pod).0;
        let Some(entry) = self.pods.get(&uid) else { return Effects::new() };
        let Desired { pod: known, state } = &entry.desired;
        let (known, status) = (state.restart().unwrap_or(known).status.as_ref(), pod.status.as_ref());
        let ended = status.is_some_and(pod::has_ended) && !known.is_some_and(pod::has_ended);
        if ended || !pod::foreign_conditions(known).eq(pod::foreign_conditions(status)) {
            return self.input(uid, Input::Reconcile(pod));
        }
        Effects::new()
    }

    /// One whose source keeps deleted pods until they have ended was deleted by force.
    pub(crate) fn remove(&mut self, uid: &PodUid, now: Monotonic) -> Effects {
        let Some(entry) = self.pods.get(uid) else { return Effects::new() };
        let pod = &entry.desired.pod;
        let grace_seconds = pod::termination_grace_seconds(pod);
        let forced = pod::is_kept_until_ended(pod).then_some(LEAST_GRACE_SECONDS);
        let may_run = !self.cache.listed || self.cache.knows(uid);
        let removed = self.input(uid.clone(), Input::Remove { grace_seconds, forced, may_run, now });
        // What a dropped step may have left behind in the runtime has nobody any more.
        if self.pods.contains_key(uid) { removed } else { [removed, self.settle(now)].concat() }
    }

    /// Every source has told what it wants. `None` if that was known.
    pub(crate) fn sources_ready(&mut self, now: Monotonic) -> Option<Effects> {
        (!std::mem::replace(&mut self.sources_ready, true)).then(|| self.settle(now))
    }

    /// A pod has nothing that a worker could do.
    pub(crate) fn cleaned_up(&mut self, uid: &PodUid, garbage: bool) -> Effects {
        self.cache.forget(uid);
        self.input(uid.clone(), Input::CleanedUp { garbage })
    }

    /// Nothing dead of this pod is left, or it is none of what is dead.
    pub(crate) fn garbage_collected(&mut self, uid: &PodUid) {
        self.garbage.remove(uid);
    }

    /// What the runtime has may have changed: makes pods that it has and nobody wants into pods to be removed, and starts
    /// what can be started.
    pub(crate) fn settle(&mut self, now: Monotonic) -> Effects {
        let mut effects = Effects::new();
        let orphans = self.unclaimed().filter(|_| self.all_known());
        let orphans: Vec<_> =
            orphans.map(|(uid, key)| (uid.clone(), Arc::new(orphan::pod(uid, key)))).collect();
        for (uid, pod) in orphans {
            effects.push((uid.clone(), Effect::CountOrphan));
            let key = pod::identity(&pod).1;
            let own =
                self.cache.grace_seconds(&uid).filter(|_| self.pods.values().any(|entry| entry.key == key));
            let grace_seconds = own.unwrap_or(ORPHAN_GRACE_SECONDS).max(ORPHAN_GRACE_SECONDS);
            self.change(uid, Input::Orphaned { pod, grace_seconds, now }, &mut effects);
        }
        self.start_what_can(&mut effects);
        effects
    }

    /// What happened to a pod, and what follows for all of its name.
    pub(crate) fn input(&mut self, uid: PodUid, input: Input) -> Effects {
        let mut effects = Effects::new();
        self.change(uid, input, &mut effects);
        self.start_what_can(&mut effects);
        effects
    }

    /// Starts each waiting pod that no other pod of its name stands before.
    fn start_what_can(&mut self, effects: &mut Effects) {
        if !self.cache.listed {
            return;
        }
        let waiting = self.pods.iter().filter(|(_, entry)| entry.desired.state.is_waiting());
        let waiting: Vec<PodUid> = waiting.map(|(uid, _)| uid.clone()).collect();
        for uid in waiting {
            match self.pods.get(&uid).and_then(|entry| self.blocker(&uid, entry)).cloned() {
                Some(by) => effects.push((uid, Effect::ShowBlocked(by))),
                None => self.change(uid, Input::Start, effects),
            }
        }
    }

    fn change(&mut self, uid: PodUid, input: Input, effects: &mut Effects) {
        let before = self.pods.get(&uid).map_or(WorkerState::Gone, |entry| entry.desired.state.clone());
        let (state, follow) = transition(before.clone(), input);
        for effect in &follow {
            match (effect, self.pods.get_mut(&uid)) {
                (Effect::Begin(pod) | Effect::Restart(pod), _) => {
                    self.arrivals += 1;
                    // Of one that comes again the name may be another one.
                    let (key, arrival) = (pod::identity(pod).1, self.arrivals);
                    let desired = Desired { pod: Arc::clone(pod), state: state.clone() };
                    self.pods.insert(uid.clone(), Entry { key, arrival, desired });
                }
                (Effect::Update(pod), Some(entry)) => entry.desired.pod = Arc::clone(pod),
                _ => {}
            }
        }
        let is_gone = state == WorkerState::Gone && self.pods.remove(&uid).is_some();
        let is_updated = state != before || follow.iter().any(|effect| matches!(effect, Effect::Update(_)));
        if let Some(entry) = self.pods.get_mut(&uid).filter(|_| is_updated) {
            entry.desired.state = state;
            // First of all: a worker that starts finds it.
            effects.push((uid.clone(), Effect::Pursue));
        }
        for effect in follow {
            match effect {
                Effect::Update(_) => {}
                Effect::CollectGarbage if !self.garbage.insert(uid.clone()) => {}
                other => effects.push((uid.clone(), other)),
            }
        }
        if is_gone {
            effects.push((uid, Effect::Forget));
        }
    }

    /// The UID of a pod of the same name that must be gone before this one may start: one that has a worker or is on
    /// its way out, an earlier arrival, or one that the runtime has and that no source has claimed yet. A pod that is
    /// to end waits for nobody.
    fn blocker<'a>(&'a self, uid: &PodUid, waiting: &Entry) -> Option<&'a PodUid> {
        if waiting.desired.state.termination().is_some() {
            return None;
        }
        let goes_first = |entry: &Entry| match entry.desired.state {
            WorkerState::Finished | WorkerState::Gone => false,
            WorkerState::WaitingForName => entry.arrival < waiting.arrival,
            _ => true,
        };
        let mut others = self.pods.iter().filter(|(other, _)| *other != uid);
        let earlier = others.find(|(_, entry)| entry.key == waiting.key && goes_first(entry));
        let mut unclaimed = self.unclaimed().filter(|(other, key)| *other != uid && **key == waiting.key);
        earlier.map(|(other, _)| other).or_else(|| unclaimed.next().map(|(other, _)| other))
    }

    /// The pods of ours in the runtime that have no worker and are not what is left of one that has ended.
    fn unclaimed(&self) -> impl Iterator<Item = (&PodUid, &PodKey)> {
        self.cache.ours().filter(|(uid, _)| !self.pods.contains_key(*uid) && !self.garbage.contains(*uid))
    }
}

#[cfg(test)]
mod tests;
