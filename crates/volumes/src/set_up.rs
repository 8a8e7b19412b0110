//! One volume is made what it is to be, whatever an earlier run of the agent, or another kubelet, has left of it. All
//! of it can be done again, and a kill at any instruction is made good by the next time.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use kube_model::core::Pod;
use kube_model::{Monotonic, pod};
use volume_plan::spec::Kind;

use crate::blocking::{self, On};
use crate::error::{SetUpError, go_words};
use crate::manager::{Inner, find};
use crate::settings::PodDirs;
use crate::{empty_dir, files, host_path};

/// What came of it.
#[derive(Debug)]
pub(crate) enum Done {
    /// It is what it is to be; a token in it, if any, is good until then.
    Current { until: Option<Monotonic> },
    /// It is not.
    Failed {
        error: SetUpError,
        /// It is there nevertheless, with its last content.
        usable: bool,
    },
}

impl From<Result<(), SetUpError>> for Done {
    fn from(result: Result<(), SetUpError>) -> Self {
        match result {
            Ok(()) => Self::Current { until: None },
            Err(error) => Self::Failed { error, usable: false },
        }
    }
}

pub(crate) async fn set_up(inner: &Arc<Inner>, pod: &Arc<Pod>, name: &str) -> Done {
    let Some(volume) = find(pod, name) else {
        return Err(SetUpError(format!("the pod has no volume {name:?}"))).into();
    };
    let dirs = PodDirs::new(&inner.settings, &pod::identity(pod).0);
    match Kind::of(volume) {
        Kind::EmptyDir(_) => {
            let (pod, name) = (Arc::clone(pod), name.to_owned());
            let memory = inner.settings.allocatable.memory;
            let work = move || empty_dir::set_up(&dirs, &pod, &name, memory);
            flatten(blocking::run(On::OwnDisk, work).await).into()
        }
        Kind::HostPath(source) => {
            let source = source.clone();
            let work = move || make_pod_dirs(&dirs).and_then(|()| host_path::set_up(&source));
            flatten(blocking::run(On::Elsewhere, work).await).into()
        }
        Kind::Content(content) => files::set_up(inner, pod, name, content, dirs).await,
        Kind::Other(field) => {
            Err(SetUpError(format!("volumes of the kind {field} are not supported yet"))).into()
        }
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
