//! Who does something on the node for a pod's volumes holds the pod meanwhile: its volumes are taken down when nobody
//! does any more, and while they are taken down, nobody begins.

use std::sync::Arc;

use kube_model::PodUid;

use crate::manager::{Entry, Inner, Life};

/// Something is being done for a pod; it goes to where that is done, so that it ends with it whoever waits for the answer.
pub(crate) struct Hold {
    inner: Arc<Inner>,
    uid: PodUid,
    generation: u64,
    what: String,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(entry) = self.inner.pods().get_mut(&self.uid)
            && entry.generation == self.generation
        {
            entry.held.remove(&self.what);
        }
        self.inner.ended.notify_waiters();
    }
}

/// The volumes of a pod are being taken down.
pub(crate) struct TakingDown {
    inner: Arc<Inner>,
    uid: PodUid,
    generation: u64,
    done: bool,
}

impl TakingDown {
    /// All is gone, and may be forgotten.
    pub(crate) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for TakingDown {
    fn drop(&mut self) {
        // What is forgotten here may be on the node yet.
        self.inner.look_at_in_use();
        let mut pods = self.inner.pods();
        if let Some(entry) = pods.get_mut(&self.uid)
            && entry.generation == self.generation
        {
            if self.done || entry.life == (Life::TakingDown { known: false }) {
                pods.remove(&self.uid);
            } else {
                entry.life = Life::Ending;
            }
        }
        drop(pods);
        self.inner.in_use.may_have_gone();
        self.inner.ended.notify_waiters();
    }
}

/// Whose volumes are to be taken down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Of any pod.
    Any,
    /// Only of one that nobody wants.
    Unwanted,
}

/// Whether volumes may be taken down now.
pub(crate) enum End {
    /// They may, and nothing else begins until that has ended.
    Begun(TakingDown),
    /// Something is being done for them yet.
    Held(Vec<String>),
    /// They are wanted.
    Wanted,
}

impl Inner {
    /// Holds the pod to do something. One and the same thing is done by one at a time: others wait. `None`: the pod's
    /// volumes are being taken down.
    pub(crate) async fn hold(self: &Arc<Self>, uid: &PodUid, generation: u64, what: &str) -> Option<Hold> {
        loop {
            // Before the look: what ends in between is not missed.
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.pods().get_mut(uid).and_then(|entry| entry.hold(generation, what))? {
                let (inner, uid, what) = (Arc::clone(self), uid.clone(), what.to_owned());
                return Some(Hold { inner, uid, generation, what });
            }
            ended.await;
        }
    }

    /// Has nothing begin any more for a pod, known or not, and its volumes taken down if nothing is being done for them.
    pub(crate) fn end(self: &Arc<Self>, uid: &PodUid, whose: Whose) -> End {
        let mut pods = self.pods();
        let found = pods.get(uid).map(|entry| entry.life);
        let known = found.is_some();
        if found == Some(Life::Wanted) && whose == Whose::Unwanted {
            return End::Wanted;
        }
        let entry = pods.entry(uid.clone()).or_insert_with(|| Entry::new(self, Arc::default(), Life::Ending));
        if matches!(entry.life, Life::TakingDown { .. }) {
            return End::Held(vec!["they are being taken down".to_owned()]);
        }
        entry.life = Life::Ending;
        if !entry.held.is_empty() {
            return End::Held(entry.held.iter().cloned().collect());
        }
        entry.life = Life::TakingDown { known };
        let generation = entry.generation;
        drop(pods);
        End::Begun(TakingDown { inner: Arc::clone(self), uid: uid.clone(), generation, done: false })
    }
}

impl Entry {
    /// Whether it is held now; `None`: it cannot be any more.
    fn hold(&mut self, generation: u64, what: &str) -> Option<bool> {
        let lives = self.generation == generation && self.life == Life::Wanted;
        lives.then(|| self.held.insert(what.to_owned()))
    }
}
