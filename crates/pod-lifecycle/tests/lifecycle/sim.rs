//! A runtime without processes: executes plans, keeps the calls that an executor would have made, and lets
//! containers end as scripted. Time moves only when nothing is left to do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use kube_model::core::{Pod, PodStatus};
use kube_model::hash::container_hash;
use kube_model::k8s_openapi::jiff::SignedDuration;
use kube_model::observed::{
    Container, ContainerResources, ContainerState, ContainerUser, ObservedPod, Sandbox, SandboxState,
};
use kube_model::probe::{PodProbes, ProbeOutcome};
use kube_model::resources::{amount, milli_cpu_of_quota, milli_cpu_of_shares, quota, shares};
use kube_model::{Monotonic, Now, Timestamp, pod};
use pod_lifecycle::{Action, FailureReason, Inputs, Intent, Memory, NodeFacts, Plan, Progress, Unmet};

/// A mutating CRI call, with the stand-ins of the recordings for IDs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    RunPodSandbox { attempt: u32 },
    CreateContainer { name: String, restart_count: u32, sandbox: String },
    StartContainer { id: String },
    StopContainer { id: String, timeout: i64 },
    StopPodSandbox { id: String },
    RemoveContainer { id: String },
    RemovePodSandbox { id: String },
}

/// How a container ends by itself.
#[derive(Debug, Clone)]
pub(crate) struct Exit {
    pub(crate) after_seconds: i64,
    pub(crate) code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// How instances of one container behave.
#[derive(Debug, Clone, Default)]
pub(crate) struct Behaviour {
    /// `None`: runs until it is stopped.
    pub(crate) exit: Option<Exit>,
    /// An attempt to start it fails with this.
    pub(crate) start_fails: Option<(FailureReason, String)>,
    /// Its readiness probe, if it has one, fails.
    pub(crate) never_ready: bool,
    pub(crate) image_ref: String,
    pub(crate) user: Option<ContainerUser>,
}

pub(crate) struct Sim {
    pub(crate) pod: Arc<Pod>,
    pub(crate) intent: Intent,
    pub(crate) observed: ObservedPod,
    pub(crate) probes: PodProbes,
    pub(crate) memory: Memory,
    pub(crate) node: NodeFacts,
    pub(crate) now: Monotonic,
    /// How far the wall clock was set forward or back.
    pub(crate) clock_set: SignedDuration,
    pub(crate) ip: IpAddr,
    /// Every attempt to create a sandbox fails before the runtime is asked, with this message.
    pub(crate) sandbox_fails: Option<String>,
    /// IDs of what cannot be removed.
    pub(crate) kept: BTreeSet<String>,
    /// What the pod needs and does not have.
    pub(crate) preconditions: Vec<Unmet>,
    pub(crate) behaviours: BTreeMap<String, Behaviour>,
    pub(crate) calls: Vec<Call>,
    /// Hooks that were run again.
    pub(crate) hooks_run: Vec<String>,
    /// When containers started.
    pub(crate) starts: Vec<Monotonic>,
    /// When containers ended.
    pub(crate) ends: Vec<Monotonic>,
    sandboxes_made: u32,
    exits: BTreeMap<String, Monotonic>,
}

impl Sim {
    pub(crate) fn new(pod: Pod) -> Self {
        let (uid, key) = pod::identity(&pod);
        Self {
            pod: Arc::new(pod),
            intent: Intent::Run,
            observed: ObservedPod::empty(uid, key),
            probes: PodProbes::default(),
            memory: Memory::default(),
            node: NodeFacts { runtime_name: "containerd".to_owned(), ..NodeFacts::default() },
            now: Monotonic::default(),
            clock_set: SignedDuration::ZERO,
            ip: IpAddr::from([10, 88, 0, 2]),
            sandbox_fails: None,
            kept: BTreeSet::new(),
            preconditions: Vec::new(),
            behaviours: BTreeMap::new(),
            calls: Vec::new(),
            hooks_run: Vec::new(),
            starts: Vec::new(),
            ends: Vec::new(),
            sandboxes_made: 0,
            exits: BTreeMap::new(),
        }
    }

    pub(crate) fn inputs(&self) -> Inputs<'_> {
        Inputs {
            pod: &self.pod,
            intent: &self.intent,
            observed: &self.observed,
            probes: &self.probes,
            memory: &self.memory,
            node: &self.node,
            preconditions: &self.preconditions,
            now: self.both(),
        }
    }

    /// The present by both clocks.
    pub(crate) fn both(&self) -> Now {
        let begin = Timestamp::from_second(1_700_000_000).unwrap();
        let wall = begin + self.now.since(Monotonic::default()) + self.clock_set;
        Now { wall, mono: self.now }
    }

