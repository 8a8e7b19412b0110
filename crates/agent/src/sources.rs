//! Where pods come from: starts the configured sources, merges them, and hands on to the workers what changed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use kube_model::core::PodStatus;
use kube_model::pod;
use kube_model::view::{PodView, Problem, SourceCondition, SourceView};
use kuberuntime::LocalObjects;
use node_config::{ManifestAddress, ManifestServer, Settings};
use pod_manager::{Change, PodManager};
use pod_workers::{Probes, Runtime, Workers};
use podsource::push::{self, Listen, Logs, NoLog, Push, TlsFiles};
use podsource::{Mux, SourceState, file, http};
use server::pod_streams::PodStreams;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Live;
use crate::metrics::Metrics;
use crate::takeover::{self, Takeover};

/// Shortest time between two reports to the push API of how the pods are.
const REPORT_PAUSE: Duration = Duration::from_millis(100);

/// Why a source can not be started.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The manifest URL or one of its headers.
    #[error("--manifest-url")]
    Http(#[from] http::Error),
    /// The pod API.
    #[error("--manifest-server-address")]
    Push(#[from] push::StartError),
}

/// All sources of the node, running.
pub(crate) struct Sources {
    states: Vec<watch::Receiver<Arc<SourceState>>>,
    push: Option<Push>,
}

impl Sources {
    /// Starts what is configured; they end with `stop`.
    pub(crate) async fn start(
        config: &Settings,
        node_name: &str,
        live: &Live,
        stop: &CancellationToken,
    ) -> Result<Self, SourceError> {
        let dir = |source: &str| config.root_dir.join("podsource").join(source);
        let mut states = Vec::new();
        if let Some(path) = &config.pod_manifest_path {
            let settings = file::Settings {
                check_frequency: live.file_check_frequency.subscribe(),
                cache_dir: Some(dir(file::SOURCE)),
                ..file::Settings::new(path, node_name)
            };
            states.push(file::spawn(settings, stop.clone()));
        }
        if let Some(manifest) = &config.manifest_url {
            let settings = http::Settings {
                headers: manifest.headers.clone(),
                ca_file: manifest.ca_file.clone(),
                redirects: if manifest.any_redirects {
                    http::Redirects::Any
                } else {
                    http::Redirects::SameHost
                },
                check_frequency: live.http_check_frequency.subscribe(),
                cache_dir: Some(dir(http::SOURCE)),
                ..http::Settings::new(&manifest.url, node_name)
            };
            states.push(http::spawn(settings, stop.clone())?);
        }
        let push = match &config.manifest_server {
            Some(server) => {
                let settings = push_settings(server, node_name, dir(push::SOURCE));
                let push = push::start(settings, stop.clone()).await?;
                tracing::info!("the pod API is served at {}", push.address);
                states.push(push.state.clone());
                Some(push)
            }
            None => None,
        };
        Ok(Self { states, push })
    }

    /// One more source.
    pub(crate) fn add(&mut self, state: watch::Receiver<Arc<SourceState>>) {
        self.states.push(state);
    }

    /// The state of each source, to look at at any time.
    pub(crate) fn states(&self) -> Vec<watch::Receiver<Arc<SourceState>>> {
        self.states.clone()
    }

    /// Lets the pod API show logs, if there is one.
    pub(crate) fn serve_logs(&self, pod_streams: &Arc<PodStreams>) {
        if let Some(push) = &self.push {
            push.handle.serve_logs(Arc::new(PushLogs(Arc::clone(pod_streams))));
        }
    }

    /// Whether none is configured.
    pub(crate) fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Tells `workers` what is wanted, until told to stop. How it stands with the sources goes to `shown`. `desired` hears
    /// of all pods that are wanted whenever they change, and when others stand back for them; `local` has the ConfigMaps
    /// and Secrets of this node's manifests. `takeover` says which pods of manifests run already under another UID.
    pub(crate) async fn run<R: Runtime, P: Probes>(
        self,
        (workers, takeover): (Workers<R, P>, Takeover),
        shown: watch::Sender<Vec<SourceView>>,
        local: watch::Sender<Arc<LocalObjects>>,
        desired: impl Fn(&PodManager),
        metrics: &Metrics,
        stop: CancellationToken,
    ) {
        let left_out = watch::Sender::new(Vec::new());
        let mux = Mux::new(self.states.iter().cloned()).keeping_back(takeover::SOURCES);
        let follow = follow(
            (mux, takeover),
            &workers,
            (&shown, &local),
            &desired,
            metrics,
            &left_out,
            self.push.as_ref(),
        );
        let report = async {
            if let Some(push) = &self.push {
                report(&push.handle, &workers, left_out.subscribe()).await;
            }
        };
        stop.run_until_cancelled(async { tokio::join!(follow, report) }).await;
        if let Some(push) = self.push {
            // It has been told to stop, too; a panic in it was shown already.
            let _ = push.served.await;
        }
    }
}

/// Logs for the pod API.
#[derive(Debug)]
struct PushLogs(Arc<PodStreams>);

impl Logs for PushLogs {
    fn log<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        container: &'a str,
        query: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Bytes>, NoLog>> {
        Box::pin(async move {
            let log = self.0.log(namespace, pod, container, query).await;
            log.map_err(|none| NoLog { code: none.status.as_u16(), message: none.message })
        })
    }
}

fn push_settings(server: &ManifestServer, node_name: &str, dir: PathBuf) -> push::Settings {
    let listen = match &server.address {
        ManifestAddress::Tcp(address) => Listen::Tcp(*address),
        ManifestAddress::Unix(path) => Listen::Unix(path.clone()),
    };
    push::Settings {
        tls: server.tls.clone().map(|(cert, key)| TlsFiles { cert, key }),
        client_ca: server.client_ca_file.clone(),
        token_file: server.token_file.clone(),
        anonymous: server.anonymous,
        ..push::Settings::new(listen, node_name, dir)
    }
}

async fn follow<R: Runtime, P: Probes>(
    (mut mux, mut takeover): (Mux, Takeover),
    workers: &Workers<R, P>,
    (shown, local): (&watch::Sender<Vec<SourceView>>, &watch::Sender<Arc<LocalObjects>>),
    desired: &impl Fn(&PodManager),
    metrics: &Metrics,
    left_out: &watch::Sender<Vec<Arc<PodView>>>,
    push: Option<&Push>,
) {
    let mut conflicts = Vec::new();
    loop {
        let kept_back = mux.kept_back();
        let named = async {
            match &kept_back {
                Some((source, pods)) => (*source, takeover.uids(source, pods).await),
                None => std::future::pending().await,
            }
        };
        // Both are cancel-safe: what was asked of the runtime only for news of a source is asked again.
        let changes = tokio::select! {
            changes = mux.next() => changes,
            (source, uids) = named => Some(mux.name(source, uids)),
        };
        let Some(changes) = changes else { return };
        takeover.keep(&mux).await;
        let views = mux.views();
        if log(&shown.borrow(), &views) {
            workers.bump();
        }
        shown.send_replace(views);
        // Before the pods that refer to them.
        local.send_if_modified(|known| {
            let changed = !Arc::ptr_eq(known, mux.objects());
            known.clone_from(mux.objects());
            changed
        });
        if !changes.is_empty() || mux.pods().conflicts() != conflicts {
            conflicts = mux.pods().conflicts().to_vec();
            desired(mux.pods());
        }
        for change in changes {
            metrics.pod_startup.heard(&change, workers.clock().now());
            match change {
                // A new pod may be deleted already; then that is what is wanted.
                Change::Add(pod) | Change::Update(pod) | Change::Delete(pod) => workers.set(pod),
                Change::Remove(uid) => workers.remove(&uid),
                Change::Reconcile(pod) => workers.reconcile(pod),
            }
        }
        if let Some(push) = push {
            left_out.send_replace(standing_back(&mux, &push.state.borrow()));
        }
        if mux.pods().sources_ready() {
            workers.sources_ready();
        }
    }
}

/// Tells the push API how the pods are, at first and after changes.
async fn report<R: Runtime, P: Probes>(
    push: &push::Handle,
    workers: &Workers<R, P>,
    mut left_out: watch::Receiver<Vec<Arc<PodView>>>,
) {
    let mut changes = workers.changes();
    loop {
        changes.borrow_and_update();
        let mut views = workers.views();
        views.extend(left_out.borrow_and_update().iter().cloned());
        push.observe(&views);
        tokio::time::sleep(REPORT_PAUSE).await;
        // Both are cancel-safe, and everything is read again whichever it was. The senders outlive this.
        tokio::select! {
            _ = changes.changed() => {}
            _ = left_out.changed() => {}
        }
    }
}

/// Pods of a source that no worker has, because another source has their name or UID. Nothing of them runs, so a
/// deletion has nothing to wait for.
fn standing_back(mux: &Mux, state: &SourceState) -> Vec<Arc<PodView>> {
    let conflicts = mux.pods().conflicts().iter().filter(|conflict| conflict.source == state.source);
    let view = |conflict: &pod_manager::Conflict| {
        let pod = state.pods.iter().find(|pod| pod::identity(pod).0 == conflict.uid)?;
        let message = format!(
            "the source {:?} has a pod with this name or UID ({}); that one runs",
            conflict.holder_source, conflict.holder
        );
        let status = PodStatus {
            phase: Some("Pending".to_owned()),
            reason: Some("Conflict".to_owned()),
            message: Some(message),
            ..PodStatus::default()
        };
        let finished = pod.metadata.deletion_timestamp.is_some();
        Some(Arc::new(PodView {
            pod: Arc::clone(pod),
            status: Arc::new(status),
            removing: finished,
            finished,
            waits: Vec::new(),
            doing: None,
            events: Vec::new(),
        }))
    };
    conflicts.filter_map(view).collect()
}

/// Logs each problem when it comes and when it goes, not at every poll. Answers whether there was any.
fn log(known: &[SourceView], now: &[SourceView]) -> bool {
    let (fresh, gone) = (beyond(now, known), beyond(known, now));
    for (source, problem) in &fresh {
        let name = &source.name;
        if problem.warning {
            tracing::warn!(source = name, "manifest is used, but: {problem}");
        } else if source.condition == SourceCondition::Failing && problem.message == source.message {
            tracing::error!(source = name, "the source cannot be used as it is: {problem}");
        } else {
            tracing::error!(source = name, "manifest cannot be used as it is: {problem}");
        }
    }
    for (source, problem) in &gone {
        tracing::info!(source = source.name, "problem is gone: {problem}");
    }
    !fresh.is_empty() || !gone.is_empty()
}

/// The problems of `these` that `those` do not have.
fn beyond<'a>(these: &'a [SourceView], those: &[SourceView]) -> Vec<(&'a SourceView, &'a Problem)> {
    let is_known = |name: &str, problem| those.iter().any(|s| s.name == name && s.problems.contains(problem));
    let all = these.iter().flat_map(|source| source.problems.iter().map(move |problem| (source, problem)));
    all.filter(|(source, problem)| !is_known(&source.name, problem)).collect()
}

