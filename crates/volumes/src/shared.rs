//! Volumes of the node that several pods may use, such as a disk: mounted once for all of them below the node's
//! `plugins`, and taken down after the last (upstream `pkg/kubelet/volumemanager/cache/actual_state_of_world.go`).
//!
//! Each operation for the volume as a whole is a [`Turn`], and there is one at a time. Who uses it is remembered from
//! before anything is mounted for a pod until all of it is gone, and read from the pods' folders: an earlier run may have
//! mounted it, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube_model::PodUid;

use crate::blocking::{self, On};
use crate::error::TearDownError;
use crate::manager::Inner;
use crate::plugins;

/// How long one waits for one of them to be taken down.
const PATIENCE: Duration = Duration::from_secs(30);

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

    fn forget(&self, uid: &PodUid, name: &str) {
        let mut all = self.lock();
        if let Some(one) = all.get_mut(name) {
            one.users.remove(uid);
            if one.users.is_empty() && !one.busy {
                all.remove(name);
            }
        }
    }

    /// Whether it is free, and from now on it is not.
    fn take(&self, name: &str) -> bool {
        let mut all = self.lock();
        let one = all.entry(name.to_owned()).or_default();
        !std::mem::replace(&mut one.busy, true)
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
            if let Some(turn) = self.turn_now(name) {
                return turn;
            }
            ended.await;
        }
    }

    /// `None`: something is being done for it.
    fn turn_now(self: &Arc<Self>, name: &str) -> Option<Turn> {
        self.shared.take(name).then(|| Turn { inner: Arc::clone(self), name: name.to_owned() })
    }
}

impl Turn {
    /// From now on it is not taken down.
    pub(crate) fn join(&self, uid: &PodUid) {
        if let Some(one) = self.inner.shared.lock().get_mut(&self.name) {
            one.users.insert(uid.clone());
        }
    }

    /// Whether a pod uses it, but for this one. Reads folders of all pods, none that something is mounted at.
    ///
    /// # Errors
    /// If that cannot be told: then it may be used.
    pub(crate) fn is_used(&self, but: Option<&PodUid>) -> Result<bool, TearDownError> {
        let remembered = {
            let all = self.inner.shared.lock();
            all.get(&self.name).is_some_and(|one| one.users.iter().any(|user| Some(user) != but))
        };
        Ok(remembered || plugins::is_used(&self.inner.settings, &self.name, but)?)
    }

    /// Takes down the volume, unless a pod uses it.
    async fn take_down(self) -> Result<(), TearDownError> {
        let look = move || {
            let used = self.is_used(None);
            (self, used)
        };
        let (turn, used) = blocking::run(On::OwnDisk, look).await.map_err(TearDownError::CutOff)?;
        if used? {
            return Ok(());
        }
        tracing::info!(volume = turn.name, "taking down a volume of the node that no pod uses");
        plugins::take_down(&turn.inner, &turn.name).await
    }
}

/// Does it whoever waits for it, which is not for ever: what it lies on may not answer.
async fn with_patience(
    work: impl Future<Output = Result<(), TearDownError>> + Send + 'static,
) -> Result<(), TearDownError> {
    let late = |_| TearDownError::Late(PATIENCE.as_secs());
    let done = tokio::time::timeout(PATIENCE, tokio::spawn(work)).await.map_err(late)?;
    done.map_err(|error| TearDownError::CutOff(error.to_string()))?
}

/// Takes down a volume of the node, unless a pod uses it or something is being done for it.
pub(crate) async fn take_down_unused(inner: &Arc<Inner>, name: &str) -> Result<(), TearDownError> {
    match inner.turn_now(name) {
        Some(turn) => with_patience(turn.take_down()).await,
        None => Ok(()),
    }
}

/// The pod has nothing of the volume any more, in its folder neither: it is taken down if the pod was the last. If it cannot be now, that does not
/// keep the pod, as in the kubelet: it is tried again with whatever else no pod uses.
pub(crate) async fn leave(inner: &Arc<Inner>, uid: &PodUid, name: &str) {
    inner.shared.forget(uid, name);
    let (inner, volume) = (Arc::clone(inner), name.to_owned());
    let work = async move {
        let late = |_| TearDownError::Late(PATIENCE.as_secs());
        tokio::time::timeout(PATIENCE, inner.turn(&volume)).await.map_err(late)?.take_down().await
    };
    if let Err(error) = with_patience(work).await {
        tracing::warn!(volume = name, "a volume of the node is taken down later: {}", util::causes(&error));
    }
}
