#![doc = include_str!("../README.md")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cri_client::v1::{
    Container, ContainerEventResponse, ListContainersRequest, ListPodSandboxRequest, PodSandbox,
    StatusRequest, VersionResponse,
};
use cri_client::{Client, EventItem};
use cri_config::observe::{ListedPod, identity, listed_pods, observed_pod};
use cri_config::paths::pod_dir;
use futures::{Stream, StreamExt, stream};
use kube_model::view::RuntimeView;
use kube_model::{Monotonic, PodUid, Timestamp};
use kuberuntime::{read, with_termination_messages};
use pod_workers::{Listed, NodeState, Observed, Probes, Runtime, RuntimeDown, Workers};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use util::Backoff;

/// How often everything is listed when events do the work: the audit that catches what an event missed.
const AUDIT: Duration = Duration::from_secs(60);
/// How often everything is listed when the runtime has no events (upstream `pkg/kubelet/pleg/generic.go`).
const RELIST: Duration = Duration::from_secs(1);
/// How often the runtime is asked whether it and its network are ready (upstream `pkg/kubelet/kubelet.go`).
const STATUS: Duration = Duration::from_secs(5);
/// The same while pods wait for it.
const STATUS_WAITING: Duration = Duration::from_secs(1);
/// How long the runtime may take to say whether it has events.
const SUBSCRIBE: Duration = Duration::from_secs(1);
/// How long reading all pods may take.
const SURVEY: Duration = Duration::from_secs(1);
/// How many pods are read side by side when all are.
const READS: usize = 16;
/// The longest pause between attempts to reach the runtime.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// Between attempts to reach the runtime.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), LONGEST_PAUSE);

/// The pod lifecycle event generator of one runtime.
pub struct Pleg<R, P> {
    /// The runtime.
    pub client: Client,
    /// Who is told.
    pub workers: Workers<R, P>,
    /// The state of the runtime and its network, as pods depend on it.
    pub node: watch::Sender<Arc<NodeState>>,
    /// The same, as it is shown.
    pub view: watch::Sender<RuntimeView<Monotonic>>,
    /// Where the folders of this agent's pods are.
    pub root_dir: PathBuf,
}

/// What the runtime said of itself.
struct RuntimeAnswer<'a> {
    version: &'a VersionResponse,
    recursive_read_only_mounts: bool,
}

