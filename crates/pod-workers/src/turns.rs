//! In which order pods are judged: of those that come together the first is first, whichever actor is faster, so
//! that a full node turns away the last ones. Rule: upstream `pkg/kubelet/kubelet.go` `HandlePodAdditions`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Those that are still to be judged, by their arrival.
#[derive(Default)]
pub(crate) struct Turns(Mutex<BTreeMap<u64, Arc<Notify>>>);

/// A pod's place among them, until it is dropped.
pub(crate) struct Turn {
    turns: Arc<Turns>,
    arrival: u64,
    called: Arc<Notify>,
}

impl Turns {
    pub(crate) fn enter(self: &Arc<Self>, arrival: u64) -> Turn {
        let called = Arc::<Notify>::default();
        self.lock().insert(arrival, Arc::clone(&called));
        Turn { turns: Arc::clone(self), arrival, called }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Returns when nobody is left who came earlier.
    pub(crate) async fn comes(&self) {
        // A call that comes before it is waited for is kept.
        while self.turns.lock().keys().next().is_some_and(|first| *first < self.arrival) {
            self.called.notified().await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = self.turns.lock();
        turns.remove(&self.arrival);
        if let Some((_, next)) = turns.first_key_value() {
            next.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn each_waits_for_those_before_it_and_for_no_other() {
        let turns = Arc::<Turns>::default();
        let [third, first, second] = [3, 1, 2].map(|arrival| turns.enter(arrival));
        assert!(first.comes().now_or_never().is_some());
        let mut waits = Box::pin(third.comes());
        assert!(waits.as_mut().now_or_never().is_none() && second.comes().now_or_never().is_none());
        // Who gives up lets nobody pass too early.
        drop(second);
        assert!(waits.as_mut().now_or_never().is_none());
        drop(first);
        waits.await;
        assert!(turns.enter(4).comes().now_or_never().is_none());
    }
}
