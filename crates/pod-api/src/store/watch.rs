//! Following the changes from the history, each reader at its own pace: a slow one holds up nobody.

use std::sync::Arc;

use tokio::sync::watch;

use super::Event;
use super::history::Versioned;
use crate::error::ApiError;

/// Changes that one call hands out at most, so that the memory is not locked for long.
const BATCH: usize = 64;

/// Who has the history of one kind of objects.
pub(super) trait Changes<T>: Send + Sync {
    /// The changes after `since`, at most `limit`.
    fn since(&self, since: u64, limit: usize) -> Result<Vec<Event<T>>, ApiError>;
}

/// Follows the changes from a resource version on.
pub(crate) struct Watch<T> {
    changes: Arc<dyn Changes<T>>,
    changed: watch::Receiver<u64>,
    /// The last change that was handed out.
    seen: u64,
}

impl<T: Versioned> Watch<T> {
    pub(super) fn new(
        changes: Arc<dyn Changes<T>>,
        changed: watch::Receiver<u64>,
        since: u64,
    ) -> Result<Self, ApiError> {
        changes.since(since, 0)?;
        Ok(Self { changes, changed, seen: since })
    }

    /// Waits for changes: each one after the last call's, in order, none twice. Nothing is lost when the future is
    /// dropped.
    ///
    /// # Errors
    /// 410 `Expired` when the reader was too slow and changes it did not see are no longer known.
    pub(crate) async fn next(&mut self) -> Result<Vec<Event<T>>, ApiError> {
        loop {
            // Before the look, so that no change falls between the two.
            self.changed.borrow_and_update();
            let events = self.changes.since(self.seen, BATCH)?;
            if let Some(last) = events.last() {
                self.seen = last.object.resource_version();
                return Ok(events);
            }
            // The sender lives with the changes.
            let _ = self.changed.changed().await;
        }
    }

    /// The resource version up to which all changes were handed out, for a bookmark.
    pub(crate) fn resource_version(&self) -> u64 {
        self.seen
    }
}
