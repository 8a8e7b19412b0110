//! `cargo xtask deny`: licences, duplicate versions, sources and advisories of the dependencies.

use anyhow::{Context, Result};
use testkit::tools::{output, succeed};

use crate::cargo::{cargo, has_subcommand};
use crate::ui;

pub(crate) fn run() -> Result<()> {
    if !has_subcommand("deny") {
        ui::say("installing cargo-deny (about three minutes)");
        succeed(&mut cargo(["install", "--locked", "cargo-deny"])).context("cannot install cargo-deny")?;
    }
    ui::step("licences, duplicate versions, sources");
    succeed(&mut cargo(["deny", "check", "licenses", "bans", "sources"]))?;
    ui::step("advisories");
    // Fetching the database is a step of its own, so that a network without it is told from a bad dependency.
    if let Err(error) = output(&mut cargo(["deny", "fetch", "db"])) {
        ui::say(format!("not checked: the advisory database cannot be had here\n{error}"));
        return Ok(());
    }
    Ok(succeed(&mut cargo(["deny", "check", "advisories"]))?)
}
