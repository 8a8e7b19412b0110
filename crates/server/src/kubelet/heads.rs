//! Heads of requests on their way in. Until one is there its sender is not authenticated, so a connection holds little by
//! itself, and what goes beyond is one amount for all.

use std::io;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::traffic::Traffic;

/// Bytes of a head, with what TLS says before the first, that each connection may hold.
const EACH: usize = 16 << 10;

/// Bytes beyond that of all connections of a listener: 16 of the longest heads.
const SHARED: usize = 1 << 20;

/// What all connections of a listener share.
#[derive(Debug, Clone)]
pub(super) struct Heads(Arc<Semaphore>);

impl Default for Heads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SHARED)))
    }
}

/// The head that a connection receives.
#[derive(Debug)]
pub(super) struct Head {
    /// Requests that came before it.
    after: u64,
    bytes: usize,
    heads: Heads,
    beyond: Option<OwnedSemaphorePermit>,
}

impl Head {
    pub(super) fn new(heads: Heads) -> Self {
        Self { after: 0, bytes: 0, heads, beyond: None }
    }

    /// Counts what has arrived.
    ///
    /// # Errors
    /// When it is more than the connection may hold and the others have the rest.
    pub(super) fn arrived(&mut self, bytes: usize, traffic: Traffic) -> io::Result<()> {
        let no_head = traffic.open > 0 || traffic.upgraded;
        if no_head || traffic.requests != self.after {
            (self.after, self.bytes, self.beyond) = (traffic.requests, 0, None);
        }
        if no_head {
            return Ok(());
        }
        self.bytes += bytes;
        let has = self.beyond.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let lacks = self.bytes.saturating_sub(EACH).saturating_sub(has);
        if lacks == 0 {
            return Ok(());
        }
        let more = u32::try_from(lacks)
            .ok()
            .and_then(|lacks| Arc::clone(&self.heads.0).try_acquire_many_owned(lacks).ok());
        let more = more.ok_or_else(|| io::Error::other("too many long requests at once"))?;
        match &mut self.beyond {
            Some(beyond) => beyond.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_holds_little_and_all_together_some_long_heads() {
        let heads = Heads::default();
        let between = |requests| Traffic { requests, ..Traffic::default() };
        let mut crowd: Vec<_> = (0..1000).map(|_| Head::new(heads.clone())).collect();
        assert!(crowd.iter_mut().all(|head| head.arrived(EACH, between(0)).is_ok()));
        assert_eq!(heads.0.available_permits(), SHARED);

        let mut long = Head::new(heads.clone());
        for _ in 0..4 {
            long.arrived(SHARED / 4, between(0)).unwrap();
        }
        assert_eq!(heads.0.available_permits(), EACH);
        assert!(crowd[0].arrived(EACH, between(0)).is_ok());
        assert!(crowd[1].arrived(1, between(0)).is_err());

        // Its request is there: bodies and streams are not held.
        long.arrived(1, Traffic { open: 1, ..between(1) }).unwrap();
        assert_eq!(heads.0.available_permits(), SHARED - EACH);
        long.arrived(10 * SHARED, Traffic { upgraded: true, ..between(1) }).unwrap();
    }

    #[test]
    fn each_request_begins_anew() {
        let mut head = Head::new(Heads(Arc::new(Semaphore::new(0))));
        for requests in 0..100 {
            head.arrived(EACH / 2, Traffic { requests, ..Traffic::default() }).unwrap();
            head.arrived(EACH / 2, Traffic { requests, ..Traffic::default() }).unwrap();
        }
        head.arrived(1, Traffic { requests: 99, ..Traffic::default() }).unwrap_err();
    }
}
