//! `cargo xtask demo`: the agent on a real containerd, by itself or as a node of a cluster, step by step.

mod cluster;
mod cluster_steps;
mod screen;
mod stage;
mod steps;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::ValueEnum;
use testkit::env::{Line, clean, interrupted};

use crate::{cargo, ui};
use cluster::ClusterStage;
use stage::Stage;

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
    /// Use this agent instead of building the release binary
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

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(dir) = &options.end {
        clean(dir)?;
        ui::say(format!("ended and removed {}", dir.display()));
        return Ok(());
    }
    let binary = match &options.binary {
        Some(path) => path.canonicalize()?,
        None => {
            ui::step("building the agent");
            cargo::release_agent()?
        }
    };
    let start = Instant::now();
    if options.cluster {
        let mut stage = ClusterStage::set(options.containerd.into(), &binary)?;
        let played = play(&mut stage, cluster_steps::STEPS, |_| {})?;
        return end(played, start, || if options.keep { stage.keep() } else { stage.strike() });
    }
    let mut stage = Stage::set(options.containerd.into(), &binary)?;
    let played = play(&mut stage, &steps::STEPS, |stage| stage.screen.settle(&stage.agent))?;
    end(played, start, || if options.keep { stage.keep() } else { stage.strike() })
}

/// One step.
struct Step<S> {
    /// What must come true.
    title: &'static str,
    /// What is done for it.
    tells: &'static str,
    /// Does it, and returns what was seen.
    act: fn(&mut S) -> Result<String>,
}

/// How it went: a line for each step, and the titles of those that failed.
struct Played {
    lines: Vec<String>,
    failed: Vec<&'static str>,
}

/// Does all steps in order; a failed one does not keep the next from being tried.
fn play<S>(stage: &mut S, steps: &[Step<S>], settle: impl Fn(&mut S)) -> Result<Played> {
    let mut played = Played { lines: Vec::new(), failed: Vec::new() };
    for step in steps {
        ui::step(step.title);
        ui::say(format!("    {}", step.tells));
        let began = Instant::now();
        let done = (step.act)(stage);
        if interrupted() {
            bail!("interrupted");
        }
        settle(stage);
        let seconds = began.elapsed().as_secs_f32();
        let line = match &done {
            Ok(seen) => format!("✓ {} ({seconds:.1} s): {seen}", step.title),
            Err(error) => {
                played.failed.push(step.title);
                // The whole error, with the agent's log, stands above; the summary has its first line.
                ui::failed(error);
                let text = format!("{error:#}");
                format!("✗ {} ({seconds:.1} s): {}", step.title, text.lines().next().unwrap_or_default())
            }
        };
        ui::say(format!("    {line}"));
        played.lines.push(line);
    }
    Ok(played)
}

/// The summary, and then what becomes of the stage.
fn end(played: Played, start: Instant, leave: impl FnOnce() -> Result<()>) -> Result<()> {
    ui::step(&format!("summary, after {:.0} s", start.elapsed().as_secs_f32()));
    for line in &played.lines {
        ui::say(line);
    }
    leave()?;
    if played.failed.is_empty() {
        return Ok(());
    }
    bail!("{} of {} steps: {}", played.failed.len(), played.lines.len(), played.failed.join("; "));
}
