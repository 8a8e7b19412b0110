//! The cgroups of pods: `<root>/kubepods[/burstable|/besteffort]/pod<uid>`, on cgroup v2 and v1, written
//! through the file system (the "cgroupfs driver").
//!
//! Owns these directories and the values in them; one [`Cgroups`] is their only writer. The cgroups of
//! containers inside belong to the runtime. Must not know the runtime, the API or which pods should exist.
//! Rules: upstream `pkg/kubelet/cm`.

mod error;
mod hierarchy;
mod missing;
mod remove;
mod values;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube_model::PodUid;
use kube_model::qos::QosClass;
use tokio::sync::Mutex;

pub use error::Error;
pub use hierarchy::Version;
pub use missing::missing;
pub use values::{NodeLimits, PodLimits};

use hierarchy::Hierarchies;
use values::Value;

const CLASSES: [QosClass; 3] = [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort];

/// How pod cgroups are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `cgroupRoot`: the cgroup below which `kubepods` stands, `/` by default. Made if it is missing.
    pub cgroup_root: String,
    /// `cpuCFSQuota`: whether CPU limits are enforced; true by default.
    pub cpu_cfs_quota: bool,
    /// `cpuCFSQuotaPeriod` in microseconds; 100000 by default.
    pub cpu_period_us: u64,
    /// `podPidsLimit`: the most processes a pod may have; -1, the default, for no limit of its own.
    pub pod_pids_limit: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { cgroup_root: "/".into(), cpu_cfs_quota: true, cpu_period_us: 100_000, pod_pids_limit: -1 }
    }
}

/// The pod cgroups of one node.
///
/// Making and removing cgroups waits for locks of the kernel, and a limit below what is used for memory to be freed: what
/// is no `async fn` here is for a thread that may block, see [`run`](Self::run).
#[derive(Debug)]
pub struct Cgroups {
    hierarchies: Hierarchies,
    settings: Settings,
    turn: Arc<Mutex<()>>,
}

impl Cgroups {
    /// Looks at what is mounted at `root` (`/sys/fs/cgroup` on a real node): cgroup v2 if
    /// `cgroup.controllers` is there, else v1 with a directory for each hierarchy.
    ///
    /// # Errors
    /// [`Error::NoCgroups`] when neither is there, [`Error::Io`] when `root` cannot be read.
    pub fn detect(root: &Path, settings: Settings) -> Result<Self, Error> {
        Ok(Self { hierarchies: Hierarchies::detect(root)?, settings, turn: Arc::default() })
    }