    /// What the wall clock says.
    pub(crate) fn wall(&self) -> Timestamp {
        self.both().wall
    }

    /// The status as the last round left it.
    pub(crate) fn status(&self) -> PodStatus {
        self.memory.last_status.as_deref().cloned().unwrap_or_default()
    }

    /// One round of an actor, of whose plan only the first `limit` actions are executed.
    pub(crate) fn round(&mut self, limit: usize) -> Plan {
        self.memory.before_plan(&self.pod, &self.observed, self.both());
        let plan = pod_lifecycle::plan(&self.inputs());
        let status = pod_lifecycle::status(&self.inputs());
        self.memory.last_status = Some(Arc::new(status));
        let mut stops_began = self.now;
        for action in plan.actions.iter().take(limit) {
            match action {
                Action::StopContainer { .. } => self.stop(action, stops_began),
                Action::RemoveContainer { id, .. } | Action::RemoveSandbox { id }
                    if self.kept.contains(id) =>
                {
                    self.memory.removal_failed(id.clone(), format!("{id} is busy"), self.now);
                    break;
                }
                _ => {
                    self.execute(action);
                    stops_began = self.now;
                }
            }
        }
        plan
    }

    /// Rounds and time, until nothing happens before `until`, or `enough` says so of a plan without actions.
    pub(crate) fn run(&mut self, until: Monotonic, mut enough: impl FnMut(&Self, &Plan) -> bool) -> Plan {
        for _ in 0..10_000 {
            self.end_due();
            let plan = self.round(usize::MAX);
            if !plan.actions.is_empty() {
                continue;
            }
            let next = plan.wake_at.into_iter().chain(self.exits.values().copied()).min();
            match next {
                Some(next) if next <= until && !enough(self, &plan) => self.advance(next.max(self.now)),
                _ => return plan,
            }
        }
        panic!("does not come to rest: {:?}", self.round(0));
    }

    /// Rounds until there is nothing left to do at once.
    pub(crate) fn settle(&mut self) -> Plan {
        let now = self.after(60);
        self.run(now, |_, _| true)
    }

    /// Removes the pod; panics if that does not come to an end.
    pub(crate) fn remove(&mut self) {
        self.intent = Intent::Remove { since: self.now, grace_seconds: None };
        for _ in 0..50 {
            let plan = self.round(usize::MAX);
            if plan.progress == Progress::Removed {
                return;
            }
            if plan.actions.is_empty() {
                self.advance(plan.wake_at.expect("a removal that waits says for how long"));
            }
        }
        panic!("not removed: {:?}", self.observed);
    }

    /// What a crash of the agent leaves.
    pub(crate) fn forget(&mut self) {
        self.memory = Memory::default();
    }

    pub(crate) fn after(&self, seconds: i64) -> Monotonic {
        self.now + SignedDuration::from_secs(seconds)
    }

    /// Moves time on and lets containers end that are due.
    pub(crate) fn advance(&mut self, to: Monotonic) {
        assert!(to >= self.now, "time only goes on");
        self.now = to;
        self.end_due();
    }

    fn end_due(&mut self) {
        let due: Vec<_> =
            self.exits.iter().filter(|(_, at)| **at <= self.now).map(|(id, _)| id.clone()).collect();
        for id in due {
            let exit = self.behaviour_of(&id).exit.expect("it was scheduled");
            self.end(&id, exit.code, &exit.reason, &exit.message);
        }
    }

    /// The runtime loses track of a running container.
    pub(crate) fn lose(&mut self, id: &str) {
        self.exits.remove(id);
        self.container(id).state = ContainerState::Unknown;
    }

    /// Ends a running container.
    pub(crate) fn end(&mut self, id: &str, code: i32, reason: &str, message: &str) {
        self.exits.remove(id);
        let (now, wall) = (self.now, self.wall());
        let container = self.container(id);
        if matches!(container.state, ContainerState::Running | ContainerState::Unknown) {
            container.state = ContainerState::Exited;
            container.finished_at = Some(wall);
            self.ends.push(now);
            let container = self.container(id);
            container.exit_code = code;
            container.reason = reason.to_owned();
            container.message = message.to_owned();
        }
    }

    pub(crate) fn container(&mut self, id: &str) -> &mut Container {
        self.observed.containers.iter_mut().find(|c| c.id == id).expect("only known containers are named")
    }

    fn behaviour_of(&mut self, id: &str) -> Behaviour {
        let name = self.container(id).name.clone();
        self.behaviours.get(&name).cloned().unwrap_or_default()
    }

