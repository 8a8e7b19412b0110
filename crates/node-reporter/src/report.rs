//! When the Node is created, looked at and patched.

use std::sync::Arc;
use std::time::Duration;

use kube_model::Timestamp;
use kube_model::core::{Node, NodeStatus};
use kube_model::strategic::{node_status_key, two_way};
use kube_model::view::EventType;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use util::Backoff;

use crate::conditions::PRESSURES;
use crate::facts::{Facts, Settings};
use crate::register;
use crate::status::{Event, is_changed, status};
use crate::traits::{ApiError, Machine, NodeApi};

/// Between attempts to register.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(7));

/// Tries to patch the status in one round.
const TRIES: usize = 5;

/// Shortest time between two rounds.
const SHORTEST: Duration = Duration::from_millis(100);

/// Keeps the Node true.
pub struct Reporter<A, M> {
    /// How the node presents itself.
    pub settings: Settings,
    /// The API server.
    pub api: Arc<A>,
    /// The machine.
    pub machine: Arc<M>,
    /// Where the Node is shown to others as soon as it is there, and after each change.
    pub node: watch::Sender<Option<Arc<Node>>>,
    /// The Node as the server has it: what others write into it is answered at once.
    pub seen: watch::Receiver<Option<Arc<Node>>>,
    /// Whether another agent holds the node (see [`Lease`](crate::Lease)): then nothing is written.
    pub other: watch::Receiver<Option<bool>>,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
}

/// What a round leaves to the next one.
#[derive(Default)]
struct Memory {
    /// When each pressure was last there.
    pressure_seen: [Option<Instant>; 3],
    /// When it is told of even if nothing has changed; at once where that is not known.
    due: Option<Instant>,
    /// What was last sent, since the Node was last read: the server drops fields that it does not know, and they
    /// must not be sent each round.
    sent: Option<NodeStatus>,
    /// What was last said about an error, so that it is said once.
    logged: Option<ApiError>,
    unschedulable: bool,
}

impl<A: NodeApi, M: Machine> Reporter<A, M> {
    /// Registers and reports until the future is dropped.
    pub async fn run(mut self) {
        let mut memory = Memory::default();
        let mut changes = self.machine.changes();
        self.may_write().await;
        self.api.event(EventType::Normal, "Starting", "Starting kubelet.".to_owned());
        for (kind, reason, message) in std::mem::take(&mut self.settings.at_start) {
            self.api.event(kind, reason, message);
        }
        let mut known = self.register(&mut memory).await;
        // A node that was ready is not called anything else because its agent has just begun to look.
        self.machine.answered().await;
        loop {
            self.may_write().await;
            // Changes while it is measured are for the next round.
            changes.mark_unchanged();
            self.catch_up(&mut known, &mut memory);
            let facts = self.machine.measure().await;
            match self.round(&mut known, &facts, &mut memory).await {
                Ok(()) => {
                    self.machine.told(&facts.volumes_in_use);
                    if memory.logged.take().is_some() {
                        tracing::info!("the node's status is reported again");
                    }
                }
                Err(error) => {
                    if memory.logged.as_ref() != Some(&error) {
                        tracing::warn!(node = %self.settings.name, "the node's status cannot be reported: {}", util::causes(&error));
                        memory.logged = Some(error);
                    }
                }
            }
            sleep(SHORTEST).await;
            tokio::select! {
                () = sleep(self.settings.update_frequency.mul_f64(0.04f64.mul_add(fastrand::f64(), 1.0))) => {}
                Ok(()) = changes.changed() => {}
                Ok(_) = self.seen.wait_for(|seen| newer(seen.as_ref(), &known).is_some()) => {}
            }
        }
    }

