//! The last changes of one kind of objects, for watches. Plain data.

use std::collections::VecDeque;

use super::{Change, Event};
use crate::error::ApiError;

/// What has a resource version.
pub(crate) trait Versioned: Clone {
    /// That.
    fn resource_version(&self) -> u64;
}

/// The changes, and the count of them.
#[derive(Debug)]
pub(super) struct History<T> {
    events: VecDeque<Event<T>>,
    /// The last change that is no longer there.
    forgotten: u64,
    /// The last change.
    revision: u64,
}

impl<T: Versioned> History<T> {
    /// All resource versions are above `revision`.
    pub(super) fn new(revision: u64) -> Self {
        Self { events: VecDeque::new(), forgotten: revision, revision }
    }

    /// The resource version of the last change.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The resource version of the next one.
    pub(super) fn next(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    /// What happened so far is nobody's news.
    pub(super) fn forget(&mut self) {
        self.events.clear();
        self.forgotten = self.revision;
    }

    /// Takes note of a change, and keeps the last `most`.
    pub(super) fn record(&mut self, change: Change<T>, object: T, most: usize) {
        self.events.push_back(Event { change, object });
        while self.events.len() > most
            && let Some(oldest) = self.events.pop_front()
        {
            self.forgotten = oldest.object.resource_version();
        }
    }

    /// The changes after `since`, at most `limit`.
    pub(super) fn since(&self, since: u64, limit: usize) -> Result<Vec<Event<T>>, ApiError> {
        if since < self.forgotten {
            return Err(ApiError::expired(format!("too old resource version: {since} ({})", self.forgotten)));
        }
        if since > self.revision {
            // Of a folder that was emptied since, for example. To list again is the cure here, too.
            return Err(ApiError::expired(format!(
                "too large resource version: {since} ({})",
                self.revision
            )));
        }
        let first = self.events.partition_point(|event| event.object.resource_version() <= since);
        Ok(self.events.range(first..).take(limit).cloned().collect())
    }
}
