//! The source that watches an API server for the pods of this node.
//!
//! Rule: upstream `pkg/kubelet/config/apiserver.go`. The first list comes from the server's cache, as a stream where
//! the server can do that, because every node of a cluster asks at once; when the watch is lost later the list is a
//! consistent one, because an older state would end pods that were only just started. While the server can not be
//! reached the set stays as it was, and the failure stands beside it.
//!
//! Owns the watch and the set of pods. Pods were defaulted and validated by the server; of each only its
//! decoding can fail, which is told and concerns no other. Must not know what becomes of them.

mod received;
mod set;
mod watched;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use kube::runtime::utils::Backoff as _;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use kube::{Api, Client};
use kube_model::Timestamp;
use kube_model::view::Problem;
use tokio::sync::watch::{self, Receiver, Sender};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::SourceState;
use received::Received;
use set::Pods;

/// Name of this source, in [`SourceState::source`] and in the annotation of its pods.
pub const SOURCE: &str = "api";

/// How long a server may take to stream the first list before it is taken for one that can not.
const STREAM_TIMEOUT: Duration = Duration::from_secs(20);

/// The nodes of a cluster that find their server again do not all ask at the same moment.
const SPREAD: Duration = Duration::from_secs(1);

/// The code for a version that the server has no more.
const GONE: u16 = 410;

/// From when on a version that was listed may be gone.
const SETTLED: Duration = Duration::from_secs(1);

/// What is said while another agent has the node.
const HELD: &str = "another agent of this node's name holds the node lease: pods of the server are not started \
                    or changed here, and nothing is written about them";

/// Whom to ask, and for which node.
#[derive(Clone)]
pub struct Settings {
    /// The way to the server. A dead connection must end its requests (HTTP/2 pings, for example); a watch that
    /// says nothing is renewed after five minutes.
    pub client: Client,
    /// Address of the server, for those who read: kube's client does not tell it.
    pub endpoint: Arc<str>,
    /// Name of this node: its pods are those with this `spec.nodeName`.
    pub node_name: String,
    /// Changes when somebody else has reached the server again: a pause between two tries ends soon after. `None`:
    /// pauses last as long as they do.
    pub reached: Option<Receiver<()>>,
}

/// Starts watching. The first value is an empty state that is not `seen`; the source publishes when something
/// changed. It ends when `cancel` is cancelled or the last receiver is gone.
///
/// Must be called within a tokio runtime that has its I/O and time drivers on.
pub fn spawn(settings: Settings, cancel: CancellationToken) -> Receiver<Arc<SourceState>> {
    spawn_held(settings, watch::Sender::new(Some(false)).subscribe(), cancel)
}

/// As [`spawn`], for a node that two agents may take for theirs. `other` says whether another one has it; `None`:
/// that is not known yet. Only while it is `Some(false)` the state is `seen`, and `Some(true)` is a failure: pods
/// that came before go on, and none comes.
pub fn spawn_held(
    settings: Settings,
    other: Receiver<Option<bool>>,
    cancel: CancellationToken,
) -> Receiver<Arc<SourceState>> {
    let location = Arc::clone(&settings.endpoint);
    let initial = SourceState { source: SOURCE, location, ..SourceState::default() };
    let (publish, receiver) = watch::channel(Arc::new(initial));
    tokio::spawn(async move {
        cancel.run_until_cancelled(Box::pin(Source::new(settings, other, publish).run())).await;
    });
    receiver
}

/// How a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// From the cache, as part of the watch: Kubernetes 1.32 and later.
    Stream,
    /// From the cache, by a list.
    Cached,
    /// By a list that is not older than the request.
    Consistent,
}

impl Start {
    fn config(self, node_name: &str) -> watcher::Config {
        let config = watcher::Config::default().fields(&format!("spec.nodeName={node_name}"));
        match self {
            Self::Stream => config.streaming_lists(),
            // With pages kube would leave out that the cache is meant.
            Self::Cached => watcher::Config { page_size: None, ..config.any_semantic() },
            Self::Consistent => config,
        }
    }
}

struct Source {
    node_name: String,
    pods: Pods,
    other: Receiver<Option<bool>>,
    reached: Option<Receiver<()>>,
    failure: Option<Problem>,
    publish: Sender<Arc<SourceState>>,
    api: Api<Received>,
    /// Changes with each request that the server accepts.
    accepted: Receiver<()>,
    backoff: DefaultBackoff,
}

impl Source {
    fn new(settings: Settings, other: Receiver<Option<bool>>, publish: Sender<Arc<SourceState>>) -> Self {
        let Settings { client, endpoint, node_name, reached } = settings;
        let (client, accepted) = watched::client(client);
        Self {
            pods: Pods::new(endpoint, node_name.clone()),
            node_name,
            other,
            reached,
            failure: None,
            publish,
            api: Api::all(client),
            accepted,
            backoff: DefaultBackoff::default(),
        }
    }

