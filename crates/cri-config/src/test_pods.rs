//! Pods for the tests of this crate.

use kube_model::core::{Pod, PodSpec};

/// A pod `ns/web` with UID `uid-1` and this spec, as JSON; `containers` may be left out.
pub(crate) fn pod(spec: &str) -> Pod {
    let mut spec: serde_json::Value = serde_json::from_str(spec).expect("a spec in JSON");
    let fields = spec.as_object_mut().expect("a spec is an object");
    fields.entry("containers").or_insert_with(|| serde_json::json!([]));
    let spec: PodSpec = serde_json::from_value(spec).expect("a pod spec");
    let mut pod = Pod { spec: Some(spec), ..Pod::default() };
    pod.metadata.name = Some("web".into());
    pod.metadata.namespace = Some("ns".into());
    pod.metadata.uid = Some("uid-1".into());
    pod
}

/// The spec of [`pod`].
pub(crate) fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().expect("every pod of the tests has a spec")
}
