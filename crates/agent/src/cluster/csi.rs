//! The CSINode at the API server, as `node-reporter` asks for it, and the drivers that it tells of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use kube_model::core::Node;
use kube_model::k8s_openapi::api::storage::v1::{CSIDriver, CSINode};
use node_reporter::{ApiError, CsiDriver, CsiDrivers, CsiNodeApi};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

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

/// Has drivers say again and again how many volumes the node can take, as their objects want it (upstream
/// `pkg/volume/csi/csi_node_updater.go`, KEP-4876). Ends when nobody can say anything new.
pub(super) async fn renew_all(drivers: csi::Drivers, client: Client, reached: watch::Receiver<()>) {
    let (mut changes, mut tasks) = (drivers.changes(), JoinSet::new());
    let mut followed = BTreeMap::<String, DropGuard>::new();
    loop {
        let names: Vec<String> = changes.borrow_and_update().keys().cloned().collect();
        followed.retain(|name, _| names.contains(name));
        for name in names {
            followed.entry(name.clone()).or_insert_with(|| {
                let (stop, drivers) = (CancellationToken::new(), drivers.clone());
                let object =
                    apiserver_sync::named::watch(client.clone(), &name, reached.clone(), stop.clone());
                tasks.spawn(async move { renew(&drivers, &name, object).await });
                stop.drop_guard()
            });
        }
        // Both arms are cancel safe; tasks end with their watch.
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// The same of one driver. Ends with the watch of its object.
async fn renew(drivers: &csi::Drivers, name: &str, mut object: watch::Receiver<Option<Arc<CSIDriver>>>) {
    let mut last = Instant::now();
    loop {
        let seconds = object.borrow_and_update().as_ref().and_then(|object| {
            object.spec.node_allocatable_update_period_seconds.filter(|seconds| *seconds > 0)
        });
        let due = async {
            match seconds {
                Some(seconds) => sleep_until(last + Duration::from_secs(seconds.unsigned_abs())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = object.changed() => if changed.is_err() { return },
            () = due => {
                last = Instant::now();
                drivers.ask_again(name).await;
            }
        }
    }
}
