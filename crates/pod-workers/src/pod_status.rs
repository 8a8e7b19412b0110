//! What an actor shows of its pod: status, waits, the step under way, and what happened lately.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube_model::core::{Pod, PodStatus};
use kube_model::view::{Activity, Event, EventType, PodState, PodView, Wait};
use kube_model::{Monotonic, PodKey, PodUid, pod};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Span;

use crate::clock::Clock;
use crate::observer::Observer;

/// How many events a pod keeps: enough to see a crash loop's whole round, a few KiB at most.
const EVENTS_KEPT: usize = 16;

/// Hears of each event, also of those that only count up: pod, container, kind, reason, message. Must not block.
pub type EventSink = Arc<dyn Fn(&Pod, Option<&str>, EventType, &str, &str) + Send + Sync>;

/// Counts what is shown, over all pods. Steps and events of a start are many, and its statuses few.
#[derive(Clone, Default)]
pub(crate) struct Changes {
    /// Anything.
    pub(crate) all: watch::Sender<u64>,
    /// Which pods there are, their statuses, whether they are being removed or are gone.
    pub(crate) statuses: watch::Sender<u64>,
}

impl Changes {
    /// Something beside the statuses.
    pub(crate) fn bump(&self) {
        self.all.send_modify(|version| *version = version.wrapping_add(1));
    }

    pub(crate) fn bump_statuses(&self) {
        self.statuses.send_modify(|version| *version = version.wrapping_add(1));
        self.bump();
    }
}

/// The shown state of one pod, shared by its actor and those who look.
pub(crate) struct SharedStatus {
    shown: Mutex<Shown>,
    changes: Changes,
    clock: Clock,
    events: Option<EventSink>,
    observer: Arc<dyn Observer>,
    key: PodKey,
    /// What is logged about the pod is logged within it.
    span: Span,
    /// When the pod came.
    came: Instant,
}

struct Shown {
    pod: Arc<Pod>,
    status: Arc<PodStatus>,
    removing: bool,
    finished: bool,
    waits: Vec<Wait<Monotonic>>,
    doing: Option<Activity>,
    events: VecDeque<Event>,
}

