//! What is asked of the runtime, as the log tells of it.

use std::time::Duration;

/// Tells of a call by its CRI name: those that change something from a lower verbosity on than those that look.
pub fn tell(method: &'static str, took: Duration, failed: bool) {
    const CHANGES: &[&str] = &["Create", "Pull", "Remove", "Run", "Start", "Stop", "Update"];
    if CHANGES.iter().any(|verb| method.starts_with(verb)) {
        tracing::info!(method, ?took, failed, "Called the runtime");
    } else {
        tracing::debug!(method, ?took, failed, "Asked the runtime");
    }
}
