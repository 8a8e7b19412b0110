//! What the loops need from the rest of the agent.

use std::future::Future;

use kube_model::core::Node;
use kube_model::k8s_openapi::api::coordination::v1::Lease;
use kube_model::view::EventType;
use serde_json::Value;
use tokio::sync::watch;

use crate::facts::{Facts, VolumesInUse};

/// What the API server made of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// There is no such object.
    #[error("not found")]
    NotFound,
    /// There is one already.
    #[error("already exists")]
    AlreadyExists,
    /// It was changed meanwhile.
    #[error("changed meanwhile")]
    Conflict,
    /// The server does not let us.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// Anything else, the connection's errors among them.
    #[error("{0}")]
    Other(String),
}

/// The API server, as far as this one node is concerned. The name of the node is known to the implementation.
pub trait NodeApi: Send + Sync + 'static {
    /// Reads the Node.
    fn node(&self) -> impl Future<Output = Result<Node, ApiError>> + Send;
    /// Creates the Node.
    fn create_node(&self, node: &Node) -> impl Future<Output = Result<Node, ApiError>> + Send;
    /// Strategic merge patch of the Node.
    fn patch_node(&self, patch: &Value) -> impl Future<Output = Result<Node, ApiError>> + Send;
    /// Strategic merge patch of its status.
    fn patch_status(&self, patch: &Value) -> impl Future<Output = Result<Node, ApiError>> + Send;
    /// Reads the node's lease.
    fn lease(&self) -> impl Future<Output = Result<Lease, ApiError>> + Send;
    /// Creates it.
    fn create_lease(&self, lease: &Lease) -> impl Future<Output = Result<Lease, ApiError>> + Send;
    /// Replaces it; a conflict if it was changed since it was read.
    fn update_lease(&self, lease: &Lease) -> impl Future<Output = Result<Lease, ApiError>> + Send;
    /// Records an event about the node; does not wait.
    fn event(&self, kind: EventType, reason: &str, message: String);
}

/// The machine.
pub trait Machine: Send + Sync + 'static {
    /// Measures everything that the Node tells of.
    fn measure(&self) -> impl Future<Output = Facts> + Send;
    /// The server has this of the volumes that are in use: they may be mounted.
    fn told(&self, volumes: &VolumesInUse);
    /// Returns when the runtime has said for the first time how it is, or has taken so long that this tells enough.
    fn answered(&self) -> impl Future<Output = ()> + Send;
    /// Changes when a new measurement may differ in what matters at once: the state of the runtime.
    fn changes(&self) -> watch::Receiver<u64>;
}