    /// Runs `work` where blocking is allowed, one after the other: what it looks at first still holds when it makes or
    /// removes something. Once it has begun it ends, even if this future is dropped.
    ///
    /// # Errors
    /// Those of `work`; [`Error::CutOff`] when the process is going down.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        // Waited for here, so that many pods do not hold a thread each.
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let cgroups = Arc::clone(self);
        let work = move || {
            let _turn = turn;
            work(&cgroups)
        };
        tokio::task::spawn_blocking(work).await?
    }

    /// Which version of cgroups the node has.
    pub fn version(&self) -> Version {
        self.hierarchies.version
    }

    /// Makes `kubepods` and the cgroups of the QoS classes in it, with all controllers passed down. May be called again
    /// at any time: what is already as it should be is not written, and the CPU shares of the burstable class stay (see
    /// [`set_burstable_shares`](Self::set_burstable_shares)).
    ///
    /// # Errors
    /// [`Error`] names the path and the value that could not be written.
    pub fn ensure_base(&self) -> Result<(), Error> {
        for class in CLASSES {
            let fresh = self.make(class.cgroup())?;
            self.hierarchies.pass_down(&self.path(class.cgroup()))?;
            if class == QosClass::BestEffort || class == QosClass::Burstable && fresh {
                self.apply(class.cgroup(), &[Value::cpu_shares(self.version(), 2)])?;
            }
        }
        Ok(())
    }

    /// Limits what all pods may use together; call [`ensure_base`](Self::ensure_base) before.
    ///
    /// # Errors
    /// [`Error`] names the path and the value: the kernel takes no memory limit below what pods use. What could be
    /// limited is.
    pub fn limit_pods(&self, limits: &NodeLimits) -> Result<(), Error> {
        let cgroup = QosClass::Guaranteed.cgroup();
        let values = limits.values(self.version(), &self.page_sizes(cgroup)?);
        let applied = values.into_iter().map(|value| self.apply(cgroup, &[value]));
        applied.collect::<Vec<_>>().into_iter().collect()
    }

    /// Makes the cgroup of a pod, or brings its values up to date; only what differs is written.
    ///
    /// # Errors
    /// [`Error`] names the path and the value; [`Error::BadUid`] for a UID that is no file name.
    pub fn ensure_pod(&self, uid: &PodUid, class: QosClass, limits: &PodLimits) -> Result<(), Error> {
        let name = pod_name(uid)?;
        let cgroup = format!("{}/{name}", class.cgroup());
        self.make(&cgroup)?;
        let pages = self.page_sizes(class.cgroup())?;
        self.apply(&cgroup, &limits.values(self.version(), &self.settings, &pages))
    }

    /// Whether the pod's cgroup is there in every hierarchy.
    pub fn pod_exists(&self, uid: &PodUid) -> bool {
        let Ok(name) = pod_name(uid) else { return false };
        CLASSES.iter().any(|class| {
            let path = self.path(&format!("{}/{name}", class.cgroup()));
            self.hierarchies.all.iter().all(|h| h.dir(&path).is_dir())
        })
    }

    /// The cgroup that all pods are in, below a hierarchy's mount point: `kubepods`.
    pub fn pods_cgroup(&self) -> String {
        self.path(QosClass::Guaranteed.cgroup())
    }

    /// The pod's cgroup, below a hierarchy's mount point; `None` if it has none.
    pub fn pod_cgroup(&self, uid: &PodUid) -> Option<String> {
        let (name, hierarchy) = (pod_name(uid).ok()?, self.hierarchies.all.first()?);
        let mut paths = CLASSES.iter().map(|class| self.path(&format!("{}/{name}", class.cgroup())));
        paths.find(|path| hierarchy.dir(path).is_dir())
    }

    /// All pods that have a cgroup in some hierarchy, in the order of their UIDs: more than the desired ones
    /// when pods were removed while nobody watched.
    ///
    /// # Errors
    /// [`Error::Io`] when a directory cannot be listed.
    pub fn pods(&self) -> Result<Vec<PodUid>, Error> {
        let mut uids = BTreeSet::new();
        for hierarchy in self.hierarchies.everywhere() {
            for class in CLASSES {
                for dir in hierarchy::children(&hierarchy.dir(&self.path(class.cgroup())))? {
                    let uid = dir.file_name().and_then(|n| n.to_str()?.strip_prefix("pod"));
                    uids.extend(uid.filter(|u| !u.is_empty()).map(PodUid::from));
                }
            }
        }
        Ok(uids.into_iter().collect())
    }

    /// Kills what still runs in the pod's cgroups, with all that is nested in them, and removes them. Nothing
    /// to remove is success. Takes up to a sixth of a second when processes are slow to die.
    ///
    /// Safe to drop: the next call goes on where this one was.
    ///
    /// # Errors
    /// [`Error::StillBusy`] when processes outlive five tries; the next call may succeed.
    pub async fn remove_pod(self: &Arc<Self>, uid: &PodUid) -> Result<(), Error> {
        self.remove_pod_unless(uid, || false).await
    }

    /// The same for a pod that may come back meanwhile: once `wanted` says so, nothing more is killed or removed. It is
    /// asked while nobody makes a cgroup, so one that is wanted before its cgroup is made keeps it.
    ///
    /// # Errors
    /// As [`remove_pod`](Self::remove_pod).
    pub async fn remove_pod_unless(
        self: &Arc<Self>,
        uid: &PodUid,
        wanted: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<(), Error> {
        remove::kill_and_remove(self, self.pod_dirs(uid)?.into(), Arc::new(wanted)).await
    }

    /// Removes the pod's cgroups, with all that is nested in them, if nothing runs there: none is killed. Tells whether
    /// they are gone.
    ///
    /// # Errors
    /// [`Error::Io`] when a cgroup cannot be read.
    pub fn remove_empty_pod(&self, uid: &PodUid) -> Result<bool, Error> {
        remove::remove_empty(&self.pod_dirs(uid)?)
    }

    /// Kills what runs in the cgroup of one of the pod's containers or sandboxes, and of no other: a runtime may have
    /// lost track of it. Tells whether there was anything. Takes up to a third of a second when processes are slow
    /// to die. The cgroup stays: it is the runtime's.
    ///
    /// Runtimes name it by the ID (`<id>`, `crio-<id>`), with systemd a scope (`cri-containerd-<id>.scope`).
    ///
    /// # Errors
    /// [`Error::Unkillable`] when processes outlive five tries; the next call may succeed.
    pub async fn kill_container(self: &Arc<Self>, uid: &PodUid, id: &str) -> Result<bool, Error> {
        let (pods, id) = (self.pod_dirs(uid)?, id.to_owned());
        let find = move |_: &Self| {
            let mut dirs = Vec::new();
            for pod in pods {
                dirs.extend(hierarchy::children(&pod)?.into_iter().filter(|dir| is_of_container(dir, &id)));
            }
            Ok(dirs)
        };
        remove::kill_all(self, self.run(find).await?.into()).await
    }

    /// Where the pod's cgroups are or would be.
    fn pod_dirs(&self, uid: &PodUid) -> Result<Vec<PathBuf>, Error> {
        let name = pod_name(uid)?;
        let paths = CLASSES.map(|class| self.path(&format!("{}/{name}", class.cgroup())));
        let dirs = paths.iter().flat_map(|path| self.hierarchies.everywhere().map(move |h| h.dir(path)));
        Ok(dirs.collect())
    }

    /// CPU shares of the burstable class as a whole: the CPU requests of its pods in thousandths, summed.
    ///
    /// # Errors
    /// [`Error`] names the path and the value.
    pub fn set_burstable_shares(&self, total_milli_cpu: i64) -> Result<(), Error> {
        let shares = kube_model::resources::shares(total_milli_cpu);
        self.apply(QosClass::Burstable.cgroup(), &[Value::cpu_shares(self.version(), shares)])
    }

    /// Path below a hierarchy's mount point, without a leading slash.
    fn path(&self, cgroup: &str) -> String {
        format!("{}{cgroup}", self.settings.cgroup_root.trim_matches('/')).trim_start_matches('/').to_owned()
    }

    /// Whether it had to be made in some hierarchy.
    fn make(&self, cgroup: &str) -> Result<bool, Error> {
        self.hierarchies.make(&self.path(cgroup))
    }

    fn apply(&self, cgroup: &str, values: &[Value]) -> Result<(), Error> {
        let path = self.path(cgroup);
        for value in values {
            if let Some(hierarchy) = self.hierarchies.of(value.controller) {
                hierarchy::write(&hierarchy.dir(&path).join(&value.file), &value.text)?;
            }
        }
        Ok(())
    }

    /// Huge page sizes of the node as the kernel names them (`2MB`), read off the files of a cgroup.
    fn page_sizes(&self, cgroup: &str) -> Result<Vec<String>, Error> {
        let Some(hierarchy) = self.hierarchies.of("hugetlb") else { return Ok(Vec::new()) };
        let names = hierarchy::names(&hierarchy.dir(&self.path(cgroup)))?;
        let suffix = values::hugetlb_suffix(self.version());
        let sizes = names.iter().filter_map(|n| n.strip_prefix("hugetlb.")?.strip_suffix(suffix));
        Ok(sizes.filter(|s| !s.contains('.')).map(str::to_owned).collect())
    }
}

/// Name of the pod's directory. A UID from a manifest can be any text, also one that leaves the folder.
fn pod_name(uid: &PodUid) -> Result<String, Error> {
    if uid.as_str().is_empty() || uid.as_str().contains(['/', '\0']) {
        return Err(Error::BadUid { uid: uid.clone() });
    }
    Ok(format!("pod{uid}"))
}

/// Whether a runtime's cgroup is that of the container with this ID: that of its monitor (`crio-conmon-<id>`) is not.
fn is_of_container(dir: &Path, id: &str) -> bool {
    let Some(name) = dir.file_name().and_then(|name| name.to_str()) else { return false };
    let Some(prefix) = name.strip_suffix(".scope").unwrap_or(name).strip_suffix(id) else { return false };
    !id.is_empty() && (prefix.is_empty() || prefix.ends_with('-')) && !prefix.ends_with("conmon-")
}

#[cfg(test)]
mod tests;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
