//! One volume is made what it is to be, whatever an earlier run of the agent, or another kubelet, has left of it. All
//! of it can be done again, and a kill at any instruction is made good by the next time.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use kube_model::core::{HostPathVolumeSource, Pod};
use kube_model::{Monotonic, PodUid};
use volume_plan::spec::Kind;

use crate::blocking::{self, On};
use crate::claimed::Claimed;
use crate::csi;
use crate::error::{Failed, SetUpError, Step, go_words};
use crate::group::Progress;
use crate::hold::Hold;
use crate::manager::{Inner, find};
use crate::nfs::{self, Nfs};
use crate::settings::PodDirs;
use crate::{empty_dir, files, host_path, plugins};

/// What came of it.
#[derive(Debug)]
pub(crate) enum Done {
    /// It is what it is to be; a token in it, if any, is good until then.
    Current { until: Option<Monotonic> },
    /// It is not.
    Failed {
        /// At what.
        step: Step,
        error: SetUpError,
        /// It is there nevertheless, with its last content.
        usable: bool,
    },
}

impl From<Result<(), SetUpError>> for Done {
    fn from(result: Result<(), SetUpError>) -> Self {
        match result {
            Ok(()) => Self::Current { until: None },
            Err(error) => Failed::from(error).into(),
        }
    }
}

impl From<Failed> for Done {
    fn from(Failed { step, error }: Failed) -> Self {
        Self::Failed { step, error, usable: false }
    }
}

impl From<Result<(), Failed>> for Done {
    fn from(result: Result<(), Failed>) -> Self {
        match result {
            Ok(()) => Self::Current { until: None },
            Err(failed) => failed.into(),
        }
    }
}

/// An operation for one volume of a pod.
pub(crate) struct Job {
    pub(crate) inner: Arc<Inner>,
    pub(crate) uid: PodUid,
    /// Of the pod's entry.
    pub(crate) generation: u64,
    pub(crate) pod: Arc<Pod>,
    /// The volume's name.
    pub(crate) name: String,
}

impl Job {
    pub(crate) async fn set_up(&self) -> Done {
        let Some(volume) = find(&self.pod, &self.name) else {
            return Err(SetUpError(format!("the pod has no volume {:?}", self.name))).into();
        };
        let dirs = PodDirs::new(&self.inner.settings, &self.uid);
        match Kind::of(volume) {
            Kind::EmptyDir(_) => {
                let (pod, name) = (Arc::clone(&self.pod), self.name.clone());
                let memory = self.inner.settings.allocatable.memory;
                let progress = Arc::new(Progress::default());
                let of_work = Arc::clone(&progress);
                let work = move || empty_dir::set_up(&dirs, &pod, &name, memory, &of_work);
                self.telling(&progress, self.on_own_disk(work)).await.into()
            }
            Kind::HostPath(source) => match self.hold().await {
                Ok(hold) => Self::host_path(hold, source, dirs).await.into(),
                Err(error) => Err(error).into(),
            },
            Kind::Content(content) => files::set_up(self, content, dirs).await,
            // The runtime mounts the image, which is fetched for each container that has it.
            Kind::Image(_) => self.on_own_disk(move || make_pod_dirs(&dirs)).await.into(),
            Kind::Claim(_) => plugins::set_up_claimed(self, volume, dirs).await,
            Kind::Nfs(source) => {
                let nfs = Nfs::new(source, &self.name, source.read_only.unwrap_or(false), Vec::new());
                match self.hold().await {
                    Ok(hold) => nfs::set_up(hold, dirs, nfs).await.into(),
                    Err(error) => Err(error).into(),
                }
            }
            Kind::Csi(source) => csi::set_up_inline(self, source, dirs).await,
            Kind::Never(never) => {
                let error = SetUpError(plugins::no_plugin(&self.name, &never.to_string()));
                Failed { step: Step::Process, error }.into()
            }
        }
    }

    /// A path of the node, of a pod that names it itself or has it by a claim. `guard` keeps others from doing something
    /// for the pod's folders meanwhile.
    pub(crate) async fn host_path(
        guard: impl Send + 'static,
        source: &HostPathVolumeSource,
        dirs: PodDirs,
    ) -> Result<(), SetUpError> {
        let work = move || {
            let _guard = guard;
            make_pod_dirs(&dirs)
        };
        flatten(blocking::run(On::OwnDisk, work).await)?;
        if !host_path::is_looked_at(source) {
            return host_path::set_up(source);
        }
        let source = source.clone();
        flatten(blocking::run(On::Elsewhere, move || host_path::set_up(&source)).await)
    }

    /// What the volume's claim stands for has been found.
    pub(crate) fn found(&self, claimed: &Arc<Claimed>) {
        let mut pods = self.inner.pods();
        if let Some(entry) = pods.get_mut(&self.uid).filter(|entry| entry.generation == self.generation) {
            entry.found(&self.name, claimed);
        }
        drop(pods);
        self.inner.look_at_in_use();
    }

    async fn on_own_disk(
        &self,
        work: impl FnOnce() -> Result<(), SetUpError> + Send + 'static,
    ) -> Result<(), SetUpError> {
        let hold = self.hold().await?;
        let work = move || {
            let _hold = hold;
            work()
        };
        flatten(blocking::run(On::OwnDisk, work).await)
    }

    /// The same, for one who holds the pod already.
    pub(crate) async fn on_own_disk_held(
        &self,
        work: impl FnOnce() -> Result<(), SetUpError> + Send + 'static,
    ) -> Result<(), SetUpError> {
        flatten(blocking::run(On::OwnDisk, work).await)
    }

    /// From here on the pod's volumes are not taken down until this is dropped.
    pub(crate) async fn hold(&self) -> Result<Hold, SetUpError> {
        let what = format!("volume {:?}", self.name);
        self.inner.hold(&self.uid, self.generation, &what).await.ok_or_else(SetUpError::ending)
    }
}

pub(crate) fn flatten<T>(result: Result<Result<T, SetUpError>, String>) -> Result<T, SetUpError> {
    result.unwrap_or_else(|cut_off| Err(SetUpError(cut_off)))
}

/// The pod's own folders, with upstream's modes (`pkg/kubelet/kubelet.go` `makePodDataDirs`).
pub(crate) fn make_pod_dirs(dirs: &PodDirs) -> Result<(), SetUpError> {
    make_dir(&dirs.pod(), 0o750)?;
    make_dir(&dirs.volumes(), 0o750)?;
    make_dir(&dirs.plugins(), 0o750)
}

/// Makes a folder and what is missing above it, with this mode less the umask.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), SetUpError> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|error| go_words("mkdir", path, &error))
}

/// Whether there is something at the path.
pub(crate) fn exists(path: &Path) -> Result<bool, SetUpError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(go_words("stat", path, &error)),
    }
}
