//! The kubelet's server, the agent's health endpoint and its local view socket.
//!
//! [`kubelet`] is the server on 10250 and 10255; what it needs of the agent are the traits of [`host`].
//! [`healthz`] answers probes of the agent itself. [`local`] serves the agent's own view of its pods on a unix
//! socket under the root folder, and what goes on [inside](pod_streams) them. Who reads it (the crate `cli`) has the client's end of
//! its [`streams`] here, too.
//!
//! Must not know how pods are run: it sees the agent through [`View`] only.
#![doc = include_str!("../README.md")]

pub mod auth;
mod blocking_work;
mod files;
pub mod healthz;
pub mod host;
mod http1;
pub mod kubelet;
mod listen;
pub mod local;
mod logs;
pub mod metrics;
pub mod pod_streams;
pub mod streams;
pub mod tls;
mod unsent;

#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;

pub use logs::LogOptions;

use kube_model::PodUid;
use kube_model::view::{SourcesSnapshot, ViewSnapshot};
use tokio::sync::watch;

/// What the agent shows of itself.
pub trait View: Send + Sync + 'static {
    /// Everything at this moment.
    fn snapshot(&self) -> ViewSnapshot;

    /// Where the pods come from, at this moment.
    fn sources(&self) -> SourcesSnapshot;

    /// The UID under which the API server shows the static pod of this name: that of its mirror pod, if it has one.
    fn mirror_uid(&self, namespace: &str, name: &str) -> Option<PodUid>;

    /// A value that changes whenever a later snapshot may differ from an earlier one.
    fn changes(&self) -> watch::Receiver<u64>;
}
