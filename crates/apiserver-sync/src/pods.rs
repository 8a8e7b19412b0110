//! The pods of this node at the API server: their statuses, the last delete of those that ended, and mirror pods
//! for those that the server did not send.
//!
//! Level-triggered: whatever changed, each pod's state here is compared with the server's as it was last heard,
//! and what differs is sent; so nothing is lost when the server is away. Rule: upstream
//! `pkg/kubelet/status/status_manager.go`.

mod decide;
mod merge;
mod mirror;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use kube::Resource as _;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use kube::{Client, Error};
use kube_model::core::{Node, Pod, PodStatus};
use kube_model::view::PodState;
use kube_model::{PodKey, PodUid};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::retry_after::retry_after;
use decide::{Action, Facts};

/// Requests under way at once; the client's own limit of requests a second comes on top.
const AT_ONCE: usize = 16;

/// The least time between two looks at all pods: the first change after a quiet time is acted on at once, and of
/// many that follow each other only as often as this.
const GATHER: Duration = Duration::from_millis(10);

/// Pauses of a pod whose request failed: doubles from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How long the watch may take to show a create or delete.
const WATCH_LAG: Duration = Duration::from_secs(10);

/// What the rest of the agent tells.
pub trait Local: Send + Sync + 'static {
    /// All pods of the node as they are now, in the order in which they came. What did not change keeps its `Arc`s.
    fn pods(&self) -> Vec<PodState>;
    /// Changes when [`pods`](Self::pods) may differ.
    fn changes(&self) -> watch::Receiver<u64>;
    /// Whether every source has told what it wants: before that a mirror pod may still find its static pod.
    fn complete(&self) -> bool;
    /// The server does not take what is said of this pod.
    fn refused(&self, uid: &PodUid, message: String);
    /// The server has a status, so long after it was to be sent first. Nobody need care.
    fn status_sent(&self, _took: Duration) {}
}

/// Keeps the server's pods true. `T` is what the watch of this node's pods publishes.
pub struct Pods<L, T> {
    /// With the client for pods.
    pub client: Client,
    /// The agent's own state.
    pub local: Arc<L>,
    /// The server's pods of this node.
    pub server: watch::Receiver<T>,
    /// All of them, mirror pods too; `None` while they are not known.
    pub pods: fn(&T) -> Option<&[Arc<Pod>]>,
    /// The Node, as soon as it is there: mirror pods belong to it.
    pub node: watch::Receiver<Option<Arc<Node>>>,
    /// Changes when the server can be reached again: pauses end then.
    pub reached: watch::Receiver<()>,
}

/// What is remembered of one pod by its name.
#[derive(Default)]
struct Entry {
    /// What was compared last, and came out even: the agent's state and the server's.
    settled: Option<(PodState, Arc<Pod>)>,
    /// The server's answer to the last patch, until the watch has caught up.
    answer: Option<Answer>,
    /// The server's pod as it was before a create or delete that the server took, and until when the watch may
    /// take to show what came of it.
    asked: Option<(Option<Arc<Pod>>, Instant)>,
    busy: bool,
    /// Since when there is a status that the server does not have.
    untold: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
}

/// What the server made of a patch of ours.
struct Answer {
    uid: String,
    version: Option<u64>,
    status: Arc<PodStatus>,
    /// What was sent: the server drops fields that it does not know, and they must not be sent for ever.
    sent: Arc<PodStatus>,
    /// The server's pod as the watch had it when it was sent: only a later one may lead to another patch.
    upon: Arc<Pod>,
}

struct Done {
    key: PodKey,
    uid: PodUid,
    upon: Option<Arc<Pod>>,
    sent: Option<Arc<PodStatus>>,
    result: Result<Option<Answered>, Error>,
}

