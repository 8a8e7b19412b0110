//! All actors of the node: starts, wakes and forgets them.

mod garbage;
mod working;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use kube_model::core::Pod;
use kube_model::observed::ObservedPod;
use kube_model::view::{PodState, PodView, Wait};
use kube_model::{Monotonic, PodKey, PodUid};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::actor::{Actor, Wake};
use crate::admission::AdmissionOrder;
use crate::cache::{Listed, Reading};
use crate::clock::Clock;
use crate::observer::Observer;
use crate::pod_status::{Changes, EventSink, SharedStatus};
use crate::pods::{Desired, Effects, Entry, Pods};
use crate::state::{Effect, Input, WorkerState};
use crate::traits::{ActivePods, Admit, NodeState, Probes, Runtime, RuntimeDown};

pub use working::{Lifecycle, Wanted, Working, WorkingPods};

/// Pause before an actor that panicked is started anew.
const PANIC_PAUSE: Duration = Duration::from_secs(10);

/// What the actors work with.
pub struct Context<R, P> {
    /// The container runtime.
    pub runtime: Arc<R>,
    /// The prober.
    pub probes: Arc<P>,
    /// Who decides which pods the node takes.
    pub admission: Arc<dyn Admit>,
    /// The node, as far as pods depend on it.
    pub node: watch::Receiver<Arc<NodeState>>,
    /// What is waited for and shown goes by it.
    pub clock: Clock,
    /// Who hears of events besides the view and the log.
    pub events: Option<EventSink>,
    /// Who counts what happens; `()` for nobody.
    pub observer: Arc<dyn Observer>,
}

/// Handle to all pod actors. Cheap to clone; the actors end with [`Workers::shutdown`].
pub struct Workers<R, P> {
    pub(crate) inner: Arc<Inner<R, P>>,
}

impl<R, P> Clone for Workers<R, P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

pub(crate) struct Inner<R, P> {
    pub(crate) context: Context<R, P>,
    state: Mutex<State>,
    pub(crate) admission_order: Arc<AdmissionOrder>,
    changes: Changes,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Default)]
struct State {
    pods: Pods,
    /// What each of them is shown by and worked on with.
    workers: BTreeMap<PodUid, Worker>,
}

/// One pod as others see it, and the strings by which its worker is led.
struct Worker {
    key: PodKey,
    arrival: u64,
    desired: watch::Sender<Desired>,
    status: Arc<SharedStatus>,
    wake: Arc<Wake>,
}

