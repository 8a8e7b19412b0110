//! Node affinity: admission asks whether the node has what it wants.

use kube_model::core::{Affinity, NodeSelectorRequirement, NodeSelectorTerm};

use super::super::invalid::{Field, Report};
use super::syntax;

/// The only field of a node that can be selected by.
const NAME: &str = "metadata.name";

pub(super) fn check(report: &mut Report, field: &Field, affinity: &Affinity) {
    let Some(nodes) = &affinity.node_affinity else { return };
    let field = field.child("nodeAffinity");
    if let Some(required) = &nodes.required_during_scheduling_ignored_during_execution {
        let terms = field.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
        if required.node_selector_terms.is_empty() {
            report.required(&terms, "must have at least one node selector term");
        }
        for (index, term) in required.node_selector_terms.iter().enumerate() {
            check_term(report, &terms.index(index), term);
        }
    }
    let preferred = field.child("preferredDuringSchedulingIgnoredDuringExecution");
    let terms = nodes.preferred_during_scheduling_ignored_during_execution.iter().flatten();
    for (index, term) in terms.enumerate() {
        let field = preferred.index(index);
        if !(1..=100).contains(&term.weight) {
            report.invalid(&field.child("weight"), term.weight, "must be in the range 1-100");
        }
        check_term(report, &field.child("preference"), &term.preference);
    }
}

fn check_term(report: &mut Report, field: &Field, term: &NodeSelectorTerm) {
    for (index, requirement) in term.match_expressions.iter().flatten().enumerate() {
        label(report, &field.child("matchExpressions").index(index), requirement);
    }
    for (index, requirement) in term.match_fields.iter().flatten().enumerate() {
        node_field(report, &field.child("matchFields").index(index), requirement);
    }
}

fn label(report: &mut Report, field: &Field, requirement: &NodeSelectorRequirement) {
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
    for (index, value) in values.iter().enumerate() {
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
