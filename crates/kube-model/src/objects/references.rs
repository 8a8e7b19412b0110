//! What a pod refers to.
//! Rule: upstream `pkg/api/v1/pod/util.go` `VisitPodSecretNames`, `VisitPodConfigmapNames`.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, Pod, PodSpec, Volume};

use super::{Key, Kind};

/// The ConfigMaps and Secrets of a pod's `env`, `envFrom` (of all kinds of containers), volumes and `imagePullSecrets`.
pub fn references(pod: &Pod) -> BTreeSet<Key> {
    keys(pod, |_| true)
}

/// Those that the pod does not do without.
pub fn required(pod: &Pod) -> BTreeSet<Key> {
    keys(pod, |optional| !optional)
}

fn keys(pod: &Pod, wanted: impl Fn(bool) -> bool) -> BTreeSet<Key> {
    let namespace: Arc<str> = pod.metadata.namespace.as_deref().unwrap_or_default().into();
    let key = |(kind, name, _): Name<'_>| Key { kind, namespace: Arc::clone(&namespace), name: name.into() };
    let names = pod.spec.as_ref().map(names).unwrap_or_default();
    names.into_iter().filter(|(_, name, optional)| !name.is_empty() && wanted(*optional)).map(key).collect()
}

/// With whether it is optional.
type Name<'a> = (Kind, &'a str, bool);
type Names<'a> = BTreeSet<Name<'a>>;

fn name<'a>(kind: Kind, name: &'a str, optional: Option<bool>) -> Name<'a> {
    (kind, name, optional.unwrap_or(false))
}

fn names(spec: &PodSpec) -> Names<'_> {
    let mut names = Names::new();
    let pull = spec.image_pull_secrets.iter().flatten();
    names.extend(pull.map(|secret| name(Kind::Secret, &secret.name, None)));
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        environment(&mut names, &container.env, &container.env_from);
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        environment(&mut names, &container.env, &container.env_from);
    }
    for volume in spec.volumes.iter().flatten() {
        of_volume(&mut names, volume);
    }
    names
}

fn environment<'a>(
    names: &mut Names<'a>,
    env: &'a Option<Vec<EnvVar>>,
    env_from: &'a Option<Vec<EnvFromSource>>,
) {
    for source in env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        names.extend(source.config_map_key_ref.as_ref().map(|r| name(Kind::ConfigMap, &r.name, r.optional)));
        names.extend(source.secret_key_ref.as_ref().map(|r| name(Kind::Secret, &r.name, r.optional)));
    }
    for source in env_from.iter().flatten() {
        names.extend(source.config_map_ref.as_ref().map(|r| name(Kind::ConfigMap, &r.name, r.optional)));
        names.extend(source.secret_ref.as_ref().map(|r| name(Kind::Secret, &r.name, r.optional)));
    }
}

fn of_volume<'a>(names: &mut Names<'a>, volume: &'a Volume) {
    names.extend(volume.config_map.as_ref().map(|map| name(Kind::ConfigMap, &map.name, map.optional)));
    let secret = volume.secret.as_ref();
    names
        .extend(secret.map(|s| name(Kind::Secret, s.secret_name.as_deref().unwrap_or_default(), s.optional)));
    let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    for source in projected {
        names.extend(source.config_map.as_ref().map(|map| name(Kind::ConfigMap, &map.name, map.optional)));
        names.extend(source.secret.as_ref().map(|secret| name(Kind::Secret, &secret.name, secret.optional)));
    }
    // What plugins log in with, too.
    let secrets = [
        volume.azure_file.as_ref().map(|v| v.secret_name.as_str()),
        volume.cephfs.as_ref().and_then(|v| v.secret_ref.as_ref()).map(|r| r.name.as_str()),
        volume.cinder.as_ref().and_then(|v| v.secret_ref.as_ref()).map(|r| r.name.as_str()),
        volume.csi.as_ref().and_then(|v| v.node_publish_secret_ref.as_ref()).map(|r| r.name.as_str()),
        volume.flex_volume.as_ref().and_then(|v| v.secret_ref.as_ref()).map(|r| r.name.as_str()),
        volume.iscsi.as_ref().and_then(|v| v.secret_ref.as_ref()).map(|r| r.name.as_str()),
        volume.rbd.as_ref().and_then(|v| v.secret_ref.as_ref()).map(|r| r.name.as_str()),
        volume.scale_io.as_ref().map(|v| v.secret_ref.name.as_str()),
        volume.storageos.as_ref().and_then(|v| v.secret_ref.as_ref()).map(|r| r.name.as_str()),
    ];
    names.extend(secrets.into_iter().flatten().map(|secret| name(Kind::Secret, secret, None)));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(spec: &Value) -> Vec<String> {
        let pod = json!({"metadata": {"namespace": "shop"}, "spec": spec});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        references(&pod).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_pod_refers_to() {
        let spec = json!({
            "imagePullSecrets": [{"name": "pull"}, {"name": ""}],
            "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "init"}}]}],
            "containers": [
                {"name": "a", "env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "both", "key": "k"}}},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "both", "key": "k"}}},
                    {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ]},
                {"name": "b", "envFrom": [{"secretRef": {"name": "both"}}]},
            ],
            "ephemeralContainers": [{"name": "e", "envFrom": [{"secretRef": {"name": "late"}}]}],
            "volumes": [
                {"name": "m", "configMap": {"name": "mounted"}},
                {"name": "p", "projected": {"sources": [
                    {"configMap": {"name": "projected"}}, {"secret": {"name": "projected"}},
                    {"serviceAccountToken": {"path": "token"}}, {"configMap": {}},
                ]}},
                {"name": "e", "emptyDir": {}},
            ],
        });
        assert_eq!(
            shown(&spec),
            [
                "configmap \"shop/both\"",
                "configmap \"shop/init\"",
                "configmap \"shop/mounted\"",
                "configmap \"shop/projected\"",
                "secret \"shop/both\"",
                "secret \"shop/late\"",
                "secret \"shop/projected\"",
                "secret \"shop/pull\"",
            ]
        );
    }

    #[test]
    fn the_secrets_of_every_kind_of_volume() {
        for volume in [
            json!({"secret": {"secretName": "s"}}),
            json!({"azureFile": {"secretName": "s", "shareName": "a"}}),
            json!({"cephfs": {"monitors": [], "secretRef": {"name": "s"}}}),
            json!({"cinder": {"volumeID": "a", "secretRef": {"name": "s"}}}),
            json!({"csi": {"driver": "a", "nodePublishSecretRef": {"name": "s"}}}),
            json!({"flexVolume": {"driver": "a", "secretRef": {"name": "s"}}}),
            json!({"iscsi": {"targetPortal": "a", "iqn": "a", "lun": 0, "secretRef": {"name": "s"}}}),
            json!({"rbd": {"monitors": [], "image": "a", "secretRef": {"name": "s"}}}),
            json!({"scaleIO": {"gateway": "a", "system": "a", "secretRef": {"name": "s"}}}),
            json!({"storageos": {"secretRef": {"name": "s"}}}),
        ] {
            let mut named = json!({"name": "v"});
            named.as_object_mut().unwrap().extend(volume.as_object().unwrap().clone());
            let spec = json!({"containers": [], "volumes": [named]});
            assert_eq!(shown(&spec), ["secret \"shop/s\""], "{volume}");
        }
    }
}
