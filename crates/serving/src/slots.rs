//! The slots that a listener has for connections. A new connection may have the slot of one that is idle: first of one
//! that has not shown yet that it may use the server, and among those one of the peer that has most of them;
//! then of the one that has been idle the longest. One that still sends its request counts as idle, or else a few bytes
//! would hold a slot; but none has to go in its first moments: what it sent may be there and only not be read yet.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// How long a connection is left alone after it came, or after an answer: enough for a client that has something to
/// say, and for us to read it.
const GRACE: Duration = Duration::from_millis(250);

/// All slots of a listener.
#[derive(Debug)]
pub struct ConnectionSlots {
    most: usize,
    taken: Mutex<Taken>,
    /// A connection ended, or became idle.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    by: BTreeMap<u64, Holder>,
}

#[derive(Debug)]
struct Holder {
    /// The machine at its other end; `None` of a unix socket.
    peer: Option<IpAddr>,
    /// A request of it was let in.
    known: bool,
    /// Requests under way.
    busy: usize,
    idle_since: Instant,
    evict: Arc<Notify>,
}

impl ConnectionSlots {
    /// For so many connections, one at least.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), taken: Mutex::default(), freed: Notify::new() })
    }

    /// A slot, as soon as there is one. IPv4 within IPv6 is the same peer as IPv4.
    pub async fn enter(self: &Arc<Self>, peer: Option<IpAddr>) -> Arc<Slot> {
        let peer = peer.map(|peer| peer.to_canonical());
        loop {
            // Made before the look, so that no notice falls between the two; dropping it loses nothing.
            let freed = self.freed.notified();
            match self.try_enter(peer, Instant::now()) {
                Ok(slot) => return Arc::new(slot),
                Err(None) => freed.await,
                // Whichever is first: a slot that is free, or one that has been idle for long enough.
                Err(Some(at)) => drop(timeout_at(at, freed).await),
            }
        }
    }

    /// A slot, or when one may be had if none becomes free before.
    fn try_enter(self: &Arc<Self>, peer: Option<IpAddr>, now: Instant) -> Result<Slot, Option<Instant>> {
        let mut taken = self.taken();
        if taken.by.len() >= self.most {
            let (id, at) = taken.first_to_go().ok_or(None)?;
            if at > now {
                return Err(Some(at));
            }
            if let Some(holder) = taken.by.remove(&id) {
                holder.evict.notify_one();
            }
        }
        let id = taken.next;
        taken.next += 1;
        let evicted = Arc::<Notify>::default();
        let evict = Arc::clone(&evicted);
        taken.by.insert(id, Holder { peer, known: false, busy: 0, idle_since: now, evict });
        Ok(Slot { id, evicted, all: Arc::clone(self) })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing in here can panic half-way.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// The connection that has to make room, and from when on.
    fn first_to_go(&self) -> Option<(u64, Instant)> {
        let mut unknown: BTreeMap<Option<IpAddr>, usize> = BTreeMap::new();
        for holder in self.by.values().filter(|holder| !holder.known) {
            *unknown.entry(holder.peer).or_default() += 1;
        }
        let rank = |holder: &Holder| {
            let of_peer = if holder.known { 0 } else { unknown.get(&holder.peer).copied().unwrap_or(0) };
            (holder.known, Reverse(of_peer), holder.idle_since)
        };
        let idle = self.by.iter().filter(|(_, holder)| holder.busy == 0);
        idle.min_by_key(|(_, holder)| rank(holder)).map(|(id, holder)| (*id, holder.idle_since + GRACE))
    }
}

/// A connection's slot. Dropping it gives it back.
#[derive(Debug)]
pub struct Slot {
    id: u64,
    evicted: Arc<Notify>,
    all: Arc<ConnectionSlots>,
}

impl Slot {
    /// Ends when another connection got the slot. For one waiter.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// Who is behind it may use the server.
    pub fn set_known(&self) {
        if let Some(holder) = self.all.taken().by.get_mut(&self.id) {
            holder.known = true;
        }
    }

