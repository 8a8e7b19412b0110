//! The node as pods are admitted to it: what the API server has of it, else what this machine says of itself.

use std::sync::Arc;
use std::time::Duration;

use admission::{Host, NotNamespaced, SysctlAllowlist};
use cri_client::v1::StatusRequest;
use kube::{Api, Client};
use kube_model::Monotonic;
use kube_model::core::Node;
use kube_model::view::RuntimeView;
use node_config::Settings;
use node_reporter::{Hardware, NodeResources};
use tokio::sync::{OnceCell, watch};

use crate::node;

/// How long a pod may wait to learn whether the node has been given a label.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of the node, and who may know better.
pub(crate) struct NodeInfo {
    own: admission::Node,
    runtime: Runtime,
    /// Whether the runtime knows it, once it has said so.
    supplemental_groups_policy: OnceCell<bool>,
    object: Option<NodeObject>,
}

/// The Node at the API server.
pub(crate) struct NodeObject {
    pub(crate) client: Client,
    /// As it was last read or written here.
    pub(crate) known: watch::Receiver<Option<Arc<Node>>>,
}

impl NodeInfo {
    /// The node as this machine has been measured.
    ///
    /// # Errors
    /// When pods are allowed kernel parameters that are the node's.
    pub(crate) fn new(
        config: &Settings,
        name: &str,
        hardware: &Hardware,
        resources: &NodeResources,
        runtime: Runtime,
        object: Option<NodeObject>,
    ) -> Result<Self, NotNamespaced> {
        let node = &config.node;
        let sysctls = SysctlAllowlist::new(&hardware.kernel_version, &node.allowed_unsafe_sysctls)?;
        let own = admission::Node {
            name: name.to_owned(),
            labels: node_reporter::labels(name, &hardware.architecture, &node.labels),
            taints: Vec::new(),
            allocatable: resources.allocatable_list(),
            supplemental_groups_policy: false,
            host: Arc::new(Host { sysctls, apparmor: node::apparmor() }),
        };
        Ok(Self { own, runtime, supplemental_groups_policy: OnceCell::new(), object })
    }

    /// The node as it is known, or as the API server has it now.
    pub(crate) async fn get(&self, fresh: bool) -> Arc<admission::Node> {
        let known = match &self.object {
            // Pods of this machine's own wait for no server, unless they are about to be rejected.
            Some(object) => {
                let read = if fresh { object.read(&self.own.name).await } else { None };
                read.or_else(|| object.known.borrow().clone())
            }
            None => None,
        };
        let mut node = known.as_deref().map_or_else(|| self.own.clone(), |node| self.of(node));
        // The runtime itself knows before the Node tells of it.
        if let Ok(known) =
            self.supplemental_groups_policy.get_or_try_init(|| self.runtime.knows_groups()).await
        {
            node.supplemental_groups_policy = *known;
        }
        Arc::new(node)
    }

    fn of(&self, node: &Node) -> admission::Node {
        let status = node.status.as_ref();
        let features = status.and_then(|status| status.features.as_ref());
        admission::Node {
            name: self.own.name.clone(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default(),
            // One that somebody else created has none yet.
            allocatable: status
                .and_then(|status| status.allocatable.clone())
                .unwrap_or_else(|| self.own.allocatable.clone()),
            supplemental_groups_policy: features.is_some_and(|f| f.supplemental_groups_policy == Some(true)),
            host: Arc::clone(&self.own.host),
        }
    }
}

/// The container runtime, as far as it matters to whether a pod is taken.
pub(crate) struct Runtime {
    pub(crate) client: cri_client::Client,
    pub(crate) view: watch::Receiver<RuntimeView<Monotonic>>,
}

impl Runtime {
    /// Whether it knows `supplementalGroupsPolicy`. One that is not ready is not asked.
    async fn knows_groups(&self) -> Result<bool, NotKnown> {
        if !self.view.borrow().ready {
            return Err(NotKnown);
        }
        let asked = tokio::time::timeout(PATIENCE, self.client.status(StatusRequest::default())).await;
        let status = asked.ok().and_then(Result::ok).ok_or(NotKnown)?;
        Ok(status.features.is_some_and(|features| features.supplemental_groups_policy))
    }
}

/// The runtime has not said yet.
struct NotKnown;

impl NodeObject {
    /// `None` where the server cannot be asked: then what is known has to do.
    async fn read(&self, name: &str) -> Option<Arc<Node>> {
        let api = Api::<Node>::all(self.client.clone());
        tokio::time::timeout(PATIENCE, api.get(name)).await.ok()?.ok().map(Arc::new)
    }
}
