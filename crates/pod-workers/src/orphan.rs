//! Orphaned pods: those that the runtime has and no source.

use kube_model::core::{Container, Pod, PodSpec};
use kube_model::{PodKey, PodUid, labels};

/// The source of pods that no source has.
const NOBODY: &str = "runtime";

/// Stands for a pod of which only the runtime knows: enough to remove it.
pub(crate) fn pod(uid: &PodUid, key: &PodKey) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.uid = Some(uid.to_string());
    pod.metadata.namespace = Some(key.namespace.to_string());
    pod.metadata.name = Some(key.name.to_string());
    // The hash of a static pod is its UID (upstream `pkg/kubelet/config/common.go`): so its mirror pod is known.
    let annotations = [(labels::CONFIG_SOURCE, NOBODY.to_owned()), (labels::CONFIG_HASH, uid.to_string())];
    pod.metadata.annotations = Some(annotations.map(|(name, value)| (name.to_owned(), value)).into());
    pod.spec = Some(PodSpec { containers: Vec::<Container>::new(), ..PodSpec::default() });
    pod
}
