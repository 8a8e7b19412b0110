//! Which nodes a selector means. Rule: upstream `component-helpers/scheduling/corev1/nodeaffinity`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

/// Whether a node with these labels is meant. By its `name` it is only where that is known, and counts.
pub fn matches(selector: &NodeSelector, labels: &BTreeMap<String, String>, name: Option<&str>) -> bool {
    // Terms are alternatives; none of none is met.
    selector.node_selector_terms.iter().any(|term| is_met(term, labels, name))
}

fn is_met(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: Option<&str>) -> bool {
    let fields = name.map(|name| ("metadata.name".to_owned(), name.to_owned()));
    let fields: BTreeMap<_, _> = fields.into_iter().collect();
    let mut by_label = term.match_expressions.iter().flatten().peekable();
    let mut by_field = term.match_fields.iter().flatten().peekable();
    // An empty term selects nothing.
    (by_label.peek().is_some() || by_field.peek().is_some())
        && by_label.all(|requirement| holds(requirement, labels))
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
