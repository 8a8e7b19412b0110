//! `cargo xtask demo`: the agent on a real containerd, by itself or as a node of a cluster, step by step.

#[cfg(feature = "stage")]
mod cluster;
#[cfg(feature = "stage")]
mod cluster_steps;
#[cfg(feature = "stage")]
mod play;
#[cfg(feature = "stage")]
mod screen;
#[cfg(feature = "stage")]
mod stage;
#[cfg(feature = "stage")]
mod steps;

use std::path::PathBuf;

use clap::ValueEnum;
use testkit::tools::Line;

#[cfg(feature = "stage")]
pub(crate) use play::run;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Show the agent as a node of a cluster, with etcd, a kube-apiserver and kubectl
    #[arg(long)]
    cluster: bool,
    /// Leave everything running and say how to talk to it
    #[arg(long)]
    keep: bool,
    /// End what an earlier --keep left running in this folder, and do nothing else
    #[arg(long, value_name = "DIR", conflicts_with = "keep")]
    end: Option<PathBuf>,
    /// Which containerd
    #[arg(long, value_enum, default_value = "2.1")]
    containerd: ContainerdLine,
    /// Use this agent instead of building one
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

/// The two lines as they are typed.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ContainerdLine {
    /// Debian 12's, without events
    #[value(name = "1.6")]
    Old,
    /// Debian testing's, with events
    #[value(name = "2.1")]
    New,
}

impl From<ContainerdLine> for Line {
    fn from(line: ContainerdLine) -> Self {
        match line {
            ContainerdLine::Old => Self::V1_6,
            ContainerdLine::New => Self::V2_1,
        }
    }
}
