//! All actors of the node: starts, wakes and forgets them.

mod leftovers;
mod names;
mod orphan;
mod working;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use kube_model::core::Pod;
use kube_model::observed::ObservedPod;
use kube_model::view::{PodState, PodView, Wait};
use kube_model::{Monotonic, PodKey, PodUid, pod};
use pod_lifecycle::Intent;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::actor::{Actor, Desired, End, Wake};
use crate::cache::{Cache, Listed, Reading};
use crate::cell::{Cell, Changes, EventSink};
use crate::clock::Clock;
use crate::observer::Observer;
use crate::traits::{Node, Probes, Runtime, RuntimeDown};
use crate::turns::Turns;

pub use working::{Lifecycle, Wanted, Working, WorkingPods};

/// Grace period of a pod that only the runtime knows, in seconds (upstream `pkg/kubelet/pod_workers.go`; the planner
/// makes it 2).
const ORPHAN_GRACE_SECONDS: i64 = 1;

/// Grace period of a deleted pod at least, in seconds (upstream `pkg/kubelet/pod_workers.go`; the planner makes it 2).
const LEAST_GRACE_SECONDS: i64 = 1;

/// Pause before an actor that panicked is started anew.
const PANIC_PAUSE: Duration = Duration::from_secs(10);

/// What the actors work with.
pub struct Context<R, P> {
    /// The container runtime.
    pub runtime: Arc<R>,
    /// The prober.
    pub probes: Arc<P>,
    /// The node, as far as pods depend on it.
    pub node: watch::Receiver<Arc<Node>>,
    /// What is waited for and shown goes by it.
    pub clock: Clock,
    /// Who hears of events besides the view and the log.
    pub events: Option<EventSink>,
    /// Who counts what happens; `()` for nobody.
    pub observer: Arc<dyn Observer>,
}

/// Handle to all pod actors. Cheap to clone; the actors end with [`Workers::shutdown`].
pub struct Workers<R, P> {
    inner: Arc<Inner<R, P>>,
}

impl<R, P> Clone for Workers<R, P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

pub(crate) struct Inner<R, P> {
    pub(crate) context: Context<R, P>,
    state: Mutex<State>,
    turns: Arc<Turns>,
    changes: Changes,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Default)]
struct State {
    pods: BTreeMap<PodUid, Slot>,
    cache: Cache,
    /// Of which the runtime has something dead that cannot be removed for now: they have no actor, or a new one.
    leftovers: BTreeSet<PodUid>,
    sources_ready: bool,
    arrivals: u64,
}

/// One pod that is wanted, or that is on its way out.
struct Slot {
    key: PodKey,
    /// Counts up: of several pods with one name the first to arrive goes first.
    arrival: u64,
    desired: watch::Sender<Desired>,
    cell: Arc<Cell>,
    wake: Arc<Wake>,
    /// Whether the node has taken it: it counts when the next one is judged.
    admitted: bool,
    /// Whether its actor runs; a pod waits while another one of its name is still there.
    started: bool,
    /// Wanted again while it is being removed: starts anew once it is gone.
    again: Option<Arc<Pod>>,
    /// Whether its source keeps the pod until it has ended: then the slot stays, too.
    kept: bool,
    /// Whether nothing is left of a kept pod.
    finished: bool,
}

impl Slot {
    fn is_removed(&self) -> bool {
        matches!(self.desired.borrow().intent, Intent::Remove { .. })
    }
}