impl<R: Runtime, P: Probes> Workers<R, P> {
    /// Makes an empty set of workers. Nothing is started before the runtime's first full list came in through
    /// [`Workers::runtime_listed`]: adopting needs to know what is there.
    pub fn new(context: Context<R, P>) -> Self {
        let inner = Inner {
            context,
            state: Mutex::default(),
            admission_order: Arc::default(),
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
        self.decide(|pods, _| pods.set(pod));
    }

    /// Deletes a pod gracefully for a source that keeps it until it has ended: its
    /// `metadata.deletionGracePeriodSeconds` count from the first call on, and a later call may shorten them
    /// (upstream `pkg/kubelet/pod_workers.go`). In the end the view says `finished`, with the last status, until
    /// [`Workers::remove`].
    pub fn delete(&self, pod: Arc<Pod>) {
        self.decide(|pods, now| pods.delete(pod, now));
    }

    /// Takes over what others wrote into the status of a pod: conditions that are not the kubelet's own, which
    /// readiness gates read, and that it has ended.
    pub fn reconcile(&self, pod: Arc<Pod>) {
        self.decide(|pods, _| pods.reconcile(pod));
    }

    /// No longer wants the pod with this UID. One whose source keeps deleted pods until they have ended was deleted
    /// by force: it ends now, whatever grace it had.
    pub fn remove(&self, uid: &PodUid) {
        self.decide(|pods, now| pods.remove(uid, now));
    }

    /// Every source has told what it wants: from now on, what the runtime has beyond that is removed.
    pub fn sources_ready(&self) {
        let now = self.clock().mono();
        let mut state = self.inner.lock();
        if let Some(effects) = state.pods.sources_ready(now) {
            self.carry_out(&mut state, effects);
            self.inner.changes.bump_statuses();
        }
    }

    /// Waits until everything that exists is known: every source has spoken and the runtime was listed.
    pub async fn ready(&self) {
        let mut changes = self.changes();
        loop {
            {
                if self.inner.lock().pods.all_known() {
                    return;
                }
            }
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }

    /// Whether this pod is wanted, being removed, or in the runtime.
    pub fn is_known(&self, uid: &PodUid) -> bool {
        let pods = &self.inner.lock().pods;
        pods.get(uid).is_some() || pods.cache.knows(uid)
    }

    /// All pods that the node has taken and that have not ended (upstream `pkg/kubelet/kubelet_pods.go` `GetActivePods`);
    /// `None` before the runtime was listed: it may have more. [`Workers::status_changes`] moves when they may have
    /// changed.
    pub fn active_pods(&self) -> Option<ActivePods> {
        let listed = self.inner.lock().pods.cache.listed;
        listed.then(|| self.inner.active_pods(None, &BTreeSet::new()))
    }

    /// Takes over a full list of the runtime's pods.
    pub fn runtime_listed(&self, pods: Vec<Listed>) {
        let now = self.clock().mono();
        let mut state = self.inner.lock();
        let first = !state.pods.cache.listed;
        for uid in state.pods.cache.list(pods) {
            if let Some(worker) = state.workers.get(&uid) {
                worker.wake.wake_to_observe();
            }
        }
        let effects = state.pods.settle(now);
        self.carry_out(&mut state, effects);
        if first {
            self.inner.changes.bump_statuses();
        }
    }

    /// Takes over the statuses that came with a runtime event of time `at`, see [`Workers::clock`].
    pub fn runtime_event(&self, at: Monotonic, pod: ObservedPod) {
        self.tell(Reading { at, pod: Arc::new(pod), whole: false });
    }

    /// Takes over a complete reading of one pod that began at `at`: it saves its worker the first look.
    pub fn runtime_observed(&self, at: Monotonic, pod: ObservedPod) {
        self.tell(Reading { at, pod: Arc::new(pod), whole: true });
    }

    fn tell(&self, reading: Reading) {
        let now = self.clock().mono();
        let mut state = self.inner.lock();
        let (uid, gone) = (reading.pod.uid.clone(), reading.pod.is_gone());
        let news = state.pods.cache.tell(reading);
        match state.workers.get(&uid) {
            Some(worker) if gone => worker.wake.wake_to_observe(),
            Some(worker) if news => worker.wake.wake(),
            Some(_) => {}
            None => {
                let effects = state.pods.settle(now);
                self.carry_out(&mut state, effects);
            }
        }
    }

    /// Something about this pod changed that only asking the runtime shows.
    pub fn look(&self, uid: &PodUid) {
        if let Some(worker) = self.inner.lock().workers.get(uid) {
            worker.wake.wake_to_observe();
        }
    }

    /// The clock that all times given to the workers are of.
    pub fn clock(&self) -> &Clock {
        &self.inner.context.clock
    }

    /// Something about this pod changed that its actor can read by itself, such as a probe result.
    pub fn wake(&self, uid: &PodUid) {
        if let Some(worker) = self.inner.lock().workers.get(uid) {
            worker.wake.wake();
        }
    }

    /// Something that this pod refers to came or changed: what waits for having lacked it is tried again at once.
    pub fn wake_to_retry(&self, uid: &PodUid) {
        if let Some(worker) = self.inner.lock().workers.get(uid) {
            worker.wake.wake_to_retry();
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
        let status = self.inner.lock().workers.get(uid).map(|worker| Arc::clone(&worker.status));
        if let Some(status) = status {
            status.event(kind, reason, container, message);
        }
    }

    /// All pods as they are now, by namespace and name.
    pub fn views(&self) -> Vec<Arc<PodView>> {
        let (mut statuses, listed) = {
            let state = self.inner.lock();
            let status = |w: &Worker| (w.key.clone(), w.arrival, Arc::clone(&w.status));
            (state.workers.values().map(status).collect::<Vec<_>>(), state.pods.cache.listed)
        };
        statuses.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        // Before the first list there are no actors to tell what their pods wait for.
        let node = Arc::clone(&self.inner.context.node.borrow());
        let wait = (!listed).then(|| node.runtime_down.as_ref().map_or_else(not_listed, RuntimeDown::wait));
        let wait = wait.map(|wait| wait.shown(self.inner.context.clock.now()));
        let view = |status: &SharedStatus| {
            let mut view = status.view();
            view.waits.extend(wait.clone());
            Arc::new(view)
        };
        statuses.iter().map(|(_, _, status)| view(status)).collect()
    }

    /// The pods of [`Workers::views`] and their statuses, without what a reader would want to know; in the order in
    /// which they came.
    pub fn states(&self) -> Vec<PodState> {
        let mut workers: Vec<(u64, PodUid, Arc<SharedStatus>)> = {
            let state = self.inner.lock();
            let worker = |(uid, w): (&PodUid, &Worker)| (w.arrival, uid.clone(), Arc::clone(&w.status));
            state.workers.iter().map(worker).collect()
        };
        workers.sort_unstable_by_key(|(arrival, ..)| *arrival);
        workers.into_iter().map(|(_, uid, status)| status.state(uid)).collect()
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

    /// A worker tells something of its pod.
    pub(crate) fn report(&self, uid: &PodUid, input: Input) {
        self.decide(|pods, _| pods.input(uid.clone(), input));
    }

    /// Finds out what is to be done, and does it.
    fn decide(&self, what: impl FnOnce(&mut Pods, Monotonic) -> Effects) {
        let now = self.clock().mono();
        let mut state = self.inner.lock();
        let effects = what(&mut state.pods, now);
        self.carry_out(&mut state, effects);
    }

    fn carry_out(&self, state: &mut State, effects: Effects) {
        for (uid, effect) in effects {
            match (effect, state.pods.get(&uid), state.workers.get(&uid)) {
                (Effect::Begin(_), Some(entry), _) => {
                    state.workers.insert(uid, self.inner.worker(entry));
                    self.inner.changes.bump_statuses();
                }
                (Effect::Restart(pod), Some(entry), _) => {
                    self.inner.context.observer.restarted(&pod);
                    state.workers.insert(uid, self.inner.worker(entry));
                    self.inner.changes.bump_statuses();
                }
                (Effect::Pursue, Some(entry), Some(worker)) => {
                    worker.desired.send_replace(entry.desired.clone());
                }
                (Effect::Spawn, _, Some(worker)) => self.spawn(uid, worker),
                (Effect::ShowBlocked(by), Some(entry), Some(worker)) => {
                    worker.status.publish(
                        &entry.desired.pod,
                        &Arc::new(pending()),
                        false,
                        vec![blocked(&by)],
                    );
                }
                (Effect::Finish, _, Some(worker)) => worker.status.finish(),
                (Effect::CollectGarbage, _, Some(worker)) => self.collect_garbage(uid, worker.key.clone()),
                (Effect::CountOrphan, _, worker) => {
                    let pod = worker.map(|worker| tracing::field::display(&worker.key));
                    tracing::info!(pod, %uid, "the runtime has a pod that no source wants: removing it");
                    self.inner.context.observer.orphaned();
                }
                (Effect::Forget, ..) => {
                    state.workers.remove(&uid);
                    self.inner.changes.bump_statuses();
                }
                // What was to be done for a pod that a later effect takes away.
                _ => {}
            }
        }
    }

    fn spawn(&self, uid: PodUid, worker: &Worker) {
        let workers = self.clone();
        let stop = self.inner.stop.clone();
        let (key, status, wake) = (worker.key.clone(), Arc::clone(&worker.status), Arc::clone(&worker.wake));
        let desired = worker.desired.subscribe();
        // One that is on its way out is not asked for.
        let mut position = None;
        if desired.borrow().state == WorkerState::Admitting {
            position = Some(self.inner.admission_order.enter(worker.arrival));
            self.inner.context.observer.started(&desired.borrow().pod, status.came());
        }
        self.inner.tasks.spawn(async move {
            let ended = stop
                .run_until_cancelled(async {
                    loop {
                        let identity = (uid.clone(), key.clone());
                        let (status, wake) = (Arc::clone(&status), Arc::clone(&wake));
                        let actor = Actor::new(
                            workers.clone(),
                            identity,
                            status,
                            wake,
                            desired.clone(),
                            position.take(),
                        );
                        // A defect that one pod runs into must not end the agent, nor that pod for good.
                        match AssertUnwindSafe(actor.run()).catch_unwind().await {
                            Ok(garbage) => return garbage,
                            Err(_) => {
                                tracing::error!(pod = %key, %uid, "the pod's actor panicked; it starts anew");
                                tokio::time::sleep(PANIC_PAUSE).await;
                            }
                        }
                    }
                })
                .await;
            if let Some(garbage) = ended {
                workers.decide(|pods, _| pods.cleaned_up(&uid, garbage));
            }
        });
    }
}

impl<R, P> Inner<R, P> {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock can only come from an allocation failure or a defect; the maps stay whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn worker(&self, Entry { key, arrival, desired }: &Entry) -> Worker {
        let status = SharedStatus::new(
            Arc::clone(&desired.pod),
            key.clone(),
            self.changes.clone(),
            self.context.clock.clone(),
            self.context.events.clone(),
            Arc::clone(&self.context.observer),
        );
        let (desired, status) = (watch::Sender::new(desired.clone()), Arc::new(status));
        Worker { key: key.clone(), arrival: *arrival, desired, status, wake: Arc::default() }
    }

    /// The pods that the node has taken and that have not ended, and those `undecided`, `but` for this one.
    pub(crate) fn active_pods(&self, but: Option<&PodUid>, undecided: &BTreeSet<PodUid>) -> ActivePods {
        let state = self.lock();
        let active = |(uid, entry): &(&PodUid, &Entry)| {
            // What runs was taken before the agent was started anew, though its worker has not looked yet.
            let taken = entry.desired.state.is_admitted() || state.pods.cache.knows(uid);
            let ended = || state.workers.get(*uid).is_none_or(|worker| worker.status.has_ended());
            let counts = taken || undecided.contains(*uid);
            but != Some(*uid) && counts && entry.desired.state != WorkerState::Finished && !ended()
        };
        let pods = state.pods.iter().filter(active);
        pods.map(|(uid, entry)| (uid.clone(), Arc::clone(&entry.desired.pod))).collect()
    }

    /// The last statuses of a pod that were told.
    pub(crate) fn reading(&self, uid: &PodUid) -> Option<Reading> {
        self.lock().pods.cache.reading(uid).cloned()
    }
}

/// What pods wait for while the runtime answers but has not told what it has.
fn not_listed() -> Wait<Monotonic> {
    let message = "the runtime has not listed its pods yet".to_owned();
    Wait { container: None, reason: "RuntimeNotReady".to_owned(), message, since: None, until: None }
}

/// What a pod waits for while another one of its name is there.
fn blocked(by: &PodUid) -> Wait<Monotonic> {
    let message = format!("waits for the earlier pod of this name (UID {by}) to be gone");
    Wait { container: None, reason: "EarlierPodTerminating".to_owned(), message, since: None, until: None }
}

/// The status of a pod whose actor has not started.
fn pending() -> kube_model::core::PodStatus {
    kube_model::core::PodStatus { phase: Some("Pending".to_owned()), ..Default::default() }
}
