//! The status of each container (upstream `pkg/kubelet/kubelet_pods.go`).

use kube_model::Timestamp;
use kube_model::core::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus,
    ContainerUser, LinuxContainerUser, VolumeMount, VolumeMountStatus,
};
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_model::observed;
use kube_model::pod::ContainerKind;

use crate::context::Context;
use crate::inputs::{FailureReason, Intent};
use crate::precondition::{self, UNSUPPORTED};
use crate::resources;
use crate::restart::{self, EXIT_UNKNOWN, Verdict};
use crate::termination_message;
use crate::waiting::{self, waiting};

/// Statuses in the order of the spec, init containers and sidecars first.
pub(crate) struct Statuses {
    pub(crate) init: Vec<ContainerStatus>,
    pub(crate) regular: Vec<ContainerStatus>,
}

impl Statuses {
    /// All of them, in the order of [`Context::containers`].
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.init.iter().chain(&self.regular)
    }

    /// At the end of a pod, a container that nobody saw end is taken to have failed, so that the pod does not look
    /// as if it succeeded. Those that were never tried stay waiting: of init containers all but the first after the
    /// last one tried, regular ones if the pod was never initialised. Rule: upstream
    /// `pkg/kubelet/status/status_manager.go` `TerminatePod`.
    pub(crate) fn close(&mut self) {
        let ended = |state: &Option<ContainerState>| state.as_ref().and_then(|s| s.terminated.clone());
        let tried = |s: &ContainerStatus| {
            s.state.as_ref().is_some_and(|state| state.waiting.is_none()) || ended(&s.last_state).is_some()
        };
        let last_init_done = self.init.last().is_none_or(|s| {
            [&s.state, &s.last_state].into_iter().filter_map(ended).any(|ended| ended.exit_code == 0)
        });
        if last_init_done || self.regular.iter().any(tried) {
            self.regular.iter_mut().for_each(not_located);
        }
        let tried = self.init.iter().rposition(tried).unwrap_or(0);
        self.init.iter_mut().take(tried + 1).for_each(not_located);
    }

    /// What containers wait for that should run and cannot; how they ended before is their last state. One of a pod
    /// that has ended, or is about to, waits for nothing.
    pub(crate) fn show_waits(&mut self, cx: Context<'_>) {
        if matches!(cx.inputs.intent, Intent::Remove { .. }) {
            return;
        }
        let states: Vec<_> = cx.containers().map(|(kind, c)| waiting_state(cx, kind, c)).collect();
        if states.iter().all(Option::is_none) || restart::all_done(cx) {
            return;
        }
        let all = self.init.iter_mut().chain(&mut self.regular);
        for (status, state) in all.zip(states).filter_map(|(status, state)| Some((status, state?))) {
            let ended = status.state.replace(state).filter(|s| s.terminated.is_some());
            status.last_state = ended.or(status.last_state.take());
        }
    }
}

/// A time as the API has it: whole seconds.
pub(crate) fn time(timestamp: Timestamp) -> Time {
    Time(Timestamp::from_second(timestamp.as_second()).unwrap_or(timestamp))
}

/// The status of every container of the spec by how its instances are; [`Statuses::show_waits`] completes them.
pub(crate) fn all(cx: Context<'_>) -> Statuses {
    let mut statuses = Statuses { init: Vec::new(), regular: Vec::new() };
    for (kind, container) in cx.containers() {
        let list = if kind == ContainerKind::Regular { &mut statuses.regular } else { &mut statuses.init };
        list.push(one(cx, kind, container));
    }
    if cx.is_over() {
        statuses.close();
    }
    let ephemeral = cx.spec.ephemeral_containers.as_ref().map_or(0, Vec::len);
    termination_message::limit(statuses.init.iter_mut().chain(&mut statuses.regular), ephemeral);
    statuses
}

fn not_located(status: &mut ContainerStatus) {
    if status.state.as_ref().is_none_or(|state| state.terminated.is_none()) {
        status.state = Some(unknown("The container could not be located when the pod was terminated"));
    }
}

