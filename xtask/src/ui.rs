//! Talking to the person at the terminal.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the one place where the tool prints")]

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot set up signal handling")?;
    // The handlers are in place when this returns, not some time after the thread has started.
    let (mut interrupt, mut terminate) = runtime
        .block_on(async {
            Ok::<_, std::io::Error>((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
        })
        .context("cannot set up signal handling")?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            for first in [true, false] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if first {
                    eprintln!("\ninterrupted: taking everything down (once more to leave at once)");
                    testkit::env::interrupt();
                }
            }
            std::process::exit(130);
        });
    });
    Ok(())
}

/// Whether stdout is a terminal that can be drawn on.
pub(crate) fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdout())
}
