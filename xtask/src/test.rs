//! `cargo xtask test`: everything that must hold before a change lands.

use std::process::Command;

use anyhow::Result;
use testkit::env::{Tools, succeed, target_dir};

use crate::cargo::{cargo, has_subcommand};
use crate::lint;
use crate::steps::Report;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out what needs a container runtime
    #[arg(long)]
    fast: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut report = Report::default();
    report.step("what the checks need", lint::components);
    for (name, check) in lint::CHECKS {
        report.step(name, check);
    }
    report.step("examples in the docs", doc_tests);
    report.step("unit tests", unit_tests);
    if !options.fast {
        report.step("what the integration tests need", || {
            Tools::ensure()?;
            Ok(succeed(&mut cargo(["build", "--package", "node-agent"]))?)
        });
        report.step("integration tests on containerd 1.6 and 2.1", integration_tests);
    }
    report.finish()
}

fn doc_tests() -> Result<()> {
    Ok(succeed(&mut cargo(["test", "--quiet", "--workspace", "--doc"]))?)
}

fn unit_tests() -> Result<()> {
    Ok(succeed(&mut runner(&["--workspace", "--exclude", "integration"]))?)
}

fn integration_tests() -> Result<()> {
    let mut command =
        runner(&["--package", "integration", "--package", "testkit", "--features", "testkit/runtime-tests"]);
    Ok(succeed(command.env(testkit::env::BINARY_VARIABLE, target_dir().join("debug/node-agent")))?)
}

/// nextest where it is installed: it runs each test in a process of its own, names the slow ones and ends those
/// that hang. Building it would take longer than all tests, so elsewhere it is `cargo test`.
fn runner(args: &[&str]) -> Command {
    let base: &[&str] = if has_subcommand("nextest") {
        &["nextest", "run"]
    } else {
        // Without --tests it would run the examples in the docs once more.
        &["test", "--tests", "--no-fail-fast"]
    };
    cargo(base.iter().chain(args).copied())
}
