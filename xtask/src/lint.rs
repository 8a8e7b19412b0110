//! `cargo xtask lint`: what can be told without running a test.

use anyhow::{Context, Result};
use testkit::tools::{output, succeed};

use crate::cargo::{cargo, has_subcommand};
use crate::steps::Report;
use crate::{arch, ui};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Format the code instead of only looking at it
    #[arg(long)]
    fix: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut report = Report::default();
    report.step("what the checks need", components);
    if options.fix {
        report.step("formatting", || Ok(succeed(&mut cargo(["fmt", "--all"]))?));
    }
    for (name, check) in CHECKS {
        report.step(name, check);
    }
    report.finish()
}

/// A check, by the name that stands in the report.
pub(crate) type Check = (&'static str, fn() -> Result<()>);

/// Cheapest first.
pub(crate) const CHECKS: [Check; 5] = [
    ("format", format),
    ("layers and bans", architecture),
    ("clippy", clippy),
    ("docs", docs),
    ("packages of the published crates", packages),
];

/// rustfmt and clippy are not part of rustup's minimal profile.
pub(crate) fn components() -> Result<()> {
    let missing: Vec<&str> = [("fmt", "rustfmt"), ("clippy", "clippy")]
        .into_iter()
        .filter(|(subcommand, _)| !has_subcommand(subcommand))
        .map(|(_, component)| component)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    ui::say(format!("installing with rustup: {}", missing.join(", ")));
    output(std::process::Command::new("rustup").args(["component", "add"]).args(missing)).map(drop)?;
    Ok(())
}

fn format() -> Result<()> {
    succeed(&mut cargo(["fmt", "--all", "--check"])).context("`cargo xtask lint --fix` formats it")
}

fn architecture() -> Result<()> {
    arch::check()
}

fn clippy() -> Result<()> {
    let features = crate::test::ALL_TESTS;
    Ok(succeed(&mut cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--features",
        features,
        "--",
        "--deny",
        "warnings",
    ]))?)
}

fn docs() -> Result<()> {
    let mut command = cargo(["doc", "--workspace", "--no-deps"]);
    Ok(succeed(command.env("RUSTDOCFLAGS", "--deny warnings"))?)
}

/// Whether the crates that others may depend upon can be packaged: metadata, versions of what they need, READMEs.
fn packages() -> Result<()> {
    let published = arch::published()?;
    let names = published.iter().flat_map(|name| ["--package", name]);
    Ok(succeed(cargo(["package", "--quiet", "--no-verify", "--allow-dirty"]).args(names))?)
}
