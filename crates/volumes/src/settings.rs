//! What the manager is told of its node.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube_model::downward::Allocatable;
use kube_model::{Monotonic, PodUid};

/// What the volumes of all pods depend on.
#[derive(Clone)]
pub struct Settings {
    /// Where the folders of all pods stand: `<root>/pods`.
    pub pods_dir: PathBuf,
    /// Where volumes of the node stand that several pods may use: `<root>/plugins`.
    pub plugins_dir: PathBuf,
    /// What the node is called by the API server.
    pub node_name: String,
    /// The CSI drivers that are there.
    pub drivers: csi::Drivers,
    /// What the node has for pods: the most that a volume in memory may hold, and what files tell of it.
    pub allocatable: Allocatable,
    /// The label that the SELinux policy of the node gives files of containers; `None` where SELinux is off.
    pub file_label: Option<String>,
    /// `syncFrequency`: how often the claim of a volume that can grow is read again, and a volume published again whose
    /// driver wants that.
    pub sync_frequency: Duration,
    /// The timeline of all moments here.
    pub now: Arc<dyn Fn() -> Monotonic + Send + Sync>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("pods_dir", &self.pods_dir).finish_non_exhaustive()
    }
}

/// The places of one pod below [`Settings::pods_dir`] (upstream `pkg/kubelet/kubelet_getters.go`).
#[derive(Debug, Clone)]
pub(crate) struct PodDirs(PathBuf);

impl PodDirs {
    pub(crate) fn new(settings: &Settings, uid: &PodUid) -> Self {
        Self(settings.pods_dir.join(uid.as_str()))
    }

    /// `<pod>`
    pub(crate) fn pod(&self) -> PathBuf {
        self.0.clone()
    }

    /// `<pod>/volumes`
    pub(crate) fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }

    /// `<pod>/volumes/PLUGIN/NAME`
    pub(crate) fn volume(&self, plugin: &str, name: &str) -> PathBuf {
        self.volumes().join(plugin).join(name)
    }

    /// `<pod>/plugins`
    pub(crate) fn plugins(&self) -> PathBuf {
        self.0.join("plugins")
    }

    /// `<pod>/plugins/kubernetes.io~empty-dir/NAME`: where `ready` says that a volume has been made.
    pub(crate) fn empty_dir_mark(&self, name: &str) -> PathBuf {
        self.plugins().join("kubernetes.io~empty-dir").join(name)
    }

    /// `<pod>/volumeDevices`
    pub(crate) fn devices(&self) -> PathBuf {
        self.0.join("volumeDevices")
    }

    /// `<pod>/volumeDevices/PLUGIN/NAME`
    pub(crate) fn device(&self, plugin: &str, name: &str) -> PathBuf {
        self.devices().join(plugin).join(name)
    }

    /// `<pod>/volume-subpaths`
    pub(crate) fn subpaths(&self) -> PathBuf {
        self.0.join("volume-subpaths")
    }
}
