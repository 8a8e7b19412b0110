//! The agent's binary on real container runtimes: containerd 1.6 (no events) and 2.1 (events). Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod allocatable;
mod cluster;
mod fake;
mod faults;
mod foreign;
mod guest;
mod hangs;
mod lifecycle;
mod local;
mod merged;
mod node;
mod node_files;
mod pods;
mod probes;
mod process;
mod push;
mod recorded;
mod serving;
mod sources;
mod stuck;
mod survey;
mod survival;
mod takeover;
mod volumes;
