//! The node as pods are admitted to it: what the API server has of it, else what this machine says of itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use admission::Allocations;
use cri_client::v1::StatusRequest;
use futures::future::BoxFuture;
use kube::{Api, Client};
use kube_model::core::{Node, Pod};
use kube_model::view::RuntimeView;
use kube_model::{Monotonic, PodUid};
use pod_lifecycle::Rejection;
use pod_workers::{ActivePods, Admit};
use tokio::sync::{OnceCell, watch};

/// How long a pod may wait to learn whether the node has been given a label.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of the node, and who may know better.
pub struct NodeInfo {
    own: admission::Node,
    runtime: Runtime,
    /// Whether the runtime knows it, once it has said so.
    supplemental_groups_policy: OnceCell<bool>,
    object: Option<NodeObject>,
    /// What pods hold of it.
    allocations: Mutex<Allocations>,
}

/// The Node at the API server.
pub struct NodeObject {
    /// Of the API server.
    pub client: Client,
    /// As it was last read or written here.
    pub known: watch::Receiver<Option<Arc<Node>>>,
}

impl NodeInfo {
    /// `own` is the node as this machine has been measured.
    pub fn new(own: admission::Node, runtime: Runtime, object: Option<NodeObject>) -> Self {
        let (supplemental_groups_policy, allocations) = (OnceCell::new(), Mutex::default());
        Self { own, runtime, supplemental_groups_policy, object, allocations }
    }

    /// What the burstable ones of the `active` pods, which are all that there are, request of the CPU together, in
    /// thousandths of a core.
    pub fn burstable_milli_cpu(&self, active: &ActivePods) -> i64 {
        let mut allocations = lock(&self.allocations);
        allocations.sync(active);
        allocations.burstable_milli_cpu()
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
        // All who wait for its answer wait at once, and not one after the other.
        let groups = self.supplemental_groups_policy.get_or_try_init(|| self.runtime.knows_groups());
        if let Ok(Ok(known)) = tokio::time::timeout(PATIENCE, groups).await {
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
pub struct Runtime {
    /// The runtime.
    pub client: cri_client::Client,
    /// What it last said of itself.
    pub view: watch::Receiver<RuntimeView<Monotonic>>,
}

impl Runtime {
    /// Whether it knows `supplementalGroupsPolicy`. One that is not ready is not asked.
    async fn knows_groups(&self) -> Result<bool, NotKnown> {
        if !self.view.borrow().ready {
            return Err(NotKnown);
        }
        let status = self.client.status(StatusRequest::default()).await.map_err(|_| NotKnown)?;
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

impl Admit for NodeInfo {
    fn admit<'a>(&'a self, pod: &'a Arc<Pod>, active: ActivePods) -> BoxFuture<'a, Result<(), Rejection>> {
        Box::pin(async move { admit(pod, &active, &self.allocations, |fresh| self.get(fresh)).await })
    }

    fn is_for_others(&self, rejection: &Rejection) -> bool {
        admission::is_for_others(&rejection.reason)
    }

    fn release<'a>(&'a self, uid: &'a PodUid) -> BoxFuture<'a, ()> {
        lock(&self.allocations).remove(uid);
        Box::pin(std::future::ready(()))
    }
}

/// Admits a pod to the node as it is known; before it is rejected, somebody may have given the node a label, or taken a
/// taint from it, since it was last read.
async fn admit<N: Future<Output = Arc<admission::Node>>>(
    pod: &Arc<Pod>,
    active: &ActivePods,
    allocations: &Mutex<Allocations>,
    node: impl Fn(bool) -> N,
) -> Result<(), Rejection> {
    let known = node(false).await;
    let mut answer = lock(allocations).admit(pod, active, &known);
    if answer.as_ref().is_err_and(admission::Rejection::may_be_old_news) {
        let fresh = node(true).await;
        answer = lock(allocations).admit(pod, active, &fresh);
    }
    answer.map_err(|admission::Rejection { reason, message }| Rejection { reason, message })
}

fn lock(allocations: &Mutex<Allocations>) -> MutexGuard<'_, Allocations> {
    // Whoever is counted wrongly after a panic is put right by the next question.
    allocations.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_label_that_was_given_lately_is_looked_up_before_a_pod_is_rejected_for_want_of_it() {
        let labelled = |label: &str| {
            let labels = [("disk".to_owned(), label.to_owned())].into();
            Arc::new(admission::Node { labels, ..admission::Node::default() })
        };
        let cases = [("hdd", "hdd", 1, true), ("hdd", "ssd", 2, true), ("hdd", "tape", 2, false)];
        for (known, fresh, questions, taken) in cases {
            let wanted = if taken { fresh } else { "ssd" };
            let containers =
                json!([{"name": "c", "resources": {"requests": {"cpu": "1500m", "memory": "1Ki"}}}]);
            let spec = json!({"nodeSelector": {"disk": wanted}, "containers": containers});
            let pod: Pod = serde_json::from_value(json!({ "spec": spec })).unwrap();
            let asked = std::cell::Cell::new(0);
            let node = |is_fresh| {
                asked.set(asked.get() + 1);
                std::future::ready(labelled(if is_fresh { fresh } else { known }))
            };
            let allocations = Mutex::default();
            let answer = admit(&Arc::new(pod), &ActivePods::new(), &allocations, node).await;
            assert_eq!(asked.get(), questions, "{known}, {fresh}");
            let rejected = answer.err().map(|rejection| rejection.reason);
            assert_eq!(rejected.as_deref(), (!taken).then_some("NodeAffinity"), "{known}, {fresh}");
            let held = ["cpu", "memory"].map(|name| lock(&allocations).requested(name));
            assert_eq!(held, if taken { [1500, 1024] } else { [0; 2] }, "{known}, {fresh}");
        }
    }
}
