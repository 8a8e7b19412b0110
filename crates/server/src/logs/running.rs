//! Which containers run, for followers that wait for the end of theirs: looked up once for all of them, and only
//! while there are any.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use kube_model::pod::container_statuses;
use tokio::sync::watch;

use crate::View;

/// Shortest time between two looks: a burst of changes is one.
const PAUSE: Duration = Duration::from_millis(100);

/// IDs, with their scheme.
type Ids = BTreeSet<String>;

/// The containers that run.
pub(crate) struct Running {
    view: Arc<dyn View>,
    ids: Mutex<Weak<watch::Sender<Ids>>>,
}

impl Running {
    pub(crate) fn new(view: Arc<dyn View>) -> Arc<Self> {
        Arc::new(Self { view, ids: Mutex::default() })
    }

    /// Ends when container `id` does not run, or is not known.
    pub(crate) async fn ended(self: Arc<Self>, id: String) {
        // An error says that the last one who looked is gone: look on.
        while self.subscribe().wait_for(|ids| !ids.contains(&id)).await.is_err() {}
    }

    fn subscribe(self: &Arc<Self>) -> watch::Receiver<Ids> {
        let mut slot = self.lock();
        if let Some(ids) = slot.upgrade() {
            // What the last look found may be older than what the caller knows.
            ids.send_replace(self.look());
            return ids.subscribe();
        }
        let (ids, receiver) = watch::channel(self.look());
        let ids = Arc::new(ids);
        *slot = Arc::downgrade(&ids);
        tokio::spawn(Arc::clone(self).keep(ids));
        receiver
    }

    async fn keep(self: Arc<Self>, ids: Arc<watch::Sender<Ids>>) {
        let mut changes = self.view.changes();
        loop {
            {
                // Looks are made one at a time, so that an older one never replaces a newer one.
                let _order = self.lock();
                changes.borrow_and_update();
                let now = self.look();
                ids.send_if_modified(|ids| std::mem::replace(ids, now.clone()) != now);
            }
            tokio::select! {
                // Cancel-safe, both.
                () = ids.closed() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn look(&self) -> Ids {
        let snapshot = self.view.snapshot();
        let statuses = snapshot.pods.iter().flat_map(|pod| container_statuses(&pod.status));
        statuses
            .filter(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()))
            .filter_map(|status| status.container_id.clone())
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Weak<watch::Sender<Ids>>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
