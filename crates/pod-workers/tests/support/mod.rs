//! A scripted runtime for the actors: an honest little model with switches for faults, on tokio's paused clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::BoxFuture;
use kube_model::core::{Container as SpecContainer, Pod, PodSpec};
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_model::observed::{Container, ContainerState, ObservedPod, Sandbox, SandboxState};
use kube_model::pod::ContainerKind;
use kube_model::probe::PodProbes;
use kube_model::view::PodView;
use kube_model::{PodKey, PodUid, Timestamp, hash, labels, pod};
use pod_lifecycle::{FailureReason, Rejection, Unmet};
use pod_workers::{
    ActivePods, Admit, CleanUp, Clock, Context, Listed, NodeState, Observed, Observer, Probes, Reporter,
    Runtime, StartContainer, StepError, Workers,
};
use tokio::sync::{Notify, watch};

/// A pod of one container, as a source publishes it.
pub(crate) fn a_pod(uid: &str, name: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.uid = Some(uid.into());
    pod.metadata.namespace = Some("default".into());
    pod.metadata.name = Some(name.into());
    pod.metadata.annotations = Some([(labels::CONFIG_SOURCE.into(), "file".into())].into());
    let container =
        SpecContainer { name: "app".into(), image: Some("busybox:1".into()), ..Default::default() };
    pod.spec = Some(PodSpec {
        containers: vec![container],
        restart_policy: Some("Always".into()),
        termination_grace_period_seconds: Some(5),
        ..Default::default()
    });
    pod
}

/// The same pod deleted at its source, which keeps it until it has ended.
pub(crate) fn a_deleted_pod(uid: &str, name: &str, grace_seconds: i64) -> Pod {
    let mut pod = a_pod(uid, name);
    pod.metadata.annotations = Some([(labels::CONFIG_SOURCE.into(), "push".into())].into());
    pod.metadata.deletion_timestamp = Some(Time(now()));
    pod.metadata.deletion_grace_period_seconds = Some(grace_seconds);
    pod
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) pods: BTreeMap<PodUid, ObservedPod>,
    pub(crate) calls: Vec<String>,
    /// Steps (by the first word of their record, or all of it) that never come back.
    pub(crate) hang: BTreeSet<&'static str>,
    /// Steps (by the first word of their record, or all of it) that fail with this text.
    pub(crate) fail: BTreeMap<&'static str, &'static str>,
    /// Images cannot be pulled, and are to be asked for again after so long.
    pub(crate) pull_after: Option<Duration>,
    /// What containers refer to and is not there.
    pub(crate) lacks: Option<&'static str>,
    /// Steps (by all of their record) that take half a second.
    pub(crate) late: BTreeSet<&'static str>,
    pub(crate) panic_once: bool,
    /// What no pod has of what it needs.
    pub(crate) preconditions: Vec<Unmet>,
    /// What pods are admitted to.
    pub(crate) node: admission::Node,
    /// How long the answer for a pod takes, by UID.
    pub(crate) admission_takes: BTreeMap<&'static str, Duration>,
    /// For whom the node was asked, and beside whom.
    pub(crate) admissions: Vec<String>,
    /// Pods that were taken and have not given back what they got, by UID.
    pub(crate) allocated: BTreeSet<PodUid>,
    /// Containers of which an earlier run was cut off in the hook.
    pub(crate) cut_off: BTreeSet<&'static str>,
    /// Containers that end only when they are killed.
    pub(crate) ignore_sigterm: BTreeSet<&'static str>,
    /// Calls are kept with the seconds since then.
    pub(crate) since: Option<Timestamp>,
    /// IDs of sandboxes and containers that do not tell their status.
    pub(crate) unreadable: BTreeSet<&'static str>,
    /// Stops report success and do nothing.
    pub(crate) lie: bool,
    ids: u32,
}

#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) state: Mutex<State>,
    pub(crate) called: Notify,
}