    /// Whether a request of it was let in.
    pub fn is_known(&self) -> bool {
        self.all.taken().by.get(&self.id).is_some_and(|holder| holder.known)
    }

    /// Marks the connection as busy until the guard is dropped. `None` if another one has got its slot: what it
    /// asks for must not be done, because it will have no answer.
    pub fn busy(self: &Arc<Self>) -> Option<Busy> {
        self.all.taken().by.get_mut(&self.id)?.busy += 1;
        Some(Busy(Arc::clone(self)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.all.taken().by.remove(&self.id);
        self.all.freed.notify_one();
    }
}

/// A request or stream under way.
#[derive(Debug)]
pub struct Busy(Arc<Slot>);

impl Drop for Busy {
    fn drop(&mut self) {
        let all = &self.0.all;
        if let Some(holder) = all.taken().by.get_mut(&self.0.id) {
            holder.busy -= 1;
            holder.idle_since = Instant::now();
        }
        all.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    async fn enter(all: &Arc<ConnectionSlots>, peer: Option<IpAddr>) -> Arc<Slot> {
        tokio::time::advance(Duration::from_secs(1)).await;
        all.enter(peer).now_or_never().expect("there is a slot")
    }

    fn gone(slot: &Slot) -> bool {
        !slot.all.taken().by.contains_key(&slot.id)
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_is_idle_longest_has_to_go() {
        let all = ConnectionSlots::new(3);
        let (a, b, c) = (enter(&all, None).await, enter(&all, None).await, enter(&all, None).await);
        let busy = a.busy().unwrap();
        let d = enter(&all, None).await;
        assert!(!gone(&a) && gone(&b) && !gone(&c));
        assert!(b.evicted().now_or_never().is_some() && b.busy().is_none());
        drop(busy);
        let e = enter(&all, None).await;
        assert!(gone(&c) && !gone(&a) && !gone(&d), "it was idle before the first one was");
        drop((a, b, c, d, e));
        assert!(all.taken().by.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_peers_go_first_and_of_them_those_of_the_peer_that_has_most() {
        let all = ConnectionSlots::new(5);
        let [crowd, mapped, other] =
            ["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2"].map(|ip| Some(ip.parse().unwrap()));
        let known = enter(&all, crowd).await;
        known.set_known();
        let quiet = enter(&all, other).await;
        let (a, b, _c) = (enter(&all, crowd).await, enter(&all, mapped).await, enter(&all, crowd).await);
        let _d = enter(&all, mapped).await;
        assert!(gone(&a) && !gone(&quiet) && !gone(&known));
        let _e = enter(&all, other).await;
        assert!(gone(&b) && !gone(&quiet) && !gone(&known));
    }

    #[tokio::test(start_paused = true)]
    async fn with_all_busy_a_new_one_waits_until_a_request_or_a_connection_ends() {
        let all = ConnectionSlots::new(2);
        let (a, b) = (enter(&all, None).await, enter(&all, None).await);
        let (busy, watching) = (a.busy(), b.busy());
        let mut waiting = Box::pin(all.enter(None));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(busy);
        let c = waiting.as_mut().await;
        let _watching_too = c.busy();
        assert!(gone(&a));
        let mut waiting = Box::pin(all.enter(None));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop((watching, b));
        assert!(waiting.as_mut().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_has_a_moment_and_a_busy_one_stays() {
        let all = ConnectionSlots::new(1);
        let started = Instant::now();
        let first = all.enter(None).await;
        let second = all.enter(None).await;
        assert_eq!(started.elapsed(), GRACE);
        assert!(gone(&first));
        let busy = second.busy();
        let mut waiting = Box::pin(all.enter(None));
        tokio::time::advance(10 * GRACE).await;
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(busy);
        let _third = waiting.await;
        assert!(gone(&second));
    }
}
