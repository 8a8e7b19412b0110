//! What the runtime was last seen to have, over all pods: finds changes in a relist and pods that nobody wants.

use std::collections::HashMap;
use std::sync::Arc;

use kube_model::observed::ObservedPod;
use kube_model::{PodKey, PodUid, Timestamp};

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
}

#[derive(Debug)]
struct Entry {
    key: PodKey,
    ours: bool,
    /// Of the last full list; `None` if the pod came up since.
    fingerprint: Option<u64>,
    /// The last statuses that came with an event, with the time of the event.
    event: Option<(Timestamp, Arc<ObservedPod>)>,
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
            if before.as_ref().and_then(|e| e.fingerprint) != Some(pod.fingerprint) {
                changed.push(pod.uid.clone());
            }
            let event = before.and_then(|e| e.event);
            let entry = Entry { key: pod.key, ours: pod.ours, fingerprint: Some(pod.fingerprint), event };
            self.pods.insert(pod.uid, entry);
        }
        changed.extend(old.into_keys());
        self.listed = true;
        changed
    }

    /// Takes over the statuses of an event. Returns whether they are news.
    pub(crate) fn event(&mut self, at: Timestamp, pod: ObservedPod) -> bool {
        let gone = pod.is_gone();
        let uid = pod.uid.clone();
        let entry = self.pods.entry(uid.clone()).or_insert_with(|| Entry {
            key: pod.key.clone(),
            ours: pod.sandboxes.iter().any(|s| s.config_source.is_some()),
            fingerprint: None,
            event: None,
        });
        if entry.event.as_ref().is_some_and(|(last, _)| *last > at) {
            return false;
        }
        entry.event = Some((at, Arc::new(pod)));
        if gone {
            self.pods.remove(&uid);
        }
        true
    }

    /// The newest statuses that came with an event after `since`.
    pub(crate) fn newer(&self, uid: &PodUid, since: Timestamp) -> Option<(Timestamp, Arc<ObservedPod>)> {
        let (at, pod) = self.pods.get(uid)?.event.as_ref()?;
        (*at > since).then(|| (*at, Arc::clone(pod)))
    }

    /// The pod is known to be gone from the runtime.
    pub(crate) fn forget(&mut self, uid: &PodUid) {
        self.pods.remove(uid);
    }

    /// Whether the runtime has anything of this pod.
    pub(crate) fn knows(&self, uid: &PodUid) -> bool {
        self.pods.contains_key(uid)
    }

    pub(crate) fn uids(&self) -> impl Iterator<Item = &PodUid> {
        self.pods.keys()
    }

    /// The pods that a kubelet or this agent created.
    pub(crate) fn ours(&self) -> impl Iterator<Item = (PodUid, PodKey)> {
        self.pods.iter().filter(|(_, e)| e.ours).map(|(uid, e)| (uid.clone(), e.key.clone()))
    }
}