    fn execute(&mut self, action: &Action) {
        self.now = self.now + SignedDuration::from_millis(10);
        match action {
            Action::CreateSandbox { attempt } => {
                if let Some(message) = &self.sandbox_fails {
                    self.memory.pod_failed(FailureReason::FailedCreatePodSandBox, message.clone(), self.now);
                    return;
                }
                self.memory.pod_succeeded();
                self.calls.push(Call::RunPodSandbox { attempt: *attempt });
                let host_network = pod::host_network(self.pod.spec.as_ref().unwrap());
                self.observed.sandboxes.push(Sandbox {
                    id: format!("$SANDBOX{}", self.sandboxes_made),
                    attempt: *attempt,
                    state: SandboxState::Ready,
                    created_at: self.wall(),
                    host_network,
                    ips: if host_network { Vec::new() } else { vec![self.ip] },
                    config_source: Some("file".to_owned()),
                });
                self.sandboxes_made += 1;
            }
            Action::StartContainer { name, restart_count, sandbox_id } => {
                self.start(name, *restart_count, sandbox_id);
            }
            Action::RunPostStartHook { name, .. } => {
                self.hooks_run.push(name.clone());
                self.memory.container_started(name);
            }
            Action::StopContainer { .. } => unreachable!("stops run side by side"),
            Action::StopSandbox { id } => {
                self.calls.push(Call::StopPodSandbox { id: id.clone() });
                let inside: Vec<_> = self
                    .observed
                    .containers
                    .iter()
                    .filter(|c| c.sandbox_id == *id)
                    .map(|c| c.id.clone())
                    .collect();
                for container in inside {
                    self.end(&container, 137, "Error", "");
                }
                self.observed.sandboxes.iter_mut().find(|s| s.id == *id).unwrap().state =
                    SandboxState::NotReady;
            }
            Action::RemoveContainer { id, .. } => {
                self.calls.push(Call::RemoveContainer { id: id.clone() });
                assert_ne!(self.container(id).state, ContainerState::Running, "removes only what has ended");
                self.observed.containers.retain(|c| c.id != *id);
            }
            Action::RemoveSandbox { id } => {
                self.calls.push(Call::RemovePodSandbox { id: id.clone() });
                let sandbox = self.observed.sandboxes.iter().find(|s| s.id == *id).unwrap();
                assert_eq!(sandbox.state, SandboxState::NotReady, "removes only stopped sandboxes");
                self.observed.sandboxes.retain(|s| s.id != *id);
            }
        }
        self.observed.sort();
    }

    /// Stops a container, which takes a second; one that had to wait for its turn has what is left of its time.
    fn stop(&mut self, action: &Action, began: Monotonic) {
        let Action::StopContainer { id, grace_seconds, turn, .. } = action else { return };
        let waited = if *turn == 0 { 0 } else { self.now.since(began).as_secs() };
        self.calls.push(Call::StopContainer { id: id.clone(), timeout: (grace_seconds - waited).max(2) });
        self.now = self.now + SignedDuration::from_millis(1010);
        // Containerd's code for a task that it lost.
        match self.container(id).state {
            ContainerState::Unknown => self.end(id, 255, "Unknown", ""),
            _ => self.end(id, 0, "Completed", ""),
        }
    }

    fn start(&mut self, name: &str, restart_count: u32, sandbox_id: &str) {
        let behaviour = self.behaviours.get(name).cloned().unwrap_or_default();
        if let Some((reason, message)) = behaviour.start_fails {
            self.memory.container_failed(name, reason, message, None, self.now);
            return;
        }
        let spec = self.pod.spec.as_ref().unwrap();
        let (_, container) = pod::container(spec, name).expect("only containers of the spec are started");
        let id = format!("$CONTAINER_{name}_{restart_count}");
        assert!(self.observed.containers.iter().all(|c| c.id != id), "{id} is made twice");
        self.observed.containers.push(Container {
            id: id.clone(),
            sandbox_id: sandbox_id.to_owned(),
            name: name.to_owned(),
            restart_count,
            hash: Some(container_hash(container)),
            state: ContainerState::Running,
            created_at: self.wall(),
            started_at: Some(self.wall()),
            finished_at: None,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            image: container.image.clone().unwrap_or_default(),
            image_id: "sha256:$DIGEST".to_owned(),
            image_ref: behaviour.image_ref,
            log_path: String::new(),
            user: behaviour.user,
            resources: Some(granted(container)),
        });
        let probes = self.probes.0.entry(id.clone()).or_default();
        probes.startup = container.startup_probe.is_some().then_some(ProbeOutcome::Success);
        probes.readiness = container.readiness_probe.is_some().then_some(match behaviour.never_ready {
            true => ProbeOutcome::Failure,
            false => ProbeOutcome::Success,
        });
        self.calls.push(Call::CreateContainer {
            name: name.to_owned(),
            restart_count,
            sandbox: sandbox_id.to_owned(),
        });
        self.calls.push(Call::StartContainer { id: id.clone() });
        self.starts.push(self.now);
        if let Some(exit) = behaviour.exit {
            self.exits.insert(id, self.after(exit.after_seconds));
        }
        self.memory.container_started(name);
    }
}