impl Fake {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn call(&self, record: String) -> Result<(), StepError> {
        let stops = record.starts_with("stop_") || record.starts_with("remove_");
        let (hang, late, fail) = {
            let mut state = self.state();
            let verb = record.split(' ').next().unwrap_or_default().to_owned();
            let named = |steps: &BTreeSet<&str>| steps.contains(record.as_str());
            let (hang, late) = (named(&state.hang) || state.hang.contains(verb.as_str()), named(&state.late));
            let since = state.since.map(|since| format!("{} ", now().duration_since(since).as_secs()));
            state.calls.push(since.unwrap_or_default() + &record);
            if std::mem::take(&mut state.panic_once) {
                drop(state);
                panic!("planted");
            }
            (hang, late, state.fail.get(verb.as_str()).or_else(|| state.fail.get(record.as_str())).copied())
        };
        self.called.notify_waiters();
        if late {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        if hang {
            std::future::pending::<()>().await;
        }
        match fail {
            Some(text) if stops => Err(StepError::new(FailureReason::FailedKillPod, text)),
            Some(text) => Err(StepError::new(FailureReason::RunContainerError, text)),
            None => Ok(()),
        }
    }

    fn change(&self, id: &str, apply: impl FnOnce(&mut ObservedPod)) {
        let mut state = self.state();
        let holds = |p: &ObservedPod| {
            p.sandboxes.iter().any(|s| s.id == id) || p.containers.iter().any(|c| c.id == id)
        };
        if let Some(pod) = state.pods.values_mut().find(|p| holds(p)) {
            apply(pod);
        }
        state.pods.retain(|_, p| !p.is_gone());
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.state().calls.iter().filter(|c| !c.starts_with("observe")).cloned().collect()
    }
}

impl Runtime for Fake {
    fn preconditions(&self, _: &Arc<Pod>) -> Vec<Unmet> {
        self.state().preconditions.clone()
    }

    async fn observe(&self, uid: &PodUid, key: &PodKey) -> Result<Observed, StepError> {
        self.call(format!("observe {uid}")).await?;
        let state = self.state();
        let pod = state.pods.get(uid).cloned();
        let mut pod = pod.unwrap_or_else(|| ObservedPod::empty(uid.clone(), key.clone()));
        let mut unread = BTreeMap::new();
        for sandbox in pod.sandboxes.iter_mut().filter(|s| state.unreadable.contains(s.id.as_str())) {
            sandbox.ips.clear();
            unread.insert(sandbox.id.clone(), unreadable());
        }
        for container in pod.containers.iter_mut().filter(|c| state.unreadable.contains(c.id.as_str())) {
            (container.started_at, container.finished_at) = (None, None);
            unread.insert(container.id.clone(), unreadable());
        }
        Ok(Observed { pod, unread })
    }

    async fn create_sandbox(&self, pod: &Arc<Pod>, attempt: u32, _: &Reporter) -> Result<(), StepError> {
        let (uid, key) = pod::identity(pod);
        self.call(format!("create_sandbox {uid} {attempt}")).await?;
        let mut state = self.state();
        state.ids += 1;
        let sandbox = Sandbox {
            id: format!("s{}", state.ids),
            attempt,
            state: SandboxState::Ready,
            created_at: now(),
            host_network: false,
            ips: vec!["10.0.0.2".parse().unwrap()],
            config_source: Some("file".into()),
        };
        let entry = state.pods.entry(uid.clone()).or_insert_with(|| ObservedPod::empty(uid, key));
        entry.sandboxes.insert(0, sandbox);
        Ok(())
    }

    async fn stop_sandbox(&self, _: &PodUid, id: &str) -> Result<(), StepError> {
        self.call(format!("stop_sandbox {id}")).await?;
        self.change(id, |p| p.sandboxes.iter_mut().for_each(|s| s.state = SandboxState::NotReady));
        Ok(())
    }

    async fn remove_sandbox(&self, _: &PodUid, id: &str) -> Result<(), StepError> {
        self.call(format!("remove_sandbox {id}")).await?;
        self.change(id, |p| p.sandboxes.retain(|s| s.id != id));
        Ok(())
    }

