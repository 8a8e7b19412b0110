//! Pods as the endpoints show and look them up.

use std::sync::Arc;

use kube_model::core::{PodSpec, PodStatus};
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_model::observed::{ContainerState, ObservedPod};
use kube_model::view::{PodView, ViewSnapshot};
use serde::Serialize;

/// Whether a source still wants the pod: one that is deleted through the API counts until it is gone, one whose
/// manifest was taken away does not.
pub(crate) fn is_desired(pod: &PodView) -> bool {
    !pod.removing || pod.pod.metadata.deletion_timestamp.is_some()
}

/// The pod of this name. Of several, as when one replaces another, the one that is not being removed.
pub(crate) fn find(view: &ViewSnapshot, namespace: &str, name: &str) -> Option<Arc<PodView>> {
    let named = |pod: &&Arc<PodView>| {
        let meta = &pod.pod.metadata;
        meta.namespace.as_deref() == Some(namespace) && meta.name.as_deref() == Some(name)
    };
    view.pods.iter().filter(named).min_by_key(|pod| pod.removing).cloned()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PodList<T> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    /// Go writes an empty list as null here.
    items: Option<Vec<T>>,
}

#[derive(Serialize)]
struct Empty {}

fn list<T: Serialize>(items: Vec<T>) -> serde_json::Result<Vec<u8>> {
    let items = Some(items).filter(|items| !items.is_empty());
    serde_json::to_vec(&PodList { kind: "PodList", api_version: "v1", metadata: Empty {}, items })
}

#[derive(Serialize)]
struct Item<'a> {
    metadata: &'a ObjectMeta,
    spec: Option<&'a PodSpec>,
    status: &'a PodStatus,
}

/// `/pods`: what should run, each pod with its status.
pub(super) fn desired(view: &ViewSnapshot) -> serde_json::Result<Vec<u8>> {
    let wanted = view.pods.iter().filter(|pod| is_desired(pod));
    list(
        wanted
            .map(|pod| Item { metadata: &pod.pod.metadata, spec: pod.pod.spec.as_ref(), status: &pod.status })
            .collect(),
    )
}

#[derive(Serialize)]
struct Running<'a> {
    metadata: RunningMeta<'a>,
    spec: RunningSpec<'a>,
    status: Empty,
}

#[derive(Serialize)]
struct RunningMeta<'a> {
    name: &'a str,
    namespace: &'a str,
    uid: &'a str,
}

#[derive(Serialize)]
struct RunningSpec<'a> {
    containers: Option<Vec<RunningContainer<'a>>>,
}

#[derive(Serialize)]
struct RunningContainer<'a> {
    name: &'a str,
    image: &'a str,
    resources: Empty,
}

/// `/runningpods/`: what the runtime has.
pub(super) fn running(pods: &[Arc<ObservedPod>]) -> serde_json::Result<Vec<u8>> {
    list(pods.iter().map(|pod| running_pod(pod)).collect())
}

fn running_pod(pod: &ObservedPod) -> Running<'_> {
    let containers: Vec<_> = pod
        .containers
        .iter()
        .filter(|container| container.state == ContainerState::Running)
        .map(|container| RunningContainer {
            name: &container.name,
            // Old runtimes give no ID.
            image: if container.image_id.is_empty() { &container.image_ref } else { &container.image_id },
            resources: Empty {},
        })
        .collect();
    Running {
        metadata: RunningMeta { name: &pod.key.name, namespace: &pod.key.namespace, uid: pod.uid.as_str() },
        spec: RunningSpec { containers: Some(containers).filter(|containers| !containers.is_empty()) },
        status: Empty {},
    }
}
