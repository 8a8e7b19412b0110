//! What kubectl shows of a pod in its READY, STATUS and RESTARTS columns.
//! Rule: upstream `pkg/printers/internalversion/printers.go`, `printPod`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodSpec, PodStatus,
};

use crate::pod::{self, ContainerKind};
use crate::{age, labels};

/// What the columns say of one pod.
#[derive(Debug, PartialEq, Eq)]
pub struct Digest {
    /// Containers and sidecars that are ready.
    pub ready: usize,
    /// Containers and sidecars.
    pub total: usize,
    /// One word or a little more: `Running`, `Init:0/1`, `CrashLoopBackOff`.
    pub status: String,
    /// Restarts of the containers that count at this stage.
    pub restarts: i32,
    /// When the last of them ended.
    pub last_restart: Option<Timestamp>,
}

/// Restarts of some containers.
#[derive(Default, Clone, Copy)]
struct Restarts {
    count: i32,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: &ContainerStatus) {
        self.count += container.restart_count;
        let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        self.last = self.last.max(ended.and_then(|ended| ended.finished_at.as_ref()).map(|time| time.0));
    }
}

impl Digest {
    /// The RESTARTS column: `3`, or `3 (5m ago)`.
    pub fn restarts_text(&self, now: Timestamp) -> String {
        match self.last_restart.filter(|_| self.restarts != 0) {
            Some(last) => format!("{} ({} ago)", self.restarts, age::since(last, now)),
            None => self.restarts.to_string(),
        }
    }
}

/// The phase of a pod that is shown with this `status`: as long as nothing has been decided about it, what its own
/// status says, and that of a new pod if that says nothing either.
pub fn phase<'a>(pod: &'a Pod, status: &'a PodStatus) -> &'a str {
    let own = || pod.status.as_ref()?.phase.as_deref();
    status.phase.as_deref().or_else(own).unwrap_or("Pending")
}

/// What is shown of `pod` while it has this `status` (of its own only the [`phase`] may be read), and is being `removed`
/// or not.
pub fn digest(pod: &Pod, status: &PodStatus, removed: bool) -> Digest {
    let spec = pod.spec.as_ref();
    let phase = phase(pod, status);
    let mut shown = status.reason.clone().unwrap_or_else(|| phase.to_owned());
    let sidecars = spec
        .map_or(0, |spec| pod::containers(spec).filter(|(kind, _)| *kind == ContainerKind::Sidecar).count());
    let mut ready = 0;

    let mut init_restarts = Restarts::default();
    let mut sidecar_restarts = Restarts::default();
    let mut initializing = None;
    for (index, container) in status.init_container_statuses.iter().flatten().enumerate() {
        init_restarts.add(container);
        let sidecar = is_sidecar(spec, &container.name);
        if sidecar {
            sidecar_restarts.add(container);
        }
        match init_progress(container, sidecar) {
            InitProgress::Done => {}
            InitProgress::SidecarUp => ready += usize::from(container.ready),
            InitProgress::Stuck(reason) => {
                initializing = Some(format!("Init:{reason}"));
                break;
            }
            InitProgress::Going => {
                let total = spec.and_then(|spec| spec.init_containers.as_ref()).map_or(0, Vec::len);
                initializing = Some(format!("Init:{index}/{total}"));
                break;
            }
        }
    }
    let mut restarts = init_restarts;
    if let Some(init) = &initializing {
        init.clone_into(&mut shown);
    }
    if initializing.is_none() || has_condition(status, "Initialized") {
        restarts = sidecar_restarts;
        let mut any_running = false;
        for container in status.container_statuses.iter().flatten().rev() {
            restarts.add(container);
            match container.state.as_ref().and_then(stopped_reason) {
                Some(reason) => shown = reason,
                None if container.ready && is_running(container) => {
                    any_running = true;
                    ready += 1;
                }
                None => {}
            }
        }
        // One that completed does not speak for one that still runs.
        if shown == "Completed" && any_running {
            let pod_ready = has_condition(status, "Ready");
            (if pod_ready { "Running" } else { "NotReady" }).clone_into(&mut shown);
        }
    }

    let terminating = removed || pod.metadata.deletion_timestamp.is_some();
    if terminating && !matches!(phase, "Succeeded" | "Failed") {
        "Terminating".clone_into(&mut shown);
    }
    Digest {
        ready,
        total: spec.map_or(0, |spec| spec.containers.len()) + sidecars,
        status: shown,
        restarts: restarts.count,
        last_restart: restarts.last,
    }
}

/// How far one init container is.
enum InitProgress {
    Done,
    SidecarUp,
    Stuck(String),
    Going,
}

fn init_progress(container: &ContainerStatus, sidecar: bool) -> InitProgress {
    let state = container.state.as_ref();
    let terminated = state.and_then(|state| state.terminated.as_ref());
    let waiting =
        state.and_then(|state| state.waiting.as_ref()).and_then(|waiting| waiting.reason.as_deref());
    match (terminated, waiting) {
        (Some(ended), _) if ended.exit_code == 0 => InitProgress::Done,
        _ if sidecar && container.started == Some(true) => InitProgress::SidecarUp,
        (Some(ended), _) => InitProgress::Stuck(end_reason(ended)),
        (None, Some(reason)) if !matches!(reason, "" | "PodInitializing") => {
            InitProgress::Stuck(reason.to_owned())
        }
        _ => InitProgress::Going,
    }
}

/// Why a container does not run, or `None` when it runs or gives no reason.
fn stopped_reason(state: &ContainerState) -> Option<String> {
    let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone());
    waiting.filter(|reason| !reason.is_empty()).or_else(|| state.terminated.as_ref().map(end_reason))
}

fn end_reason(ended: &ContainerStateTerminated) -> String {
    match (ended.reason.as_deref(), ended.signal) {
        (Some(reason), _) if !reason.is_empty() => reason.to_owned(),
        (_, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", ended.exit_code),
    }
}

fn is_running(container: &ContainerStatus) -> bool {
    container.state.as_ref().is_some_and(|state| state.running.is_some())
}

fn is_sidecar(spec: Option<&PodSpec>, name: &str) -> bool {
    spec.and_then(|spec| pod::container(spec, name)).is_some_and(|(kind, _)| kind == ContainerKind::Sidecar)
}

/// Whether the condition of this type is true.
pub fn has_condition(status: &PodStatus, kind: &str) -> bool {
    status.conditions.iter().flatten().any(|condition| condition.type_ == kind && condition.status == "True")
}

/// Since when the agent has the pod: its creation, or for static pods, which have none, when it was first seen.
pub fn born(pod: &Pod, status: &PodStatus) -> Option<Timestamp> {
    let created = pod.metadata.creation_timestamp.as_ref().or(status.start_time.as_ref());
    created.map(|time| time.0).or_else(|| pod::annotation(pod, labels::CONFIG_SEEN)?.parse().ok())
}

#[cfg(test)]
mod tests;
