//! What keeps the agent from starting.

use std::path::PathBuf;

use server::healthz::HealthzError;
use server::local::LocalError;

use crate::cluster::ClusterError;
use crate::service_manager::WatchdogError;
use crate::sources::SourceError;

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A flag's endpoint is none.
    #[error("--container-runtime-endpoint")]
    Endpoint(#[from] cri_client::EndpointError),
    /// The root or log directory cannot be made.
    #[error("preparing {}", .path.display())]
    Dir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file of the node cannot be read.
    #[error("reading {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Pods are allowed kernel parameters that are the node's.
    #[error("allowedUnsafeSysctls")]
    Sysctls(#[from] admission::NotNamespaced),
    /// Cgroups are not there or cannot be written.
    #[error("cgroups")]
    Cgroups(#[from] cgroups::Error),
    /// The health endpoint cannot be served.
    #[error(transparent)]
    Healthz(#[from] HealthzError),
    /// The local socket cannot be served; another agent may hold it.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// A source of pods cannot be started.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The service manager asks for a watchdog that cannot be.
    #[error(transparent)]
    Watchdog(#[from] WatchdogError),
    /// The node cannot be part of its cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}