impl<R: Runtime, P: Probes> Workers<R, P> {
    /// Makes an empty set of workers. Nothing is started before the runtime's first full list came in through
    /// [`Workers::runtime_listed`]: adopting needs to know what is there.
    pub fn new(context: Context<R, P>) -> Self {
        let inner = Inner {
            context,
            state: Mutex::default(),
            turns: Arc::default(),
            changes: Changes::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Wants this pod, new or changed. One that is deleted already goes to [`Workers::delete`].
    pub fn set(&self, pod: Arc<Pod>) {
        if pod.metadata.deletion_timestamp.is_some() {
            return self.delete(pod);
        }
        let (uid, key) = pod::identity(&pod);
        let mut state = self.inner.lock();
        if state.pods.get(&uid).is_some_and(|slot| slot.finished) {
            state.pods.remove(&uid);
            self.inner.context.observer.restarted(&pod);
        }
        match state.pods.get_mut(&uid) {
            Some(slot) if slot.is_removed() => (slot.again, slot.kept) = (Some(pod), false),
            Some(slot) => {
                slot.desired.send_replace(Desired { pod, intent: Intent::Run });
            }
            None => self.insert(&mut state, uid, key, Desired { pod, intent: Intent::Run }),
        }
        self.start_what_can(&mut state);
    }

    /// Deletes a pod gracefully for a source that keeps it until it has ended: its
    /// `metadata.deletionGracePeriodSeconds` count from the first call on, and a later call may shorten them
    /// (upstream `pkg/kubelet/pod_workers.go`). In the end the view says `finished`, with the last status, until
    /// [`Workers::remove`].
    pub fn delete(&self, pod: Arc<Pod>) {
        let (uid, key) = pod::identity(&pod);
        let grace = pod.metadata.deletion_grace_period_seconds;
        let grace = grace.unwrap_or_else(|| pod::termination_grace_seconds(&pod)).max(LEAST_GRACE_SECONDS);
        let since = self.inner.context.clock.mono();
        let mut state = self.inner.lock();
        if !state.pods.contains_key(&uid) {
            let intent = Intent::Remove { since, grace_seconds: Some(grace) };
            let desired = Desired { pod: Arc::clone(&pod), intent };
            self.insert(&mut state, uid.clone(), key, desired);
        }
        let Some(slot) = state.pods.get_mut(&uid) else { return };
        (slot.kept, slot.again) = (true, None);
        slot.desired.send_modify(|desired| {
            desired.intent = match desired.intent {
                Intent::Run | Intent::Terminate { .. } => {
                    Intent::Remove { since, grace_seconds: Some(grace) }
                }
                Intent::Remove { since, grace_seconds } => {
                    let known = grace_seconds.unwrap_or_else(|| pod::termination_grace_seconds(&desired.pod));
                    Intent::Remove { since, grace_seconds: Some(known.min(grace)) }
                }
            };
            desired.pod = pod;
        });
        self.start_what_can(&mut state);
    }

    /// Takes over what others wrote into the status of a pod: conditions that are not the kubelet's own, which
    /// readiness gates read, and that it has ended. Our own words, which come back the same way, change nothing.
    /// Rule: upstream `pkg/kubelet/kubelet.go` `HandlePodReconcile`.
    pub fn reconcile(&self, pod: Arc<Pod>) {
        let status = pod.status.as_ref();
        let ended = status.is_some_and(pod::has_ended);
        let is_news = |known: &Pod| {
            let known = known.status.as_ref();
            (ended && !known.is_some_and(pod::has_ended))
                || !pod::foreign_conditions(known).eq(pod::foreign_conditions(status))
        };
        let mut state = self.inner.lock();
        let Some(slot) = state.pods.get_mut(&pod::identity(&pod).0) else { return };
        match &mut slot.again {
            Some(again) => *again = pod,
            None => {
                slot.desired.send_if_modified(|desired| {
                    let news = is_news(&desired.pod);
                    if news {
                        desired.pod = Arc::clone(&pod);
                    }
                    news
                });
            }
        }
    }

    /// No longer wants the pod with this UID. One whose source keeps deleted pods until they have ended was deleted
    /// by force: it ends now, whatever grace it had.
    pub fn remove(&self, uid: &PodUid) {
        let mut state = self.inner.lock();
        let nothing_runs = state.cache.listed && !state.cache.knows(uid);
        let Some(slot) = state.pods.get_mut(uid) else { return };
        (slot.kept, slot.again) = (false, None);
        if slot.finished || (!slot.started && nothing_runs) {
            state.pods.remove(uid);
            self.inner.changed();
            // What a dropped step may have left behind in the runtime has nobody any more.
            return self.adopt_orphans(&mut state);
        }
        let now = self.inner.context.clock.mono();
        slot.desired.send_if_modified(|desired| {
            let forced = pod::is_kept_until_ended(&desired.pod).then_some(LEAST_GRACE_SECONDS);
            let intent = match desired.intent {
                Intent::Run | Intent::Terminate { .. } => {
                    Intent::Remove { since: now, grace_seconds: forced }
                }
                Intent::Remove { since, grace_seconds } => {
                    Intent::Remove { since, grace_seconds: forced.or(grace_seconds) }
                }
            };
            let news = desired.intent != intent;
            desired.intent = intent;
            news
        });
        self.start_what_can(&mut state);
    }

    /// Every source has told what it wants: from now on, what the runtime has beyond that is removed.
    pub fn sources_ready(&self) {
        let mut state = self.inner.lock();
        if state.sources_ready {
            return;
        }
        state.sources_ready = true;
        self.adopt_orphans(&mut state);
        self.inner.changed();
    }

    /// Waits until everything that exists is known: every source has spoken and the runtime was listed.
    pub async fn ready(&self) {
        let mut changes = self.changes();
        loop {
            {
                let state = self.inner.lock();
                if state.sources_ready && state.cache.listed {
                    return;
                }
            }
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }

    /// The UIDs of all pods that are wanted, being removed, or in the runtime.
    pub fn known(&self) -> BTreeSet<PodUid> {
        let state = self.inner.lock();
        state.pods.keys().cloned().chain(state.cache.uids().cloned()).collect()
    }

    /// Does `work`, which must neither take long nor call back, unless there is such a pod: none comes meanwhile.
    pub fn unless_known<T>(&self, uid: &PodUid, work: impl FnOnce() -> T) -> Option<T> {
        let state = self.inner.lock();
        (!state.pods.contains_key(uid) && !state.cache.knows(uid)).then(work)
    }

    /// Takes over a full list of the runtime's pods.
    pub fn runtime_listed(&self, pods: Vec<Listed>) {
        let mut state = self.inner.lock();
        let first = !state.cache.listed;
        for uid in state.cache.list(pods) {
            if let Some(slot) = state.pods.get(&uid) {
                slot.wake.wake_to_observe();
            }
        }
        self.adopt_orphans(&mut state);
        self.start_what_can(&mut state);
        if first {
            self.inner.changed();
        }
    }

    /// Takes over the statuses that came with a runtime event of time `at`, see [`Workers::clock`].
    pub fn runtime_event(&self, at: Monotonic, pod: ObservedPod) {
        self.tell(Reading { at, pod: Arc::new(pod), whole: false });
    }

    /// Takes over a complete reading of one pod that began at `at`: it saves its actor the first look.
    pub fn runtime_observed(&self, at: Monotonic, pod: ObservedPod) {
        self.tell(Reading { at, pod: Arc::new(pod), whole: true });
    }

    fn tell(&self, reading: Reading) {
        let mut state = self.inner.lock();
        let (uid, gone) = (reading.pod.uid.clone(), reading.pod.is_gone());
        let news = state.cache.tell(reading);
        match state.pods.get(&uid) {
            Some(slot) if gone => slot.wake.wake_to_observe(),
            Some(slot) if news => slot.wake.wake(),
            Some(_) => {}
            None => self.adopt_orphans(&mut state),
        }
    }

    /// Something about this pod changed that only asking the runtime shows.
    pub fn look(&self, uid: &PodUid) {
        if let Some(slot) = self.inner.lock().pods.get(uid) {
            slot.wake.wake_to_observe();
        }
    }

    /// The clock that all times given to the workers are of.
    pub fn clock(&self) -> &Clock {
        &self.inner.context.clock
    }

    /// Something about this pod changed that its actor can read by itself, such as a probe result.
    pub fn wake(&self, uid: &PodUid) {
        if let Some(slot) = self.inner.lock().pods.get(uid) {
            slot.wake.wake();
        }
    }

    /// Records an event for a pod, if it is still there.
    pub fn event(
        &self,
        uid: &PodUid,
        container: Option<&str>,
        kind: kube_model::view::EventType,
        reason: &str,
        message: String,
    ) {
        let cell = self.inner.lock().pods.get(uid).map(|slot| Arc::clone(&slot.cell));
        if let Some(cell) = cell {
            cell.event(kind, reason, container, message);
        }
    }

    /// All pods as they are now, by namespace and name.
    pub fn views(&self) -> Vec<Arc<PodView>> {
        let (mut cells, listed) = {
            let state = self.inner.lock();
            let cell = |s: &Slot| (s.key.clone(), s.arrival, Arc::clone(&s.cell));
            (state.pods.values().map(cell).collect::<Vec<_>>(), state.cache.listed)
        };
        cells.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        // Before the first list there are no actors to tell what their pods wait for.
        let node = Arc::clone(&self.inner.context.node.borrow());
        let wait = (!listed).then(|| node.runtime_down.as_ref().map_or_else(not_listed, RuntimeDown::wait));
        let wait = wait.map(|wait| wait.shown(self.inner.context.clock.now()));
        let view = |cell: &Cell| {
            let mut view = cell.view();
            view.waits.extend(wait.clone());
            Arc::new(view)
        };
        cells.iter().map(|(_, _, cell)| view(cell)).collect()
    }

    /// The pods of [`Workers::views`] and their statuses, without what a reader would want to know; in the order in
    /// which they came.
    pub fn states(&self) -> Vec<PodState> {
        let mut slots: Vec<(u64, PodUid, Arc<Cell>)> = {
            let state = self.inner.lock();
            let slot = |(uid, s): (&PodUid, &Slot)| (s.arrival, uid.clone(), Arc::clone(&s.cell));
            state.pods.iter().map(slot).collect()
        };
        slots.sort_unstable_by_key(|(arrival, ..)| *arrival);
        slots.into_iter().map(|(_, uid, cell)| cell.state(uid)).collect()
    }

    /// Tells those who follow [`Workers::changes`] that something shown beside the pods has changed.
    pub fn bump(&self) {
        self.inner.changes.bump();
    }

    /// Counts up whenever [`Workers::views`] may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.all.subscribe()
    }

    /// Counts up whenever [`Workers::states`] may have changed: much rarer than all [`Workers::changes`].
    pub fn status_changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.statuses.subscribe()
    }

    /// Ends all actors and waits for them. Pods are left as they are.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    fn insert(&self, state: &mut State, uid: PodUid, key: PodKey, desired: Desired) {
        let cell = Cell::new(
            Arc::clone(&desired.pod),
            key.clone(),
            self.inner.changes.clone(),
            self.inner.context.clock.clone(),
            self.inner.context.events.clone(),
            Arc::clone(&self.inner.context.observer),
        );
        state.arrivals += 1;
        let slot = Slot {
            key,
            arrival: state.arrivals,
            desired: watch::Sender::new(desired),
            cell: Arc::new(cell),
            wake: Arc::default(),
            admitted: false,
            started: false,
            again: None,
            kept: false,
            finished: false,
        };
        state.pods.insert(uid, slot);
        self.inner.changed();
    }

