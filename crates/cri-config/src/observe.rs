//! What the runtime answers, as [`kube_model::observed`].
//! Rule: upstream `pkg/kubelet/kuberuntime/helpers.go`.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use kube_model::observed::{
    Container, ContainerResources, ContainerState, ContainerUser, ObservedPod, Sandbox, SandboxState,
};
use kube_model::resources::{milli_cpu_of_quota, milli_cpu_of_shares};
use kube_model::{PodKey, PodUid, Timestamp, labels};
use node_proto::cri::v1;

mod listed;

pub use listed::{container_as_listed, sandbox_as_listed};

/// A container's status, and what it does not hold itself.
#[derive(Debug, Clone, PartialEq)]
pub struct SandboxContainer {
    /// ID of the sandbox that the container is in; the list of containers has it.
    pub sandbox_id: String,
    /// The runtime's answer; put the termination message into its `message` before, see [`crate::termination`].
    pub status: v1::ContainerStatus,
}

/// Everything that the runtime has of one pod. What lacks our labels, or has those of another pod, is left out.
/// `None` if nothing remains: then it is no pod of a kubelet.
pub fn observed_pod(
    sandboxes: Vec<v1::PodSandboxStatus>,
    containers: Vec<SandboxContainer>,
) -> Option<ObservedPod> {
    let mut all = sandboxes.iter().map(|s| &s.labels).chain(containers.iter().map(|c| &c.status.labels));
    let (uid, key) = all.find_map(identity)?;
    let mut pod = ObservedPod::empty(uid.clone(), key);
    let same =
        |labels: &BTreeMap<String, String>| labels.get(labels::POD_UID).is_some_and(|u| u == uid.as_str());
    pod.sandboxes = sandboxes.into_iter().filter(|s| same(&s.labels)).map(sandbox).collect();
    pod.containers =
        containers.into_iter().filter(|c| same(&c.status.labels)).filter_map(container).collect();
    pod.sort();
    Some(pod)
}

/// UID and name of the pod that a sandbox or container belongs to; `None` if a kubelet did not make it.
pub fn identity(labels: &BTreeMap<String, String>) -> Option<(PodUid, PodKey)> {
    let get = |name: &str| labels.get(name).map(String::as_str).filter(|v| !v.is_empty());
    let key = PodKey::new(get(labels::POD_NAMESPACE)?, get(labels::POD_NAME)?);
    Some((PodUid::new(get(labels::POD_UID)?), key))
}

fn sandbox(status: v1::PodSandboxStatus) -> Sandbox {
    let options = status.linux.as_ref().and_then(|l| l.namespaces.as_ref()).and_then(|n| n.options.as_ref());
    let host_network = options.is_some_and(|o| o.network() == v1::NamespaceMode::Node);
    let network = status.network.as_ref();
    let more = network.iter().flat_map(|n| n.additional_ips.iter().map(|a| a.ip.as_str()));
    let ips = network.map(|n| n.ip.as_str()).into_iter().chain(more);
    Sandbox {
        attempt: status.metadata.as_ref().map_or(0, |m| m.attempt),
        state: match status.state() {
            v1::PodSandboxState::SandboxReady => SandboxState::Ready,
            v1::PodSandboxState::SandboxNotready => SandboxState::NotReady,
        },
        created_at: time(status.created_at),
        host_network,
        // Some runtimes name the node's address there; it is none of the pod's.
        ips: if host_network { Vec::new() } else { ips.filter_map(|ip| ip.parse::<IpAddr>().ok()).collect() },
        config_source: status.annotations.get(labels::CONFIG_SOURCE).cloned(),
        id: status.id,
    }
}