/// The status of a container that the spec has in none of its two lists.
pub(crate) fn by_instances(cx: Context<'_>, container: &Container) -> ContainerStatus {
    one(cx, ContainerKind::Regular, container)
}

fn one(cx: Context<'_>, kind: ContainerKind, container: &Container) -> ContainerStatus {
    let mut status = match cx.newest_two(&container.name) {
        Some((newest, older)) => present(cx, kind, container, newest, older),
        None => absent(cx, kind, container),
    };
    if let Some(mounts) = container.volume_mounts.as_ref().filter(|mounts| !mounts.is_empty()) {
        status.volume_mounts = Some(mounts.iter().map(|mount| volume_mount(cx, mount)).collect());
    }
    status
}

/// A mount as it is: that it is read-only recursively, or is not (upstream `pkg/kubelet/kubelet_pods.go`
/// `convertToAPIContainerStatuses`).
fn volume_mount(cx: Context<'_>, mount: &VolumeMount) -> VolumeMountStatus {
    let recursive = || match mount.recursive_read_only.as_deref() {
        Some("Enabled" | "IfPossible") if cx.inputs.node.recursive_read_only_mounts => "Enabled",
        _ => "Disabled",
    };
    VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only,
        recursive_read_only: (mount.read_only == Some(true)).then(|| recursive().to_owned()),
        volume_status: None,
    }
}

fn present(
    cx: Context<'_>,
    kind: ContainerKind,
    container: &Container,
    newest: &observed::Container,
    older: Option<&observed::Container>,
) -> ContainerStatus {
    let id = cx.container_id(newest);
    let state = match newest.state {
        observed::ContainerState::Running => ContainerState {
            running: Some(ContainerStateRunning { started_at: newest.started_at.map(time) }),
            ..ContainerState::default()
        },
        observed::ContainerState::Exited => ended(cx, newest),
        observed::ContainerState::Unknown if newest.started_at.is_some() => lost(),
        observed::ContainerState::Created | observed::ContainerState::Unknown => waiting_to_start(cx),
    };
    let counted = matches!(&state.terminated, Some(t) if t.reason.as_deref() == Some(STATUS_UNKNOWN));
    // The older instance may have been removed since it was last shown.
    let older = older.or_else(|| cx.inputs.memory.older(newest));
    let last_state = match older.filter(|i| i.state == observed::ContainerState::Exited) {
        Some(older) => Some(ended(cx, older)),
        None => cx.previous_of(newest).and_then(|s| s.last_state.clone()).filter(|last| {
            // While a container waits for its restart, its last state is this instance.
            last.terminated.as_ref().is_none_or(|t| t.container_id.as_deref() != Some(id.as_str()))
        }),
    };
    let ready = match kind {
        ContainerKind::Init => newest.state == observed::ContainerState::Exited && newest.exit_code == 0,
        _ => cx.is_ready(container, newest),
    };
    let ran_before =
        cx.previous_of(newest).filter(|s| s.state.as_ref().is_some_and(|state| state.running.is_some()));
    ContainerStatus {
        name: container.name.clone(),
        image: newest.image.clone(),
        image_id: newest.image_ref.clone(),
        container_id: Some(id),
        restart_count: i32::try_from(newest.restart_count)
            .unwrap_or(i32::MAX)
            .saturating_add(i32::from(counted)),
        ready,
        started: Some(cx.is_started(container, newest)),
        state: Some(state),
        last_state: Some(last_state.unwrap_or_default()),
        allocated_resources: resources::allocated(container),
        resources: Some(resources::actual(container, newest, ran_before)),
        user: newest.user.as_ref().map(|user| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: user.uid,
                gid: user.gid,
                supplemental_groups: Some(user.supplemental_groups.clone()),
            }),
        }),
        ..ContainerStatus::default()
    }
}

