//! The Node that is created, and what is put right on one that is there.
//! Rule: upstream `pkg/kubelet/kubelet_node_status.go`.

use std::collections::BTreeMap;

use kube_model::core::{Node, NodeSpec, NodeStatus, Taint};
use serde_json::{Map, Value, json};

use crate::facts::{Facts, Settings};

const ATTACH: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
const PROVIDED_IP: &str = "alpha.kubernetes.io/provided-node-ip";
const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Labels that are put right on an existing Node, if this node has a value for them.
const DEFAULT_LABELS: [&str; 9] = [
    HOSTNAME,
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
];

/// The labels of a node that is created: those that every node has, and its own, which may override them.
pub fn labels(name: &str, architecture: &str, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let arch = architecture;
    let mut labels: BTreeMap<String, String> = [
        (HOSTNAME, name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    labels.extend(own.clone());
    labels
}

/// The Node as it is created.
pub(crate) fn initial(settings: &Settings, facts: &Facts, status: NodeStatus) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some(settings.name.clone());
    node.metadata.labels = Some(labels(&settings.name, &facts.hardware.architecture, &settings.labels));
    let annotations = annotations(settings).into_iter();
    let annotations: BTreeMap<String, String> =
        annotations.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    node.metadata.annotations = Some(annotations).filter(|all| !all.is_empty());
    let mut taints = settings.taints.clone();
    if settings.external_cloud && !taints.iter().any(|t| t.key == UNINITIALIZED) {
        taints.push(Taint {
            key: UNINITIALIZED.to_owned(),
            value: Some("true".to_owned()),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        });
    }
    node.spec = Some(NodeSpec {
        taints: (!taints.is_empty()).then_some(taints),
        provider_id: Some(settings.provider_id.clone()).filter(|id| !id.is_empty()),
        ..NodeSpec::default()
    });
    node.status = Some(status);
    node
}

/// Our annotations, also those that must not be there: who attaches volumes if not the node's own agent, and which
/// addresses the cloud's controller is to take for the node's.
fn annotations(settings: &Settings) -> [(&'static str, Option<String>); 2] {
    let provided: Vec<String> = settings.provided_ips.iter().map(ToString::to_string).collect();
    [
        (ATTACH, settings.controller_attach_detach.then(|| "true".to_owned())),
        (PROVIDED_IP, (settings.external_cloud && !provided.is_empty()).then(|| provided.join(","))),
    ]
}

/// What has to be patched on a Node that is there already; labels and taints of the command line are not.
pub(crate) fn reconcile(settings: &Settings, facts: &Facts, node: &Node) -> Option<Value> {
    let wanted = labels(&settings.name, &facts.hardware.architecture, &settings.labels);
    let has = |name: &str| node.metadata.labels.as_ref().and_then(|l| l.get(name));
    let mut patch = Map::new();
    for name in DEFAULT_LABELS {
        if let Some(value) = wanted.get(name).filter(|value| has(name) != Some(value)) {
            let value = if value.is_empty() { Value::Null } else { json!(value) };
            patch.insert(name.to_owned(), value);
        }
    }
    let mut metadata = Map::new();
    if !patch.is_empty() {
        metadata.insert("labels".to_owned(), patch.into());
    }
    let annotated = |name: &str| node.metadata.annotations.as_ref().and_then(|a| a.get(name));
    let differ = annotations(settings).into_iter().filter(|(name, value)| annotated(name) != value.as_ref());
    let differ: Map<String, Value> = differ.map(|(name, value)| (name.to_owned(), json!(value))).collect();
    if !differ.is_empty() {
        metadata.insert("annotations".to_owned(), differ.into());
    }
    (!metadata.is_empty()).then(|| json!({ "metadata": metadata }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{facts, settings};

    #[test]
    fn a_new_node_has_what_the_recorded_one_has() {
        let mut settings = settings();
        settings.labels = BTreeMap::from([("kubernetes.io/arch".to_owned(), "z80".to_owned())]);
        settings.external_cloud = true;
        settings.provided_ips = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let node = initial(&settings, &facts(), NodeStatus::default());
        assert_eq!(
            serde_json::to_value(node).unwrap(),
            json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": "node1",
                    "labels": {
                        "beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
                        "kubernetes.io/arch": "z80", "kubernetes.io/hostname": "node1", "kubernetes.io/os": "linux"
                    },
                    "annotations": {
                        "alpha.kubernetes.io/provided-node-ip": "10.0.0.1,fd00::1",
                        "volumes.kubernetes.io/controller-managed-attach-detach": "true"
                    },
                },
                "spec": {"taints": [
                    {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"}
                ]},
                "status": {},
            })
        );
    }

    #[test]
    fn an_existing_node_keeps_its_own_labels() {
        let mut settings = settings();
        let mut node = initial(&settings, &facts(), NodeStatus::default());
        assert_eq!(reconcile(&settings, &facts(), &node), None);
        settings.labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
        assert_eq!(reconcile(&settings, &facts(), &node), None);
        let labels = node.metadata.labels.as_mut().unwrap();
        labels.insert(HOSTNAME.to_owned(), "old".to_owned());
        labels.insert("mine".to_owned(), "stays".to_owned());
        node.metadata.annotations = None;
        assert_eq!(
            reconcile(&settings, &facts(), &node),
            Some(json!({"metadata": {"labels": {HOSTNAME: "node1"}, "annotations": {ATTACH: "true"}}}))
        );
    }

    #[test]
    fn who_attaches_volumes_itself_does_not_say_that_the_controller_does() {
        let mut settings = settings();
        let mut node = initial(&settings, &facts(), NodeStatus::default());
        settings.controller_attach_detach = false;
        assert_eq!(
            reconcile(&settings, &facts(), &node),
            Some(json!({"metadata": {"annotations": {ATTACH: null}}}))
        );
        node = initial(&settings, &facts(), NodeStatus::default());
        assert_eq!(node.metadata.annotations, None);
        assert_eq!(reconcile(&settings, &facts(), &node), None);
    }
}