impl SharedStatus {
    pub(crate) fn new(
        pod: Arc<Pod>,
        key: PodKey,
        changes: Changes,
        clock: Clock,
        events: Option<EventSink>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let shown = Shown {
            pod,
            status: Arc::default(),
            removing: false,
            finished: false,
            waits: Vec::new(),
            doing: None,
            events: VecDeque::new(),
        };
        // Of the level of errors, so that it is there at each verbosity.
        let span = tracing::error_span!("pod", pod = %key);
        Self { shown: Mutex::new(shown), changes, clock, events, observer, key, span, came: Instant::now() }
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        // Each holder only assigns whole values, so a poisoned lock still guards a consistent state.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a planning round; watchers hear of it only if it differs. New waits become events.
    pub(crate) fn publish(
        &self,
        pod: &Arc<Pod>,
        status: &Arc<PodStatus>,
        removing: bool,
        waits: Vec<Wait<Monotonic>>,
    ) {
        let fresh: Vec<Wait<Monotonic>>;
        let same_status;
        let runs_now;
        let too_long;
        {
            let mut shown = self.lock();
            same_status =
                *shown.status == **status && shown.removing == removing && Arc::ptr_eq(&shown.pod, pod);
            if same_status && shown.waits == waits {
                return;
            }
            let known = |wait: &Wait<Monotonic>| {
                shown.waits.iter().any(|w| w.container == wait.container && w.reason == wait.reason)
            };
            // One that ran before the agent started was never seen pending.
            let (before, after) = (shown.status.phase.as_deref(), status.phase.as_deref());
            runs_now = before == Some("Pending") && after == Some("Running");
            too_long = ran_too_long(&shown.status, status, pod);
            fresh = waits.iter().filter(|w| !known(w)).cloned().collect();
            shown.pod = Arc::clone(pod);
            shown.status = Arc::clone(status);
            shown.removing = removing;
            shown.waits = waits;
        }
        if runs_now {
            self.observer.runs(self.came());
        }
        if too_long {
            let message = status.message.clone().unwrap_or_default();
            self.event(EventType::Normal, pod_lifecycle::DEADLINE_EXCEEDED, None, message);
        }
        for wait in fresh {
            for (kind, reason, message) in events_of_wait(&wait, pod) {
                self.event(kind, reason, wait.container.as_deref(), message);
            }
        }
        if same_status { self.changes.bump() } else { self.changes.bump_statuses() }
    }

    /// Records and logs an event; the same event again only counts up.
    pub(crate) fn event(&self, kind: EventType, reason: &str, container: Option<&str>, message: String) {
        let now = self.clock.wall();
        match kind {
            EventType::Normal => {
                tracing::info!(parent: &self.span, container, reason, "{message}");
            }
            EventType::Warning => {
                tracing::warn!(parent: &self.span, container, reason, "{message}");
            }
        }
        let mut shown = self.lock();
        if let Some(events) = &self.events {
            events(&shown.pod, container, kind, reason, &message);
        }
        let same = |e: &Event| {
            e.kind == kind
                && e.reason == reason
                && e.container.as_deref() == container
                && e.message == message
        };
        let (first, count) = match shown.events.iter().position(same).and_then(|at| shown.events.remove(at)) {
            Some(earlier) => (earlier.first, earlier.count.saturating_add(1)),
            None => (now, 1),
        };
        if shown.events.len() == EVENTS_KEPT {
            shown.events.pop_front();
        }
        let container = container.map(str::to_owned);
        shown.events.push_back(Event {
            kind,
            reason: reason.to_owned(),
            message,
            container,
            first,
            last: now,
            count,
        });
        drop(shown);
        self.changes.bump();
    }

    pub(crate) fn doing(&self, what: Option<String>) {
        let doing = what.map(|what| Activity { what, since: self.clock.wall() });
        self.lock().doing = doing;
        self.changes.bump();
    }

    /// Nothing of the pod is left; what was published last stays.
    pub(crate) fn finish(&self) {
        let mut shown = self.lock();
        shown.finished = true;
        shown.waits = Vec::new();
        drop(shown);
        self.changes.bump_statuses();
    }

    /// How long ago the pod came.
    pub(crate) fn came(&self) -> Duration {
        self.came.elapsed()
    }

    /// The status that a worker has made of the pod.
    pub(crate) fn last_status(&self) -> Option<Arc<PodStatus>> {
        let shown = self.lock();
        shown.status.start_time.is_some().then(|| Arc::clone(&shown.status))
    }

    /// Whether the pod runs no more and will not run again.
    pub(crate) fn has_ended(&self) -> bool {
        pod::has_ended(&self.lock().status)
    }

    pub(crate) fn state(&self, uid: PodUid) -> PodState {
        let shown = self.lock();
        PodState {
            uid,
            key: self.key.clone(),
            pod: Arc::clone(&shown.pod),
            status: Arc::clone(&shown.status),
            removing: shown.removing,
            finished: shown.finished,
        }
    }

    pub(crate) fn view(&self) -> PodView {
        let now = self.clock.now();
        let shown = self.lock();
        PodView {
            pod: Arc::clone(&shown.pod),
            status: Arc::clone(&shown.status),
            removing: shown.removing,
            finished: shown.finished,
            waits: shown.waits.iter().map(|wait| wait.shown(now)).collect(),
            doing: shown.doing.clone(),
            events: shown.events.iter().cloned().collect(),
        }
    }
}

/// Whether the pod's deadline ends it just now. Of one that was found ended an earlier run of the agent has told.
fn ran_too_long(before: &PodStatus, after: &PodStatus, pod: &Pod) -> bool {
    let exceeded = |s: &PodStatus| s.reason.as_deref() == Some(pod_lifecycle::DEADLINE_EXCEEDED);
    let before = if before.phase.is_some() { Some(before) } else { pod.status.as_ref() };
    let mut statuses = after.container_statuses.iter().chain(&after.init_container_statuses).flatten();
    let mut runs = || statuses.any(|s| s.state.as_ref().is_some_and(|state| state.running.is_some()));
    exceeded(after)
        && match before.filter(|status| status.phase.is_some()) {
            Some(before) => !exceeded(before),
            None => runs(),
        }
}

/// The kubelet's events for a wait that has just begun; waits that follow a failed step have had theirs.
fn events_of_wait(wait: &Wait<Monotonic>, pod: &Pod) -> Vec<(EventType, &'static str, String)> {
    match (wait.reason.as_str(), &wait.container) {
        ("CrashLoopBackOff", Some(container)) => {
            let (uid, PodKey { namespace, name }) = pod::identity(pod);
            let text =
                format!("Back-off restarting failed container {container} in pod {name}_{namespace}({uid})");
            vec![(EventType::Warning, "BackOff", text)]
        }
        ("ImagePullBackOff", Some(container)) => {
            let spec = pod.spec.as_ref().and_then(|spec| pod::container(spec, container));
            let image = spec.and_then(|(_, container)| container.image.as_deref()).unwrap_or_default();
            vec![
                (EventType::Normal, "BackOff", format!("Back-off pulling image {image:?}")),
                (EventType::Warning, "Failed", "Error: ImagePullBackOff".to_owned()),
            ]
        }
        ("Unsupported", _) => {
            vec![(EventType::Warning, "Unsupported", format!("Not started: {}", wait.message))]
        }
        ("NetworkNotReady", _) => vec![(EventType::Warning, "NetworkNotReady", wait.message.clone())],
        _ => Vec::new(),
    }
}

/// Lets a step say what it is doing and what happened.
#[derive(Clone)]
pub struct Reporter {
    status: Arc<SharedStatus>,
    container: Option<Arc<str>>,
}

impl Reporter {
    pub(crate) fn new(status: Arc<SharedStatus>, container: Option<&str>) -> Self {
        Self { status, container: container.map(Arc::from) }
    }

    /// Records an event of the pod or container that this reporter was made for.
    pub fn event(&self, kind: EventType, reason: &str, message: impl Into<String>) {
        self.status.event(kind, reason, self.container.as_deref(), message.into());
    }

    /// Says what is being done now, for example `pulling image "busybox:1.36"`.
    pub fn doing(&self, what: impl Into<String>) {
        self.status.doing(Some(what.into()));
    }
}