    async fn run(mut self) {
        let publish = self.publish.clone();
        let follow = async {
            let mut start = Start::Stream;
            loop {
                start = self.follow(start).await;
            }
        };
        tokio::select! {
            () = follow => {}
            () = publish.closed() => {}
        }
    }

    /// Follows one watcher until another must begin, and says how.
    async fn follow(&mut self, start: Start) -> Start {
        let config = start.config(&self.node_name);
        let mut events = Box::pin(watcher(self.api.clone(), config));
        let (mut listed, begun) = (false, Instant::now());
        let mut too_long = Box::pin(sleep(STREAM_TIMEOUT));
        loop {
            // Each branch leaves what it waits for as it was when another one is taken.
            let mut next = tokio::select! {
                event = events.next() => event,
                Ok(()) = self.accepted.changed(), if self.failure.is_some() => {
                    self.failure = None;
                    self.publish();
                    continue;
                }
                Ok(()) = self.other.changed() => {
                    self.publish();
                    continue;
                }
                () = &mut too_long, if start == Start::Stream && !listed => return Start::Cached,
            };
            // What is there already makes one state.
            while let Some(event) = next {
                match event {
                    Ok(Event::Init) if listed => return Start::Consistent,
                    Ok(event) => {
                        listed |= matches!(event, Event::InitDone);
                        self.backoff.reset();
                        self.pods.take(event, Timestamp::now());
                    }
                    Err(error) => match self.fail(&error, start, listed, begun).await {
                        Some(start) => return start,
                        None => too_long.as_mut().reset(Instant::now() + STREAM_TIMEOUT),
                    },
                }
                next = events.next().now_or_never().flatten();
            }
            self.publish();
        }
    }

    /// Tells the failure and waits a while; `Some` if another watcher must begin.
    async fn fail(
        &mut self,
        error: &watcher::Error,
        start: Start,
        listed: bool,
        begun: Instant,
    ) -> Option<Start> {
        let code = match error {
            watcher::Error::WatchStartFailed(kube::Error::Api(status))
            | watcher::Error::WatchError(status) => status.code,
            _ => 0,
        };
        // Nothing is wrong: the server forgot the old version while it could not be reached. Right behind a list it
        // would be asked for lists without end.
        if code == GONE && listed && begun.elapsed() > SETTLED {
            return Some(Start::Consistent);
        }
        // Servers without streamed lists refuse the parameters.
        if start == Start::Stream && !listed && matches!(code, 400 | 422) {
            return Some(Start::Cached);
        }
        let stay = if self.pods.seen() { "; the pods that it told before stay" } else { "" };
        let message = format!("pods of {} can not be watched: {}{stay}", self.node_name, util::causes(error));
        self.failure = Some(self.pods.failure(message));
        self.accepted.mark_unchanged();
        self.publish();
        let pause = self.backoff.next().unwrap_or(STREAM_TIMEOUT).max(retry_after(error));
        let mut pause = pin!(sleep(pause));
        let reached = self.reached.as_mut().map(|reached| {
            reached.mark_unchanged();
            reached.clone()
        });
        let mut again = pin!(again(reached));
        loop {
            tokio::select! {
                () = &mut pause => break,
                () = &mut again => break,
                Ok(()) = self.other.changed() => self.publish(),
            }
        }
        // kube would go on asking for a version that is gone.
        (code == GONE).then_some(Start::Consistent)
    }

    fn publish(&mut self) {
        let other = *self.other.borrow_and_update();
        let seen = self.pods.seen() && other == Some(false);
        let held = (other == Some(true)).then(|| self.pods.failure(HELD.to_owned()));
        let failures = held.into_iter().chain(self.failure.clone());
        let problems: Vec<_> = failures.chain(self.pods.problems().cloned()).collect();
        self.publish.send_if_modified(|state| {
            let same = |pods: &[_]| self.pods.iter().map(Arc::as_ptr).eq(pods.iter().map(Arc::as_ptr));
            let same_pods = same(&state.pods);
            let changed = state.seen != seen || !same_pods || state.problems != problems;
            let state = Arc::make_mut(state);
            if self.failure.is_none() && seen {
                state.read_at = Some(Timestamp::now());
            }
            if changed {
                (state.problems, state.seen) = (problems, seen);
            }
            if !same_pods {
                (state.pods, state.locations) = (self.pods.iter().cloned().collect(), self.pods.locations());
            }
            changed
        });
    }
}

/// Returns some time after somebody has reached the server.
async fn again(reached: Option<Receiver<()>>) {
    if let Some(mut reached) = reached
        && reached.changed().await.is_ok()
    {
        return sleep(SPREAD.mul_f64(fastrand::f64())).await;
    }
    std::future::pending::<()>().await;
}

/// How long the server wants to be left alone (`Retry-After`, if the client keeps it); zero where it says nothing.
fn retry_after(error: &watcher::Error) -> Duration {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status,
        _ => return Duration::ZERO,
    };
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    Duration::from_secs(seconds.into()).min(STREAM_TIMEOUT)
}
