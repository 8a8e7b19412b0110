//! `cargo xtask demo`: the agent on a real containerd, step by step.

mod screen;
mod stage;
mod steps;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::ValueEnum;
use testkit::env::{Line, clean, interrupted};

use crate::{cargo, ui};
use stage::Stage;

#[derive(clap::Args)]
pub(crate) struct Options {
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
    let mut stage = Stage::set(options.containerd.into(), &binary)?;
    let mut failed = Vec::new();
    let mut summary = Vec::new();
    for step in steps::STEPS {
        ui::step(step.title);
        ui::say(format!("    {}", step.tells));
        let began = Instant::now();
        let done = (step.act)(&mut stage);
        if interrupted() {
            break;
        }
        stage.screen.settle(&stage.agent);
        let seconds = began.elapsed().as_secs_f32();
        let line = match &done {
            Ok(seen) => format!("✓ {} ({seconds:.1} s): {seen}", step.title),
            Err(error) => {
                failed.push(step.title);
                // The whole error, with the agent's log, stands above; the summary has its first line.
                ui::failed(error);
                let text = format!("{error:#}");
                format!("✗ {} ({seconds:.1} s): {}", step.title, text.lines().next().unwrap_or_default())
            }
        };
        ui::say(format!("    {line}"));
        summary.push(line);
    }
    if interrupted() {
        bail!("interrupted");
    }
    ui::step(&format!("summary, after {:.0} s", start.elapsed().as_secs_f32()));
    for line in &summary {
        ui::say(line);
    }
    if options.keep {
        stage.keep()?;
    } else {
        stage.strike()?;
        ui::say("everything was taken down");
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{} of {} steps: {}", failed.len(), summary.len(), failed.join("; "));
}
