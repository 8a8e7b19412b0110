//! The Node and its lease at the API server, as `node-reporter` asks for them.

use std::sync::Arc;

use apiserver_sync::events::Recorder;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Error};
use kube_model::core::Node;
use kube_model::k8s_openapi::api::coordination::v1::Lease;
use kube_model::view::EventType;
use node_reporter::{ApiError, NodeApi};
use serde_json::Value;

use crate::metrics::Metrics;

/// The namespace of all node leases.
const LEASES: &str = "kube-node-lease";

pub(crate) struct NodeClient {
    nodes: Api<Node>,
    leases: Api<Lease>,
    name: String,
    recorder: Recorder,
    metrics: Arc<Metrics>,
}

impl NodeClient {
    pub(crate) fn new(client: Client, name: &str, recorder: Recorder, metrics: Arc<Metrics>) -> Self {
        Self {
            nodes: Api::all(client.clone()),
            leases: Api::namespaced(client, LEASES),
            name: name.to_owned(),
            recorder,
            metrics,
        }
    }

    /// The server has this node; whether it knows that it is ready.
    fn heard(&self, node: &Node) {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        if conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True") {
            self.metrics.node_startup.ready();
        }
    }
}

pub(super) fn error(error: Error) -> ApiError {
    match error {
        Error::Api(status) => match (status.code, status.reason.as_str()) {
            (404, _) => ApiError::NotFound,
            (409, "AlreadyExists") => ApiError::AlreadyExists,
            (409, _) => ApiError::Conflict,
            (403, _) => ApiError::Forbidden(status.message.clone()),
            _ => ApiError::Other(status.message.clone()),
        },
        other => ApiError::Other(util::causes(&other)),
    }
}

impl NodeApi for NodeClient {
    async fn node(&self) -> Result<Node, ApiError> {
        self.nodes.get(&self.name).await.map_err(error)
    }

    async fn create_node(&self, node: &Node) -> Result<Node, ApiError> {
        self.metrics.node_startup.registers();
        let node = self.nodes.create(&PostParams::default(), node).await.map_err(error)?;
        self.metrics.node_startup.registered();
        self.heard(&node);
        Ok(node)
    }

    async fn patch_node(&self, patch: &Value) -> Result<Node, ApiError> {
        self.nodes.patch(&self.name, &PatchParams::default(), &Patch::Strategic(patch)).await.map_err(error)
    }

    async fn patch_status(&self, patch: &Value) -> Result<Node, ApiError> {
        let patch = Patch::Strategic(patch);
        let node =
            self.nodes.patch_status(&self.name, &PatchParams::default(), &patch).await.map_err(error)?;
        self.heard(&node);
        Ok(node)
    }

    async fn lease(&self) -> Result<Lease, ApiError> {
        self.leases.get(&self.name).await.map_err(error)
    }

    async fn create_lease(&self, lease: &Lease) -> Result<Lease, ApiError> {
        self.leases.create(&PostParams::default(), lease).await.map_err(error)
    }

    async fn update_lease(&self, lease: &Lease) -> Result<Lease, ApiError> {
        self.leases.replace(&self.name, &PostParams::default(), lease).await.map_err(error)
    }

    fn event(&self, kind: EventType, reason: &str, message: String) {
        self.recorder.node(kind, reason, message);
    }
}