/// The status of a container of which the runtime has no instance.
fn absent(cx: Context<'_>, kind: ContainerKind, container: &Container) -> ContainerStatus {
    let previous = cx.previous_container(&container.name);
    let previous_state = previous.and_then(|s| s.state.as_ref());
    if let Some(previous) = previous.filter(|s| s.state.as_ref().is_some_and(|s| s.terminated.is_some())) {
        return previous.clone();
    }
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        restart_count: previous.map_or(0, |s| s.restart_count),
        started: Some(false),
        state: Some(waiting_to_start(cx)),
        last_state: Some(previous.and_then(|s| s.last_state.clone()).unwrap_or_default()),
        ..ContainerStatus::default()
    };
    if kind == ContainerKind::Init && cx.has_regular_instance() {
        status.ready = true;
        status.state = Some(ContainerState {
            terminated: Some(ContainerStateTerminated {
                reason: Some("Completed".to_owned()),
                message: Some(
                    "The runtime no longer has this init container of an initialized pod".to_owned(),
                ),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        });
    } else if previous_state.is_some_and(|s| s.running.is_some()) {
        status.restart_count = status.restart_count.saturating_add(1);
        status.state = Some(lost());
    }
    status
}

/// Reason of a container of which nobody knows how it ended (upstream `pkg/kubelet/kubelet_pods.go`).
const STATUS_UNKNOWN: &str = "ContainerStatusUnknown";

fn lost() -> ContainerState {
    unknown("The container ran and the runtime no longer knows it")
}

fn unknown(message: &str) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: EXIT_UNKNOWN,
            reason: Some(STATUS_UNKNOWN.to_owned()),
            message: Some(message.to_owned()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

fn ended(cx: Context<'_>, instance: &observed::Container) -> ContainerState {
    let text = |s: &str| (!s.is_empty()).then(|| s.to_owned());
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: instance.exit_code,
            reason: text(&instance.reason),
            message: text(&instance.message),
            started_at: instance.started_at.map(time),
            finished_at: instance.finished_at.map(time),
            container_id: Some(cx.container_id(instance)),
            signal: None,
        }),
        ..ContainerState::default()
    }
}

/// The state of a container whose turn has not come: nothing is wrong with it, but maybe with the pod.
fn waiting_to_start(cx: Context<'_>) -> ContainerState {
    let initializing = cx.spec.init_containers.as_ref().is_some_and(|all| !all.is_empty());
    let failure = cx.inputs.memory.pod_failure.as_ref().filter(|f| f.reason != FailureReason::FailedKillPod);
    waiting(
        if initializing { "PodInitializing" } else { "ContainerCreating" },
        failure.map(|f| f.message.as_str()).or_else(|| precondition::pending(cx)).map(str::to_owned),
    )
}

/// `waiting` for a container that should run and cannot: the node lacks what it names, an attempt to start it
/// failed, or a crash back-off.
///
/// The kubelet shows a crash back-off only from its next sync on, often when the wait is over; here it shows
/// at once.
fn waiting_state(cx: Context<'_>, kind: ContainerKind, container: &Container) -> Option<ContainerState> {
    let now = cx.inputs.now.mono;
    let memory = cx.inputs.memory;
    let failure = memory.failures.get(&container.name);
    let crash = memory.crash_backoff.get(&container.name).and_then(|b| b.pending(now));
    let lacking = precondition::unsupported(cx);
    if (failure.is_none() && crash.is_none() && lacking.is_none())
        || restart::verdict(cx, kind, container) != Verdict::Start
    {
        return None;
    }
    let (reason, message) = match (lacking, failure, crash) {
        (Some(lacking), ..) => (UNSUPPORTED, lacking.to_owned()),
        (None, Some(failure), _) => waiting::describe_failure(container, failure, now),
        (None, None, Some(crash)) => waiting::describe_crash(cx, container, crash),
        (None, None, None) => return None,
    };
    Some(waiting(reason, Some(message)))
}
