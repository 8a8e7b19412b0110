//! Affinity to nodes, where admission asks whether the node has what is wanted, and to other pods.

use kube_model::core::{
    Affinity, NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm,
    WeightedPodAffinityTerm,
};

use super::super::invalid::{Field, Report};
use super::{selector, syntax};

/// The only field of a node that can be selected by.
const NAME: &str = "metadata.name";

pub(super) fn check(report: &mut Report, field: &Field, affinity: &Affinity) {
    if let Some(nodes) = &affinity.node_affinity {
        to_nodes(report, &field.child("nodeAffinity"), nodes);
    }
    if let Some(pods) = &affinity.pod_affinity {
        let required = pods.required_during_scheduling_ignored_during_execution.as_deref();
        let preferred = pods.preferred_during_scheduling_ignored_during_execution.as_deref();
        to_pods(report, &field.child("podAffinity"), required, preferred);
    }
    if let Some(pods) = &affinity.pod_anti_affinity {
        let required = pods.required_during_scheduling_ignored_during_execution.as_deref();
        let preferred = pods.preferred_during_scheduling_ignored_during_execution.as_deref();
        to_pods(report, &field.child("podAntiAffinity"), required, preferred);
    }
}

fn to_pods(
    report: &mut Report,
    field: &Field,
    required: Option<&[PodAffinityTerm]>,
    preferred: Option<&[WeightedPodAffinityTerm]>,
) {
    let at = field.child("requiredDuringSchedulingIgnoredDuringExecution");
    for (index, term) in required.into_iter().flatten().enumerate() {
        check_pod_term(report, &at.index(index), term);
    }
    let at = field.child("preferredDuringSchedulingIgnoredDuringExecution");
    for (index, term) in preferred.into_iter().flatten().enumerate() {
        let field = at.index(index);
        weight(report, &field, term.weight);
        check_pod_term(report, &field.child("podAffinityTerm"), &term.pod_affinity_term);
    }
}

fn weight(report: &mut Report, field: &Field, weight: i32) {
    if !(1..=100).contains(&weight) {
        report.invalid(&field.child("weight"), weight, "must be in the range 1-100");
    }
}

fn check_pod_term(report: &mut Report, field: &Field, term: &PodAffinityTerm) {
    let of = term.label_selector.as_ref();
    selector::check(report, &field.child("labelSelector"), of);
    selector::check(report, &field.child("namespaceSelector"), term.namespace_selector.as_ref());
    for (index, name) in term.namespaces.iter().flatten().enumerate() {
        report.check(&field.child("namespaces").index(index), name, syntax::dns_label(name));
    }
    let (keys, mismatch) = (term.match_label_keys.as_ref(), term.mismatch_label_keys.as_ref());
    selector::check_keys(report, &field.child("matchLabelKeys"), keys, of);
    selector::check_keys(report, &field.child("mismatchLabelKeys"), mismatch, of);
    selector::check_twice(report, &field.child("matchLabelKeys"), keys, mismatch, of);
    let key = field.child("topologyKey");
    if term.topology_key.is_empty() {
        report.required(&key, "can not be empty");
    } else {
        report.check(&key, &term.topology_key, syntax::qualified_name(&term.topology_key));
    }
}

fn to_nodes(report: &mut Report, field: &Field, nodes: &NodeAffinity) {
    if let Some(required) = &nodes.required_during_scheduling_ignored_during_execution {
        let terms = field.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
        if required.node_selector_terms.is_empty() {
            report.required(&terms, "must have at least one node selector term");
        }
        for (index, term) in required.node_selector_terms.iter().enumerate() {
            check_term(report, &terms.index(index), term, Values::Checked);
        }
    }
    let preferred = field.child("preferredDuringSchedulingIgnoredDuringExecution");
    let terms = nodes.preferred_during_scheduling_ignored_during_execution.iter().flatten();
    for (index, term) in terms.enumerate() {
        let field = preferred.index(index);
        weight(report, &field, term.weight);
        check_term(report, &field.child("preference"), &term.preference, Values::Any);
    }
}

/// Whether values must be ones that a label can have. A mere preference may wish for what can not be.
#[derive(Clone, Copy, PartialEq)]
enum Values {
    Checked,
    Any,
}

fn check_term(report: &mut Report, field: &Field, term: &NodeSelectorTerm, values: Values) {
    for (index, requirement) in term.match_expressions.iter().flatten().enumerate() {
        label(report, &field.child("matchExpressions").index(index), requirement, values);
    }
    for (index, requirement) in term.match_fields.iter().flatten().enumerate() {
        node_field(report, &field.child("matchFields").index(index), requirement);
    }
}

fn label(report: &mut Report, field: &Field, requirement: &NodeSelectorRequirement, checked: Values) {
    let values = requirement.values.as_deref().unwrap_or_default();
    let at = field.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            report.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            report.forbidden(&at, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Gt" | "Lt" if values.len() != 1 => {
            report.required(&at, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => report.invalid(&field.child("operator"), other, "not a valid selector operator"),
    }
    report.check(&field.child("key"), &requirement.key, syntax::qualified_name(&requirement.key));
    for (index, value) in values.iter().enumerate().filter(|_| checked == Values::Checked) {
        report.check(&at.index(index), value, syntax::label_value(value));
    }
}

fn node_field(report: &mut Report, field: &Field, requirement: &NodeSelectorRequirement) {
    let values = requirement.values.as_deref().unwrap_or_default();
    let at = field.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.len() != 1 => report.required(
            &at,
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        ),
        "In" | "NotIn" => {}
        other => report.invalid(&field.child("operator"), other, "not a valid selector operator"),
    }
    if requirement.key != NAME {
        report.invalid(&field.child("key"), &requirement.key, "not a valid field selector key");
        return;
    }
    for (index, value) in values.iter().enumerate() {
        report.check(&at.index(index), value, syntax::dns_subdomain(value));
    }
}
