//! What pods refer to came or changed: who makes something of it is told.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;

use apiserver_sync::objects::{Key, references};
use kube_model::{PodUid, pod};
use kuberuntime::{LocalObjects, References};
use tokio::sync::watch;
use volumes::Volumes;

use crate::AgentWorkers;

/// Wakes the pods that refer to objects which come, go or change, and has volumes look at them. Ends never.
pub(crate) async fn follow(references: References, workers: AgentWorkers, volumes: Volumes) {
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
        for uid in pods {
            workers.wake_to_retry(&uid);
        }
    }
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
    use apiserver_sync::objects::{Kind, Object};

    use super::*;

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
