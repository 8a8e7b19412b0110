//! Whether two versions of a pod differ in what the agent acts on.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube_model::core::Pod;
use kube_model::labels::{CONFIG_MIRROR, CONFIG_SEEN, CONFIG_SOURCE};
use kube_model::pod::annotation;

/// In what a new version of a pod differs from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Difference {
    /// In nothing that counts: a resource version, or an annotation that agents write themselves.
    None,
    /// In the status alone.
    Status,
    /// In spec, labels, annotations or deletion.
    Desired,
}

/// Compares two versions of a pod. Rule: upstream `pkg/kubelet/config/config.go`.
pub(crate) fn difference(old: &Arc<Pod>, new: &Arc<Pod>) -> Difference {
    if Arc::ptr_eq(old, new) {
        return Difference::None;
    }
    let (a, b) = (&old.metadata, &new.metadata);
    let desired = a.deletion_timestamp != b.deletion_timestamp
        || a.deletion_grace_period_seconds != b.deletion_grace_period_seconds
        || !a.labels.iter().flatten().eq(b.labels.iter().flatten())
        || !foreign(a.annotations.as_ref()).eq(foreign(b.annotations.as_ref()))
        || old.spec != new.spec;
    if desired {
        Difference::Desired
    } else if old.status != new.status {
        Difference::Status
    } else {
        Difference::None
    }
}

/// Whether the source had lost sight of the pod between the two.
pub(crate) fn came_again(old: &Pod, new: &Pod) -> bool {
    match (annotation(old, CONFIG_SEEN), annotation(new, CONFIG_SEEN)) {
        (Some(before), Some(now)) => before != now,
        _ => false,
    }
}

fn foreign(annotations: Option<&BTreeMap<String, String>>) -> impl Iterator<Item = (&String, &String)> {
    const LOCAL: [&str; 3] = [CONFIG_SOURCE, CONFIG_MIRROR, CONFIG_SEEN];
    annotations.into_iter().flatten().filter(|(name, _)| !LOCAL.contains(&name.as_str()))
}
