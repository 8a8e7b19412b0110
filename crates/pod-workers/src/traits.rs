//! What the actors need from the rest of the agent.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kube_model::core::Pod;
use kube_model::observed::{Container, ObservedPod, Sandbox};
use kube_model::probe::PodProbes;
use kube_model::view::Wait;
use kube_model::{Monotonic, PodKey, PodUid};
use pod_lifecycle::{FailureReason, NodeFacts, Rejection, Unmet};

use crate::pod_status::Reporter;

/// The container runtime, with everything on the node that one of its steps needs (images, directories,
/// cgroups, hooks). Each method is one step of a plan. A step may be dropped half-way when the pod is to be
/// removed; the next observation shows how far it came.
pub trait Runtime: Send + Sync + 'static {
    /// Reads all sandboxes and containers of one pod, at this moment. Fails when they cannot be listed; one whose
    /// status cannot be read is still there.
    fn observe(&self, uid: &PodUid, key: &PodKey)
    -> impl Future<Output = Result<Observed, StepError>> + Send;

    /// What the pod needs before anything of it starts and does not have; nothing when it has all. This is asked
    /// before each plan, so it answers from what is known at once; whoever makes something ready
    /// [wakes](crate::Workers::wake) the pod.
    fn preconditions(&self, pod: &Arc<Pod>) -> Vec<Unmet>;

    /// Makes the pod's directories and cgroup, then creates and starts a sandbox.
    fn create_sandbox(
        &self,
        pod: &Arc<Pod>,
        attempt: u32,
        reporter: &Reporter,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Stops a sandbox of which no container runs any more; succeeds if it is stopped already or gone.
    fn stop_sandbox(&self, uid: &PodUid, id: &str) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Removes a stopped sandbox; succeeds if it is gone.
    fn remove_sandbox(&self, uid: &PodUid, id: &str) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Fetches the image, creates and starts a container, runs its postStart hook.
    fn start_container(
        &self,
        request: StartContainer<'_>,
        reporter: &Reporter,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Runs the postStart hook of a container that runs, and stops it if that fails.
    fn post_start(
        &self,
        pod: &Arc<Pod>,
        container: &Container,
        sandbox: &Sandbox,
        reporter: &Reporter,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Names of the pod's running containers of which an earlier run of the agent was cut off in the postStart hook.
    fn cut_off_hooks(&self, observed: &ObservedPod) -> impl Future<Output = Vec<String>> + Send;

    /// Runs a container's preStop hook, if it has one, for at most `grace_seconds`. Its failure holds up nothing.
    fn pre_stop(
        &self,
        pod: &Arc<Pod>,
        container: &Container,
        grace_seconds: i64,
        reporter: &Reporter,
    ) -> impl Future<Output = ()> + Send;

    /// Stops a container: SIGTERM, and SIGKILL after `grace_seconds`, which may be less than the least that a
    /// container is given; succeeds if it is gone.
    fn stop_container(
        &self,
        uid: &PodUid,
        container: &Container,
        grace_seconds: i64,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Removes a dead container of this pod and its log; succeeds if it is gone.
    fn remove_container(
        &self,
        pod: &ObservedPod,
        container: &Container,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Removes what the node holds for a pod of which nothing runs any more.
    fn clean_up(
        &self,
        uid: &PodUid,
        key: &PodKey,
        extent: CleanUp,
    ) -> impl Future<Output = Result<(), StepError>> + Send;
}

/// What [`Runtime::observe`] found out about one pod.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Everything that there is of it.
    pub pod: ObservedPod,
    /// Which of its sandboxes and containers did not tell their status, by ID, and why: of these `pod` has what the
    /// runtime's lists tell, which is enough to stop and to remove them, but no addresses, times and exit codes.
    pub unread: BTreeMap<String, StepError>,
}

impl Observed {
    /// Completes what could not be read by what was read before: in one state nothing of it changes.
    pub(crate) fn complete_by(&mut self, known: &ObservedPod) {
        for sandbox in &mut self.pod.sandboxes {
            let same = |s: &&Sandbox| s.id == sandbox.id && s.state == sandbox.state;
            if let Some(before) = known.sandboxes.iter().find(same)
                && self.unread.remove(&sandbox.id).is_some()
            {
                *sandbox = before.clone();
            }
        }
        for container in &mut self.pod.containers {
            let same = |c: &&Container| c.id == container.id && c.state == container.state;
            if let Some(before) = known.containers.iter().find(same)
                && self.unread.remove(&container.id).is_some()
            {
                *container = before.clone();
            }
        }
    }
}

impl From<ObservedPod> for Observed {
    fn from(pod: ObservedPod) -> Self {
        Self { pod, unread: BTreeMap::new() }
    }
}

/// How much [`Runtime::clean_up`] removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CleanUp {
    /// The pod ended by itself and is still wanted: its cgroup goes, logs and directories stay.
    Ended,
    /// The pod is not wanted and the runtime has forgotten it: everything goes.
    Removed,
    /// The pod is not wanted and nothing of it runs, but the runtime still has of it what cannot be removed for now:
    /// everything goes but what tells that this is ours.
    Left,
    /// The runtime has forgotten what was left of the pod, which may run again: what told that it is ours goes, unless
    /// it is in use.
    Forgotten,
}

/// What [`Runtime::start_container`] is to start.
#[derive(Debug, Clone, Copy)]
pub struct StartContainer<'a> {
    /// The pod.
    pub pod: &'a Arc<Pod>,
    /// Name of the container in its spec.
    pub name: &'a str,
    /// How often it was restarted before.
    pub restart_count: u32,
    /// The sandbox that it goes into.
    pub sandbox: &'a Sandbox,
}

/// Who decides whether the node takes a pod, and gives it what it gets of the node (upstream
/// `pkg/kubelet/lifecycle/interfaces.go` `PodAdmitHandler`, `pkg/kubelet/allocation`).
///
/// Pods are asked for one after the other, in the order in which they came. One whose answer takes long holds up only
/// itself: those behind it are asked for meanwhile, with it among the active pods.
pub trait Admit: Send + Sync + 'static {
    /// Whether the node takes `pod` beside the `active` pods, which are all others. May allocate, and free what others
    /// hold; must allocate nothing for a pod that it does not take. Who wants to know what was allocated asks whoever
    /// implements this: it goes on changing. Asked for before anything of the pod is there, not for one that was found
    /// running; once, but for a pod that [is turned away for others](Self::is_for_others) whose own answer was still to
    /// come. A call is dropped when the pod is to end.
    fn admit<'a>(&'a self, pod: &'a Arc<Pod>, active: ActivePods) -> BoxFuture<'a, Result<(), Rejection>>;

    /// Whether a pod was turned away for what other pods have, and might be taken if one of them were not there.
    fn is_for_others(&self, _rejection: &Rejection) -> bool {
        true
    }

    /// Takes back what a pod has, if it has anything: nothing of it runs any more, nor will. May come more than once.
    fn release<'a>(&'a self, uid: &'a PodUid) -> BoxFuture<'a, ()>;
}