/// What is read of a pod with which the server answers a patch: all else the watch brings.
#[derive(Deserialize)]
struct Answered {
    metadata: AnsweredMeta,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnsweredMeta {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    resource_version: String,
}

impl<L: Local, T: Send + Sync + 'static> Pods<L, T> {
    /// Works until the future is dropped.
    pub async fn run(mut self) {
        let mut changes = self.local.changes();
        let mut entries: HashMap<PodKey, Entry> = HashMap::new();
        let mut requests: FuturesUnordered<BoxFuture<'static, Done>> = FuturesUnordered::new();
        let mut not_before = Instant::now();
        loop {
            sleep_until(not_before).await;
            while let Some(Some(done)) = requests.next().now_or_never() {
                self.take(&mut entries, done);
            }
            changes.mark_unchanged();
            self.server.mark_unchanged();
            self.node.mark_unchanged();
            let retry = self.compare(&mut entries, &mut requests);
            not_before = Instant::now() + GATHER;
            let retry = async {
                match retry {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                changed = self.server.changed() => if changed.is_err() { return },
                Ok(()) = self.node.changed() => {}
                Ok(()) = self.reached.changed() => {
                    entries.values_mut().for_each(|entry| entry.not_before = None);
                }
                Some(done) = requests.next() => self.take(&mut entries, done),
                () = retry => {}
            }
        }
    }

    /// Starts the requests that are due. Answers with when the next one is that has to wait.
    fn compare(
        &self,
        entries: &mut HashMap<PodKey, Entry>,
        requests: &mut FuturesUnordered<BoxFuture<'static, Done>>,
    ) -> Option<Instant> {
        let server = self.server.borrow();
        let server = (self.pods)(&server)?;
        let at_server: Vec<Name<'_>> = server.iter().map(|pod| Name::at_server(pod)).collect();
        let server: HashMap<Name<'_>, &Arc<Pod>> = at_server.iter().copied().zip(server).collect();
        let pods = self.local.pods();
        let mut local: HashMap<Name<'_>, &PodState> = HashMap::with_capacity(pods.len());
        for state in &pods {
            let name = Name::of(&state.key);
            // Of two pods of one name the one that the server shows counts, else the one that comes.
            let counts = local.get(&name).is_none_or(|other| {
                let shown = |state| server.get(&name).is_some_and(|pod| decide::shows(pod, state));
                shown(state) || (other.removing && !shown(*other))
            });
            if counts {
                local.insert(name, state);
            }
        }
        let complete = self.local.complete();
        let node = self.node.borrow();
        entries.retain(|key, entry| {
            let name = Name::of(key);
            entry.busy || server.contains_key(&name) || local.contains_key(&name)
        });
        let mut wake: Option<Instant> = None;
        let only_here =
            pods.iter().map(|state| Name::of(&state.key)).filter(|name| !server.contains_key(name));
        for name in at_server.into_iter().chain(only_here) {
            if requests.len() >= AT_ONCE {
                // Each answer brings the loop back here.
                break;
            }
            let (state, pod) = (local.get(&name).copied(), server.get(&name).copied());
            let key = state.map_or_else(|| PodKey::new(name.0, name.1), |state| state.key.clone());
            let entry = entries.entry(key.clone()).or_default();
            if entry.busy || entry.is_settled(state, pod) {
                continue;
            }
            if let Some(at) = entry.waits(pod) {
                wake = Some(wake.map_or(at, |wake| wake.min(at)));
                continue;
            }
            entry.forget_old_answer(pod);
            let answered = entry.answer.as_ref().map(|answer| (&*answer.status, &*answer.sent));
            let facts = Facts {
                local: state,
                server: pod.map(|pod| &**pod),
                answered,
                complete,
                node: node.as_deref(),
            };
            match decide::decide(&facts) {
                Some(action) => {
                    entry.busy = true;
                    if matches!(action, Action::Patch { .. }) {
                        entry.untold.get_or_insert_with(Instant::now);
                    }
                    let at_server = || pod.and_then(|pod| pod.metadata.uid.as_deref()).unwrap_or_default();
                    let uid = state.map_or_else(|| PodUid::new(at_server()), |state| state.uid.clone());
                    requests.push(self.request(key, uid, pod.cloned(), action));
                }
                // Mirror pods depend on more than the two.
                None => entry.settled = state.cloned().zip(pod.cloned()),
            }
        }
        wake
    }

    fn request(
        &self,
        key: PodKey,
        uid: PodUid,
        upon: Option<Arc<Pod>>,
        action: Action,
    ) -> BoxFuture<'static, Done> {
        let client = self.client.clone();
        Box::pin(async move {
            let sent = match &action {
                Action::Patch { sent, .. } => Some(Arc::clone(sent)),
                Action::Delete { .. } | Action::Create(_) => None,
            };
            let result = send(&client, &key, action).await;
            Done { key, uid, upon, sent, result }
        })
    }

