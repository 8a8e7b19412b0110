//! A node and an API server for tests.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use kube_model::Timestamp;
use kube_model::core::Node;
use kube_model::k8s_openapi::api::coordination::v1::Lease;
use kube_model::view::EventType;
use serde_json::Value;
use tokio::sync::watch;

use crate::facts::{Facts, Hardware, Limits, RuntimeFacts, Settings, VolumesInUse};
use crate::traits::{ApiError, Machine, NodeApi};
use kube_model::eviction::{Signal, SignalObservation};

pub(crate) fn settings() -> Settings {
    let mut measured = facts();
    let disk = SignalObservation { capacity: 1 << 30, available: 1 << 29 };
    measured.observations.insert(Signal::NodefsAvailable, disk);
    let limits = Limits { max_pods: 110, ephemeral_storage: true, ..Limits::default() };
    Settings {
        resources: limits.resources(&measured),
        limits,
        name: "node1".to_owned(),
        at_start: Vec::new(),
        register: true,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        controller_attach_detach: true,
        external_cloud: false,
        provided_ips: Vec::new(),
        provider_id: String::new(),
        port: Some(10250),
        pressure_transition: Duration::from_secs(300),
        update_frequency: Duration::from_secs(10),
        report_frequency: Duration::from_secs(300),
        lease_duration: Duration::from_secs(40),
        declared_features: vec!["ExtendWebSocketsToKubelet".to_owned()],
        max_images: Some(50),
        version: "v1.36.2".to_owned(),
    }
}

pub(crate) fn facts() -> Facts {
    Facts {
        storage: None,
        addresses: vec!["192.0.2.2".parse().unwrap()],
        hardware: Hardware {
            cores: 2,
            memory: 1 << 30,
            swap: 0,
            hugepages: BTreeMap::new(),
            machine_id: "m".to_owned(),
            system_uuid: "s".to_owned(),
            boot_id: "b".to_owned(),
            kernel_version: "6.1".to_owned(),
            os_image: "Debian".to_owned(),
            architecture: "amd64".to_owned(),
        },
        observations: BTreeMap::new(),
        runtime: RuntimeFacts {
            name: "containerd".to_owned(),
            version: "2.1.9".to_owned(),
            ..RuntimeFacts::default()
        },
        images: Vec::new(),
        volumes_in_use: VolumesInUse::default(),
    }
}

/// A machine whose facts a test changes.
pub(crate) struct TestMachine {
    pub(crate) facts: Mutex<Facts>,
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) answered: watch::Sender<bool>,
    /// Of which volumes the server has been told.
    pub(crate) told: watch::Sender<u64>,
}

impl TestMachine {
    /// Its container runtime does not answer yet.
    pub(crate) fn new() -> Self {
        let mut facts = facts();
        facts.runtime.problems = vec!["container runtime is down".to_owned()];
        Self {
            facts: Mutex::new(facts),
            changes: watch::Sender::new(0),
            answered: watch::Sender::new(true),
            told: watch::Sender::new(0),
        }
    }
}

impl Machine for TestMachine {
    async fn measure(&self) -> Facts {
        self.facts.lock().unwrap().clone()
    }

    fn told(&self, volumes: &VolumesInUse) {
        self.told.send_replace(volumes.revision);
    }

