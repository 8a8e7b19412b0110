//! What runs out on a node: how much there is, and how much of it is left. The same numbers as in the summary (upstream
//! `pkg/kubelet/eviction/helpers.go` `makeSignalObservations`).

use std::io;
use std::path::Path;

use kube_model::Timestamp;

use crate::cgroup::Hierarchy;
use crate::{Error, disk, node};

/// How much there is of something, and how much of it is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// In all.
    pub capacity: u64,
    /// Left.
    pub available: u64,
}

/// Of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// For who is not root.
    pub bytes: Observation,
    /// `None` where they are made as they are needed.
    pub inodes: Option<Observation>,
}

/// Memory that pods could still get: all but the working set of the root cgroup.
///
/// # Errors
/// When what each node has cannot be read.
pub fn memory(proc: &Path, cgroup_mount: &Path) -> Result<Observation, Error> {
    let root = node::root_memory(proc, &Hierarchy::detect(cgroup_mount), Timestamp::UNIX_EPOCH)?;
    Ok(Observation { capacity: root.total, available: root.stats.available_bytes.unwrap_or_default() })
}

/// The file system that `path` is in.
///
/// # Errors
/// When the system does not tell.
pub fn disk(path: &Path) -> io::Result<Disk> {
    let fs = disk::file_system(path, Timestamp::UNIX_EPOCH)?;
    let observation = |capacity: Option<u64>, available: Option<u64>| {
        Some(Observation { capacity: capacity?, available: available? })
    };
    Ok(Disk {
        bytes: observation(fs.capacity_bytes, fs.available_bytes)
            .ok_or_else(|| io::Error::other("its size is not known"))?,
        inodes: observation(fs.inodes, fs.inodes_free),
    })
}

/// Process IDs; threads have one each.
pub fn pids(proc: &Path) -> Option<Observation> {
    let (most, used) = node::pids(proc);
    let (capacity, used) = (u64::try_from(most?).ok()?, u64::try_from(used?).ok()?);
    Some(Observation { capacity, available: capacity.saturating_sub(used) })
}
