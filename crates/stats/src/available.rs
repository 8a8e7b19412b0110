//! What runs out on a node: how much there is, and how much of it is left. The same numbers as in the summary (upstream
//! `pkg/kubelet/eviction/helpers.go` `makeSignalObservations`).

use std::io;
use std::path::Path;

use kube_model::Timestamp;
use kube_model::eviction::{Signal, SignalObservation, SignalObservations};

use crate::cgroup::Hierarchy;
use crate::{Error, disk, node};

/// Of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// For who is not root.
    pub bytes: SignalObservation,
    /// `None` where they are made as they are needed.
    pub inodes: Option<SignalObservation>,
}

/// All that runs out on a node and can be measured, with the images in `image_dir`, if that is known.
pub fn signal_observations(
    proc: &Path,
    cgroup_mount: &Path,
    root_dir: &Path,
    image_dir: Option<&Path>,
) -> SignalObservations {
    let (nodefs, imagefs) = (disk(root_dir).ok(), image_dir.and_then(|dir| disk(dir).ok()));
    let all = [
        (Signal::MemoryAvailable, memory(proc, cgroup_mount).ok()),
        (Signal::NodefsAvailable, nodefs.map(|fs| fs.bytes)),
        (Signal::NodefsInodesFree, nodefs.and_then(|fs| fs.inodes)),
        (Signal::ImagefsAvailable, imagefs.map(|fs| fs.bytes)),
        (Signal::ImagefsInodesFree, imagefs.and_then(|fs| fs.inodes)),
        (Signal::PidAvailable, pids(proc)),
    ];
    all.into_iter().filter_map(|(signal, observed)| Some((signal, observed?))).collect()
}

fn observation(capacity: u64, available: u64) -> SignalObservation {
    let signed = |amount| i64::try_from(amount).unwrap_or(i64::MAX);
    SignalObservation { capacity: signed(capacity), available: signed(available) }
}

/// Memory that pods could still get: all but the working set of the root cgroup.
///
/// # Errors
/// When what each node has cannot be read.
pub fn memory(proc: &Path, cgroup_mount: &Path) -> Result<SignalObservation, Error> {
    let root = node::root_memory(proc, &Hierarchy::detect(cgroup_mount), Timestamp::UNIX_EPOCH)?;
    Ok(observation(root.total, root.stats.available_bytes.unwrap_or_default()))
}

/// The file system that `path` is in.
///
/// # Errors
/// When the system does not tell.
pub fn disk(path: &Path) -> io::Result<Disk> {
    let fs = disk::file_system(path, Timestamp::UNIX_EPOCH)?;
    let bytes = fs.capacity_bytes.zip(fs.available_bytes);
    let (capacity, available) = bytes.ok_or_else(|| io::Error::other("its size is not known"))?;
    let inodes = fs.inodes.zip(fs.inodes_free);
    Ok(Disk {
        bytes: observation(capacity, available),
        inodes: inodes.map(|(all, free)| observation(all, free)),
    })
}

/// Process IDs; threads have one each.
pub fn pids(proc: &Path) -> Option<SignalObservation> {
    let (most, used) = node::pids(proc);
    let (capacity, used) = (u64::try_from(most?).ok()?, u64::try_from(used?).ok()?);
    Some(observation(capacity, capacity.saturating_sub(used)))
}
