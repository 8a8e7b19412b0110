//! The connections that are open: a fixed number of places. A new connection may have the place of one that is idle,
//! so that idle ones cost nobody anything, however many there are: first of a stranger, who has not shown yet that he
//! may use the API, and among strangers of the peer that has most of them; then of the one that has been idle the
//! longest. One that still sends its request counts as idle, or else a few bytes would hold a place; but none has to
//! go in its first moments: what it sent may be there and only not be read yet.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long a connection is left alone after it came, or after an answer: enough for a client that has something to
/// say, and for us to read it.
const GRACE: Duration = Duration::from_millis(250);

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
    /// The machine at its other end; `None` of a unix socket.
    peer: Option<IpAddr>,
    /// A request of it was let in.
    known: bool,
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
    pub(super) async fn enter(self: &Arc<Self>, peer: Option<IpAddr>) -> Connection {
        loop {
            // Made before the look, so that no notice falls between the two; dropping it loses nothing.
            let freed = self.freed.notified();
            match self.try_enter(peer, Instant::now()) {
                Ok(connection) => return connection,
                Err(None) => freed.await,
                // Whichever is first: a place that is free, or one that has been idle for long enough.
                Err(Some(at)) => drop(timeout_at(at, freed).await),
            }
        }
    }

    /// A place, or when one may be had if none becomes free before.
    fn try_enter(
        self: &Arc<Self>,
        peer: Option<IpAddr>,
        now: Instant,
    ) -> Result<Connection, Option<Instant>> {
        let mut open = self.open();
        if open.places.len() >= self.most {
            let (id, at) = open.first_to_go().ok_or(None)?;
            if at > now {
                return Err(Some(at));
            }
            if let Some(place) = open.places.remove(&id) {
                place.evict.cancel();
            }
        }
        let id = open.next;
        open.next += 1;
        let evict = CancellationToken::new();
        open.places.insert(id, Place { peer, known: false, busy: 0, idle_since: now, evict: evict.clone() });
        Ok(Connection { id, evicted: evict, all: Arc::clone(self) })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Nothing in here can panic half-way.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// The connection that has to make room, and from when on.
    fn first_to_go(&self) -> Option<(u64, Instant)> {
        let mut strangers: BTreeMap<Option<IpAddr>, usize> = BTreeMap::new();
        for place in self.places.values().filter(|place| !place.known) {
            *strangers.entry(place.peer).or_default() += 1;
        }
        let rank = |place: &Place| {
            let of_peer = if place.known { 0 } else { strangers.get(&place.peer).copied().unwrap_or(0) };
            (place.known, Reverse(of_peer), place.idle_since)
        };
        let idle = self.places.iter().filter(|(_, place)| place.busy == 0);
        idle.min_by_key(|(_, place)| rank(place)).map(|(id, place)| (*id, place.idle_since + GRACE))
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

    /// Who is behind it may use the API.
    pub(super) fn known(&self) {
        if let Some(place) = self.all.open().places.get_mut(&self.id) {
            place.known = true;
        }
    }

    /// Marks the connection as busy until the guard is dropped. `None` if another one has got its place: what it
    /// asks for must not be done, because it will have no answer.
    pub(super) fn busy(self: &Arc<Self>) -> Option<Busy> {
        self.all.open().places.get_mut(&self.id)?.busy += 1;
        Some(Busy(Arc::clone(self)))
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
        Arc::new(all.enter(None).now_or_never().expect("there is a place"))
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_is_idle_longest_has_to_go() {
        let all = Connections::new(3);
        let (a, b, c) = (enter(&all).await, enter(&all).await, enter(&all).await);
        let busy = a.busy().unwrap();
        let d = enter(&all).await;
        assert!(!a.evicted.is_cancelled() && b.evicted.is_cancelled() && !c.evicted.is_cancelled());
        assert!(b.busy().is_none(), "it has no place to be busy at");
        drop(busy);
        let e = enter(&all).await;
        assert!(c.evicted.is_cancelled(), "it was idle before the first one was");
        assert!(!a.evicted.is_cancelled() && !d.evicted.is_cancelled());
        drop((a, b, c, d, e));
        assert!(all.open().places.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_go_first_and_of_them_those_of_the_peer_that_has_most() {
        let all = Connections::new(5);
        let [crowd, other] = ["10.0.0.1", "10.0.0.2"].map(|ip| Some(ip.parse().unwrap()));
        let enter = async |peer| {
            tokio::time::advance(Duration::from_secs(1)).await;
            all.enter(peer).now_or_never().expect("there is a place")
        };
        let known = enter(crowd).await;
        known.known();
        let quiet = enter(other).await;
        let (a, b, c) = (enter(crowd).await, enter(crowd).await, enter(crowd).await);
        let d = enter(crowd).await;
        assert!(a.evicted.is_cancelled() && !quiet.evicted.is_cancelled() && !known.evicted.is_cancelled());
        let e = enter(other).await;
        assert!(b.evicted.is_cancelled());
        // Now each has two.
        let f = enter(crowd).await;
        assert!(quiet.evicted.is_cancelled(), "the one that was idle longest");
        [&c, &d, &e, &f].into_iter().for_each(Connection::known);
        let _last = enter(None).await;
        assert!(known.evicted.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_has_a_moment_to_say_something() {
        let all = Connections::new(1);
        let started = Instant::now();
        let first = Arc::new(all.enter(None).await);
        let second = Arc::new(all.enter(None).await);
        assert_eq!(started.elapsed(), GRACE);
        assert!(first.evicted.is_cancelled());
        // And so it has after an answer.
        tokio::time::advance(GRACE).await;
        drop(second.busy());
        let mut waiting = Box::pin(all.enter(None));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(second);
        assert!(waiting.as_mut().now_or_never().is_some(), "it left by itself");
    }

    #[tokio::test(start_paused = true)]
    async fn with_all_busy_a_new_one_waits_until_a_request_or_a_connection_ends() {
        let all = Connections::new(2);
        let (a, b) = (enter(&all).await, enter(&all).await);
        let (busy, _watching) = (a.busy().unwrap(), b.busy().unwrap());
        let mut waiting = Box::pin(all.enter(None));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(busy);
        let c = Arc::new(waiting.as_mut().await);
        let _watching_too = c.busy();
        assert!(a.evicted.is_cancelled());
        let mut waiting = Box::pin(all.enter(None));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop((_watching, b));
        assert!(waiting.as_mut().now_or_never().is_some());
    }
}
