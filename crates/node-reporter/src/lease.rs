//! The node's lease in `kube-node-lease`: the heartbeat that keeps the node from being given up.
//! Rule: upstream `component-helpers/apimachinery/lease/controller.go`.
//!
//! Better than the kubelet: the lease carries which agent holds it ([`INSTANCE`]), so a second agent of the same
//! node name notices the first and leaves it alone, instead of both writing the same Node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube_model::Timestamp;
use kube_model::core::Node;
use kube_model::k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use util::Backoff;

use crate::traits::{ApiError, NodeApi};

/// Annotation of the lease: which agent holds it.
pub const INSTANCE: &str = "node-agent/instance";

/// The namespace of all node leases.
pub(crate) const NAMESPACE: &str = "kube-node-lease";

/// The least time from one renewal to the next, as the API tells them apart.
const TICK: Duration = Duration::from_micros(1);

/// Tries in a row before the next period is waited for.
const TRIES: usize = 5;

/// While the lease cannot be made.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(7));

/// Keeps the lease. Belongs on a runtime of its own, so that nothing that is busy can hold it up.
pub struct Lease<A> {
    /// The API server.
    pub api: Arc<A>,
    /// The node's name.
    pub name: String,
    /// Which agent this is; the same after a restart of it.
    pub instance: String,
    /// How long the lease holds; it is renewed four times as often.
    pub duration: Duration,
    /// The Node, once it is there: it owns the lease.
    pub node: watch::Receiver<Option<Arc<Node>>>,
    /// Whether another agent holds the node; `None` until that is known.
    pub other: watch::Sender<Option<bool>>,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
}

/// The lease as it was last seen.
struct Seen {
    renewed: Timestamp,
    at: Instant,
    /// How old the renewal was then.
    age: Duration,
}

impl Seen {
    fn now(renewed: Timestamp, age: Duration) -> Self {
        Self { renewed, at: Instant::now(), age }
    }
}

impl<A: NodeApi> Lease<A> {
    /// Renews until the future is dropped.
    pub async fn run(self) {
        let (mut held, mut seen) = (None, None);
        let mut pauses = PAUSES;
        let mut logged: Option<ApiError> = None;
        loop {
            match self.hold(&mut held, &mut seen).await {
                Ok(()) => {
                    if logged.take().is_some() {
                        tracing::info!("the node lease is renewed again");
                    }
                    pauses.succeeded();
                    let part = if held.is_some() { 4 } else { 20 };
                    sleep((self.duration / part).mul_f64(0.04f64.mul_add(fastrand::f64(), 1.0))).await;
                }
                Err(error) => {
                    if logged.as_ref() != Some(&error) {
                        tracing::warn!(lease = %self.name, "the node lease cannot be renewed: {}", util::causes(&error));
                        logged = Some(error);
                    }
                    sleep(pauses.failed()).await;
                }
            }
        }
    }

    /// Renews the lease that is held, or else takes it if nobody else has it.
    async fn hold(&self, held: &mut Option<Object>, seen: &mut Option<Seen>) -> Result<(), ApiError> {
        let mut last = ApiError::Conflict;
        for _ in 0..TRIES {
            let Some(lease) = held.take() else { return self.take(held, seen).await };
            let renewed = Object { spec: Some(self.spec(&lease)), ..lease.clone() };
            match self.api.update_lease(&renewed).await {
                Ok(lease) => {
                    *held = Some(lease);
                    return Ok(());
                }
                // Another one wrote it: look at who.
                Err(ApiError::Conflict | ApiError::NotFound) => {}
                Err(error) => {
                    *held = Some(lease);
                    last = error;
                }
            }
        }
        Err(last)
    }

