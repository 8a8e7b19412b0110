//! Which objects changed, for whoever makes something of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use kube_model::objects::Key;
use tokio::sync::Notify;

/// The keys that changed since they were last taken: each once, however often it changed, so that a reader who is late
/// costs no more than the keys there are. Cheap to clone; of several readers each change goes to one.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    keys: Mutex<BTreeSet<Key>>,
    news: Notify,
}

impl Changes {
    /// The next keys, at least one. Cancel safe: what was not taken comes with the next call.
    pub async fn next(&self) -> BTreeSet<Key> {
        loop {
            let keys = std::mem::take(&mut *self.inner.keys.lock().unwrap_or_else(PoisonError::into_inner));
            if !keys.is_empty() {
                return keys;
            }
            // One that is told between the two lines is remembered.
            self.inner.news.notified().await;
        }
    }

    pub(super) fn note(&self, key: &Key) {
        self.inner.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        self.inner.news.notify_one();
    }
}
