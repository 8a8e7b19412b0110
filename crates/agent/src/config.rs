//! The configuration of this node: its files, the facts that some rules depend on, and reading it again while the agent
//! runs. The rules themselves are `node_config`'s.

mod credentials;
mod disk;
mod reload;

use std::path::Path;

use cgroups::Cgroups;
use node_config::table::KubeletFlags;
use node_config::validate::Facts;
use node_reporter::Limits;
use stats::machine;

pub use disk::Disk;
pub use reload::{Changed, Live, Reload};

use crate::cluster::facts::of_machine;
use crate::settings::CGROUP_MOUNT;

/// What the rules need to know of this node and of the command line. What cannot be found out breaks no rule.
pub fn facts_with(flags: &KubeletFlags) -> Facts {
    Facts { api_server: Some(!flags.kubeconfig.is_empty()), ..facts_at(Path::new(&flags.root_dir)) }
}

/// What the rules need to know of this node, for a file that is checked without a command line.
pub fn facts() -> Facts {
    facts_at(Path::new("/var/lib/kubelet"))
}

fn facts_at(root_dir: &Path) -> Facts {
    // The root folder is made only later.
    let there = root_dir.ancestors().find(|folder| folder.is_dir()).unwrap_or(root_dir);
    let limits = Limits { ephemeral_storage: true, ..Limits::default() };
    let resources = limits.resources(&of_machine(there));
    let cgroups = Cgroups::detect(Path::new(CGROUP_MOUNT), cgroups::Settings::default());
    Facts {
        cgroup_version: cgroups.ok().map(|cgroups| match cgroups.version() {
            cgroups::Version::V1 => 1,
            cgroups::Version::V2 => 2,
        }),
        online_cpus: machine::online_cpus(),
        capacity: resources.capacity.into_iter().filter(|(_, amount)| *amount > 0).collect(),
        numa_nodes: machine::numa_nodes()
            .map(|nodes| nodes.into_iter().filter_map(|node| node.try_into().ok()).collect()),
        missing_cgroup: Some(|cgroup| cgroups::missing(CGROUP_MOUNT.as_ref(), cgroup)),
        swap: machine::swaps(),
        api_server: None,
        credential_providers: Some(credentials::providers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_node_has_cpus_and_cgroups() {
        let facts = facts();
        assert!(facts.online_cpus.as_ref().is_some_and(|cpus| !cpus.is_empty()));
        assert!(facts.cgroup_version.is_some());
        assert!(facts.capacity["cpu"] >= 1000 && facts.capacity["memory"] > 1 << 20, "{facts:?}");
    }
}
