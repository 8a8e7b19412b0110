//! Folders that one thread leaves to another which has nothing to do.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use super::lock;

/// A folder with all that is in it.
pub(super) struct Part {
    pub(super) folder: OwnedFd,
    pub(super) path: PathBuf,
}

pub(super) struct Share {
    state: Mutex<State>,
    changed: Condvar,
    /// How many threads wait; looked at for each folder, so without the lock.
    hungry: AtomicUsize,
}

struct State {
    parts: Vec<Part>,
    /// How many parts are being worked at: each may give others.
    busy: usize,
}

impl Share {
    /// One thread has the root.
    pub(super) fn new() -> Self {
        let state = State { parts: Vec::new(), busy: 1 };
        Self { state: Mutex::new(state), changed: Condvar::new(), hungry: AtomicUsize::new(0) }
    }

    /// Whether somebody waits for a part.
    pub(super) fn wants(&self) -> bool {
        self.hungry.load(Ordering::Relaxed) > 0
    }

    /// Leaves a part to somebody who waits; `false` if there is nobody any more.
    pub(super) fn give(&self, part: Part) -> bool {
        let mut state = lock(&self.state);
        if state.parts.len() >= self.hungry.load(Ordering::Relaxed) {
            return false;
        }
        state.parts.push(part);
        self.changed.notify_one();
        true
    }

    /// The next part; `None` when nobody works at one that others could come from.
    pub(super) fn take(&self) -> Option<Part> {
        let mut state = lock(&self.state);
        loop {
            if let Some(part) = state.parts.pop() {
                state.busy += 1;
                return Some(part);
            }
            if state.busy == 0 {
                return None;
            }
            self.hungry.fetch_add(1, Ordering::Relaxed);
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            self.hungry.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A part is being worked at, until this is dropped.
    pub(super) fn working(&self) -> Working<'_> {
        Working(self)
    }
}

pub(super) struct Working<'a>(&'a Share);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.busy -= 1;
        if state.busy == 0 {
            self.0.changed.notify_all();
        }
    }
}
