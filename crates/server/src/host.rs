//! What the server asks of the agent. Each trait is one concern; `agent` implements them with the crates that do
//! the work, tests with fakes. The desired pods and their statuses come through [`View`](crate::View).

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use kube_model::PodUid;
use kube_model::observed::ObservedPod;
use kube_model::stats::Summary;

use crate::auth::{Access, User};
use crate::metrics::{HealthChecks, HttpMetrics, Page, Text};
use crate::pod_streams::PodStreams;
use crate::unsent::Budget;

/// An answer that takes a while. Implementations have deadlines of their own.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, HostError>>;

/// Why the agent has no answer. The text goes to the client as it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The runtime does not know what was asked for; HTTP 404.
    #[error("{0}")]
    NotFound(String),
    /// The runtime has too much to do; HTTP 429.
    #[error("{0}")]
    Busy(String),
    /// Anything else; HTTP 500.
    #[error("{0}")]
    Failed(String),
}

/// The agent as a whole.
pub trait Node: Send + Sync + 'static {
    /// What the runtime has at this moment: pods with a ready sandbox or a running container.
    fn running_pods(&self) -> Answer<'_, Vec<Arc<ObservedPod>>>;

    /// `/healthz/syncloop`: whether pods are still being looked after.
    ///
    /// # Errors
    /// A sentence that says what is stuck.
    fn sync_loop(&self) -> Result<(), String>;

    /// The configuration that is in force, as a `KubeletConfiguration`.
    fn configuration(&self) -> serde_json::Value;

    /// Changes the verbosity of the log, as klog counts it.
    ///
    /// # Errors
    /// Why it stays as it is.
    fn set_verbosity(&self, level: u32) -> Result<(), String>;

    /// Adds what the agent counts. The server itself writes the process, its requests and its pods.
    fn write_metrics(&self, page: Page, out: &mut Text);
}

/// Which streams of a process are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Streams {
    /// What the client sends.
    pub stdin: bool,
    /// What the process writes.
    pub stdout: bool,
    /// What it writes as errors; never with a terminal.
    pub stderr: bool,
    /// Whether there is a terminal.
    pub tty: bool,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// Everything written to stdout.
    pub stdout: Vec<u8>,
    /// Everything written to stderr.
    pub stderr: Vec<u8>,
    /// How it ended.
    pub exit_code: i32,
}

/// The runtime's part in logs and streams. Container IDs come without the `containerd://` prefix.
pub trait Streaming: Send + Sync + 'static {
    /// The log file of a container (CRI `ContainerStatus`).
    fn log_path<'a>(&'a self, container: &'a str) -> Answer<'a, PathBuf>;

    /// Prepares a command in a container (CRI `Exec`) and gives the URL to stream it from.
    fn exec<'a>(&'a self, container: &'a str, command: Vec<String>, streams: Streams) -> Answer<'a, String>;

    /// Prepares an attachment to a container's first process (CRI `Attach`) and gives its URL.
    fn attach<'a>(&'a self, container: &'a str, streams: Streams) -> Answer<'a, String>;

    /// Prepares forwarding to ports of a pod's sandbox (CRI `PortForward`) and gives its URL. No ports: the
    /// client names them later.
    fn port_forward<'a>(&'a self, pod: &'a PodUid, ports: Vec<i32>) -> Answer<'a, String>;

    /// Runs a command to its end (CRI `ExecSync` without a timeout).
    fn exec_sync<'a>(&'a self, container: &'a str, command: Vec<String>) -> Answer<'a, Output>;
}

/// What the node and its pods use.
pub trait Stats: Send + Sync + 'static {
    /// The summary; `only_cpu_and_memory` may leave everything else out.
    fn summary(&self, only_cpu_and_memory: bool) -> Answer<'_, Arc<Summary>>;
}

/// Asks the API server whose token it is (TokenReview).
pub trait TokenReviewer: Send + Sync + 'static {
    /// The user, or `None` when the token is nobody's.
    fn review<'a>(&'a self, token: &'a str) -> Answer<'a, Option<User>>;
}

/// Asks the API server what a user may do (SubjectAccessReview).
pub trait AccessReviewer: Send + Sync + 'static {
    /// Whether it is allowed.
    fn review<'a>(&'a self, user: &'a User, access: &'a Access) -> Answer<'a, bool>;
}

/// Everything that the endpoints need of the agent. The servers of one agent share it.
#[derive(Clone)]
pub struct Host {
    pub(crate) pod_streams: Arc<PodStreams>,
    pub(crate) node: Arc<dyn Node>,
    pub(crate) stats: Arc<dyn Stats>,
    pub(crate) requests: Arc<HttpMetrics>,
    pub(crate) checks: Arc<HealthChecks>,
    pub(crate) unsent: Budget,
}

impl Host {
    /// Puts the parts together.
    pub fn new(pod_streams: Arc<PodStreams>, node: Arc<dyn Node>, stats: Arc<dyn Stats>) -> Self {
        Self {
            pod_streams,
            node,
            stats,
            requests: Arc::default(),
            checks: Arc::default(),
            unsent: Budget::default(),
        }
    }

    /// Counts health checks together with others, those of the server of `/healthz` alone.
    pub fn counting(mut self, checks: Arc<HealthChecks>) -> Self {
        self.checks = checks;
        self
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}
