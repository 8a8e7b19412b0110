//! Node selector and required node affinity.

use kube_model::core::PodSpec;
use kube_model::node_selector;

use crate::Node;

pub(crate) const NAME: &str = "NodeAffinity";

pub(crate) fn matches(spec: &PodSpec, node: &Node) -> bool {
    let selected =
        spec.node_selector.iter().flatten().all(|(name, value)| node.labels.get(name) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let is_met = |required: &_| node_selector::matches(required, &node.labels, Some(&node.name));
    selected && required.is_none_or(is_met)
}
