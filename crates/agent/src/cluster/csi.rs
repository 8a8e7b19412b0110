//! The CSINode at the API server, as `node-reporter` asks for it, and the drivers that it tells of.

use std::sync::Arc;

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use kube_model::core::Node;
use kube_model::k8s_openapi::api::storage::v1::CSINode;
use node_reporter::{ApiError, CsiDriver, CsiDrivers, CsiNodeApi};
use serde_json::Value;
use tokio::sync::watch;

use super::api::error;

pub(super) struct CsiNodeClient {
    nodes: Api<Node>,
    csi_nodes: Api<CSINode>,
    name: String,
}

impl CsiNodeClient {
    pub(super) fn new(client: Client, name: &str) -> Self {
        Self { nodes: Api::all(client.clone()), csi_nodes: Api::all(client), name: name.to_owned() }
    }
}

impl CsiNodeApi for CsiNodeClient {
    async fn node(&self) -> Result<Node, ApiError> {
        self.nodes.get(&self.name).await.map_err(error)
    }

    async fn patch_node_status(&self, patch: &Value) -> Result<Node, ApiError> {
        let patch = Patch::Strategic(patch);
        self.nodes.patch_status(&self.name, &PatchParams::default(), &patch).await.map_err(error)
    }

    async fn csi_node(&self) -> Result<CSINode, ApiError> {
        self.csi_nodes.get(&self.name).await.map_err(error)
    }

    async fn create(&self, csi_node: &CSINode) -> Result<CSINode, ApiError> {
        self.csi_nodes.create(&PostParams::default(), csi_node).await.map_err(error)
    }

    async fn replace(&self, csi_node: &CSINode) -> Result<CSINode, ApiError> {
        self.csi_nodes.replace(&self.name, &PostParams::default(), csi_node).await.map_err(error)
    }

    async fn delete(&self) -> Result<(), ApiError> {
        self.csi_nodes.delete(&self.name, &DeleteParams::default()).await.map(|_| ()).map_err(error)
    }
}

/// Passes on what is to be told of drivers. Ends when nobody listens, or nobody can say anything new.
pub(super) async fn pass_on(
    mut reported: watch::Receiver<csi::Reported>,
    to: watch::Sender<Arc<CsiDrivers>>,
) {
    loop {
        let now = Arc::clone(&reported.borrow_and_update());
        let of = |node: &csi::NodeInfo| CsiDriver {
            node_id: node.node_id.clone(),
            max_volumes: node.max_volumes,
            topology: node.topology.clone(),
        };
        let now = now.iter().map(|(name, node)| (name.clone(), node.as_ref().map(of))).collect();
        to.send_replace(Arc::new(now));
        if reported.changed().await.is_err() {
            return;
        }
    }
}
