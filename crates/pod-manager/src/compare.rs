//! Whether two versions of a pod differ in what the agent acts on.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube_model::core::Pod;
use kube_model::labels::{CONFIG_MIRROR, CONFIG_SEEN, CONFIG_SOURCE};

/// Spec, labels, annotations and deletion count; status, resource version and the annotations that agents write
/// themselves do not. Rule: reference 3.5.
pub(crate) fn is_changed(old: &Arc<Pod>, new: &Arc<Pod>) -> bool {
    if Arc::ptr_eq(old, new) {
        return false;
    }
    let (a, b) = (&old.metadata, &new.metadata);
    a.deletion_timestamp != b.deletion_timestamp
        || a.deletion_grace_period_seconds != b.deletion_grace_period_seconds
        || !a.labels.iter().flatten().eq(b.labels.iter().flatten())
        || !foreign(a.annotations.as_ref()).eq(foreign(b.annotations.as_ref()))
        || old.spec != new.spec
}

fn foreign(annotations: Option<&BTreeMap<String, String>>) -> impl Iterator<Item = (&String, &String)> {
    const LOCAL: [&str; 3] = [CONFIG_SOURCE, CONFIG_MIRROR, CONFIG_SEEN];
    annotations.into_iter().flatten().filter(|(name, _)| !LOCAL.contains(&name.as_str()))
}
