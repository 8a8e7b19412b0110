//! Talking to the person at the terminal.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the one place where the tool prints")]

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// One line.
pub(crate) fn say(line: impl AsRef<str>) {
    println!("{}", line.as_ref());
}

/// A heading before a step.
pub(crate) fn step(title: &str) {
    println!("\n==> {title}");
}

/// The error with all its causes.
pub(crate) fn failed(error: &anyhow::Error) {
    eprintln!("\nfailed: {error:#}");
}

/// The first SIGINT or SIGTERM ends every wait, so that everything started is taken down in order; the second
/// ends the process at once, and the next run cleans up.
pub(crate) fn catch_interrupts() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot set up signal handling")?;
    std::thread::spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            eprintln!("\ninterrupted: taking everything down (once more to leave at once)");
            testkit::tools::interrupt();
        }
        if signals.next().is_some() {
            std::process::exit(130);
        }
    });
    Ok(())
}
