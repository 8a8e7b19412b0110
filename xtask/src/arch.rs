//! `cargo xtask arch`: holds the architecture that ARCHITECTURE.md describes.

mod bans;
mod graph;
mod shape;
mod table;

use anyhow::{Result, bail};

use crate::cargo::root;
use crate::ui;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write each crate's clippy.toml instead of only comparing it
    #[arg(long)]
    write: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.write {
        for path in bans::write(&root(), &graph::read(&root())?)? {
            ui::say(format!("wrote {}", path.display()));
        }
    }
    check()
}

/// Looks at everything and reports each violation on its own line.
pub(crate) fn check() -> Result<()> {
    let root = root();
    let crates = graph::read(&root)?;
    let mut violations = graph::violations(&crates);
    violations.extend(bans::differences(&root, &crates));
    violations.extend(shape::violations(&root)?);
    if violations.is_empty() {
        ui::say(format!("{} crates keep to their layers", crates.len()));
        return Ok(());
    }
    bail!("the architecture does not hold:\n{}", violations.join("\n"));
}

/// The names of the crates that may be published.
pub(crate) fn published() -> Result<Vec<String>> {
    let crates = graph::read(&root())?;
    Ok(crates.into_iter().filter(|krate| krate.published).map(|krate| krate.name).collect())
}
