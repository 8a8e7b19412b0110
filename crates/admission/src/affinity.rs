//! Node selector and required node affinity. Rule: upstream `component-helpers/scheduling/corev1/nodeaffinity`.

use std::collections::BTreeMap;

use kube_model::core::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

use crate::Node;

pub(crate) const NAME: &str = "NodeAffinity";

pub(crate) fn matches(spec: &PodSpec, node: &Node) -> bool {
    let selected =
        spec.node_selector.iter().flatten().all(|(name, value)| node.labels.get(name) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    // Terms are alternatives; none of none is met.
    selected && required.is_none_or(|required| required.node_selector_terms.iter().any(|t| is_met(t, node)))
}

fn is_met(term: &NodeSelectorTerm, node: &Node) -> bool {
    let fields = BTreeMap::from([("metadata.name".to_owned(), node.name.clone())]);
    let mut by_label = term.match_expressions.iter().flatten().peekable();
    let mut by_field = term.match_fields.iter().flatten().peekable();
    // An empty term selects nothing.
    (by_label.peek().is_some() || by_field.peek().is_some())
        && by_label.all(|requirement| holds(requirement, &node.labels))
        && by_field.all(|requirement| fields.contains_key(&requirement.key) && holds(requirement, &fields))
}

fn holds(requirement: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let wanted = requirement.values.as_deref().unwrap_or_default();
    let numbers = || match wanted {
        [wanted] => Some((value?.parse::<i64>().ok()?, wanted.parse::<i64>().ok()?)),
        _ => None,
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| wanted.contains(value)),
        "NotIn" => value.is_none_or(|value| !wanted.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(value, wanted)| value > wanted),
        "Lt" => numbers().is_some_and(|(value, wanted)| value < wanted),
        _ => false,
    }
}
