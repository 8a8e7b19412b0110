//! What needs a machine with cgroup v2 and systemd. `cargo xtask test` runs these in a guest; `cargo xtask guest --test TEXT`
//! runs some of them. What is in a module `own_kernel` needs the kernel that `--full` builds.

mod again;
mod limits;
mod nfs;
mod unit;

use std::process::Command;

/// Runs a program of the guest and returns what it printed.
fn sh(line: &str) -> String {
    testkit::env::output(Command::new("sh").args(["-ec", line])).unwrap_or_else(|e| panic!("{e}"))
}
