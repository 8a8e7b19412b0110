//! What the runtime was last seen to have, over all pods: finds changes in a relist and pods that nobody wants.

use std::collections::HashMap;
use std::sync::Arc;

use kube_model::observed::ObservedPod;
use kube_model::{Monotonic, PodKey, PodUid};

/// One pod in a full list of the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Pod UID
    pub uid: PodUid,
    /// Namespace and name
    pub key: PodKey,
    /// Changes whenever the set of the pod's sandboxes and containers or the state of one changes.
    pub fingerprint: u64,
    /// Whether a kubelet or this agent created it. Others are never touched.
    pub ours: bool,
    /// The grace period that it was made with, in seconds, if the runtime tells.
    pub grace_seconds: Option<i64>,
}

#[derive(Debug)]
struct Entry {
    key: PodKey,
    ours: bool,
    grace_seconds: Option<i64>,
    /// Of the last full list; `None` if the pod came up since.
    fingerprint: Option<u64>,
    /// The last statuses that were told.
    reading: Option<Reading>,
}

/// Statuses of a pod that an actor did not read itself.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// Nothing that happened before is missing.
    pub(crate) at: Monotonic,
    pub(crate) pod: Arc<ObservedPod>,
    /// Whether it tells of all sandboxes of the pod; an event tells of one.
    pub(crate) whole: bool,
}

/// The runtime cache.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    pods: HashMap<PodUid, Entry>,
    /// Whether a full list was ever seen: before that, absence means nothing.
    pub(crate) listed: bool,
}

impl Cache {
    /// Takes over a full list. Returns the pods that changed or went since the last one.
    pub(crate) fn list(&mut self, pods: Vec<Listed>) -> Vec<PodUid> {
        let mut old = std::mem::take(&mut self.pods);
        let mut changed = Vec::new();
        for pod in pods {
            let before = old.remove(&pod.uid);
            let same = before.as_ref().and_then(|e| e.fingerprint) == Some(pod.fingerprint);
            if !same {
                changed.push(pod.uid.clone());
            }
            let reading = before.and_then(|e| e.reading).filter(|_| same);
            let Listed { uid, key, fingerprint, ours, grace_seconds } = pod;
            let entry = Entry { key, ours, grace_seconds, fingerprint: Some(fingerprint), reading };
            self.pods.insert(uid, entry);
        }
        changed.extend(old.into_keys());
        self.listed = true;
        changed
    }

    /// Takes over statuses. Returns whether they are news.
    pub(crate) fn tell(&mut self, reading: Reading) -> bool {
        let pod = &reading.pod;
        let (gone, uid) = (pod.is_gone(), pod.uid.clone());
        let entry = self.pods.entry(uid.clone()).or_insert_with(|| Entry {
            key: pod.key.clone(),
            ours: pod.sandboxes.iter().any(|s| s.config_source.is_some()),
            grace_seconds: None,
            fingerprint: None,
            reading: None,
        });
        if entry.reading.as_ref().is_some_and(|last| last.at > reading.at) {
            return false;
        }
        entry.reading = Some(reading);
        if gone {
            self.pods.remove(&uid);
        }
        true
    }

    /// The last statuses that were told.
    pub(crate) fn reading(&self, uid: &PodUid) -> Option<&Reading> {
        self.pods.get(uid)?.reading.as_ref()
    }

    /// The pod is known to be gone from the runtime.
    pub(crate) fn forget(&mut self, uid: &PodUid) {
        self.pods.remove(uid);
    }

    /// Whether the runtime has anything of this pod.
    pub(crate) fn knows(&self, uid: &PodUid) -> bool {
        self.pods.contains_key(uid)
    }

    /// The grace period that the pod was made with, in seconds.
    pub(crate) fn grace_seconds(&self, uid: &PodUid) -> Option<i64> {
        self.pods.get(uid)?.grace_seconds
    }

    /// The pods that a kubelet or this agent created.
    pub(crate) fn ours(&self) -> impl Iterator<Item = (&PodUid, &PodKey)> {
        self.pods.iter().filter(|(_, e)| e.ours).map(|(uid, e)| (uid, &e.key))
    }
}
