//! Plays the steps on a stage and says how each went.

use std::time::Instant;

use anyhow::{Result, bail};
use testkit::env::{clean, interrupted, target_dir};

use super::cluster::ClusterStage;
use super::stage::Stage;
use super::{Options, cluster_steps, steps};
use crate::ui;

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(dir) = &options.end {
        clean(dir)?;
        ui::say(format!("ended and removed {}", dir.display()));
        return Ok(());
    }
    let binary = match &options.binary {
        Some(path) => path.canonicalize()?,
        None => {
            crate::stage::build_demo()?;
            target_dir().join("demo/node-agent")
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
pub(super) struct Step<S> {
    /// What must come true.
    pub(super) title: &'static str,
    /// What is done for it.
    pub(super) tells: &'static str,
    /// Does it, and returns what was seen.
    pub(super) act: fn(&mut S) -> Result<String>,
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