impl<R: Runtime, P: Probes> Pleg<R, P> {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut pauses = PAUSES;
        loop {
            let began = Instant::now();
            let error = self.session().await;
            if began.elapsed() > LONGEST_PAUSE {
                pauses.succeeded();
            }
            let network = self.node.borrow().facts.network_not_ready.clone();
            self.publish(None, Some(error.to_string()), network);
            sleep(pauses.failed()).await;
        }
    }

    /// From the handshake to the first sign that the runtime is gone.
    async fn session(&self) -> cri_client::Error {
        let version = match self.client.version().await {
            Ok(version) => version,
            Err(error) => return error,
        };
        tracing::info!(
            runtime = version.runtime_name,
            version = version.runtime_version,
            "connected to the runtime"
        );
        // Subscribe before listing, so that nothing falls between the two.
        let mut events = pin!(self.client.container_events());
        // A runtime that takes its time to subscribe is not waited for: it will say `Connected` later.
        let first = tokio::time::timeout(SUBSCRIBE, events.next()).await.ok().flatten();
        if let Some(EventItem::Lost(error)) = first {
            return error;
        }
        let eventful = !matches!(first, Some(EventItem::Unsupported(_)));
        // Only then may pods go on, so that they find what was read.
        let listed_at = match self.survey().await {
            Ok(at) => at,
            Err(error) => return error,
        };
        if let Err(error) = self.status(&version).await {
            return error;
        }
        // Side by side, so that a call that hangs holds up only its own loop.
        tokio::select! {
            error = self.follow(events, listed_at), if eventful => error,
            error = self.relist(if eventful { AUDIT } else { RELIST }) => error,
            error = self.watch_status(&version) => error,
        }
    }

    /// Passes events on until the connection is lost.
    async fn follow(
        &self,
        mut events: impl Stream<Item = EventItem> + Unpin,
        mut listed_at: Monotonic,
    ) -> cri_client::Error {
        loop {
            match events.next().await {
                Some(EventItem::Event(event)) => self.event(*event, listed_at).await,
                Some(EventItem::Connected) => match self.survey().await {
                    Ok(at) => listed_at = at,
                    Err(error) => return error,
                },
                Some(EventItem::Lost(error)) => return error,
                // It said so late.
                Some(EventItem::Unsupported(_)) | None => return self.relist(RELIST).await,
            }
        }
    }

    /// Lists again and again, with `pause` between, until that fails.
    async fn relist(&self, pause: Duration) -> cri_client::Error {
        loop {
            sleep(pause).await;
            if let Err(error) = self.list().await {
                return error;
            }
        }
    }

    /// Asks for the runtime's state again and again, until that fails.
    async fn watch_status(&self, version: &VersionResponse) -> cri_client::Error {
        loop {
            let waiting = {
                let node = self.node.borrow();
                node.runtime_down.is_some() || node.facts.network_not_ready.is_some()
            };
            sleep(if waiting { STATUS_WAITING } else { STATUS }).await;
            if let Err(error) = self.status(version).await {
                return error;
            }
        }
    }

    /// Which of these pods this agent has made: the folder of each is there before anything of it is in the runtime, and
    /// until all of that is gone. Another agent on the same runtime has its own. Asks the disk, which may take long.
    async fn made_here(&self, uids: BTreeSet<PodUid>) -> BTreeSet<PodUid> {
        let root_dir = self.root_dir.clone();
        let has_folder = move |uid: &PodUid| pod_dir(&root_dir, uid).is_dir();
        let asked = tokio::task::spawn_blocking(move || uids.into_iter().filter(has_folder).collect());
        // Fails only when the agent is going down: then nothing is ours, and nothing is touched.
        asked.await.unwrap_or_default()
    }

    /// Lists all pods of the runtime and reads each that is ours: the actors need not ask one by one. Returns the
    /// time before which events are old news.
    async fn survey(&self) -> Result<Monotonic, cri_client::Error> {
        let at = self.workers.clock().mono();
        let (sandboxes, containers, here) = self.list().await?;
        let mut ours: BTreeMap<PodUid, (Vec<PodSandbox>, Vec<Container>)> = BTreeMap::new();
        for sandbox in sandboxes {
            if let Some((uid, _)) = identity(&sandbox.labels).filter(|(uid, _)| here.contains(uid)) {
                ours.entry(uid).or_default().0.push(sandbox);
            }
        }
        for container in containers {
            if let Some(pod) = identity(&container.labels).and_then(|(uid, _)| ours.get_mut(&uid)) {
                pod.1.push(container);
            }
        }
        let reads = ours.into_values().map(|(sandboxes, containers)| async move {
            // What cannot be read now, its actor will ask for, too.
            if let Some(Observed { pod, unread }) = read(&self.client, &sandboxes, &containers).await
                && unread.is_empty()
            {
                self.workers.runtime_observed(at, pod);
            }
        });
        let all = stream::iter(reads).buffer_unordered(READS).collect::<()>();
        // One that hangs must not hold up the others; its actor will ask for it.
        let _all_in_time = tokio::time::timeout(SURVEY, all).await;
        Ok(at)
    }

    /// Lists all pods of the runtime, and tells which of them are of this agent.
    async fn list(&self) -> Result<(Vec<PodSandbox>, Vec<Container>, BTreeSet<PodUid>), cri_client::Error> {
        let (sandboxes, containers) = futures::try_join!(
            self.client.list_pod_sandbox(ListPodSandboxRequest::default()),
            self.client.list_containers(ListContainersRequest::default()),
        )?;
        let pods = listed_pods(&sandboxes.items, &containers.containers);
        let here = self.made_here(pods.iter().map(|pod| pod.uid.clone()).collect()).await;
        let listed = |p: ListedPod| {
            let ours = p.ours && here.contains(&p.uid);
            Listed {
                uid: p.uid,
                key: p.key,
                fingerprint: p.fingerprint,
                ours,
                grace_seconds: p.grace_seconds,
            }
        };
        self.workers.runtime_listed(pods.into_iter().map(listed).collect());
        Ok((sandboxes.items, containers.containers, here))
    }

    async fn event(&self, event: ContainerEventResponse, listed_at: Monotonic) {
        let Ok(happened) = Timestamp::from_nanosecond(i128::from(event.created_at)) else { return };
        let now = self.workers.clock().now();
        let at = now.placed(happened);
        if at < listed_at {
            return;
        }
        let Some(sandbox) = event.pod_sandbox_status else {
            // It could not tell the sandbox's status, but that something happened.
            let pod = event.containers_statuses.iter().find_map(|c| identity(&c.labels));
            return pod.into_iter().for_each(|(uid, _)| self.workers.look(&uid));
        };
        let containers = event.containers_statuses.into_iter().map(|c| (sandbox.id.clone(), c)).collect();
        let containers = with_termination_messages(containers).await;
        if let Some(pod) = observed_pod(vec![sandbox], containers)
            && self.made_here([pod.uid.clone()].into()).await.contains(&pod.uid)
        {
            // One from the future is from before the clock was set back: nobody knows how old it is.
            match happened > now.wall {
                true => self.workers.look(&pod.uid),
                false => self.workers.runtime_event(at, pod),
            }
        }
    }

    /// Asks for the runtime's own view of itself and publishes it.
    async fn status(&self, version: &VersionResponse) -> Result<(), cri_client::Error> {
        let answer = self.client.status(StatusRequest::default()).await?;
        let default = answer.runtime_handlers.into_iter().find(|handler| handler.name.is_empty());
        let features = default.and_then(|handler| handler.features).unwrap_or_default();
        let about =
            RuntimeAnswer { version, recursive_read_only_mounts: features.recursive_read_only_mounts };
        let status = answer.status.unwrap_or_default();
        let not_ready = |kind: &str| {
            let condition = status.conditions.iter().find(|c| c.r#type == kind && !c.status)?;
            Some(format!("{kind}=false reason:{} message:{}", condition.reason, condition.message))
        };
        let down = not_ready("RuntimeReady").map(|m| format!("container runtime not ready: {m}"));
        let network = not_ready("NetworkReady").map(|m| format!("container runtime network not ready: {m}"));
        self.publish(Some(&about), down, network);
        Ok(())
    }

    /// Publishes how it stands with the runtime, to the pods and to those who look, if it changed. All of an answer is one
    /// change of the node's state, which comes when the view has it: who waits for the first answer waits for that.
    fn publish(&self, answer: Option<&RuntimeAnswer<'_>>, down: Option<String>, network: Option<String>) {
        let now = self.workers.clock().mono();
        if let Some(message) = &down
            && self.node.borrow().runtime_down.as_ref().is_none_or(|d| d.message != *message)
        {
            tracing::warn!("the runtime cannot be used, pods go on as they are: {message}");
        }
        let shown = self.view.send_if_modified(|view| {
            let before = view.clone();
            view.answers = answer.is_some();
            if let Some(RuntimeAnswer { version, .. }) = answer {
                view.name.clone_from(&version.runtime_name);
                view.version.clone_from(&version.runtime_version);
            }
            view.ready = down.is_none();
            view.message = down.clone().or_else(|| network.clone()).unwrap_or_default();
            if view.ready != before.ready {
                view.since = now;
            }
            *view != before
        });
        if shown {
            self.workers.bump();
        }
        self.node.send_if_modified(|node| {
            let mut next = (**node).clone();
            let since = node.runtime_down.as_ref().map_or(now, |d| d.since);
            next.runtime_down = down.map(|message| RuntimeDown { message, since });
            next.facts.network_not_ready = network;
            if let Some(answer) = answer {
                next.facts.runtime_name.clone_from(&answer.version.runtime_name);
                next.facts.recursive_read_only_mounts = answer.recursive_read_only_mounts;
            }
            let changed = next != **node;
            if changed {
                *node = Arc::new(next);
            }
            changed
        });
    }
}
