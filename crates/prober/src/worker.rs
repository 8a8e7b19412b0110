//! The task behind one probe of one container instance: waits, probes, publishes, and ends when there is nothing left
//! to find out about that instance.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use kube_model::core::{Container, Pod, Probe};
use kube_model::pod;
use kube_model::probe::{ContainerProbes, PodProbes, ProbeKind, ProbeOutcome};
use kube_model::view::EventType;
use kube_model::{Monotonic, Now, PodUid, Timestamp};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::debug;

use crate::attempt::{self, Aim, HandlerError, Verdict};
use crate::decide::{self, Settings, Tracker};
use crate::exec::Exec;
use crate::http;
use crate::manager::Sink;
use crate::tally;

/// What all workers of a prober share.
#[derive(Debug)]
pub(crate) struct Shared<E, S> {
    pub(crate) exec: E,
    pub(crate) sink: S,
    pub(crate) http: http::Client,
    /// The wall clock.
    pub(crate) wall: fn() -> Timestamp,
    /// Where the timeline of this prober begins.
    pub(crate) began: Instant,
    pub(crate) agent_started: Monotonic,
}

impl<E, S> Shared<E, S> {
    pub(crate) fn now(&self) -> Now {
        Now { wall: (self.wall)(), mono: Monotonic::after_start(self.began.elapsed()) }
    }
}

/// What the workers of one pod share.
#[derive(Debug)]
pub(crate) struct PodState {
    pub(crate) uid: PodUid,
    target: Mutex<Target>,
    /// A container ID that is not in here is not probed any more.
    pub(crate) outcomes: watch::Sender<Arc<PodProbes>>,
}

/// Read anew for each probe, so that a new IP needs no new worker.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) pod: Arc<Pod>,
    pub(crate) ip: Option<IpAddr>,
}

impl PodState {
    pub(crate) fn new(uid: PodUid, target: Target, outcomes: Arc<PodProbes>) -> Self {
        Self { uid, target: Mutex::new(target), outcomes: watch::Sender::new(outcomes) }
    }

    pub(crate) fn target(&self) -> Target {
        self.target.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn retarget(&self, target: Target) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// From now on this container is not probed any more.
    pub(crate) fn forget(&self, container_id: &str) {
        self.outcomes.send_modify(|outcomes| {
            Arc::make_mut(outcomes).0.remove(container_id);
        });
    }

    /// Changes the outcomes of a container that is still probed; returns whether that made a difference.
    pub(crate) fn update(&self, container_id: &str, change: impl FnOnce(&mut ContainerProbes)) -> bool {
        self.outcomes.send_if_modified(|outcomes| {
            let Some(before) = outcomes.0.get(container_id).copied() else { return false };
            let mut after = before;
            change(&mut after);
            if after != before {
                Arc::make_mut(outcomes).0.insert(container_id.to_owned(), after);
            }
            after != before
        })
    }
}

/// The container's probe of this kind.
pub(crate) fn probe_of(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
        ProbeKind::Startup => container.startup_probe.as_ref(),
    }
}

/// The place of one kind's outcome.
pub(crate) fn outcome_of(outcomes: &mut ContainerProbes, kind: ProbeKind) -> &mut Option<ProbeOutcome> {
    match kind {
        ProbeKind::Liveness => &mut outcomes.liveness,
        ProbeKind::Readiness => &mut outcomes.readiness,
        ProbeKind::Startup => &mut outcomes.startup,
    }
}

/// One probe of one container instance.
pub(crate) struct Worker<E, S> {
    pub(crate) shared: Arc<Shared<E, S>>,
    pub(crate) pod: Arc<PodState>,
    pub(crate) container: Arc<str>,
    pub(crate) container_id: Arc<str>,
    pub(crate) kind: ProbeKind,
    pub(crate) settings: Settings,
    pub(crate) has_startup_probe: bool,
    /// Outlives this worker when the container is restarted.
    pub(crate) tally: tally::Shared,
    /// When the first probe is due.
    pub(crate) first: Instant,
}

impl<E: Exec, S: Sink> Worker<E, S> {
    pub(crate) async fn run(self) {
        let mut known = self.pod.outcomes.borrow().of(&self.container_id);
        let mut tracker = Tracker::new(self.kind, &self.settings, *outcome_of(&mut known, self.kind));
        if tracker.is_done() {
            return;
        }
        self.until_started().await;
        let mut ticks = interval_at(self.first.max(Instant::now()), self.settings.period);
        // As Go's ticker: a probe that takes longer than a period is followed by the next one at once.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !tracker.is_done() {
            ticks.tick().await;
            let began = Instant::now();
            // Boxed, so that a probe costs its memory only while it runs.
            let result = Box::pin(self.attempt()).await;
            self.tally.lock().count(&result, began.elapsed());
            let Some(verdict) = self.report(result) else { continue };
            if let Some(outcome) = tracker.record(verdict) {
                self.publish(outcome);
            }
        }
    }

    /// Waits for the startup probe, without waking up in between.
    async fn until_started(&self) {
        let started = |outcomes: &Arc<PodProbes>| {
            !decide::held_back(self.kind, self.has_startup_probe, outcomes.of(&self.container_id))
        };
        // Cannot fail: `self` keeps the sending side.
        let _ = self.pod.outcomes.subscribe().wait_for(started).await;
    }

    async fn attempt(&self) -> Result<Verdict, HandlerError> {
        let Target { pod, ip } = self.pod.target();
        let found = pod.spec.as_ref().and_then(|spec| pod::container(spec, &self.container));
        let Some((container, probe)) = found.and_then(|(_, c)| Some((c, probe_of(c, self.kind)?))) else {
            return Err(HandlerError::NoHandler(self.container.to_string()));
        };
        let aim = Aim {
            probe,
            container,
            container_id: &self.container_id,
            pod_ip: ip,
            timeout: self.settings.timeout,
        };
        attempt::run(&self.shared.exec, &self.shared.http, &aim).await
    }

    /// Tells about everything but a plain success, and reduces the result to what counts.
    fn report(&self, result: Result<Verdict, HandlerError>) -> Option<ProbeOutcome> {
        let kind = self.kind;
        let (counts, reason, message) = match result {
            Ok(Verdict::Success) => return Some(ProbeOutcome::Success),
            Ok(Verdict::Warning(text)) => {
                (Some(ProbeOutcome::Success), "ProbeWarning", format!("{kind:?} probe warning: {text}"))
            }
            Ok(Verdict::Failure(text)) => {
                (Some(ProbeOutcome::Failure), "Unhealthy", format!("{kind:?} probe failed: {text}"))
            }
            Err(e) => {
                let message = format!("{kind:?} probe errored and resulted in unknown state: {e}");
                (None, "Unhealthy", message)
            }
        };
        self.shared.sink.event(&self.pod.uid, &self.container, EventType::Warning, reason, message);
        counts
    }

    fn publish(&self, outcome: ProbeOutcome) {
        debug!(pod = %self.pod.uid, container = &*self.container, probe = ?self.kind, ?outcome, "probe settled");
        let changed =
            self.pod.update(&self.container_id, |known| *outcome_of(known, self.kind) = Some(outcome));
        if changed {
            self.shared.sink.changed(&self.pod.uid);
        }
    }
}