    /// In whole seconds, as the server keeps times: what is sent and what comes back can be compared.
    fn now(&self) -> Timestamp {
        let now = (self.clock)();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    /// Waits while another agent has this node.
    async fn may_write(&mut self) {
        // When nobody looks after the lease any more, the agent is about to end.
        let _closed = self.other.wait_for(|other| *other == Some(false)).await.is_err();
    }

    /// Creates the Node, or reads and puts right the one that is there; tries until that is done.
    async fn register(&self, memory: &mut Memory) -> Node {
        let mut pauses = PAUSES;
        loop {
            let facts = self.machine.measure().await;
            match self.try_register(&facts, memory).await {
                Ok(node) => {
                    memory.logged = None;
                    self.node.send_replace(Some(Arc::new(node.clone())));
                    return node;
                }
                Err(error) => {
                    if memory.logged.as_ref() != Some(&error) {
                        tracing::warn!(node = %self.settings.name, "the node cannot be registered: {}", util::causes(&error));
                        memory.logged = Some(error);
                    }
                }
            }
            sleep(pauses.failed()).await;
        }
    }

    async fn try_register(&self, facts: &Facts, memory: &mut Memory) -> Result<Node, ApiError> {
        let existing = match self.api.node().await {
            Err(ApiError::NotFound) if self.settings.register => {
                let pressures = self.pressures(facts, memory);
                let (status, events) =
                    status(&self.settings, facts, pressures, &NodeStatus::default(), self.now());
                match self.api.create_node(&register::initial(&self.settings, facts, status)).await {
                    Ok(node) => {
                        tracing::info!(node = %self.settings.name, "registered the node");
                        memory.due = Some(Instant::now() + self.settings.report_frequency);
                        self.tell(events);
                        return Ok(node);
                    }
                    Err(ApiError::AlreadyExists) => self.api.node().await?,
                    Err(error) => return Err(error),
                }
            }
            found => found?,
        };
        if !self.settings.register {
            return Ok(existing);
        }
        match register::reconcile(&self.settings, facts, &existing) {
            Some(patch) => self.api.patch_node(&patch).await,
            None => Ok(existing),
        }
    }

    /// Takes over what others wrote into the Node.
    fn catch_up(&mut self, known: &mut Node, memory: &mut Memory) {
        let seen = self.seen.borrow_and_update().clone();
        let Some(node) = newer(seen.as_ref(), known) else { return };
        let status = |node: &Node| node.status.clone().unwrap_or_default();
        if is_changed(&status(node), &status(known)) {
            memory.sent = None;
        }
        (**node).clone_into(known);
        self.node.send_replace(Some(Arc::clone(node)));
        self.tell_schedulable(known, memory);
    }

    /// Patches what changed; also what did not, when it was last reported long ago.
    async fn round(&self, known: &mut Node, facts: &Facts, memory: &mut Memory) -> Result<(), ApiError> {
        let mut last = ApiError::Conflict;
        for again in [false, true, true, true, true].into_iter().take(TRIES) {
            if again {
                memory.sent = None;
                *known = self.api.node().await?;
            }
            let before = known.status.clone().unwrap_or_default();
            let pressures = self.pressures(facts, memory);
            let (after, events) = status(&self.settings, facts, pressures, &before, self.now());
            let is_known = |status: &NodeStatus| !is_changed(status, &after);
            let unchanged = is_known(&before) || memory.sent.as_ref().is_some_and(is_known);
            if unchanged && memory.due.is_some_and(|due| due > Instant::now()) {
                return Ok(());
            }
            match self.patch(known, &before, &after).await {
                Ok(node) => {
                    // What changes on all nodes at once must not be followed by reports of all at once.
                    let part = if unchanged { 1.0 } else { 0.5 + fastrand::f64() };
                    memory.due = Some(Instant::now() + self.settings.report_frequency.mul_f64(part));
                    self.tell(events);
                    self.tell_schedulable(&node, memory);
                    *known = node;
                    memory.sent = Some(after);
                    self.node.send_replace(Some(Arc::new(known.clone())));
                    return Ok(());
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn patch(&self, known: &Node, before: &NodeStatus, after: &NodeStatus) -> Result<Node, ApiError> {
        let as_json = |status: &NodeStatus| serde_json::to_value(status).unwrap_or(Value::Null);
        match two_way(&as_json(before), &as_json(after), node_status_key) {
            Some(patch) => self.api.patch_status(&json!({"status": replace_addresses(patch)})).await,
            None => Ok(known.clone()),
        }
    }

    /// Which pressures are told of: those that are there, and those that were until lately.
    fn pressures(&self, facts: &Facts, memory: &mut Memory) -> [bool; 3] {
        let mut pressures = [false; 3];
        for ((pressure, seen), shown) in PRESSURES.iter().zip(&mut memory.pressure_seen).zip(&mut pressures) {
            if pressure.is_high(&self.settings, facts) {
                *seen = Some(Instant::now());
            }
            *shown = seen.is_some_and(|at| {
                at.elapsed() < self.settings.pressure_transition || pressure.is_high(&self.settings, facts)
            });
        }
        pressures
    }

    fn tell(&self, events: Vec<Event>) {
        for Event { kind, reason, message } in events {
            self.api.event(kind, reason, message);
        }
    }

    fn tell_schedulable(&self, node: &Node, memory: &mut Memory) {
        let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        if unschedulable != memory.unschedulable {
            memory.unschedulable = unschedulable;
            let reason = if unschedulable { "NodeNotSchedulable" } else { "NodeSchedulable" };
            let message = format!("Node {} status is now: {reason}", self.settings.name);
            self.api.event(EventType::Normal, reason, message);
        }
    }
}

/// The Node that the watch has seen, if `known` is older.
fn newer<'a>(seen: Option<&'a Arc<Node>>, known: &Node) -> Option<&'a Arc<Node>> {
    let version = |node: &Node| node.metadata.resource_version.as_deref()?.parse::<u64>().ok();
    seen.filter(|seen| version(seen) > version(known))
}

/// The server merges addresses by their type, of which two may be the same: they are replaced as a whole.
fn replace_addresses(mut patch: Value) -> Value {
    if let Some(Value::Array(addresses)) = patch.get_mut("addresses") {
        addresses.push(json!({"$patch": "replace"}));
    }
    patch
}

#[cfg(test)]
mod tests;
