//! `cargo xtask bench`: what the agent costs and how much of the waiting is its own.
//!
//! The container runtime does most of the work of a pod start, so the same work is done twice in one run: with
//! bare CRI calls, and by the agent. The agent's own share of a start is read from the runtime's log: the time
//! between a manifest and the first call for it, and between the answer of one call and the next call. (Calls
//! that only ask for a status are not in the log, so their time counts as the agent's.)

#[cfg(feature = "stage")]
mod agent;
#[cfg(feature = "stage")]
mod bare;
#[cfg(feature = "stage")]
mod cluster;
#[cfg(feature = "stage")]
mod measure;
#[cfg(feature = "stage")]
mod report;
#[cfg(feature = "stage")]
mod sources;
#[cfg(feature = "stage")]
mod trace;
#[cfg(feature = "stage")]
mod volumes;

use std::path::PathBuf;

use crate::demo::ContainerdLine;

#[cfg(feature = "stage")]
pub(crate) use measure::run;
#[cfg(feature = "stage")]
use measure::{SINGLES, file_name, manifest, pid, pod_name};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many pods
    #[arg(long, default_value_t = 110)]
    pods: usize,
    /// Which containerd
    #[arg(long, value_enum, default_value = "2.1")]
    containerd: ContainerdLine,
    /// How many seconds to watch the agent at rest
    #[arg(long, default_value_t = 20)]
    rest: u64,
    /// Run this command line instead of our release build; it gets the usual kubelet flags
    #[arg(long, value_name = "CMD", conflicts_with = "binary")]
    agent: Option<String>,
    /// Use this build of our agent instead of building the release binary
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Measure the pod sources instead: first read, changes, rest
    #[arg(long, conflicts_with_all = ["agent", "binary"])]
    sources: bool,
    /// Measure what being part of a cluster costs instead: statuses, requests, memory, exec and logs
    #[arg(long, conflicts_with = "sources")]
    cluster: bool,
    /// Measure what volumes cost instead: alone (files that change their group), or with --cluster those of pods
    #[arg(long, conflicts_with = "sources")]
    volumes: bool,
}
