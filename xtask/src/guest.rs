//! `cargo xtask guest`: a machine with cgroup v2 and systemd, from Debian's packages alone, for what this one may lack.

mod image;
mod kernel;
mod machine;
mod tests;
mod wire;

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use testkit::tools::{target_dir, user_cache};

use crate::cargo::root;
use crate::ui;
use image::Image;
use machine::{Machine, quote};
use wire::Ended;

pub(crate) use tests::run as run_tests;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build a kernel with cpusets, PSI and two CPUs (once, seven minutes) instead of using Debian's, which has none of
    /// these
    #[arg(long)]
    full: bool,
    /// Run the tests that need this guest, those whose names contain TEXT
    #[arg(long, value_name = "TEXT", num_args = 0..=1, default_missing_value = "")]
    test: Option<String>,
    /// What to run in the guest, which has the project's folder at the same path; without it, lines of its input
    #[arg(last = true, conflicts_with = "test")]
    command: Vec<String>,
}

/// Which guest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// With Debian's own kernel.
    Debian,
    /// With a kernel that is built here: cpusets, PSI, two CPUs.
    Full,
}

/// How long a command of a person may take.
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn run(options: &Options) -> Result<()> {
    let kind = if options.full { Kind::Full } else { Kind::Debian };
    if let Some(text) = &options.test {
        return tests::build_and_run(kind, text);
    }
    let machine = boot(kind)?;
    if options.command.is_empty() {
        return by_lines(&machine);
    }
    let words: Vec<String> = options.command.iter().map(|word| quote(word)).collect();
    match run_here(&machine, &words.join(" "))? {
        Ended::With(0) => Ok(()),
        ended => bail!("in the guest: {ended}"),
    }
}

/// Boots a guest, made first if need be.
fn boot(kind: Kind) -> Result<Machine> {
    if !rustix::process::geteuid().is_root() {
        bail!("the guest has network and mounts of its own, which need root: start this as root");
    }
    let image = Image::ensure()?;
    let (kernel, cpus) = match kind {
        Kind::Debian => (image.kernel(), 1),
        Kind::Full => (kernel::ensure()?, 2),
    };
    let start = Instant::now();
    let machine = Machine::boot(&image, &machine::Options { kernel, cpus, shares: shares()? })?;
    ui::say(format!("the guest is up after {:.0} s", start.elapsed().as_secs_f32()));
    Ok(machine)
}

/// What tests and agents need of the host: sources, what is built from them, and other programs.
fn shares() -> Result<Vec<PathBuf>> {
    let mut shares = vec![root()];
    for dir in [target_dir(), user_cache()?] {
        if dir.exists() && !shares.iter().any(|share| dir.starts_with(share)) {
            shares.push(dir);
        }
    }
    Ok(shares)
}

/// Runs a line of a shell in the project's folder, for a person.
fn run_here(machine: &Machine, line: &str) -> Result<Ended> {
    let script = format!("cd {} && {line}", quote(&root().display().to_string()));
    let mut out = std::io::stdout().lock();
    machine.run(&script, DAY, &mut |bytes| {
        // Who reads no more wants no more.
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    })
}

/// Each line of the input is a command.
fn by_lines(machine: &Machine) -> Result<()> {
    ui::say("each line is run by a shell of its own in the guest; the end of the input ends the guest");
    for line in std::io::stdin().lock().lines() {
        match run_here(machine, &line?)? {
            Ended::With(0) => {}
            Ended::Lost => bail!("the guest is gone; its console ends:\n{}", machine.console()),
            ended => ui::say(ended.to_string()),
        }
    }
    Ok(())
}
