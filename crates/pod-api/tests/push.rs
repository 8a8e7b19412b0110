//! The push API over real sockets, as clients see it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "push/access.rs"]
mod access;
#[path = "../../manifest/tests/broken/mod.rs"]
mod broken;
#[path = "push/kubectl.rs"]
mod kubectl;
#[path = "push/limits.rs"]
mod limits;
#[path = "push/logs.rs"]
mod logs;
#[path = "push/node.rs"]
mod node;
#[path = "push/refusals.rs"]
mod refusals;
#[path = "push/verbs.rs"]
mod verbs;
#[path = "push/watches.rs"]
mod watches;