    async fn start_container(
        &self,
        request: StartContainer<'_>,
        reporter: &Reporter,
    ) -> Result<(), StepError> {
        let (uid, _) = pod::identity(request.pod);
        reporter.doing("creating");
        self.call(format!("start_container {uid} {} {}", request.name, request.restart_count)).await?;
        let (_, spec) = pod::container(request.pod.spec.as_ref().unwrap(), request.name).unwrap();
        {
            let mut state = self.state();
            if let Some(text) = state.lacks {
                return Err(StepError::new(FailureReason::CreateContainerConfigError, text));
            }
            if let Some(retry_after) = state.pull_after {
                let error = StepError::new(FailureReason::ErrImagePull, "no such image");
                return Err(StepError { retry_after: Some(retry_after), ..error });
            }
            state.ids += 1;
            let container = Container {
                id: format!("c{}", state.ids),
                sandbox_id: request.sandbox.id.clone(),
                name: request.name.into(),
                restart_count: request.restart_count,
                hash: Some(hash::container_hash(spec)),
                state: ContainerState::Running,
                created_at: now(),
                started_at: Some(now()),
                finished_at: None,
                exit_code: 0,
                reason: String::new(),
                message: String::new(),
                image: spec.image.clone().unwrap(),
                image_id: "sha256:1".into(),
                image_ref: "sha256:1".into(),
                log_path: String::new(),
                user: None,
                resources: None,
            };
            state.pods.get_mut(&uid).unwrap().containers.insert(0, container);
        }
        post_start(spec).await;
        Ok(())
    }

    async fn post_start(
        &self,
        pod: &Arc<Pod>,
        container: &Container,
        _: &Sandbox,
        _: &Reporter,
    ) -> Result<(), StepError> {
        self.call(format!("post_start {}", container.name)).await?;
        post_start(pod::container(pod.spec.as_ref().unwrap(), &container.name).unwrap().1).await;
        Ok(())
    }

    async fn cut_off_hooks(&self, _: &ObservedPod) -> Vec<String> {
        self.state().cut_off.iter().map(|name| (*name).to_owned()).collect()
    }

    async fn pre_stop(&self, pod: &Arc<Pod>, container: &Container, _: i64, _: &Reporter) {
        let spec = pod.spec.as_ref().and_then(|spec| pod::container(spec, &container.name));
        let hook = spec.and_then(|(_, spec)| spec.lifecycle.as_ref()?.pre_stop.as_ref()?.sleep.as_ref());
        if let Some(sleep) = hook {
            let _ = self.call(format!("pre_stop {}", container.name)).await;
            tokio::time::sleep(Duration::from_secs(sleep.seconds.unsigned_abs())).await;
        }
    }

    async fn stop_container(
        &self,
        _: &PodUid,
        container: &Container,
        grace_seconds: i64,
    ) -> Result<(), StepError> {
        self.call(format!("stop_container {} {grace_seconds}", container.id)).await?;
        if self.state().ignore_sigterm.contains(container.id.as_str()) {
            tokio::time::sleep(Duration::from_secs(grace_seconds.max(2).unsigned_abs())).await;
        }
        if !self.state().lie {
            self.exit(&container.id, 0);
        }
        Ok(())
    }

    async fn remove_container(&self, _: &ObservedPod, container: &Container) -> Result<(), StepError> {
        self.call(format!("remove_container {}", container.id)).await?;
        self.change(&container.id, |p| p.containers.retain(|c| c.id != container.id));
        Ok(())
    }

