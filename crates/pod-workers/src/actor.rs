//! The actor of one pod: observe, plan, execute, publish, wait; until nothing of the pod is left.

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube_model::core::{Container as SpecContainer, PodStatus};
use kube_model::k8s_openapi::jiff::SignedDuration;
use kube_model::observed::{Container, ObservedPod, Sandbox};
use kube_model::view::{EventType, Wait};
use kube_model::{Monotonic, PodKey, PodUid, pod};
use pod_lifecycle::{
    Action, FailureReason, Inputs, Intent, Memory, Plan, Progress, Rejection, Unmet, has_post_start_hook,
};
use tokio::sync::{Notify, mpsc, watch};
use tracing::Instrument as _;

use crate::admission::{self, QueuePosition};
use crate::execute::{self, Done, Step};
use crate::observer;
use crate::pod_status::SharedStatus;
use crate::pods::Desired;
use crate::registry::{Context, Workers};
use crate::state::{Input, WorkerState};
use crate::traits::{CleanUp, NodeState, Observed, Probes, Runtime, StepError};

/// Delay after a failed observation or clean-up: doubles from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// An answer that takes longer than this is shown to be waited for.
const PROMPT: Duration = Duration::from_secs(1);

/// The exit code of a process that was killed.
const KILLED: i32 = 137;

/// How long the runtime may take to learn why.
const LATE_REASON: SignedDuration = SignedDuration::from_secs(2);

/// Wakes an actor. Waking twice is waking once.
#[derive(Default)]
pub(crate) struct Wake {
    notify: Notify,
    dirty: AtomicBool,
    retry: AtomicBool,
}

impl Wake {
    /// Something changed that the actor can read by itself.
    pub(crate) fn wake(&self) {
        self.notify.notify_one();
    }

