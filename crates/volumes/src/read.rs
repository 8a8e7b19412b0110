//! What stands in a file of a volume, as its containers have left it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube_model::PodUid;

use crate::blocking::{self, On};
use crate::manager::{Volumes, find};

/// The largest file that is read: more than Linux takes for the variables of a program.
const MOST: u64 = 6 << 20;

/// How long a reader waits: the next attempt reads anew.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is nothing to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The volume has no such file.
    #[error("there is no such file")]
    NotFound,
    /// The pod has no such volume that is mounted: in upstream's words.
    #[error("cannot find the volume {0:?} referenced by FileKeyRef")]
    NoVolume(String),
    /// It is not what can be read. Begins with upstream's words.
    #[error("couldn't parse env file: {0}")]
    Unreadable(String),
}

impl Volumes {
    /// The content of a file of a volume that is mounted. No link leads out of the volume.
    ///
    /// # Errors
    /// There is no such volume or file, or it cannot be read.
    pub async fn read_file(&self, uid: &PodUid, volume: &str, path: &str) -> Result<Vec<u8>, FileError> {
        let no_volume = || FileError::NoVolume(volume.to_owned());
        let pod =
            self.inner.pods().get(uid).and_then(|entry| {
                entry.mounted().any(|name| name == volume).then(|| Arc::clone(entry.pod()))
            });
        let whole = pod.and_then(|pod| self.host_path(uid, find(&pod, volume)?)).ok_or_else(no_volume)?;
        let path = path.to_owned();
        let work = move || volume_fs::Root::open(&whole).and_then(|root| root.read(Path::new(&path), MOST));
        match tokio::time::timeout(PATIENCE, blocking::run(On::Elsewhere, work)).await {
            Ok(Ok(Ok(content))) => Ok(content),
            Ok(Ok(Err(error))) if error.is_not_found() => Err(FileError::NotFound),
            Ok(Ok(Err(error))) => Err(FileError::Unreadable(util::causes(&error))),
            Ok(Err(cut_off)) => Err(FileError::Unreadable(cut_off)),
            Err(_) => {
                let seconds = PATIENCE.as_secs();
                Err(FileError::Unreadable(format!("not read in {seconds} s, what it lies on may not answer")))
            }
        }
    }
}