/// A static pod with this spec. Containers are given by name alone or as an object, and get an image.
pub(crate) fn pod(mut spec: serde_json::Value) -> Pod {
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(|l| l.as_array_mut()).into_iter().flatten() {
            if let Some(name) = container.as_str() {
                *container = serde_json::json!({ "name": name });
            }
            let fields = container.as_object_mut().unwrap();
            fields.entry("image").or_insert("img:1".into());
        }
    }
    serde_json::from_value(serde_json::json!({
        "metadata": {
            "name": "p", "namespace": "default", "uid": "u",
            "annotations": { "kubernetes.io/config.source": "file" },
        },
        "spec": spec,
    }))
    .unwrap()
}

/// A behaviour that ends at once with this code.
pub(crate) fn exits(code: i32) -> Behaviour {
    let reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
    Behaviour {
        exit: Some(Exit { after_seconds: 1, code, reason, message: String::new() }),
        ..Behaviour::default()
    }
}

impl Sim {
    /// A pod whose containers run, or whatever else their behaviours lead to at once.
    pub(crate) fn started(pod: Pod) -> Self {
        let mut sim = Self::new(pod);
        sim.settle();
        sim
    }

    /// Changes the desired pod.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Pod)) {
        change(Arc::make_mut(&mut self.pod));
    }

    /// The calls made since the last time it was asked.
    pub(crate) fn new_calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.calls)
    }

    pub(crate) fn phase(&self) -> String {
        self.status().phase.unwrap()
    }

    /// Reason and message of a waiting container.
    pub(crate) fn waiting(&self, name: &str) -> Option<(String, String)> {
        let waiting = self.container_status(name).state?.waiting?;
        Some((waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default()))
    }

    pub(crate) fn container_status(&self, name: &str) -> kube_model::core::ContainerStatus {
        let status = self.status();
        let mut all = status.container_statuses.into_iter().chain(status.init_container_statuses).flatten();
        all.find(|s| s.name == name).unwrap()
    }

    /// The newest instance of a container.
    pub(crate) fn newest(&mut self, name: &str) -> &mut Container {
        self.observed.containers.iter_mut().find(|c| c.name == name).expect("it was created")
    }

    /// Names of the running containers, sorted.
    pub(crate) fn running(&self) -> Vec<&str> {
        let running = self.observed.containers.iter().filter(|c| c.state == ContainerState::Running);
        let mut names: Vec<_> = running.map(|c| c.name.as_str()).collect();
        names.sort_unstable();
        names
    }
}

/// Calls in short: `run 0`, `start app_0`, `stop app_0 30`, `stopbox 0`, `rm app_0`, `rmbox 0`.
pub(crate) fn short(calls: &[Call]) -> Vec<String> {
    let id = |id: &str| id.trim_start_matches("$CONTAINER_").trim_start_matches("$SANDBOX").to_owned();
    let calls = calls.iter().filter_map(|call| {
        Some(match call {
            Call::RunPodSandbox { attempt } => format!("run {attempt}"),
            Call::CreateContainer { .. } => return None,
            Call::StartContainer { id: i } => format!("start {}", id(i)),
            Call::StopContainer { id: i, timeout } => format!("stop {} {timeout}", id(i)),
            Call::StopPodSandbox { id: i } => format!("stopbox {}", id(i)),
            Call::RemoveContainer { id: i } => format!("rm {}", id(i)),
            Call::RemovePodSandbox { id: i } => format!("rmbox {}", id(i)),
        })
    });
    calls.collect()
}

/// What a runtime says that it grants a container, as it was told.
fn granted(container: &kube_model::core::Container) -> ContainerResources {
    const PERIOD: u64 = 100_000;
    let resources = container.resources.as_ref();
    let list =
        |limits: bool| resources.and_then(|r| if limits { r.limits.as_ref() } else { r.requests.as_ref() });
    let milli = |limits, name| amount(list(limits), name).map_or(0, |q| q.milli_value());
    ContainerResources {
        milli_cpu_request: milli_cpu_of_shares(shares(milli(false, "cpu")).cast_signed()),
        milli_cpu_limit: quota(milli(true, "cpu"), PERIOD)
            .and_then(|q| milli_cpu_of_quota(q, PERIOD.cast_signed())),
        memory_limit: amount(list(true), "memory").map(|q| q.value()),
    }
}
