//! Mirror pods: what the API server shows of pods that it did not send.
//! Rule: upstream `pkg/kubelet/pod/mirror_client.go`.

use kube_model::core::{Node, Pod};
use kube_model::hash::Fnv128a;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube_model::labels::{CONFIG_HASH, CONFIG_MIRROR};
use kube_model::pod::annotation;

/// What tells one version of a static pod from the next: its hash. Pods that were pushed have none, and change
/// under one UID, so theirs is taken over what they are to be.
pub(super) fn hash(pod: &Pod) -> String {
    if let Some(hash) = annotation(pod, CONFIG_HASH) {
        return hash.to_owned();
    }
    let mut hash = Fnv128a::default();
    let meta = &pod.metadata;
    if let Ok(json) = serde_json::to_vec(&(&meta.uid, &meta.labels, &pod.spec)) {
        hash.write(&json);
    }
    hash.hex()
}

/// Whether `mirror` shows this version of `pod`.
pub(super) fn is_current(mirror: &Pod, pod: &Pod) -> bool {
    annotation(mirror, CONFIG_MIRROR) == Some(&hash(pod))
}

/// The mirror of `pod`, owned by the node.
pub(super) fn of(pod: &Pod, node: &Node) -> Pod {
    let mut mirror = pod.clone();
    let meta = &mut mirror.metadata;
    // The server makes these; the recorded kubelet sends its own UID, which the server replaces.
    (meta.uid, meta.resource_version, meta.creation_timestamp, meta.generation) = (None, None, None, None);
    meta.managed_fields = None;
    meta.annotations.get_or_insert_default().insert(CONFIG_MIRROR.to_owned(), hash(pod));
    meta.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        ..OwnerReference::default()
    }]);
    mirror
}