fn container(container: SandboxContainer) -> Option<Container> {
    let SandboxContainer { sandbox_id, mut status } = container;
    let name = status.labels.remove(labels::CONTAINER_NAME).filter(|n| !n.is_empty())?;
    let state = container_state(status.state());
    let counted = status.annotations.get(labels::CONTAINER_RESTART_COUNT).and_then(|c| c.parse().ok());
    let user = status.user.and_then(|u| u.linux);
    Some(Container {
        sandbox_id,
        restart_count: counted
            .unwrap_or_else(|| status.metadata.as_ref().map_or(0, |metadata| metadata.attempt)),
        hash: status.annotations.remove(labels::CONTAINER_HASH),
        state,
        created_at: time(status.created_at),
        started_at: set_time(status.started_at),
        finished_at: set_time(status.finished_at),
        exit_code: status.exit_code,
        reason: status.reason,
        message: status.message,
        image: status.image.map(user_image).unwrap_or_default(),
        image_id: status.image_id,
        image_ref: status.image_ref,
        log_path: status.log_path,
        user: user.map(|u| ContainerUser {
            uid: u.uid,
            gid: u.gid,
            supplemental_groups: u.supplemental_groups,
        }),
        resources: status.resources.and_then(|r| r.linux).as_ref().and_then(resources),
        id: status.id,
        name,
    })
}

/// `None` for an answer that says nothing. Rule: upstream `pkg/kubelet/kuberuntime` `toKubeContainerResources`.
fn resources(linux: &v1::LinuxContainerResources) -> Option<ContainerResources> {
    let granted = ContainerResources {
        milli_cpu_request: milli_cpu_of_shares(linux.cpu_shares),
        milli_cpu_limit: milli_cpu_of_quota(linux.cpu_quota, linux.cpu_period),
        memory_limit: Some(linux.memory_limit_in_bytes).filter(|bytes| *bytes > 0),
    };
    (granted != ContainerResources::default()).then_some(granted)
}

/// The image as the user wrote it, where the runtime kept that.
fn user_image(image: v1::ImageSpec) -> String {
    if image.user_specified_image.is_empty() { image.image } else { image.user_specified_image }
}

fn container_state(state: v1::ContainerState) -> ContainerState {
    match state {
        v1::ContainerState::ContainerCreated => ContainerState::Created,
        v1::ContainerState::ContainerRunning => ContainerState::Running,
        v1::ContainerState::ContainerExited => ContainerState::Exited,
        v1::ContainerState::ContainerUnknown => ContainerState::Unknown,
    }
}

/// Nanoseconds since 1970. Every `i64` of them is a time.
fn time(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Runtimes write 0 for "not yet".
fn set_time(nanoseconds: i64) -> Option<Timestamp> {
    (nanoseconds > 0).then(|| time(nanoseconds))
}

/// One pod in the lists of all sandboxes and containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPod {
    /// Pod UID
    pub uid: PodUid,
    /// Namespace and name
    pub key: PodKey,
    /// Changes whenever the set of the pod's sandboxes and containers or the state of one changes.
    pub fingerprint: u64,
    /// Whether a kubelet or this agent created it: another may use the same labels.
    pub ours: bool,
    /// The grace period that its containers were made with, in seconds.
    pub grace_seconds: Option<i64>,
}

/// All pods in two list answers, sorted by UID. What lacks our labels is left out. Cheap enough for every
/// second, for where a runtime sends no events.
pub fn listed_pods(sandboxes: &[v1::PodSandbox], containers: &[v1::Container]) -> Vec<ListedPod> {
    let mut pods: BTreeMap<PodUid, ListedPod> = BTreeMap::new();
    let mut add =
        |labels: &BTreeMap<String, String>, item: (&str, &str, i32), ours: bool, grace: Option<i64>| {
            let Some((uid, key)) = identity(labels) else { return };
            let pod = pods.entry(uid.clone()).or_insert_with(|| ListedPod {
                uid,
                key,
                fingerprint: 0,
                ours: false,
                grace_seconds: None,
            });
            let mut hasher = DefaultHasher::new();
            item.hash(&mut hasher);
            // A sum does not depend on the order of the lists.
            pod.fingerprint = pod.fingerprint.wrapping_add(hasher.finish());
            pod.ours |= ours;
            pod.grace_seconds = pod.grace_seconds.max(grace);
        };
    for sandbox in sandboxes {
        let ours = sandbox.annotations.contains_key(labels::CONFIG_SOURCE);
        add(&sandbox.labels, ("sandbox", &sandbox.id, sandbox.state), ours, None);
    }
    for container in containers {
        let grace = container.annotations.get(labels::POD_TERMINATION_GRACE_PERIOD);
        let grace = grace.and_then(|seconds| seconds.parse().ok());
        add(&container.labels, ("container", &container.id, container.state), false, grace);
    }
    pods.into_values().collect()
}

#[cfg(test)]
mod tests;