    async fn answered(&self) {
        self.answered.subscribe().wait_for(|answered| *answered).await.unwrap();
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// An API server with one Node and one Lease.
#[derive(Default)]
pub(crate) struct TestApi {
    pub(crate) state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) node: Option<Node>,
    pub(crate) lease: Option<Lease>,
    /// Whether the server is too old to know the features of a node.
    pub(crate) old: bool,
    /// What the next requests are answered with instead.
    pub(crate) errors: Vec<ApiError>,
    /// Verb and body of each request.
    pub(crate) log: Vec<(&'static str, Value)>,
    pub(crate) events: Vec<String>,
}

impl TestApi {
    fn ask<T>(
        &self,
        verb: &'static str,
        body: Value,
        answer: impl FnOnce(&mut State) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let mut state = self.state.lock().unwrap();
        state.log.push((verb, body));
        match state.errors.pop() {
            Some(error) => Err(error),
            None => answer(&mut state),
        }
    }

    pub(crate) fn verbs(&self) -> Vec<&'static str> {
        self.state.lock().unwrap().log.iter().map(|(verb, _)| *verb).collect()
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.state.lock().unwrap().events.clone()
    }
}

/// Good enough for what the reporter sends: entries of lists with `type` are merged by it.
fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with("$setElementOrder/")) {
                if value.is_null() {
                    into.remove(name);
                } else {
                    merge(into.entry(name.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (into @ Value::Array(_), Value::Array(patch)) if patch.iter().any(|e| e["$patch"] == "replace") => {
            *into = patch.iter().filter(|e| e.get("$patch").is_none()).cloned().collect();
        }
        (Value::Array(into), Value::Array(patch)) if patch.iter().all(|e| e.get("type").is_some()) => {
            for entry in patch {
                match into.iter_mut().find(|e| e["type"] == entry["type"]) {
                    Some(found) => merge(found, entry),
                    None => into.push(entry.clone()),
                }
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

impl NodeApi for TestApi {
    async fn node(&self) -> Result<Node, ApiError> {
        self.ask("get", Value::Null, |state| state.node.clone().ok_or(ApiError::NotFound))
    }

    async fn create_node(&self, node: &Node) -> Result<Node, ApiError> {
        self.ask("create", serde_json::to_value(node).unwrap(), |state| match &state.node {
            Some(_) => Err(ApiError::AlreadyExists),
            None => {
                let mut node = node.clone();
                node.metadata.uid = Some("node-uid".to_owned());
                Ok(state.node.insert(node).clone())
            }
        })
    }

    async fn patch_node(&self, patch: &Value) -> Result<Node, ApiError> {
        self.ask("patch", patch.clone(), |state| {
            let mut node = serde_json::to_value(state.node.as_ref().ok_or(ApiError::NotFound)?).unwrap();
            merge(&mut node, patch);
            Ok(state.node.insert(serde_json::from_value(node).unwrap()).clone())
        })
    }

    async fn patch_status(&self, patch: &Value) -> Result<Node, ApiError> {
        self.ask("patch status", patch.clone(), |state| {
            let mut node = serde_json::to_value(state.node.as_ref().ok_or(ApiError::NotFound)?).unwrap();
            merge(&mut node, patch);
            if state.old {
                node["status"]["features"] = Value::Null;
            }
            Ok(state.node.insert(serde_json::from_value(node).unwrap()).clone())
        })
    }

    async fn lease(&self) -> Result<Lease, ApiError> {
        self.ask("get lease", Value::Null, |state| state.lease.clone().ok_or(ApiError::NotFound))
    }

    async fn create_lease(&self, lease: &Lease) -> Result<Lease, ApiError> {
        self.ask("create lease", serde_json::to_value(lease).unwrap(), |state| {
            let mut lease = lease.clone();
            lease.metadata.resource_version = Some("1".to_owned());
            Ok(state.lease.insert(lease).clone())
        })
    }

    async fn update_lease(&self, lease: &Lease) -> Result<Lease, ApiError> {
        self.ask("update lease", serde_json::to_value(lease).unwrap(), |state| {
            let held = state.lease.as_ref().ok_or(ApiError::NotFound)?;
            if held.metadata.resource_version != lease.metadata.resource_version {
                return Err(ApiError::Conflict);
            }
            let mut lease = lease.clone();
            let version: u64 = lease.metadata.resource_version.as_ref().unwrap().parse().unwrap();
            lease.metadata.resource_version = Some((version + 1).to_string());
            Ok(state.lease.insert(lease).clone())
        })
    }

    fn event(&self, _: EventType, reason: &str, _: String) {
        self.state.lock().unwrap().events.push(reason.to_owned());
    }
}

thread_local!(static SET: std::cell::Cell<i64> = const { std::cell::Cell::new(0) });

/// Sets the clock forward or back by this many seconds.
pub(crate) fn set_clock(seconds: i64) {
    SET.set(SET.get() + seconds);
}

/// A clock that goes with tokio's, and how far it was set.
pub(crate) fn clock() -> Timestamp {
    thread_local!(static START: tokio::time::Instant = tokio::time::Instant::now());
    let since = START.with(tokio::time::Instant::elapsed);
    Timestamp::from_second(1_700_000_000 + SET.get()).unwrap() + since
}