    /// Makes pods that the runtime has and nobody wants into pods to be removed.
    fn adopt_orphans(&self, state: &mut State) {
        if !state.sources_ready || !state.cache.listed {
            return;
        }
        let orphans: Vec<(PodUid, PodKey)> = state.unclaimed().collect();
        for (uid, key) in orphans {
            tracing::info!(pod = %key, %uid, "the runtime has a pod that no source wants: removing it");
            self.inner.context.observer.orphaned();
            let since = self.inner.context.clock.mono();
            let intent = Intent::Remove { since, grace_seconds: Some(ORPHAN_GRACE_SECONDS) };
            let pod = Arc::new(orphan::pod(&uid, &key));
            self.insert(state, uid, key, Desired { pod, intent });
        }
        self.start_what_can(state);
    }

    /// Starts each waiting pod that no other pod of its name stands before.
    fn start_what_can(&self, state: &mut State) {
        if !state.cache.listed {
            return;
        }
        let waiting: Vec<PodUid> =
            state.pods.iter().filter(|(_, slot)| !slot.started).map(|(uid, _)| uid.clone()).collect();
        for uid in waiting {
            let Some(slot) = state.pods.get(&uid) else { continue };
            if let Some(other) = state.blocker(&uid, slot) {
                let message = format!("waits for the earlier pod of this name (UID {other}) to be gone");
                let reason = "EarlierPodTerminating".to_owned();
                let wait = Wait { container: None, reason, message, since: None, until: None };
                let desired = slot.desired.borrow().clone();
                slot.cell.publish(&desired.pod, &Arc::new(pending()), false, vec![wait]);
            } else if let Some(slot) = state.pods.get_mut(&uid) {
                slot.started = true;
                let desired = slot.desired.borrow();
                if desired.intent == Intent::Run {
                    self.inner.context.observer.started(&desired.pod, slot.cell.came());
                }
                drop(desired);
                self.spawn(uid, slot);
            }
        }
    }

