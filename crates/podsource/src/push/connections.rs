//! The connections that are open: a fixed number of places. A new connection may have the place of the one that
//! has been idle the longest, so that idle ones cost nobody anything, however many there are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// All connections.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    open: Mutex<Open>,
    /// A connection ended, or became idle.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    places: BTreeMap<u64, Place>,
}

#[derive(Debug)]
struct Place {
    /// Requests under way.
    busy: usize,
    idle_since: Instant,
    evict: CancellationToken,
}

impl Connections {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), open: Mutex::default(), freed: Notify::new() })
    }

    /// A place, as soon as there is one.
    pub(super) async fn enter(self: &Arc<Self>) -> Connection {
        loop {
            // Made before the look, so that no notice falls between the two; dropping it loses nothing.
            let freed = self.freed.notified();
            if let Some(connection) = self.try_enter() {
                return connection;
            }
            freed.await;
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<Connection> {
        let mut open = self.open();
        if open.places.len() >= self.most {
            let idle = open.places.iter().filter(|(_, place)| place.busy == 0);
            let (&longest, place) = idle.min_by_key(|(_, place)| place.idle_since)?;
            place.evict.cancel();
            open.places.remove(&longest);
        }
        let id = open.next;
        open.next += 1;
        let evict = CancellationToken::new();
        let place = Place { busy: 0, idle_since: Instant::now(), evict: evict.clone() };
        open.places.insert(id, place);
        Some(Connection { id, evicted: evict, all: Arc::clone(self) })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Nothing in here can panic half-way.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the table. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    evicted: CancellationToken,
    all: Arc<Connections>,
}

impl Connection {
    /// Ends when another connection got the place.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// Marks the connection as busy until the guard is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        if let Some(place) = self.all.open().places.get_mut(&self.id) {
            place.busy += 1;
        }
        Busy(Arc::clone(self))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.open().places.remove(&self.id);
        self.all.freed.notify_one();
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Busy(Arc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        let all = &self.0.all;
        if let Some(place) = all.open().places.get_mut(&self.0.id) {
            place.busy -= 1;
            place.idle_since = Instant::now();
        }
        all.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;

    async fn enter(all: &Arc<Connections>) -> Arc<Connection> {
        tokio::time::advance(Duration::from_secs(1)).await;
        Arc::new(all.enter().now_or_never().expect("there is a place"))
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_is_idle_longest_has_to_go() {
        let all = Connections::new(3);
        let (a, b, c) = (enter(&all).await, enter(&all).await, enter(&all).await);
        let busy = a.busy();
        let d = enter(&all).await;
        assert!(!a.evicted.is_cancelled() && b.evicted.is_cancelled() && !c.evicted.is_cancelled());
        drop(busy);
        let e = enter(&all).await;
        assert!(c.evicted.is_cancelled(), "it was idle before the first one was");
        assert!(!a.evicted.is_cancelled() && !d.evicted.is_cancelled());
        drop((a, b, c, d, e));
        assert!(all.open().places.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn with_all_busy_a_new_one_waits_until_a_request_or_a_connection_ends() {
        let all = Connections::new(2);
        let (a, b) = (enter(&all).await, enter(&all).await);
        let (busy, _watching) = (a.busy(), b.busy());
        let mut waiting = Box::pin(all.enter());
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(busy);
        let c = Arc::new(waiting.as_mut().now_or_never().expect("one is idle"));
        let _watching_too = c.busy();
        assert!(a.evicted.is_cancelled());
        let mut waiting = Box::pin(all.enter());
        assert!(waiting.as_mut().now_or_never().is_none());
        drop((_watching, b));
        assert!(waiting.as_mut().now_or_never().is_some());
    }
}
