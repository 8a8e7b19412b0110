//! Which drivers of volumes (CSI) the node has: the object CSINode, and what the Node says of them (upstream
//! `pkg/volume/csi/nodeinfomanager/nodeinfomanager.go`).
//!
//! Drivers that came or went in this run are told of; what CSINode says of others stays: after a restart of the agent they
//! come one after the other. Unlike upstream a driver is used on its node whether or not the server can be told of it: what
//! is mounted can be unmounted without a server.

mod change;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube_model::core::Node;
use kube_model::k8s_openapi::api::storage::v1::CSINode;
use serde_json::Value;
use tokio::sync::watch;
use util::Backoff;

use crate::traits::ApiError;

/// Between attempts to tell of something.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));

/// What the Node's condition `Ready` says until there is a CSINode, in the kubelet's words.
pub const CSI_NODE_IS_MISSING: &str = "CSINode is not yet initialized";

/// What a driver says of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CsiDriver {
    /// What the driver calls the node.
    pub node_id: String,
    /// How many volumes it can take; 0: not said.
    pub max_volumes: i64,
    /// Which volumes can be used from it: names and values, such as a zone.
    pub topology: BTreeMap<String, String>,
}

/// Drivers by name; `None` of one that has gone.
pub type CsiDrivers = BTreeMap<String, Option<CsiDriver>>;

/// The API server, as far as the drivers of this one node are concerned.
pub trait CsiNodeApi: Send + Sync + 'static {
    /// Reads the Node.
    fn node(&self) -> impl Future<Output = Result<Node, ApiError>> + Send;
    /// Strategic merge patch of the Node through its status, which may change labels and annotations, too.
    fn patch_node_status(&self, patch: &Value) -> impl Future<Output = Result<Node, ApiError>> + Send;
    /// Reads the CSINode.
    fn csi_node(&self) -> impl Future<Output = Result<CSINode, ApiError>> + Send;
    /// Creates it.
    fn create(&self, csi_node: &CSINode) -> impl Future<Output = Result<CSINode, ApiError>> + Send;
    /// Replaces it; a conflict if it was changed since it was read.
    fn replace(&self, csi_node: &CSINode) -> impl Future<Output = Result<CSINode, ApiError>> + Send;
    /// Deletes it.
    fn delete(&self) -> impl Future<Output = Result<(), ApiError>> + Send;
}

/// Keeps the CSINode true.
pub struct CsiNodes<A> {
    /// The API server.
    pub api: Arc<A>,
    /// The drivers that came or went.
    pub drivers: watch::Receiver<Arc<CsiDrivers>>,
    /// The Node, once it is there.
    pub node: watch::Receiver<Option<Arc<Node>>>,
    /// Whether another agent holds the node (see [`Lease`](crate::Lease)): then nothing is written.
    pub other: watch::Receiver<Option<bool>>,
    /// What keeps the node from being ready: there is no CSINode yet. It begins as [`CSI_NODE_IS_MISSING`].
    pub problem: watch::Sender<Option<String>>,
}

impl<A: CsiNodeApi> CsiNodes<A> {
    /// Tells of drivers until the future is dropped, or nobody can say anything new.
    pub async fn run(mut self) {
        let (mut pauses, mut complaint) = (PAUSES, String::new());
        loop {
            let Ok(true) = self.other.wait_for(|other| *other == Some(false)).await.map(|_| true) else {
                return;
            };
            let Ok(node) = self.node.wait_for(Option::is_some).await.map(|node| node.clone()) else { return };
            let Some(node) = node else { continue };
            let drivers = Arc::clone(&self.drivers.borrow_and_update());
            let uid = node.metadata.uid.clone();
            let pause = match self.tell(&node, &drivers).await {
                Ok(()) => {
                    pauses.succeeded();
                    complaint.clear();
                    None
                }
                Err(error) => {
                    let text = util::causes(&error);
                    if complaint != text {
                        tracing::warn!("the server could not be told of the node's CSI drivers: {text}");
                        complaint = text;
                    }
                    Some(pauses.failed())
                }
            };
            let pause = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            let is_another =
                |now: &Option<Arc<Node>>| now.as_ref().is_some_and(|now| now.metadata.uid != uid);
            // All arms are cancel safe; what changed meanwhile is read above. A Node that was made anew has nothing of
            // what the one before said.
            tokio::select! {
                () = pause => {}
                changed = self.drivers.changed() => if changed.is_err() { return },
                changed = self.node.wait_for(is_another) => if changed.is_err() { return },
            }
        }
    }

    async fn tell(&self, node: &Node, drivers: &CsiDrivers) -> Result<(), ApiError> {
        let found = self.found(node).await;
        self.problem.send_if_modified(|problem| {
            // From then on it is there, or will be again.
            let failed = found
                .as_ref()
                .err()
                .map(|error| format!("failed to initialize CSINode: {}", util::causes(error)));
            let changed = problem.is_some() && *problem != failed;
            if changed {
                *problem = failed;
            }
            changed
        });
        let found = found?;
        if drivers.is_empty() {
            return Ok(());
        }
        // What others say of the Node meanwhile is not to be undone.
        let mut state = (self.api.node().await?, found);
        let mut failed = Vec::new();
        for (name, driver) in drivers {
            // One that the server does not want to hear of does not keep the others.
            if let Err(error) = self.tell_of(name, driver.as_ref(), &mut state).await {
                failed.push(format!("{name}: {}", util::causes(&error)));
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(ApiError::Other(failed.join("; "))) }
    }

    /// The CSINode of this Node; it is made if it is not there.
    async fn found(&self, node: &Node) -> Result<CSINode, ApiError> {
        match self.api.csi_node().await {
            Err(ApiError::NotFound) => self.api.create(&change::empty(node)).await,
            Ok(other) if !change::is_of(&other, node) => {
                tracing::info!("the CSINode is of an earlier node of this name: it is made anew");
                self.api.delete().await?;
                self.api.create(&change::empty(node)).await
            }
            found => found,
        }
    }

    /// Tells of one driver; the Node and the CSINode are then as the server has them.
    async fn tell_of(
        &self,
        name: &str,
        driver: Option<&CsiDriver>,
        (node, csi_node): &mut (Node, CSINode),
    ) -> Result<(), ApiError> {
        change::collision(node, driver)?;
        if let Some(patch) = change::of_node(node, name, driver)? {
            *node = self.api.patch_node_status(&patch).await?;
        }
        while let Some(changed) = change::of_csi_node(csi_node, name, driver) {
            *csi_node = match self.api.replace(&changed).await {
                // The other drivers are not to meet it, too.
                Err(ApiError::Conflict) => {
                    *csi_node = self.api.csi_node().await?;
                    return Err(ApiError::Conflict);
                }
                replaced => replaced?,
            };
            if csi_node.spec.drivers != changed.spec.drivers {
                // Else this would never end.
                return Err(ApiError::Other("the server has not kept what it was told".to_owned()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