    fn spawn(&self, uid: PodUid, slot: &Slot) {
        let workers = self.clone();
        let stop = self.inner.stop.clone();
        let (key, cell, wake) = (slot.key.clone(), Arc::clone(&slot.cell), Arc::clone(&slot.wake));
        let desired = slot.desired.subscribe();
        // One that is on its way out is not judged.
        let mut turn = (!slot.is_removed()).then(|| self.inner.turns.enter(slot.arrival));
        self.inner.tasks.spawn(async move {
            let ended = stop
                .run_until_cancelled(async {
                    loop {
                        let inner = Arc::clone(&workers.inner);
                        let identity = (uid.clone(), key.clone());
                        let (cell, wake) = (Arc::clone(&cell), Arc::clone(&wake));
                        let actor = Actor::new(inner, identity, cell, wake, desired.clone(), turn.take());
                        // A defect that one pod runs into must not end the agent, nor that pod for good.
                        match AssertUnwindSafe(actor.run()).catch_unwind().await {
                            Ok(end) => return end,
                            Err(_) => {
                                tracing::error!(pod = %key, %uid, "the pod's actor panicked; it starts anew");
                                tokio::time::sleep(PANIC_PAUSE).await;
                            }
                        }
                    }
                })
                .await;
            if let Some(end) = ended {
                workers.finished(&uid, &key, end);
            }
        });
    }