#[cfg(test)]
mod tests {
    use kube_model::Timestamp;
    use kube_model::core::Pod;
    use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn state(source: &'static str, uid: &str, deleted: bool) -> Arc<SourceState> {
        let mut pod = Pod::default();
        pod.metadata.uid = Some(uid.to_owned());
        pod.metadata.namespace = Some("default".to_owned());
        pod.metadata.name = Some("web-node1".to_owned());
        pod.metadata.deletion_timestamp = deleted.then_some(Time(Timestamp::UNIX_EPOCH));
        Arc::new(SourceState { source, pods: vec![Arc::new(pod)], seen: true, ..SourceState::default() })
    }

    #[tokio::test]
    async fn a_pushed_pod_that_stands_back_says_so_and_has_nothing_to_wait_for_when_it_is_deleted() {
        let http = watch::Sender::new(state(http::SOURCE, "h", false));
        let push =
            watch::Sender::new(Arc::new(SourceState { source: push::SOURCE, ..SourceState::default() }));
        let mut mux = Mux::new([http.subscribe(), push.subscribe()]);
        mux.next().await;
        mux.next().await;
        assert_eq!(standing_back(&mux, &http.borrow()), [], "the one that runs does not stand back");
        for deleted in [false, true] {
            push.send_replace(state(push::SOURCE, "p", deleted));
            mux.next().await;
            let views = standing_back(&mux, &push.borrow());
            assert_eq!((views.len(), views[0].finished), (1, deleted));
            assert!(views[0].status.message.as_ref().is_some_and(|m| m.contains("\"http\"")), "{views:?}");
        }
    }

    #[test]
    fn only_news_is_logged() {
        let problem = |message: &str| Problem { message: message.to_owned(), ..Problem::default() };
        let view = |name: &str, problems: &[&str]| SourceView {
            name: name.to_owned(),
            location: String::new(),
            condition: SourceCondition::Ready,
            since: Timestamp::UNIX_EPOCH,
            message: String::new(),
            read_at: None,
            pods: 0,
            problems: problems.iter().map(|message| problem(message)).collect(),
        };
        let before = [view("file", &["a", "b"]), view("http", &["c"])];
        let after = [view("file", &["b", "c"]), view("http", &["c"])];
        let new_problems = |these, those| -> Vec<(String, String)> {
            let beyond = beyond(these, those).into_iter();
            beyond.map(|(source, problem)| (source.name.clone(), problem.message.clone())).collect()
        };
        assert_eq!(new_problems(&after, &before), [("file".to_owned(), "c".to_owned())]);
        assert_eq!(new_problems(&before, &after), [("file".to_owned(), "a".to_owned())]);
        assert!(!log(&before, &before) && log(&before, &after));
    }
}
