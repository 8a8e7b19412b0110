//! Reading a pod: the questions that many crates ask of a `Pod`.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodCondition, PodSpec, PodStatus};

use crate::{PodKey, PodUid, labels};

/// Which list of the spec a container stands in, and so which rules hold for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerKind {
    /// In `initContainers`, runs to its end before the next one.
    Init,
    /// In `initContainers` with `restartPolicy: Always`: a sidecar.
    Sidecar,
    /// In `containers`.
    Regular,
}

/// Identity of a pod. A pod without UID or namespace (never one that a source published) yields empty parts.
pub fn identity(pod: &Pod) -> (PodUid, PodKey) {
    let meta = &pod.metadata;
    (
        PodUid::new(meta.uid.as_deref().unwrap_or_default()),
        PodKey::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default()),
    )
}

/// All containers with their kind: init containers and sidecars in the order of the spec, then regular ones.
pub fn containers(spec: &PodSpec) -> impl Iterator<Item = (ContainerKind, &Container)> {
    let init = spec.init_containers.iter().flatten().map(|c| {
        let sidecar = c.restart_policy.as_deref() == Some("Always");
        (if sidecar { ContainerKind::Sidecar } else { ContainerKind::Init }, c)
    });
    init.chain(spec.containers.iter().map(|c| (ContainerKind::Regular, c)))
}

/// The named container and its kind.
pub fn container<'a>(spec: &'a PodSpec, name: &str) -> Option<(ContainerKind, &'a Container)> {
    containers(spec).find(|(_, c)| c.name == name)
}

/// The statuses of all containers, in the order in which upstream looks names up: regular, init, ephemeral.
pub fn container_statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses]
        .into_iter()
        .flatten()
        .flatten()
}

/// Whether the pod shares the node's network namespace.
pub fn host_network(spec: &PodSpec) -> bool {
    spec.host_network.unwrap_or(false)
}

/// `spec.terminationGracePeriodSeconds`, in seconds; 30 when unset.
pub fn termination_grace_seconds(pod: &Pod) -> i64 {
    pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30)
}

/// Whether this is the status of a pod in its last phase, which it never leaves.
pub fn has_ended(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"))
}

/// Conditions that the kubelet owns; all others belong to those who set them.
/// Rule: upstream `pkg/kubelet/types/pod_status.go` `PodConditionByKubelet`.
pub const KUBELET_CONDITIONS: [&str; 8] = [
    "PodScheduled",
    "PodReadyToStartContainers",
    "Initialized",
    "ContainersReady",
    "Ready",
    "PodResizePending",
    "PodResizeInProgress",
    "AllContainersRestarting",
];

/// The conditions that others than the kubelet set, readiness gates among them.
pub fn foreign_conditions(status: Option<&PodStatus>) -> impl Iterator<Item = &PodCondition> {
    let all = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    all.iter().filter(|condition| !KUBELET_CONDITIONS.contains(&condition.type_.as_str()))
}

/// The value of an annotation.
pub fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Name of the one source whose pods are not static: the API server.
pub const API_SOURCE: &str = "api";

/// Name of the source of pods that are pushed to the node.
pub const PUSH_SOURCE: &str = "push";

/// Whether the pod's source keeps a deleted pod until it has ended. One that such a source drops before was deleted
/// by force: nobody waits for it any more.
pub fn is_kept_until_ended(pod: &Pod) -> bool {
    annotation(pod, labels::CONFIG_SOURCE).is_some_and(|source| [API_SOURCE, PUSH_SOURCE].contains(&source))
}

/// Whether the pod came from a source other than the API server, so that no API object owns it.
/// Rule: upstream `pkg/kubelet/types/pod_update.go` `IsStaticPod`.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, labels::CONFIG_SOURCE).is_some_and(|s| s != API_SOURCE)
}