    /// A pod has ended: lets those that waited for it start.
    fn finished(&self, uid: &PodUid, key: &PodKey, end: End) {
        let mut state = self.inner.lock();
        state.cache.forget(uid);
        if end == End::Left && state.leftovers.insert(uid.clone()) {
            self.remove_leftovers(uid.clone(), key.clone());
        }
        let Some(slot) = state.pods.get_mut(uid) else { return };
        if slot.kept {
            slot.finished = true;
            slot.cell.finish();
        } else {
            let again = slot.again.take();
            state.pods.remove(uid);
            if let Some(pod) = again {
                // Its name may be another one now.
                let (uid, key) = pod::identity(&pod);
                self.inner.context.observer.restarted(&pod);
                self.insert(&mut state, uid, key, Desired { pod, intent: Intent::Run });
            }
        }
        self.inner.changed();
        self.start_what_can(&mut state);
    }
}

impl<R, P> Inner<R, P> {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock can only come from an allocation failure or a defect; the maps stay whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.bump_statuses();
    }

    /// Whether the node has taken this pod.
    pub(crate) fn is_admitted(&self, uid: &PodUid) -> bool {
        self.lock().pods.get(uid).is_some_and(|slot| slot.admitted)
    }

    /// Counts this pod among those that the node has taken, if it takes it.
    pub(crate) fn admit(
        &self,
        uid: &PodUid,
        pod: &Pod,
        node: &admission::Node,
    ) -> Result<(), admission::Rejection> {
        let mut state = self.lock();
        let stays = |slot: &Slot| !slot.finished && !slot.cell.has_ended();
        let taken = |(other, slot): &(&PodUid, &Slot)| {
            // What runs was taken before the agent was started anew, though its actor has not looked yet.
            *other != uid && stays(slot) && (slot.admitted || state.cache.knows(other))
        };
        let others: Vec<_> =
            state.pods.iter().filter(taken).map(|(_, slot)| Arc::clone(&slot.desired.borrow().pod)).collect();
        admission::admit(pod, node, others.iter().map(|other| &**other))?;
        if let Some(slot) = state.pods.get_mut(uid) {
            slot.admitted = true;
        }
        Ok(())
    }

    /// The last statuses of a pod that were told.
    pub(crate) fn reading(&self, uid: &PodUid) -> Option<Reading> {
        self.lock().cache.reading(uid).cloned()
    }
}

/// What pods wait for while the runtime answers but has not told what it has.
fn not_listed() -> Wait<Monotonic> {
    let message = "the runtime has not listed its pods yet".to_owned();
    Wait { container: None, reason: "RuntimeNotReady".to_owned(), message, since: None, until: None }
}

/// The status of a pod whose actor has not started.
fn pending() -> kube_model::core::PodStatus {
    kube_model::core::PodStatus { phase: Some("Pending".to_owned()), ..Default::default() }
}
