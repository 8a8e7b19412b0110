//! The configuration of this node: its files, the facts that some rules depend on, checking without running, and
//! reading it again while the agent runs. The rules themselves are `node_config`'s.

mod check;
mod disk;
mod reload;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use cgroups::Cgroups;
use node_config::validate::Facts;

pub use check::check;
pub use disk::Disk;
pub use reload::{Changed, Live, Reload};

use crate::settings::CGROUP_MOUNT;

/// What the rules need to know of this node. What cannot be found out breaks no rule.
pub fn facts() -> Facts {
    let cgroups = Cgroups::detect(Path::new(CGROUP_MOUNT), cgroups::Settings::default());
    Facts {
        cgroup_version: cgroups.ok().map(|cgroups| match cgroups.version() {
            cgroups::Version::V1 => 1,
            cgroups::Version::V2 => 2,
        }),
        online_cpus: fs::read_to_string("/sys/devices/system/cpu/online").ok().and_then(|t| cpus(t.trim())),
        // The first line is a heading.
        swap: fs::read_to_string("/proc/swaps").ok().map(|text| text.lines().count() > 1),
        // Rules about an API server wait for the crate that speaks to one.
        api_server: None,
    }
}

/// A list of CPUs as the kernel writes it: `0-3,6`.
fn cpus(list: &str) -> Option<BTreeSet<u32>> {
    let mut cpus = BTreeSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(cpus("0-2,6"), Some(BTreeSet::from([0, 1, 2, 6])));
        assert_eq!(cpus("0"), Some(BTreeSet::from([0])));
        assert_eq!(cpus("x"), None);
    }

    #[test]
    fn this_node_has_cpus_and_cgroups() {
        let facts = facts();
        assert!(facts.online_cpus.is_some_and(|cpus| !cpus.is_empty()));
        assert!(facts.cgroup_version.is_some());
    }
}