    fn take(&self, entries: &mut HashMap<PodKey, Entry>, done: Done) {
        let Done { key, uid, upon, sent, result } = done;
        let entry = entries.entry(key.clone()).or_default();
        entry.busy = false;
        let error = match result {
            Ok(pod) => {
                (entry.failures, entry.not_before) = (0, None);
                if let Some(since) = sent.as_ref().and(entry.untold.take()) {
                    self.local.status_sent(since.elapsed());
                }
                if let (Some(pod), Some(sent), Some(upon)) = (pod, sent, upon.clone()) {
                    entry.answer = Some(Answer {
                        uid: pod.metadata.uid,
                        version: pod.metadata.resource_version.parse().ok(),
                        status: Arc::new(pod.status),
                        sent,
                        upon,
                    });
                } else {
                    entry.asked = Some((upon, Instant::now() + WATCH_LAG));
                }
                return;
            }
            Err(error) => error,
        };
        entry.pause(retry_after(&error));
        let status = match &error {
            Error::Api(status) => Some(status),
            _ => None,
        };
        match status.map(|status| status.code) {
            // It is gone, or another one has its name: the watch will tell.
            Some(404 | 409) => {
                tracing::debug!(pod = %key, "the server has another state of this pod: {}", util::causes(&error));
            }
            Some(400..500) if status.is_some_and(|s| s.code != 429) => {
                let message = status.map(|status| status.message.clone()).unwrap_or_default();
                if entry.failures == 1 {
                    tracing::warn!(pod = %key, "the API server refuses this pod: {message}");
                    self.local.refused(&uid, message);
                }
            }
            _ if entry.failures == 1 => {
                tracing::warn!(pod = %key, "the API server cannot be told of this pod yet: {}", util::causes(&error));
            }
            _ => {}
        }
    }
}

/// Asks the server for one thing. Only what it answers to a patch is of interest.
async fn send(client: &Client, key: &PodKey, action: Action) -> Result<Option<Answered>, Error> {
    let api = Request::new(Pod::url_path(&(), Some(&key.namespace)));
    let request = match action {
        Action::Patch { patch, .. } => {
            let patch = Patch::Strategic(&patch);
            let request = api.patch_subresource("status", &key.name, &PatchParams::default(), &patch);
            return client.request(request.map_err(Error::BuildRequest)?).await.map(Some);
        }
        Action::Delete { uid } => {
            let precondition = Preconditions { uid: Some(uid), resource_version: None };
            let params = DeleteParams::default().grace_period(0).preconditions(precondition);
            api.delete(&key.name, &params)
        }
        Action::Create(pod) => {
            let pod = serde_json::to_vec(&pod).map_err(Error::SerdeError)?;
            api.create(&PostParams::default(), pod)
        }
    };
    client.request_text(request.map_err(Error::BuildRequest)?).await.map(|_| None)
}

fn version(pod: &Pod) -> Option<u64> {
    pod.metadata.resource_version.as_deref()?.parse().ok()
}

/// Namespace and name, borrowed: all pods are gone through often.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Name<'a>(&'a str, &'a str);

impl<'a> Name<'a> {
    fn at_server(pod: &'a Pod) -> Self {
        let meta = &pod.metadata;
        Self(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }

    fn of(key: &'a PodKey) -> Self {
        Self(&key.namespace, &key.name)
    }
}

impl Entry {
    fn is_settled(&self, state: Option<&PodState>, pod: Option<&Arc<Pod>>) -> bool {
        let (Some((s, p)), Some(state), Some(pod)) = (&self.settled, state, pod) else {
            return false;
        };
        Arc::ptr_eq(p, pod) && decide::same(s, state)
    }

    /// Until when nothing more is to be asked for.
    fn waits(&mut self, pod: Option<&Arc<Pod>>) -> Option<Instant> {
        let now = Instant::now();
        if let Some((upon, until)) = &self.asked {
            let same = match (upon, pod) {
                // A deletion holds for whatever state of the pod the watch still brings.
                (Some(upon), Some(pod)) => upon.metadata.uid == pod.metadata.uid,
                (None, None) => true,
                _ => false,
            };
            if same && *until > now {
                return Some(*until);
            }
            self.asked = None;
        }
        self.not_before.filter(|at| *at > now)
    }

    /// The watch has caught up with the answer, or there is another pod now.
    fn forget_old_answer(&mut self, pod: Option<&Arc<Pod>>) {
        let Some(answer) = &self.answer else { return };
        let Some(pod) = pod.filter(|pod| pod.metadata.uid.as_deref() == Some(&answer.uid)) else {
            self.answer = None;
            return;
        };
        let older = matches!((version(pod), answer.version), (Some(seen), Some(ours)) if seen <= ours);
        let none = PodStatus::default();
        // Only what somebody else wrote since then is a reason to look again.
        if !Arc::ptr_eq(&answer.upon, pod)
            && !older
            && pod.status.as_ref().unwrap_or(&none) != &*answer.status
        {
            self.answer = None;
        }
    }

    fn pause(&mut self, least: Duration) {
        self.failures = self.failures.saturating_add(1);
        let pause = util::doubled(PAUSE.0, self.failures, PAUSE.1).max(least);
        self.not_before = Some(Instant::now() + pause);
    }
}