    async fn clean_up(&self, uid: &PodUid, _: &PodKey, extent: CleanUp) -> Result<(), StepError> {
        self.call(format!("clean_up {uid} {extent:?}")).await
    }
}

impl Admit for Fake {
    fn admit<'a>(&'a self, pod: &'a Arc<Pod>, active: ActivePods) -> BoxFuture<'a, Result<(), Rejection>> {
        let (uid, _) = pod::identity(pod);
        let uids: Vec<&str> = active.keys().map(PodUid::as_str).collect();
        let (node, takes) = {
            let mut state = self.state();
            state.admissions.push(format!("{uid} beside {}", uids.join(" ")));
            (state.node.clone(), state.admission_takes.get(uid.as_str()).copied())
        };
        Box::pin(async move {
            if let Some(takes) = takes {
                tokio::time::sleep(takes).await;
            }
            admission::Allocations::default()
                .admit(pod, &active, &node)
                .map_err(|admission::Rejection { reason, message }| Rejection { reason, message })?;
            self.state().allocated.insert(uid);
            Ok(())
        })
    }

    fn is_for_others(&self, rejection: &Rejection) -> bool {
        admission::is_for_others(&rejection.reason)
    }

    fn release<'a>(&'a self, uid: &'a PodUid) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.state().allocated.remove(uid);
        })
    }
}

fn unreadable() -> StepError {
    StepError::new(FailureReason::FailedPrepare, "device or resource busy")
}

/// Runs a hook that sleeps.
async fn post_start(spec: &SpecContainer) {
    let hook = spec.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()?.sleep.as_ref());
    if let Some(sleep) = hook {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.unsigned_abs())).await;
    }
}

impl Fake {
    /// A container ends by itself.
    pub(crate) fn exit(&self, id: &str, code: i32) {
        self.change(id, |p| {
            for c in p.containers.iter_mut().filter(|c| c.id == id) {
                c.state = ContainerState::Exited;
                c.finished_at = Some(now());
                c.exit_code = code;
                c.reason = if code == 0 { "Completed".into() } else { "Error".into() };
            }
        });
    }

    /// What a full list would say.
    pub(crate) fn listed(&self) -> Vec<Listed> {
        let state = self.state();
        let listed = |p: &ObservedPod| Listed {
            uid: p.uid.clone(),
            key: p.key.clone(),
            fingerprint: p.containers.iter().map(|c| c.state as u64 + 1).sum(),
            ours: p.sandboxes.iter().any(|s| s.config_source.is_some()),
            grace_seconds: None,
        };
        state.pods.values().map(listed).collect()
    }
}

#[derive(Default)]
pub(crate) struct NoProbes {
    /// IDs of all containers that were to be probed.
    pub(crate) probed: Mutex<BTreeSet<String>>,
    pub(crate) results: Mutex<Arc<PodProbes>>,
    pub(crate) calls: Mutex<Vec<String>>,
    /// Pods of which it is never known what an earlier run knew.
    pub(crate) restore_hangs: Mutex<BTreeSet<PodUid>>,
}

impl Probes for NoProbes {
    async fn restore(&self, uid: &PodUid) {
        self.calls.lock().unwrap().push(format!("restore {uid}"));
        if self.restore_hangs.lock().unwrap().contains(uid) {
            std::future::pending::<()>().await;
        }
    }
    fn sync(&self, _: &Arc<Pod>, observed: &ObservedPod) {
        let running = observed.containers.iter().filter(|c| c.state == ContainerState::Running);
        self.probed.lock().unwrap().extend(running.map(|c| c.id.clone()));
    }
    fn results(&self, _: &PodUid) -> Arc<PodProbes> {
        Arc::clone(&self.results.lock().unwrap())
    }
    fn terminating(&self, uid: &PodUid) {
        self.calls.lock().unwrap().push(format!("terminating {uid}"));
    }
    fn remove(&self, uid: &PodUid) {
        self.calls.lock().unwrap().push(format!("remove {uid}"));
    }
}

/// How far the wall clock was set forward or back, in seconds.
fn clock_set() -> &'static std::thread::LocalKey<std::cell::Cell<i64>> {
    thread_local!(static SET: std::cell::Cell<i64> = const { std::cell::Cell::new(0) });
    &SET
}

/// Sets the wall clock forward or back by this many seconds.
pub(crate) fn set_clock(seconds: i64) {
    clock_set().set(clock_set().get() + seconds);
}

