//! Volumes of the node that several pods may use, such as a disk: mounted once for all of them below the node's
//! `plugins`, and taken down after the last (upstream `pkg/kubelet/volumemanager/cache/actual_state_of_world.go`).
//!
//! Each operation for the volume as a whole is a [`Turn`], and there is one at a time. Who uses it is remembered from
//! before anything is mounted for a pod until all of it is gone, and read from the pods' folders: an earlier run may have
//! mounted it, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube_model::PodUid;

use crate::blocking::{self, On};
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
            if let Some(turn) = self.try_turn(name) {
                return turn;
            }
            ended.await;
        }
    }

    /// `None`: something is being done for the volume of this name, which may take long.
    fn try_turn(self: &Arc<Self>, name: &str) -> Option<Turn> {
        let mut all = self.shared.lock();
        let one = all.entry(name.to_owned()).or_default();
        if one.busy {
            return None;
        }
        one.busy = true;
        Some(Turn { inner: Arc::clone(self), name: name.to_owned() })
    }
}

impl Inner {
    fn is_used(&self, name: &str, but: Option<&PodUid>) -> bool {
        let remembered = {
            let all = self.shared.lock();
            all.get(name).is_some_and(|one| one.users.iter().any(|user| Some(user) != but))
        };
        remembered || plugins::is_used(&self.settings, name, but)
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

    /// As [`Turn::is_used`], from where nothing may block. If that cannot be found out, it is.
    async fn is_used_by_any(&self, but: Option<PodUid>) -> bool {
        let (inner, name) = (Arc::clone(&self.inner), self.name.clone());
        let look = move || inner.is_used(&name, but.as_ref());
        blocking::run(On::OwnDisk, look).await.unwrap_or(true)
    }

    /// Whether a pod uses it, but for this one. Reads folders of all pods.
    pub(crate) fn is_used(&self, but: Option<&PodUid>) -> bool {
        self.inner.is_used(&self.name, but)
    }
}

/// Takes down a volume of the node, unless a pod uses it.
pub(crate) async fn take_down_unused(inner: &Arc<Inner>, name: &str) -> Result<(), TearDownError> {
    // Where something is being done, somebody uses it; and nobody waits here for a disk that takes its time.
    let Some(turn) = inner.try_turn(name) else { return Ok(()) };
    if turn.is_used_by_any(None).await {
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
    if !turn.is_used_by_any(Some(uid.clone())).await {
        plugins::take_down(inner, name).await?;
    }
    turn.leave(uid);
    Ok(())
}
