//! Calling cargo, always in the workspace's root.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use testkit::env::{output, succeed, target_dir};

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// `cargo` with these arguments.
pub(crate) fn cargo<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Whether `cargo NAME` can be called.
pub(crate) fn has_subcommand(name: &str) -> bool {
    output(&mut cargo([name, "--version"])).is_ok()
}

/// Builds the agent's release binary and returns its path.
pub(crate) fn release_agent() -> Result<PathBuf> {
    succeed(&mut cargo(["build", "--release", "--package", "node-agent"]))
        .context("cannot build the agent")?;
    target_dir().join("release/node-agent").canonicalize().context("the agent was built but is not in target")
}
