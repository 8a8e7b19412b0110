//! Volumes of the node that several pods may use, such as a disk: mounted once for all of them below the node's
//! `plugins`, and taken down after the last (upstream `pkg/kubelet/volumemanager/cache/actual_state_of_world.go`).
//!
//! Each operation for the volume as a whole is a [`Turn`], and there is one at a time. Who uses it is remembered from
//! before anything is mounted for a pod until all of it is gone, and read from the pods' folders: an earlier run may have
//! mounted it, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube_model::PodUid;

use crate::error::TearDownError;
use crate::manager::Inner;
use crate::plugins;

/// All of them, by the name that tells one from the others of the node.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<BTreeMap<String, One>>);

#[derive(Debug, Default)]
struct One {
    users: BTreeSet<PodUid>,
    busy: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, One>> {
        // Each holder leaves whole states behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that a pod uses, as far as this run of the agent knows.
    pub(crate) fn of(&self, uid: &PodUid) -> BTreeSet<String> {
        let used = |(name, one): (&String, &One)| one.users.contains(uid).then(|| name.clone());
        self.lock().iter().filter_map(used).collect()
    }
}

/// An operation for one of them: it goes to where that is done, so that it ends with it whoever waits for the answer.
pub(crate) struct Turn {
    inner: Arc<Inner>,
    name: String,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = self.inner.shared.lock();
        if let Some(one) = all.get_mut(&self.name) {
            one.busy = false;
            if one.users.is_empty() {
                all.remove(&self.name);
            }
        }
        drop(all);
        self.inner.ended.notify_waiters();
    }
}

impl Inner {
    /// Waits until nothing is being done for the volume of this name.
    pub(crate) async fn turn(self: &Arc<Self>, name: &str) -> Turn {
        loop {
            // Before the look: what ends in between is not missed.
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            {
                let mut all = self.shared.lock();
                let one = all.entry(name.to_owned()).or_default();
                if !one.busy {
                    one.busy = true;
                    return Turn { inner: Arc::clone(self), name: name.to_owned() };
                }
            }
            ended.await;
        }
    }
}

impl Turn {
    /// From now on it is not taken down.
    pub(crate) fn join(&self, uid: &PodUid) {
        if let Some(one) = self.inner.shared.lock().get_mut(&self.name) {
            one.users.insert(uid.clone());
        }
    }

    fn leave(&self, uid: &PodUid) {
        if let Some(one) = self.inner.shared.lock().get_mut(&self.name) {
            one.users.remove(uid);
        }
    }

    /// Whether a pod uses it, but for this one. Reads folders of all pods.
    pub(crate) fn is_used(&self, but: Option<&PodUid>) -> bool {
        let remembered = {
            let all = self.inner.shared.lock();
            all.get(&self.name).is_some_and(|one| one.users.iter().any(|user| Some(user) != but))
        };
        remembered || plugins::is_used(&self.inner.settings, &self.name, but)
    }
}

/// Takes down a volume of the node, unless a pod uses it.
pub(crate) async fn take_down_unused(inner: &Arc<Inner>, name: &str) -> Result<(), TearDownError> {
    let turn = inner.turn(name).await;
    if turn.is_used(None) {
        return Ok(());
    }
    tracing::info!(volume = name, "taking down a volume of the node that no pod uses");
    plugins::take_down(inner, name).await
}

/// The pod has nothing of the volume any more: it is taken down if the pod was the last. Whoever waited for it looks again.
///
/// # Errors
/// It cannot be taken down; the pod stays its user, and is to leave again.
pub(crate) async fn leave(inner: &Arc<Inner>, uid: &PodUid, name: &str) -> Result<(), TearDownError> {
    let turn = inner.turn(name).await;
    if !turn.is_used(Some(uid)) {
        plugins::take_down(inner, name).await?;
    }
    turn.leave(uid);
    Ok(())
}
