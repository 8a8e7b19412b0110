//! The node as pods are admitted to it: what the API server has of it, else what this machine says of itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::{Api, Client};
use kube_model::core::Node;
use node_config::Settings;
use tokio::sync::watch;

use crate::cluster::facts;
use crate::settings;

/// How long a pod may wait to learn whether the node has been given a label.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of the node, and who may know better.
pub(crate) struct NodeInfo {
    own: Arc<admission::Node>,
    object: Option<NodeObject>,
}

/// The Node at the API server.
pub(crate) struct NodeObject {
    pub(crate) client: Client,
    /// As it was last read or written here.
    pub(crate) known: watch::Receiver<Option<Arc<Node>>>,
}

impl NodeInfo {
    /// Measures this machine.
    pub(crate) fn new(config: &Settings, name: &str, root_dir: &Path, object: Option<NodeObject>) -> Self {
        let facts = facts::of_machine(root_dir);
        let (_, allocatable) = node_reporter::resources(&settings::limits(&config.node), &facts);
        let labels = node_reporter::labels(name, &facts.hardware.architecture, &config.node.labels);
        let own = admission::Node { name: name.to_owned(), labels, taints: Vec::new(), allocatable };
        Self { own: Arc::new(own), object }
    }

    /// The node as it is known, or as the API server has it now.
    pub(crate) async fn get(&self, fresh: bool) -> Arc<admission::Node> {
        let Some(object) = &self.object else { return Arc::clone(&self.own) };
        // Pods of this machine's own wait for no server, unless they are about to be rejected.
        let read = if fresh { object.read(&self.own.name).await } else { None };
        read.or_else(|| object.known.borrow().clone())
            .map_or_else(|| Arc::clone(&self.own), |node| Arc::new(self.of(&node)))
    }

    fn of(&self, node: &Node) -> admission::Node {
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.clone());
        admission::Node {
            name: self.own.name.clone(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default(),
            // One that somebody else created has none yet.
            allocatable: allocatable.unwrap_or_else(|| self.own.allocatable.clone()),
        }
    }
}

impl NodeObject {
    /// `None` where the server cannot be asked: then what is known has to do.
    async fn read(&self, name: &str) -> Option<Arc<Node>> {
        let api = Api::<Node>::all(self.client.clone());
        tokio::time::timeout(PATIENCE, api.get(name)).await.ok()?.ok().map(Arc::new)
    }
}
