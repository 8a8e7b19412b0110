//! What pods refer to came or changed: who makes something of it is told.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;

use apiserver_sync::objects::{Key, Kind, references};
use kube_model::core::Pod;
use kube_model::{PodUid, pod};
use kuberuntime::{CriRuntime, LocalObjects, References};
use tokio::sync::watch;
use volumes::Volumes;

use crate::AgentWorkers;

/// Wakes the pods that refer to objects which come, go or change, has volumes look at them, and images pulled anew that
/// waited for a pull secret. Ends never.
pub(crate) async fn follow(
    references: References,
    workers: AgentWorkers,
    volumes: Volumes,
    runtime: Arc<CriRuntime>,
) {
    let mut local = Local::new(references.local.clone());
    let objects = references.api.map(|api| api.objects);
    loop {
        // Both are cancel-safe: what was not taken comes with the next call.
        let (keys, pods) = tokio::select! {
            keys = async {
                match &objects {
                    Some(objects) => objects.changes().next().await,
                    None => pending().await,
                }
            } => {
                let users = objects.as_ref().map(|objects| objects.users(&keys)).unwrap_or_default();
                (keys, users)
            }
            keys = local.next() => {
                let users = local_users(&workers, &keys);
                (keys, users)
            }
        };
        volumes.changed(&keys);
        if keys.iter().any(|key| key.kind == Kind::Secret) {
            for uid in pulled_with(&workers, &pods, &keys) {
                runtime.images.retry(&uid);
            }
        }
        for uid in pods {
            workers.wake_to_retry(&uid);
        }
    }
}

/// Those of these pods whose images are pulled with any of the objects.
fn pulled_with(workers: &AgentWorkers, pods: &[PodUid], keys: &BTreeSet<Key>) -> Vec<PodUid> {
    let states = workers.states().into_iter().filter(|state| pods.contains(&state.uid));
    states.filter(|state| is_pulled_with(&state.pod, keys)).map(|state| state.uid).collect()
}

fn is_pulled_with(pod: &Pod, keys: &BTreeSet<Key>) -> bool {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut names = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    names.any(|secret| {
        let is_it = |key: &Key| *key.namespace == *namespace && *key.name == *secret.name;
        keys.iter().any(|key| key.kind == Kind::Secret && is_it(key))
    })
}

/// The pods of this node's manifests that refer to any of the objects.
fn local_users(workers: &AgentWorkers, keys: &BTreeSet<Key>) -> Vec<PodUid> {
    let states = workers.states().into_iter().filter(|state| pod::is_static(&state.pod));
    states.filter(|state| !references(&state.pod).is_disjoint(keys)).map(|state| state.uid).collect()
}

/// The local objects, and what of them changed.
struct Local {
    current: watch::Receiver<Arc<LocalObjects>>,
    seen: Arc<LocalObjects>,
}

impl Local {
    fn new(mut current: watch::Receiver<Arc<LocalObjects>>) -> Self {
        let seen = Arc::clone(&current.borrow_and_update());
        Self { current, seen }
    }

    async fn next(&mut self) -> BTreeSet<Key> {
        loop {
            if self.current.changed().await.is_err() {
                return pending().await;
            }
            let now = Arc::clone(&self.current.borrow_and_update());
            let changed = differences(&self.seen, &now);
            self.seen = now;
            if !changed.is_empty() {
                return changed;
            }
        }
    }
}

fn differences(before: &LocalObjects, now: &LocalObjects) -> BTreeSet<Key> {
    let keys = before.keys().chain(now.keys());
    keys.filter(|key| before.get(*key) != now.get(*key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use apiserver_sync::objects::Object;

    use super::*;

    #[test]
    fn only_a_pull_secret_has_images_pulled_anew() {
        let pod = r#"{"metadata":{"name":"a","namespace":"n"},
            "spec":{"imagePullSecrets":[{"name":"pull"}],"containers":[{"name":"c","envFrom":[{"secretRef":{"name":"env"}}]}]}}"#;
        let pod: Pod = serde_json::from_str(pod).unwrap();
        let key =
            |kind, namespace: &str, name: &str| Key { kind, namespace: namespace.into(), name: name.into() };
        for (key, want) in [
            (key(Kind::Secret, "n", "pull"), true),
            (key(Kind::ConfigMap, "n", "pull"), false),
            (key(Kind::Secret, "other", "pull"), false),
            (key(Kind::Secret, "n", "env"), false),
        ] {
            assert_eq!(is_pulled_with(&pod, &[key.clone()].into()), want, "{key:?}");
        }
    }

    #[tokio::test]
    async fn what_came_went_or_changed_is_told() {
        let key = |name: &str| Key { kind: Kind::Secret, namespace: "n".into(), name: name.into() };
        let set = |objects: &[(&str, &str)]| {
            let object = |value: &str| {
                Arc::new(Object { data: [("k".to_owned(), value.into())].into(), ..Object::default() })
            };
            Arc::new(objects.iter().map(|(name, value)| (key(name), object(value))).collect::<LocalObjects>())
        };
        let current = watch::Sender::new(set(&[("stays", "1"), ("goes", "1"), ("changes", "1")]));
        let mut local = Local::new(current.subscribe());
        current.send_replace(set(&[("stays", "1"), ("comes", "1"), ("changes", "2")]));
        let names = |keys: BTreeSet<Key>| keys.iter().map(|key| key.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(local.next().await), ["changes", "comes", "goes"]);
        current.send_replace(set(&[("stays", "1"), ("comes", "1"), ("changes", "2")]));
        current.send_replace(set(&[("stays", "2"), ("comes", "1"), ("changes", "2")]));
        assert_eq!(names(local.next().await), ["stays"]);
    }
}
