//! What can go wrong with cgroups.

use std::io;
use std::path::PathBuf;

use kube_model::PodUid;

/// Why a cgroup could not be made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is mounted there.
    #[error("no cgroups at {}: neither cgroup.controllers nor a directory with cgroup.procs", root.display())]
    NoCgroups {
        /// Where they were looked for.
        root: PathBuf,
    },
    /// The pod's UID cannot be a file name.
    #[error("pod UID {uid:?} cannot name a cgroup")]
    BadUid {
        /// The UID
        uid: PodUid,
    },
    /// The kernel refused a value.
    #[error("writing {value:?} to {}", path.display())]
    Write {
        /// The file
        path: PathBuf,
        /// What was written to it
        value: String,
        /// The kernel's answer
        source: io::Error,
    },
    /// Another file operation failed.
    #[error("{what} {}", path.display())]
    Io {
        /// What was being done
        what: &'static str,
        /// To which file or directory
        path: PathBuf,
        /// The kernel's answer
        source: io::Error,
    },
    /// Processes outlived SIGKILL.
    #[error("processes {pids:?} in cgroup {} outlive {tries} times SIGKILL", shown(dirs))]
    Unkillable {
        /// The cgroup, in each hierarchy
        dirs: Vec<PathBuf>,
        /// How often they were killed
        tries: u32,
        /// What is left
        pids: Vec<i32>,
    },
    /// Processes outlived SIGKILL, or the kernel holds the directory.
    #[error("removing cgroup {}: still in use after {tries} tries by processes {pids:?}", path.display())]
    StillBusy {
        /// The cgroup
        path: PathBuf,
        /// How often it was tried
        tries: u32,
        /// What is in it
        pids: Vec<i32>,
        /// The kernel's answer
        source: io::Error,
    },
    /// The process is going down.
    #[error("the cgroup task was cut off: {0}")]
    CutOff(#[from] tokio::task::JoinError),
}

/// One hierarchy is enough to tell which cgroup it is.
fn shown(dirs: &[PathBuf]) -> std::path::Display<'_> {
    dirs.first().map_or(std::path::Path::new(""), PathBuf::as_path).display()
}

impl Error {
    /// Whether the same call may succeed later without anybody changing the configuration.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::NoCgroups { .. } | Self::BadUid { .. })
    }
}
