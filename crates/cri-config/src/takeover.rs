//! Whether a static pod that another kubelet left running is the one that a manifest wants.
//!
//! The UID of a static pod is a hash of the manifest as its kubelet sees it, and the Go kubelet's cannot be made by
//! another program. So what runs is compared with what the manifest would be run as: first what two lists of the runtime
//! tell ([`as_listed`]), then what its sandbox's status does ([`in_namespaces`]), then how its containers were made, where
//! the runtime tells ([`as_made`]). A container that does not exist (any more) says nothing against it.

use std::collections::BTreeMap;

use kube_model::core::{self, Pod};
use kube_model::{PodKey, PodUid, labels, pod};
use node_proto::cri::v1;
use serde_json::Value;

use crate::observe::identity;
use crate::sandbox::pod_labels;
use crate::{container, security};

mod made;
#[cfg(test)]
mod tests;

pub use made::as_made;

/// The annotations of a container that tell of its manifest. Its restart count and a deletion are not of it.
const OF_CONTAINER: [(&str, &str); 6] = [
    (labels::CONTAINER_HASH, "image"),
    (labels::CONTAINER_TERMINATION_MESSAGE_PATH, "terminationMessagePath"),
    (labels::CONTAINER_TERMINATION_MESSAGE_POLICY, "terminationMessagePolicy"),
    (labels::CONTAINER_PRE_STOP_HANDLER, "lifecycle.preStop"),
    (labels::CONTAINER_PORTS, "ports"),
    (labels::POD_TERMINATION_GRACE_PERIOD, "spec.terminationGracePeriodSeconds"),
];

/// A static pod as the runtime lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct Running<'a> {
    /// Its UID, which is the value of its mirror pod's annotation, too.
    pub uid: PodUid,
    /// Its sandbox: of several the one that is ready, else the newest.
    pub sandbox: &'a v1::PodSandbox,
    /// Of each container the newest one in that sandbox.
    pub containers: BTreeMap<&'a str, &'a v1::Container>,
}

/// The first thing in which a pod that runs is not what its manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The field of the manifest.
    pub field: String,
    /// What it is in the pod that runs, in short; empty where it has none, or where the value may be secret.
    pub running: String,
    /// What the manifest says.
    pub wanted: String,
}

impl Difference {
    fn new(field: impl Into<String>, running: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self { field: field.into(), running: running.into(), wanted: wanted.into() }
    }
}

/// The static pods in two list answers by their names.
pub fn running<'a>(
    sandboxes: &'a [v1::PodSandbox],
    containers: &'a [v1::Container],
) -> BTreeMap<PodKey, Running<'a>> {
    let mut pods: BTreeMap<PodKey, Running<'a>> = BTreeMap::new();
    let age = |s: &v1::PodSandbox| (s.state() == v1::PodSandboxState::SandboxReady, s.created_at);
    for sandbox in sandboxes {
        let source = sandbox.annotations.get(labels::CONFIG_SOURCE).map(String::as_str);
        let (Some("file" | "http"), Some((uid, key))) = (source, identity(&sandbox.labels)) else { continue };
        if pods.get(&key).is_none_or(|known| age(known.sandbox) < age(sandbox)) {
            pods.insert(key, Running { uid, sandbox, containers: BTreeMap::new() });
        }
    }
    for container in containers {
        let Some((_, key)) = identity(&container.labels) else { continue };
        let name = container.labels.get(labels::CONTAINER_NAME);
        let (Some(pod), Some(name)) = (pods.get_mut(&key), name) else { continue };
        let newer = pod.containers.get(name.as_str()).is_none_or(|c| c.created_at < container.created_at);
        if newer && container.pod_sandbox_id == pod.sandbox.id {
            pod.containers.insert(name, container);
        }
    }
    pods
}

/// What the lists tell against `running` being `pod`.
pub fn as_listed(pod: &Pod, running: &Running<'_>) -> Option<Difference> {
    let is_own = |name: &str| !name.starts_with("io.kubernetes.pod.");
    let is_manifests = |name: &str| !name.starts_with("kubernetes.io/config.");
    let wanted = pod.metadata.annotations.clone().unwrap_or_default();
    different("metadata.labels", &running.sandbox.labels, &pod_labels(pod), is_own)
        .or_else(|| different("metadata.annotations", &running.sandbox.annotations, &wanted, is_manifests))
        .or_else(|| in_containers(pod, running))
}

fn in_containers(pod: &Pod, running: &Running<'_>) -> Option<Difference> {
    let spec = pod.spec.as_ref()?;
    for name in running.containers.keys() {
        if pod::containers(spec).all(|(_, container)| container.name != *name) {
            return Some(Difference::new("spec.containers", *name, ""));
        }
    }
    let mut found = pod::containers(spec).filter_map(|(_, c)| Some((c, running.containers.get(&*c.name)?)));
    found.find_map(|(wanted, running)| {
        // A manifest of which no container can be made says so when it is run.
        let annotations = container::annotations(pod, spec, wanted, 0).ok()?;
        of_container(wanted, &running.annotations, &annotations)
    })
}

fn of_container(
    container: &core::Container,
    running: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> Option<Difference> {
    OF_CONTAINER.iter().find_map(|(name, field)| {
        let (running, wanted) = (running.get(*name), wanted.get(*name));
        if same(running, wanted) {
            return None;
        }
        let field = match field.strip_prefix("spec.") {
            Some(_) => (*field).to_owned(),
            None => field_of(container, field),
        };
        let text = |value: Option<&String>| value.cloned().unwrap_or_default();
        let wanted = if *name == labels::CONTAINER_HASH { container.image.as_ref() } else { wanted };
        let running = if *name == labels::CONTAINER_HASH { String::new() } else { text(running) };
        Some(Difference::new(field, running, text(wanted)))
    })
}

fn field_of(container: &core::Container, field: &str) -> String {
    format!("spec.containers[{}].{field}", container.name)
}

/// As text, or as the same JSON in another order.
fn same(a: Option<&String>, b: Option<&String>) -> bool {
    let json = |text: Option<&String>| text.and_then(|text| serde_json::from_str::<Value>(text).ok());
    a == b || matches!((json(a), json(b)), (Some(a), Some(b)) if a == b)
}

/// The first of two maps' entries that the other does not have.
fn different(
    field: &str,
    running: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
    counts: impl Fn(&str) -> bool,
) -> Option<Difference> {
    let names = running.keys().chain(wanted.keys());
    let name = names.filter(|name| counts(name)).find(|name| running.get(*name) != wanted.get(*name))?;
    let text = |of: &BTreeMap<String, String>| of.get(name).cloned().unwrap_or_default();
    Some(Difference::new(format!("{field}[{name}]"), text(running), text(wanted)))
}

/// What the status of its sandbox tells against it: which namespaces it shares with the node.
pub fn in_namespaces(pod: &Pod, status: &v1::PodSandboxStatus) -> Option<Difference> {
    let running = status.linux.as_ref()?.namespaces.as_ref()?.options.as_ref()?;
    let wanted = security::namespaces(pod.spec.as_ref()?);
    let modes = [
        ("spec.hostNetwork", running.network(), wanted.network()),
        ("spec.hostIPC", running.ipc(), wanted.ipc()),
        ("spec.hostPID", running.pid(), wanted.pid()),
    ];
    let (field, running, wanted) = modes.into_iter().find(|(_, running, wanted)| running != wanted)?;
    Some(Difference::new(field, running.as_str_name(), wanted.as_str_name()))
}
