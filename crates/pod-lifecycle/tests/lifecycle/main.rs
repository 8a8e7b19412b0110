//! The crate as its users see it: whole lives of pods against a runtime without processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

mod backoff;
mod failures;
mod garbage;
mod hooks;
mod init;
mod invariants;
mod lacking;
mod later;
mod recordings;
mod restart;
mod sandbox;
mod sim;
mod status;
mod terminate;
mod termination;
