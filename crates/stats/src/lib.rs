#![doc = include_str!("../README.md")]
//!
//! Owns: which file of the kernel, or which field of the runtime's answer, each number comes from. Knows nothing of
//! how the runtime is asked, of who wants the numbers or how often; writes nothing.
//! Rules: upstream `pkg/kubelet/server/stats`, `pkg/kubelet/metrics/collectors`.

pub mod addresses;
pub mod available;
mod cgroup;
mod cri;
mod disk;
pub mod machine;
mod node;
pub mod oom;
mod pods;
mod proc;
mod rates;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use kube_model::stats::{PodReference, Summary, VolumeStats};
use kube_model::{PodUid, Timestamp};
use node_proto::cri::v1;

use cgroup::Hierarchy;
use rates::Rates;

/// Where things are, and what the cgroups of the system are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of the node.
    pub node_name: String,
    /// Where cgroups are mounted; `/sys/fs/cgroup` by default.
    pub cgroup_mount: PathBuf,
    /// Where the kernel shows processes; `/proc` by default.
    pub proc: PathBuf,
    /// The kubelet's folder: its file system is the node's. `/var/lib/kubelet` by default.
    pub root_dir: PathBuf,
    /// Cgroups of the node by their role in the summary (`kubelet`, `runtime`, `misc`); without one for `kubelet` it
    /// is the one that this process is in. None by default.
    pub system_cgroups: Vec<(&'static str, String)>,
}

impl Settings {
    /// A node with everything in its usual place.
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.to_owned(),
            cgroup_mount: "/sys/fs/cgroup".into(),
            proc: "/proc".into(),
            root_dir: "/var/lib/kubelet".into(),
            system_cgroups: Vec::new(),
        }
    }
}

/// Where the things of pods are. Others make and name them. Cgroups are paths below the mount point.
pub trait PodPaths: Send + Sync {
    /// The cgroup that all pods are in; `None` if pods have none.
    fn pods_cgroup(&self) -> Option<String>;
    /// The cgroup of a pod; `None` if it has none.
    fn pod_cgroup(&self, uid: &PodUid) -> Option<String>;
    /// The folder of a pod's logs: its own files, and a folder for each container.
    fn pod_logs(&self, pod: &PodReference) -> PathBuf;
    /// What a pod sees as `/etc/hosts`.
    fn hosts_file(&self, uid: &PodUid) -> PathBuf;
}

/// What the runtime says, and who makes the volumes of pods.
#[derive(Debug, Clone, Default)]
pub struct RuntimeAnswers {
    /// All sandboxes.
    pub sandboxes: Vec<v1::PodSandbox>,
    /// All containers.
    pub containers: Vec<v1::Container>,
    /// Of the containers; may be empty, see [`SummaryProvider::needs_container_stats`].
    pub container_stats: Vec<v1::ContainerStats>,
    /// Of its file systems; only looked at for [`Depth::Everything`].
    pub file_systems: v1::ImageFsInfoResponse,
    /// The volumes of pods; only looked at for [`Depth::Everything`].
    pub volumes: BTreeMap<PodUid, Vec<PodVolume>>,
}

/// A volume of a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct PodVolume {
    /// What it holds.
    pub stats: VolumeStats,
    /// Whether it takes of the node's own disk, and goes with the pod.
    pub is_local: bool,
}

/// How much is wanted; more is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// CPU, memory and swap.
    CpuAndMemory,
    /// All that can be told.
    Everything,
}

/// Why there is no summary: what a node always has could not be read. What is missing of a single pod is left out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file does not say what it should.
    #[error("{} has no {what}", path.display())]
    Missing {
        /// The file, or the folder of the cgroup.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// A file system cannot be looked at.
    #[error("measuring the file system of {}", path.display())]
    FileSystem {
        /// A folder in it.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Measures a node. One for each node: it remembers what CPU rates are reckoned from.
pub struct SummaryProvider {
    settings: Settings,
    paths: Box<dyn PodPaths>,
    cgroups: Hierarchy,
    rates: Rates,
}

impl SummaryProvider {
    /// Reads which version of cgroups is mounted, and nothing else.
    pub fn new(settings: Settings, paths: Box<dyn PodPaths>) -> Self {
        let cgroups = Hierarchy::detect(&settings.cgroup_mount);
        Self { settings, paths, cgroups, rates: Rates::default() }
    }

    /// Whether CPU and memory of some running container can only be had from the runtime.
    pub fn needs_container_stats(&self, answers: &RuntimeAnswers) -> bool {
        pods::running(answers).iter().any(|pod| {
            let cgroups = pods::Cgroups::find(&self.cgroups, &*self.paths, pod);
            pod.containers.iter().any(|container| cgroups.of(&container.id).is_none())
        })
    }

    /// The whole summary, as of `now`. Pods are sorted by namespace and name.
    ///
    /// # Errors
    /// [`Error`], when what every node has cannot be read.
    pub fn measure(
        &mut self,
        answers: &RuntimeAnswers,
        depth: Depth,
        now: Timestamp,
    ) -> Result<Summary, Error> {
        let node = self.node(answers, depth, now)?;
        let pods = self.pods(answers, depth, now);
        self.rates.forget(now);
        Ok(Summary { node, pods })
    }
}

impl std::fmt::Debug for SummaryProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SummaryProvider").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The text of a file that may be gone by now: pods come and go while they are measured.
fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The text of a file that every node has.
fn needed(path: PathBuf) -> Result<String, Error> {
    std::fs::read_to_string(&path).map_err(|source| Error::Read { path, source })
}

#[cfg(test)]
mod tests;
