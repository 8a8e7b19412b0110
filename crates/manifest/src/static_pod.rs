//! What makes a pod of a manifest a static pod of this node. Rule: upstream `pkg/kubelet/config/common.go`.

use kube_model::core::{Pod, PodStatus, Toleration};
use kube_model::hash::Fnv128a;
use kube_model::labels;

use super::invalid::{Field, Invalid, Report};
use super::{Origin, OriginKind};

/// Most characters of an explicit UID: it is the name of a folder.
const MAX_UID: usize = 128;

/// What must hold before a pod is named after its node.
pub(super) fn check(pod: &Pod) -> Vec<Invalid> {
    let mut report = Report::default();
    let metadata = Field::new("metadata");
    let meta = &pod.metadata;
    if meta.name.as_deref().is_none_or(str::is_empty) {
        report.required(&metadata.child("name"), "the pod is called after it and the node");
    }
    if let Some(uid) = explicit_uid(pod) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if uid.len() > MAX_UID
            || !uid.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !uid.chars().all(plain)
        {
            let why = format!(
                "must be at most {MAX_UID} letters, digits, '-', '_' or '.', beginning with a letter or digit, \
                 because it names the pod's folder"
            );
            report.invalid(&metadata.child("uid"), uid, why);
        }
    }
    let mirror = labels::CONFIG_MIRROR;
    if meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(mirror)) {
        report.forbidden(&metadata.child("annotations").key(mirror), "only mirror pods have it");
    }
    if meta.deletion_timestamp.is_some() {
        report.forbidden(&metadata.child("deletionTimestamp"), "remove the manifest to remove its pod");
    }
    report.into_found()
}

fn explicit_uid(pod: &Pod) -> Option<&str> {
    pod.metadata.uid.as_deref().filter(|uid| !uid.is_empty())
}

/// The UID: the one in the manifest, else a hash over the pod as it was decoded, and the node and the file, or
/// the URL.
///
/// The hash is taken of the JSON of metadata and spec before any default, so that neither the layout of the
/// file nor a new version of the agent changes it, only what the manifest says. The kubelet hashes a dump of
/// Go memory that no other program can make, so its UIDs are others.
pub(super) fn uid(pod: &Pod, origin: Origin<'_>) -> String {
    if let Some(uid) = explicit_uid(pod) {
        return uid.to_owned();
    }
    let mut hash = Fnv128a::default();
    // Fields are written in the order of the type and maps in that of their keys; a Pod has no value that
    // JSON can not hold.
    if let Ok(json) = serde_json::to_vec(&(&pod.metadata, &pod.spec)) {
        hash.write(&json);
    }
    match origin.kind {
        OriginKind::File => hash.write(format!("host:{}file:", origin.node_name).as_bytes()),
        OriginKind::Url => hash.write(b"url:"),
    }
    hash.write(origin.path.as_os_str().as_encoded_bytes());
    hash.hex()
}

/// Names the pod after the node and marks it as a static pod of its source.
pub(super) fn apply(pod: &mut Pod, uid: String, origin: Origin<'_>) {
    let meta = &mut pod.metadata;
    let name = meta.name.take().unwrap_or_default();
    meta.name = Some(format!("{name}-{}", origin.node_name.to_lowercase()));
    if meta.namespace.as_deref().is_none_or(str::is_empty) {
        meta.namespace = Some("default".to_owned());
    }
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(labels::CONFIG_HASH.to_owned(), uid.clone());
    annotations.insert(labels::CONFIG_SOURCE.to_owned(), origin.kind.source().to_owned());
    annotations.remove(labels::CONFIG_SEEN);
    meta.uid = Some(uid);

    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(origin.node_name.to_owned());
    if origin.kind == OriginKind::File {
        tolerate_no_execute(spec.tolerations.get_or_insert_default());
    }
    pod.status = Some(PodStatus { phase: Some("Pending".to_owned()), ..PodStatus::default() });
}

/// A static pod is not evicted by taints.
fn tolerate_no_execute(tolerations: &mut Vec<Toleration>) {
    let ours = Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let parts = |t: &Toleration| (text(&t.key), text(&t.operator), text(&t.effect), text(&t.value));
    // The same one with a limit of seconds loses it.
    let mut found = false;
    for same in tolerations.iter_mut().filter(|t| parts(t) == parts(&ours)) {
        *same = ours.clone();
        found = true;
    }
    if !found {
        tolerations.push(ours);
    }
}
