//! Mirror pods: what the API server shows of pods that it did not send.
//! Rule: upstream `pkg/kubelet/pod/mirror_client.go`.

use kube_model::core::{Container, EmptyDirVolumeSource, Node, Pod, PodSpec, Volume};
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

/// The mirror of `pod`, owned by the node. Without what the pod has of this node's own ConfigMaps and Secrets.
pub(super) fn of(pod: &Pod, node: &Node) -> Pod {
    let mut mirror = pod.clone();
    if let Some(spec) = &mut mirror.spec {
        leave_out_references(spec);
    }
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

/// The server takes no mirror that refers to ConfigMaps or Secrets: it would take them for its own (upstream
/// `plugin/pkg/admission/noderestriction/admission.go`). A volume of them is shown as an empty one.
fn leave_out_references(spec: &mut PodSpec) {
    spec.image_pull_secrets = None;
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let Container { env, env_from, .. } = container;
        if let Some(env) = env {
            env.retain(|variable| {
                variable
                    .value_from
                    .as_ref()
                    .is_none_or(|from| from.config_map_key_ref.is_none() && from.secret_key_ref.is_none())
            });
        }
        *env_from = None;
    }
    for volume in spec.volumes.iter_mut().flatten() {
        if let Some(projected) = &mut volume.projected
            && let Some(sources) = &mut projected.sources
        {
            sources.retain(|source| source.config_map.is_none() && source.secret.is_none());
        }
        let projects_nothing = volume
            .projected
            .as_ref()
            .is_some_and(|projected| projected.sources.as_ref().is_none_or(Vec::is_empty));
        if volume.config_map.is_some() || volume.secret.is_some() || projects_nothing {
            let name = std::mem::take(&mut volume.name);
            *volume = Volume { name, empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use kube_model::objects::references;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mirror_refers_to_nothing_of_the_nodes_own() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "annotations": {CONFIG_HASH: "h"}},
            "spec": {
                "imagePullSecrets": [{"name": "pull"}],
                "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "s"}}]}],
                "containers": [{"name": "c", "volumeMounts": [{"name": "a", "mountPath": "/a"}], "env": [
                    {"name": "PLAIN", "value": "x"},
                    {"name": "REF", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
                ]}],
                "volumes": [
                    {"name": "a", "configMap": {"name": "m"}},
                    {"name": "b", "secret": {"secretName": "s"}},
                    {"name": "c", "projected": {"sources": [{"secret": {"name": "s"}}]}},
                    {"name": "d", "projected": {"sources": [{"secret": {"name": "s"}}, {"downwardAPI": {}}]}},
                    {"name": "e", "hostPath": {"path": "/"}},
                ],
            },
        }))
        .unwrap();
        assert!(!references(&pod).is_empty());
        let mirror = of(&pod, &Node::default());
        assert_eq!(references(&mirror), [].into());
        assert!(is_current(&mirror, &pod));
        let spec = serde_json::to_value(mirror.spec.unwrap()).unwrap();
        assert_eq!(spec["containers"][0]["env"], json!([{"name": "PLAIN", "value": "x"}]));
        assert_eq!(
            spec["volumes"],
            json!([
                {"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {}}, {"name": "c", "emptyDir": {}},
                {"name": "d", "projected": {"sources": [{"downwardAPI": {}}]}},
                {"name": "e", "hostPath": {"path": "/"}},
            ])
        );
    }
}
