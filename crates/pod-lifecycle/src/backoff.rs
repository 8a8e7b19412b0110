//! Crash back-off: 10 s doubling to 5 min, forgotten after 10 min (reference 4.4).

/// Crash back-off of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrashBackoff {}