    async fn take(&self, held: &mut Option<Object>, seen: &mut Option<Seen>) -> Result<(), ApiError> {
        let found = match self.api.lease().await {
            Ok(lease) => Some(lease),
            Err(ApiError::NotFound) => None,
            Err(error) => {
                // Where nobody may look at leases there is no telling of another one: as without leases.
                if matches!(error, ApiError::Forbidden(_)) {
                    self.other.send_replace(Some(false));
                }
                return Err(error);
            }
        };
        if let Some(lease) = &found
            && let Some(other) = self.other_holder(lease, seen)
        {
            let was = self.other.send_replace(Some(true));
            if was != Some(true) {
                tracing::error!(
                    node = %self.name,
                    "another agent ({other}) holds the node lease of this name: nothing is written about the \
                     node until it has let go; give this node another --hostname-override, or stop the other"
                );
            }
            return Ok(());
        }
        if self.other.send_replace(Some(false)) == Some(true) {
            tracing::info!(node = %self.name, "the other agent of this name has gone");
        }
        let lease = match found {
            Some(mut lease) => {
                let annotations = lease.metadata.annotations.get_or_insert_default();
                annotations.insert(INSTANCE.to_owned(), self.instance.clone());
                lease.spec = Some(self.spec(&lease));
                self.api.update_lease(&lease).await?
            }
            None => {
                // Owned by the Node, it goes with it; so the Node has to be there first.
                let mut node = self.node.clone();
                let Ok(node) = node.wait_for(Option::is_some).await.map(|node| node.clone()) else {
                    return Ok(());
                };
                let Some(node) = node else { return Ok(()) };
                self.api.create_lease(&self.new_lease(&node)).await?
            }
        };
        let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
        *seen = renewed.map(|renewed| Seen::now(renewed.0, Duration::ZERO));
        *held = Some(lease);
        Ok(())
    }

    /// Who else renewed the lease within its duration. A lease without the annotation was a kubelet's: that is
    /// what an agent replaces.
    ///
    /// How long the other one has been silent is measured here, from when the renewal was first seen, whatever its
    /// clock or ours are set to. Only the first look goes by them, for the age that the renewal has by then.
    fn other_holder(&self, lease: &Object, seen: &mut Option<Seen>) -> Option<String> {
        let instance = lease.metadata.annotations.as_ref()?.get(INSTANCE)?;
        let spec = lease.spec.as_ref()?;
        let renewed = spec.renew_time.as_ref()?.0;
        // The other one may have another configuration.
        let duration = Duration::from_secs(u64::try_from(spec.lease_duration_seconds?).ok()?);
        let seen = match seen {
            Some(seen) if seen.renewed == renewed => seen,
            Some(seen) => {
                *seen = Seen::now(renewed, Duration::ZERO);
                seen
            }
            None => {
                let age = (self.clock)().duration_since(renewed);
                seen.insert(Seen::now(renewed, Duration::try_from(age).unwrap_or_default()))
            }
        };
        let silent = seen.age.saturating_add(seen.at.elapsed());
        (silent < duration && *instance != self.instance).then(|| instance.clone())
    }

    /// The time of renewal only goes on, also when the clock was set back: who watches the lease takes one that goes
    /// back for none (upstream `pkg/controller/nodelifecycle/node_lifecycle_controller.go`).
    fn renew_time(&self, lease: &Object) -> Timestamp {
        let before = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
        let next = before.and_then(|before| before.0.checked_add(TICK).ok());
        next.into_iter().fold((self.clock)(), Timestamp::max)
    }

    fn spec(&self, lease: &Object) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.name.clone()),
            lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
            renew_time: Some(MicroTime(self.renew_time(lease))),
            ..lease.spec.clone().unwrap_or_default()
        }
    }

    fn new_lease(&self, node: &Node) -> Object {
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.name.clone(),
            uid: node.metadata.uid.clone().unwrap_or_default(),
            ..OwnerReference::default()
        };
        Object {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(NAMESPACE.to_owned()),
                annotations: Some(BTreeMap::from([(INSTANCE.to_owned(), self.instance.clone())])),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(self.spec(&Object::default())),
        }
    }
}

#[cfg(test)]
mod tests;
