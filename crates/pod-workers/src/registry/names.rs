//! Of the pods of one name only one may be there at a time, whatever their UIDs.

use kube_model::{PodKey, PodUid};

use super::{Slot, State};

impl State {
    /// The UID of a pod of the same name that must be gone before this one may start: one on its way out, an
    /// earlier arrival, or one that the runtime has and that no source has claimed yet. A pod that is to be
    /// removed waits for nobody.
    pub(super) fn blocker(&self, uid: &PodUid, slot: &Slot) -> Option<PodUid> {
        if slot.is_removed() {
            return None;
        }
        let goes_first = |s: &Slot| !s.finished && (s.started || s.is_removed() || s.arrival < slot.arrival);
        let earlier = self.pods.iter().find(|(other, s)| *other != uid && s.key == slot.key && goes_first(s));
        if let Some((other, _)) = earlier {
            return Some(other.clone());
        }
        self.unclaimed().find(|(other, key)| other != uid && *key == slot.key).map(|(other, _)| other)
    }

    /// The pods of ours in the runtime that have no actor and are not what is left of one that has ended.
    pub(super) fn unclaimed(&self) -> impl Iterator<Item = (PodUid, PodKey)> {
        self.cache.ours().filter(|(uid, _)| !self.pods.contains_key(uid) && !self.leftovers.contains(uid))
    }
}
