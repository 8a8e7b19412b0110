//! Steps that are all done, whatever fails, so that one run tells everything.

use std::time::Instant;

use anyhow::{Result, bail};
use testkit::tools::interrupted;

use crate::ui;

/// What was done and how it went.
#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<String>,
    failed: Vec<&'static str>,
}

impl Report {
    /// Does one step, unless the run was interrupted.
    pub(crate) fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) {
        if interrupted() {
            return;
        }
        ui::step(name);
        let start = Instant::now();
        let done = work();
        let seconds = start.elapsed().as_secs_f32();
        let mark = if done.is_ok() { "ok" } else { "FAILED" };
        self.lines.push(format!("{mark:>7}  {seconds:6.1} s  {name}"));
        if let Err(error) = done {
            ui::failed(&error.context(name));
            self.failed.push(name);
        }
    }

    /// Lists all steps; an error names those that failed.
    pub(crate) fn finish(self) -> Result<()> {
        ui::step("steps");
        for line in &self.lines {
            ui::say(line);
        }
        if interrupted() {
            bail!("interrupted");
        }
        if self.failed.is_empty() {
            return Ok(());
        }
        bail!("{}", self.failed.join(", "));
    }
}
