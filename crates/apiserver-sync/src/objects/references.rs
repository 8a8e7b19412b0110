//! What a pod refers to.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube_model::core::{EnvFromSource, EnvVar, Pod};

use super::{Key, Kind};

/// The ConfigMaps and Secrets of a pod's `env`, `envFrom` (of all kinds of containers) and `imagePullSecrets`.
pub fn references(pod: &Pod) -> BTreeSet<Key> {
    let namespace: Arc<str> = pod.metadata.namespace.as_deref().unwrap_or_default().into();
    let mut names: BTreeSet<(Kind, &str)> = BTreeSet::new();
    if let Some(spec) = &pod.spec {
        let pull = spec.image_pull_secrets.iter().flatten();
        names.extend(pull.map(|secret| (Kind::Secret, secret.name.as_str())));
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        for container in containers {
            add(&mut names, &container.env, &container.env_from);
        }
        for container in spec.ephemeral_containers.iter().flatten() {
            add(&mut names, &container.env, &container.env_from);
        }
    }
    let key = |(kind, name): (Kind, &str)| Key { kind, namespace: Arc::clone(&namespace), name: name.into() };
    names.into_iter().filter(|(_, name)| !name.is_empty()).map(key).collect()
}

fn add<'a>(
    names: &mut BTreeSet<(Kind, &'a str)>,
    env: &'a Option<Vec<EnvVar>>,
    env_from: &'a Option<Vec<EnvFromSource>>,
) {
    for source in env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        names.extend(source.config_map_key_ref.as_ref().map(|r| (Kind::ConfigMap, r.name.as_str())));
        names.extend(source.secret_key_ref.as_ref().map(|r| (Kind::Secret, r.name.as_str())));
    }
    for source in env_from.iter().flatten() {
        names.extend(source.config_map_ref.as_ref().map(|r| (Kind::ConfigMap, r.name.as_str())));
        names.extend(source.secret_ref.as_ref().map(|r| (Kind::Secret, r.name.as_str())));
    }
}