/// The test's wall clock: tokio's, so that paused time moves both, and how far it was set.
pub(crate) fn now() -> Timestamp {
    thread_local!(static START: tokio::time::Instant = tokio::time::Instant::now());
    let elapsed = START.with(|s| s.elapsed());
    let begin = Timestamp::from_second(1_800_000_000 + clock_set().get()).unwrap();
    begin + elapsed
}

pub(crate) struct World {
    pub(crate) fake: Arc<Fake>,
    pub(crate) probes: Arc<NoProbes>,
    pub(crate) workers: Workers<Fake, NoProbes>,
    pub(crate) node: watch::Sender<Arc<NodeState>>,
    pub(crate) counted: Arc<Counted>,
}

/// What the workers gave to count.
#[derive(Default)]
pub(crate) struct Counted(Mutex<Vec<String>>);

impl Counted {
    fn count(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    /// All since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Counted {
    fn started(&self, pod: &Pod, waited: Duration) {
        self.count(format!("started {} {}", pod::identity(pod).0, waited.as_secs()));
    }
    fn rejected(&self, reason: &str) {
        self.count(format!("rejected {reason}"));
    }
    fn runs(&self, took: Duration) {
        self.count(format!("runs {}", took.as_secs()));
    }
    fn ended(&self, kind: Option<ContainerKind>, container: &Container) {
        self.count(format!("ended {kind:?} {} {}", container.name, container.exit_code));
    }
    fn orphaned(&self) {
        self.count("orphaned".to_owned());
    }
    fn restarted(&self, pod: &Pod) {
        self.count(format!("restarted {}", pod::identity(pod).0));
    }
}

impl World {
    /// Workers over `fake`, with its pods already listed.
    pub(crate) fn over(fake: Arc<Fake>) -> Self {
        let world = Self::unlisted(fake);
        world.relist();
        world
    }

    /// Workers over `fake` that know nothing of its pods yet.
    pub(crate) fn unlisted(fake: Arc<Fake>) -> Self {
        let probes = Arc::new(NoProbes::default());
        let node = watch::Sender::new(Arc::new(NodeState::default()));
        let counted = Arc::<Counted>::default();
        let context = Context {
            runtime: Arc::clone(&fake),
            probes: Arc::clone(&probes),
            admission: Arc::clone(&fake) as _,
            node: node.subscribe(),
            clock: Clock::new(now),
            events: None,
            observer: Arc::clone(&counted) as _,
        };
        let workers = Workers::new(context);
        Self { fake, probes, workers, node, counted }
    }

    pub(crate) fn new() -> Self {
        let world = Self::over(Arc::default());
        world.workers.sources_ready();
        world
    }

    /// With these pods, once they run.
    pub(crate) async fn running<const N: usize>(pods: [Pod; N]) -> Self {
        let world = Self::new();
        for pod in pods {
            world.workers.set(Arc::new(pod));
        }
        world.until_running().await;
        world
    }

    /// Workers of another run of the agent over what there is.
    pub(crate) async fn restarted(&self) -> Self {
        self.workers.shutdown().await;
        Self::over(Arc::clone(&self.fake))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.fake.state()
    }

    pub(crate) fn relist(&self) {
        self.workers.runtime_listed(self.fake.listed());
    }

    /// Waits until `condition` holds of the published views; fails the test after two (paused) minutes.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&[Arc<PodView>], &Fake) -> bool) {
        let mut changes = self.workers.changes();
        let wait = async {
            loop {
                changes.borrow_and_update();
                if condition(&self.workers.views(), &self.fake) {
                    return;
                }
                tokio::select! {
                    _ = changes.changed() => {}
                    () = self.fake.called.notified() => {}
                    () = tokio::time::sleep(Duration::from_millis(100)) => {}
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(120), wait).await.is_err() {
            panic!("never: {what}; calls {:#?}\nviews {:#?}", self.fake.calls(), self.workers.views());
        }
    }

    pub(crate) async fn until_running(&self) {
        self.until("running", |views, _| {
            !views.is_empty() && views.iter().all(|v| v.status.phase.as_deref() == Some("Running"))
        })
        .await;
    }
}
