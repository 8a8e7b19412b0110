//! Building what `demo` and `bench` need.
//!
//! `cargo xtask` itself has few dependencies, so that it is there soon. For these two it builds itself anew with the
//! feature `stage`, for the demo together with the agent: what both use is then compiled once, and quickly.

use anyhow::{Context, Result};
use testkit::tools::succeed;

use crate::cargo::cargo;
use crate::ui;

/// What the demo needs: the agent and this program, built to be there soon.
pub(crate) fn build_demo() -> Result<()> {
    ui::step("building the agent to be shown (the first time two to four minutes on two cores)");
    let build = ["build", "--profile", "demo", "--package", "node-agent", "--package", "xtask"];
    succeed(cargo(build).args(["--features", "xtask/stage"])).context("cannot build the agent")
}

#[cfg(not(feature = "stage"))]
pub(crate) use enter::{bench, demo};

#[cfg(not(feature = "stage"))]
mod enter {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use anyhow::{Context, Result};
    use testkit::tools::{succeed, target_dir};

    use crate::cargo::cargo;
    use crate::ui;

    /// Goes on as a program that can show the agent.
    pub(crate) fn demo() -> Result<()> {
        super::build_demo()?;
        go_on("demo")
    }

    /// Goes on as a program that can measure the agent.
    pub(crate) fn bench() -> Result<()> {
        ui::step("building the bench (the first time about a minute on two cores)");
        succeed(&mut cargo(["build", "--package", "xtask", "--features", "stage"]))
            .context("cannot build the bench")?;
        go_on("debug")
    }

    /// With the same arguments, and in the same process: signals and the exit code are the caller's.
    fn go_on(profile: &str) -> Result<()> {
        let program = target_dir().join(profile).join("xtask");
        let error = Command::new(&program).args(std::env::args_os().skip(1)).exec();
        Err(error).with_context(|| format!("cannot run {}", program.display()))
    }
}
