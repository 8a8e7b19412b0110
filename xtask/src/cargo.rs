//! Calling cargo, always in the workspace's root.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::tools::output;

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// `cargo` with these arguments.
pub(crate) fn cargo<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    // What `cargo run` says of this program: build scripts that look at it would run again, and with them half of
    // the crates, whenever somebody builds now by hand and now with us.
    let about_us = |name: &OsString| {
        name.to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
    };
    std::env::vars_os().map(|(name, _)| name).filter(about_us).for_each(|name| {
        command.env_remove(name);
    });
    command
}

/// Whether `cargo NAME` can be called.
pub(crate) fn has_subcommand(name: &str) -> bool {
    output(&mut cargo([name, "--version"])).is_ok()
}