    /// What a container's configuration is made of changed: one that could not be made is tried again.
    pub(crate) fn wake_to_retry(&self) {
        self.retry.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// The runtime changed in a way that only a new observation shows.
    pub(crate) fn wake_to_observe(&self) {
        self.dirty.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

/// A reading of the runtime.
struct Observation {
    pod: Arc<ObservedPod>,
    /// Events from before this moment are old news.
    at: Monotonic,
    /// Read by ourselves, not carried by an event. Only such a reading is acted upon: an event's statuses may
    /// be older than a step of ours.
    direct: bool,
}

pub(crate) struct Actor<R, P> {
    workers: Workers<R, P>,
    uid: PodUid,
    key: PodKey,
    status: Arc<SharedStatus>,
    wake: Arc<Wake>,
    desired: watch::Receiver<Desired>,
    node: watch::Receiver<Arc<NodeState>>,
    memory: Memory,
    observation: Option<Observation>,
    /// When a killed container has to be looked at once more.
    look_again: Option<Monotonic>,
    /// Whether the next round has to begin with a direct reading.
    must_observe: bool,
    /// Whether it is known what an earlier run of the agent was cut off in.
    adopted: bool,
    /// Its position among those of which that is to be found out.
    position: Option<QueuePosition>,
    /// Failed rounds in a row.
    failures: u32,
    /// What the last executed plan was made from and said, to notice a plan that changes nothing.
    last: Option<(Arc<ObservedPod>, Vec<Action>)>,
}

impl<R: Runtime, P: Probes> Actor<R, P> {
    pub(crate) fn new(
        workers: Workers<R, P>,
        (uid, key): (PodUid, PodKey),
        status: Arc<SharedStatus>,
        wake: Arc<Wake>,
        desired: watch::Receiver<Desired>,
        position: Option<QueuePosition>,
    ) -> Self {
        let node = workers.inner.context.node.clone();
        // One that starts anew after a panic goes on from there.
        let mut memory = Memory::default();
        memory.last_status = status.last_status();
        Self {
            workers,
            uid,
            key,
            status,
            wake,
            desired,
            node,
            memory,
            observation: None,
            look_again: None,
            must_observe: false,
            adopted: false,
            position,
            failures: 0,
            last: None,
        }
    }

    /// Runs until a pod that was to end has ended and is cleaned up. Returns whether the runtime has something dead of it
    /// that cannot be removed for now.
    pub(crate) async fn run(mut self) -> bool {
        let span = self.status.span().clone();
        async move {
            for number in 1_u64.. {
                let round = tracing::debug_span!("round", uid = %self.uid, round = number);
                if let ControlFlow::Break(garbage) = self.round().instrument(round).await {
                    return garbage;
                }
            }
            false
        }
        .instrument(span)
        .await
    }

    /// Observes, plans, and executes the plan or waits.
    async fn round(&mut self) -> ControlFlow<bool> {
        let desired = self.desired.borrow_and_update().clone();
        let node = Arc::clone(&self.node.borrow_and_update());
        if self.wake.retry.swap(false, Ordering::AcqRel) {
            self.memory.references_changed(self.now());
        }
        if let Some(down) = &node.runtime_down {
            self.show(&desired, vec![down.wait()]);
            self.sleep(None).await;
            return ControlFlow::Continue(());
        }
        if let Err(error) = self.refresh(&desired.state.intent()).await {
            self.position = None;
            self.failed_round(&desired, "RuntimeError", &error).await;
            return ControlFlow::Continue(());
        }
        // First: what may take long holds up nobody behind this one then.
        self.admit(&desired).await;
        // It may be another one by now.
        let desired = self.desired.borrow_and_update().clone();
        self.adopt(&desired).await;
        let plan = self.plan(&desired, &node);
        if !plan.actions.is_empty() {
            let Some(observed) = self.observation.take_if(|o| o.direct) else {
                self.must_observe = true;
                return ControlFlow::Continue(());
            };
            if self.last.as_ref().is_some_and(|(o, a)| *o == observed.pod && *a == plan.actions) {
                let text = "the runtime reports success, but nothing changed by the last steps";
                let error = StepError::new(FailureReason::FailedPrepare, text);
                self.last = None;
                self.failed_round(&desired, "RuntimeError", &error).await;
                return ControlFlow::Continue(());
            }
            self.execute(&desired, observed, plan.actions).await;
            return ControlFlow::Continue(());
        }
        match plan.progress {
            Progress::Removed | Progress::Left => {
                self.report(Input::Stopped);
                // What that has changed is no news.
                let desired = self.desired.borrow_and_update().clone();
                let garbage = plan.progress == Progress::Left;
                match self.clean_up(if garbage { CleanUp::Left } else { CleanUp::Removed }).await {
                    Ok(()) => return ControlFlow::Break(garbage),
                    Err(error) => self.failed_round(&desired, "FailedKillPod", &error).await,
                }
            }
            // Of one that has ended something may come to life, and is stopped: that is cleaned up, too.
            Progress::Ended if desired.state != WorkerState::Ended || self.last.is_some() => {
                match self.clean_up(CleanUp::Ended).await {
                    Ok(()) => {
                        self.last = None;
                        self.report(Input::Ended);
                    }
                    Err(error) => self.failed_round(&desired, "FailedKillPod", &error).await,
                }
            }
            _ => {
                self.failures = 0;
                self.sleep(plan.wake_at.into_iter().chain(self.look_again).min()).await;
            }
        }
        ControlFlow::Continue(())
    }

    /// Takes over an observation. A killed container whose end is new has to be looked at once more: the runtime may
    /// hear later than of its end that the kernel did it for want of memory, and says so only to those who ask.
    fn take(&mut self, observation: Observation) {
        let known = self.observation.as_ref().map_or(&[][..], |o| &o.pod.containers);
        let is_known = |c: &Container| known.iter().any(|k| k.id == c.id && k.finished_at.is_some());
        let killed = |c: &&Container| c.exit_code == KILLED && c.reason != "OOMKilled" && !is_known(c);
        let ends: Vec<_> =
            observation.pod.containers.iter().filter(killed).filter_map(|c| c.finished_at).collect();
        if !ends.is_empty() {
            let now = self.context().clock.now();
            let due = ends.into_iter().map(|end| now.placed(end) + LATE_REASON);
            let due = due.filter(|at| *at > observation.at);
            self.look_again = due.chain(self.look_again).min();
        }
        self.observation = Some(observation);
    }

    fn now(&self) -> Monotonic {
        self.context().clock.mono()
    }

    fn context(&self) -> &Context<R, P> {
        &self.workers.inner.context
    }

    /// Tells what has become of the pod.
    fn report(&self, input: Input) {
        self.workers.report(&self.uid, input);
    }

    /// Takes over once what an earlier run of the agent knew: outcomes of probes, and which hooks it was cut off in, whose
    /// containers do not count as running.
    async fn adopt(&mut self, desired: &Desired) {
        let Some(observation) = self.observation.as_ref().filter(|_| !self.adopted) else { return };
        self.adopted = true;
        let any = |has: fn(&SpecContainer) -> bool| {
            desired.pod.spec.iter().flat_map(pod::containers).any(|(_, container)| has(container))
        };
        let probed = |c: &SpecContainer| {
            c.startup_probe.is_some() || c.liveness_probe.is_some() || c.readiness_probe.is_some()
        };
        if !observation.pod.containers.is_empty() && desired.state.intent() == Intent::Run && any(probed) {
            self.context().probes.restore(&self.uid).await;
        }
        if observation.pod.any_running() && any(has_post_start_hook) {
            let names = self.context().runtime.cut_off_hooks(&observation.pod).await;
            self.memory.hooks_were_cut_off(names);
        }
    }

    /// Finds out once whether the node takes the pod, before anything of it is there. One that runs already was
    /// taken by an earlier run of the agent.
    async fn admit(&mut self, desired: &Desired) {
        let position = self.position.take();
        if desired.state != WorkerState::Admitting || self.memory.rejection.is_some() {
            return;
        }
        let rejection = self.statuses(desired).next().and_then(Rejection::from_status);
        self.memory.rejection = rejection;
        if self.has_ended(desired) {
            return;
        }
        if self.observation.as_ref().is_some_and(|o| !o.pod.is_gone()) {
            return self.report(Input::Admitted);
        }
        let mut changes = self.desired.clone();
        let asked = admission::ask(&self.workers, &self.uid, &desired.pod, position, &self.status);
        let answer = tokio::select! {
            biased;
            answer = asked => answer,
            // Dropped then: nothing of the pod will be there.
            _ = changes.wait_for(|desired| desired.state != WorkerState::Admitting) => {
                return self.status.doing(None);
            }
        };
        match answer {
            Ok(()) => tracing::debug!("Admitted"),
            Err(rejection) => self.reject(rejection),
        }
    }

    /// The statuses that tell whether the pod has ended: ours, and the one that came with it.
    fn statuses<'a>(&'a self, desired: &'a Desired) -> impl Iterator<Item = &'a PodStatus> {
        self.memory.last_status.as_deref().into_iter().chain(&desired.pod.status)
    }

    fn has_ended(&self, desired: &Desired) -> bool {
        self.statuses(desired).any(pod::has_ended)
    }

    fn reject(&mut self, rejection: Rejection) {
        self.context().observer.rejected(&rejection.reason);
        self.status.event(EventType::Warning, &rejection.reason, None, rejection.message.clone());
        self.memory.rejection = Some(rejection);
    }

    /// What the pod needs and does not have. One that was refused something for good is rejected, once.
    fn preconditions(&mut self, desired: &Desired) -> Vec<Unmet> {
        let needs_none = self.has_ended(desired) || !desired.state.needs_preconditions();
        if needs_none || self.memory.rejection.is_some() {
            return Vec::new();
        }
        let unmet = self.context().runtime.preconditions(&desired.pod);
        let failed = unmet.iter().find_map(|unmet| match unmet {
            Unmet::Failed(rejection) => Some(rejection.clone()),
            Unmet::Unsupported { .. } | Unmet::Waiting { .. } => None,
        });
        if let Some(rejection) = failed {
            self.reject(rejection);
        }
        unmet
    }

    /// Brings the observation up to date: from what was told if that will do, by asking the runtime if it must. A pod
    /// that is to run waits until the runtime tells all of it, one that is to go does not.
    async fn refresh(&mut self, intent: &Intent) -> Result<(), StepError> {
        let now = self.now();
        let dirty = self.wake.dirty.swap(false, Ordering::AcqRel)
            | self.look_again.take_if(|at| *at <= now).is_some();
        if !dirty && !self.must_observe && self.take_reading() {
            return Ok(());
        }
        let at = self.now();
        match self.observe().await {
            Ok(mut observed) => {
                if let Some(known) = &self.observation {
                    observed.complete_by(&known.pod);
                }
                if let (Intent::Run, Some(error)) = (intent, observed.unread.into_values().next()) {
                    self.must_observe = true;
                    let text = format!("what runs is kept, but the runtime cannot tell how it is: {error}");
                    return Err(StepError { message: text, ..error });
                }
                self.count_ends(&observed.pod);
                self.take(Observation { pod: Arc::new(observed.pod), at, direct: true });
                self.must_observe = false;
                Ok(())
            }
            Err(error) => {
                self.must_observe = true;
                Err(error)
            }
        }
    }

    /// Asks the runtime, and says so when the answer takes its time.
    async fn observe(&mut self) -> Result<Observed, StepError> {
        let (runtime, uid) = (Arc::clone(&self.context().runtime), self.uid.clone());
        let key = self.key.clone();
        let mut asked = pin!(runtime.observe(&uid, &key));
        if let Ok(answer) = tokio::time::timeout(PROMPT, &mut asked).await {
            return answer;
        }
        // The others need not wait until the runtime tells of this one.
        self.position = None;
        self.status.doing(Some("asking the runtime about the pod".to_owned()));
        let answer = asked.await;
        self.status.doing(None);
        answer
    }

    /// Takes over what was told of the pod. Returns whether the observation is up to date with it.
    fn take_reading(&mut self) -> bool {
        let reading = self.workers.inner.reading(&self.uid);
        let Some(known) = &self.observation else {
            let Some(reading) = reading.filter(|reading| reading.whole) else { return false };
            self.take(Observation { pod: reading.pod, at: reading.at, direct: false });
            return true;
        };
        let Some(reading) = reading.filter(|reading| reading.at > known.at) else { return true };
        let tells_of = |s: &Sandbox| reading.pod.sandboxes.iter().any(|other| other.id == s.id);
        let alone = known.pod.sandboxes.len() <= 1 && known.pod.sandboxes.iter().all(tells_of);
        if !reading.whole && !alone {
            return false;
        }
        let direct = known.direct && known.pod == reading.pod;
        self.count_ends(&reading.pod);
        self.take(Observation { pod: reading.pod, at: reading.at, direct });
        true
    }

    /// Tells of containers that have ended since the last observation. What had ended before the first one is not
    /// told: an earlier run of the agent may have seen it.
    fn count_ends(&self, now: &ObservedPod) {
        let Some(known) = &self.observation else { return };
        for container in observer::ends(&known.pod, now) {
            let desired = self.desired.borrow();
            let spec = desired.pod.spec.as_ref().and_then(|spec| pod::container(spec, &container.name));
            self.context().observer.ended(spec.map(|(kind, _)| kind), container);
        }
    }

    /// Makes a plan from what is known, and publishes the status that follows from it.
    fn plan(&mut self, desired: &Desired, node: &NodeState) -> Plan {
        let now = self.context().clock.now();
        let observed = match &self.observation {
            Some(o) => Arc::clone(&o.pod),
            None => Arc::new(ObservedPod::empty(self.uid.clone(), self.key.clone())),
        };
        self.memory.before_plan(&desired.pod, &observed, now);
        let intent = desired.state.intent();
        let probes = &self.context().probes;
        match (&intent, &desired.state) {
            (Intent::Run, WorkerState::Ended) => {}
            (Intent::Run, _) => probes.sync(&desired.pod, &self.memory.counted(&observed, &intent)),
            (Intent::Terminate { .. } | Intent::Remove { .. }, _) => probes.terminating(&self.uid),
        }
        let results = probes.results(&self.uid);
        let preconditions = self.preconditions(desired);
        let inputs = Inputs {
            pod: &desired.pod,
            intent: &intent,
            observed: &observed,
            probes: &results,
            memory: &self.memory,
            node: &node.facts,
            preconditions: &preconditions,
            now,
        };
        let mut plan = pod_lifecycle::plan(&inputs);
        tracing::trace!(?observed, probes = ?results, ?preconditions, "Looked at");
        tracing::debug!(actions = ?plan.actions, waits = ?plan.waits, progress = ?plan.progress, "Planned");
        let status = Arc::new(pod_lifecycle::status(&inputs));
        let removing = desired.state.termination().is_some();
        self.status.publish(&desired.pod, &status, removing, std::mem::take(&mut plan.waits));
        self.memory.last_status = Some(status);
        plan
    }

    /// Publishes the last known status with other waits, when no plan can be made.
    fn show(&self, desired: &Desired, waits: Vec<Wait<Monotonic>>) {
        let status = self.memory.last_status.clone().unwrap_or_default();
        self.status.publish(&desired.pod, &status, desired.state.termination().is_some(), waits);
    }

    async fn failed_round(&mut self, desired: &Desired, reason: &str, error: &StepError) {
        self.failures = self.failures.saturating_add(1);
        let delay = util::doubled(RETRY.0, self.failures, RETRY.1);
        let now = self.now();
        let delay = error.retry_after.unwrap_or(delay);
        let until = now + SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
        tracing::warn!(reason, attempts = self.failures, "{}", util::causes(&error));
        self.show(desired, vec![wait(reason, &error.message, Some(now), Some(until))]);
        self.sleep(Some(until)).await;
    }

    async fn clean_up(&mut self, extent: CleanUp) -> Result<(), StepError> {
        self.context().probes.remove(&self.uid);
        self.context().runtime.clean_up(&self.uid, &self.key, extent).await?;
        self.context().admission.release(&self.uid).await;
        Ok(())
    }

    /// Executes the steps of a plan. Wake-ups meanwhile only refresh what is shown; a changed intent drops the
    /// rest, because it makes the plan void.
    async fn execute(&mut self, desired: &Desired, observation: Observation, actions: Vec<Action>) {
        let observed = observation.pod;
        self.memory.before_steps(&desired.pod, &actions);
        self.last = Some((Arc::clone(&observed), actions.clone()));
        let all = actions.clone();
        // Room for every result, so a step never waits for the actor.
        let (results, mut done) = mpsc::channel(actions.len().max(1));
        let steps = {
            let (runtime, status) = (Arc::clone(&self.context().runtime), Arc::clone(&self.status));
            let (pod, observed) = (Arc::clone(&desired.pod), Arc::clone(&observed));
            async move { execute::run(&*runtime, &status, &pod, &observed, actions, results).await }
        };
        // Boxed: the steps' future is by far the largest part of the actor, and most actors sleep.
        let mut steps = Box::pin(steps);
        let shown = Observation { pod: observed, at: observation.at, direct: false };
        self.observation = Some(shown);
        loop {
            // Each arm is cancel-safe: `recv`, `changed` and `notified` keep what they have not delivered, and
            // the steps are polled by reference.
            tokio::select! {
                biased;
                Some(result) = done.recv() => {
                    let started = matches!(result.step, Step::Start(_));
                    self.note(result);
                    if started {
                        // What comes next may take long.
                        self.take_reading();
                        let node = Arc::clone(&self.node.borrow());
                        self.plan(desired, &node);
                    }
                }
                () = &mut steps => break,
                changed = self.desired.changed() => {
                    if changed.is_err() || self.desired.borrow().state.intent() != desired.state.intent() {
                        // The same steps in the next plan would not mean that these achieved nothing.
                        self.last = None;
                        break;
                    }
                }
                () = self.wake.notify.notified() => {
                    self.take_reading();
                    let node = Arc::clone(&self.node.borrow());
                    self.plan(desired, &node);
                }
            }
        }
        drop(steps);
        while let Ok(result) = done.try_recv() {
            self.note(result);
        }
        self.memory.after_steps(&all);
        // The seen marker of `desired` may be ahead of what was acted on; the next round reads it anyway.
        self.status.doing(None);
        self.must_observe = true;
    }

    fn note(&mut self, done: Done) {
        let now = self.now();
        if done.outcome.is_err() {
            // Nothing changed because it failed; that has a retry of its own.
            self.last = None;
        }
        match (done.step, done.outcome) {
            (Step::Start(container), Ok(())) => self.memory.container_started(&container),
            (Step::Start(container), Err(e)) => {
                self.memory.container_failed(&container, e.reason, e.message, e.retry_after, now);
            }
            (Step::Pod | Step::Stop, Ok(())) => self.memory.pod_succeeded(),
            (Step::Pod, Err(e)) => self.memory.pod_failed(e.reason, e.message, now),
            (Step::Stop, Err(e)) => {
                let text = format!("error killing pod: {}", e.message);
                self.status.event(EventType::Warning, "FailedKillPod", None, text);
                self.memory.stop_failed(e.message, now);
            }
            // The next observation does not have it.
            (Step::Remove(_), Ok(())) => {}
            (Step::Remove(id), Err(e)) => {
                if self.memory.removal_failed(id, e.message.clone(), now) == 1 {
                    tracing::warn!("{}; this is tried again and again", util::causes(&e));
                }
            }
        }
    }

    /// Sleeps until something may have changed or `until` comes.
    async fn sleep(&mut self, until: Option<Monotonic>) {
        let delay = until.map(|at| at.left(self.now()));
        let timer = async {
            match delay {
                Some(delay) => tokio::time::sleep(delay).await,
                None => std::future::pending().await,
            }
        };
        // All arms are cancel-safe; whichever wins, the round that follows reads everything.
        tokio::select! {
            () = self.wake.notify.notified() => {}
            Ok(()) = self.desired.changed() => {}
            Ok(()) = self.node.changed() => {}
            () = timer => {}
        }
    }
}

fn wait(reason: &str, message: &str, since: Option<Monotonic>, until: Option<Monotonic>) -> Wait<Monotonic> {
    Wait { container: None, reason: reason.to_owned(), message: message.to_owned(), since, until }
}