/// The pods that the node has taken and that have not ended, or that may be taken yet.
pub type ActivePods = BTreeMap<PodUid, Arc<Pod>>;

/// The health prober.
pub trait Probes: Send + Sync + 'static {
    /// Takes over what an earlier run of the agent knew of a pod of which there are containers. Called once, before
    /// anything else.
    fn restore(&self, uid: &PodUid) -> impl Future<Output = ()> + Send;
    /// Makes the probes of a pod agree with what runs. Cheap when nothing changed.
    fn sync(&self, pod: &Arc<Pod>, observed: &ObservedPod);
    /// Settled outcomes.
    fn results(&self, uid: &PodUid) -> Arc<PodProbes>;
    /// The pod is being stopped: liveness and startup probes end, readiness goes on (upstream
    /// `pkg/kubelet/kuberuntime/kuberuntime_container.go`).
    fn terminating(&self, uid: &PodUid);
    /// The pod has nothing left that could be probed.
    fn remove(&self, uid: &PodUid);
}

/// The node, as far as pods depend on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeState {
    /// Facts that decisions depend on.
    pub facts: NodeFacts,
    /// Set while the runtime does not answer: nothing is attempted then.
    pub runtime_down: Option<RuntimeDown>,
}

/// Why and since when the runtime does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeDown {
    /// Endpoint and error.
    pub message: String,
    /// Since when.
    pub since: Monotonic,
}

impl RuntimeDown {
    pub(crate) fn wait(&self) -> Wait<Monotonic> {
        Wait {
            container: None,
            reason: "RuntimeNotReady".to_owned(),
            message: self.message.clone(),
            since: Some(self.since),
            until: None,
        }
    }
}

/// A step that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct StepError {
    /// The waiting reason that it gives the container or pod.
    pub reason: FailureReason,
    /// What was tried and what the other side answered.
    pub message: String,
    /// How long to wait before the next try, where the step itself knows; else the planner's back-off decides.
    pub retry_after: Option<Duration>,
}

impl StepError {
    /// An error whose retry the planner decides.
    pub fn new(reason: FailureReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retry_after: None }
    }
}
