//! What the agent finds out about the node that it runs on.

use admission::NodeResources;
use node_config::Settings;
use node_reporter::Hardware;
use stats::{available, machine};

use crate::cluster::facts;
use crate::run::StartError;
use crate::settings;

/// The machine and what it has for pods: measured once, at start.
///
/// # Errors
/// When its memory or the file system of the root folder cannot be measured, or less is there than is to be reserved.
pub(crate) fn measure(config: &Settings) -> Result<(Hardware, NodeResources), StartError> {
    machine::memory().map_err(|source| StartError::Read { path: "/proc/meminfo".into(), source })?;
    available::disk(&config.root_dir)
        .map_err(|source| StartError::Read { path: config.root_dir.clone(), source })?;
    let facts = facts::of_machine(&config.root_dir);
    let resources = settings::limits(&config.node).resources(&facts);
    Ok((facts.hardware, resources))
}
