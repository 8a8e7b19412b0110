//! Label selectors.

use std::collections::{BTreeMap, BTreeSet};

use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::super::invalid::{Field, Report};
use super::{metadata, syntax};

pub(super) fn check(report: &mut Report, field: &Field, selector: Option<&LabelSelector>) {
    let Some(selector) = selector else { return };
    metadata::labels(report, &field.child("matchLabels"), selector.match_labels.as_ref());
    for (index, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        check_requirement(report, &field.child("matchExpressions").index(index), requirement);
    }
}

fn check_requirement(report: &mut Report, field: &Field, requirement: &LabelSelectorRequirement) {
    let values = requirement.values.as_deref().unwrap_or_default();
    let at = field.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            report.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            report.forbidden(&at, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => report.invalid(&field.child("operator"), other, "not a valid selector operator"),
    }
    report.check(&field.child("key"), &requirement.key, syntax::qualified_name(&requirement.key));
    for (index, value) in values.iter().enumerate() {
        report.check(&at.index(index), value, syntax::label_value(value));
    }
}

/// Keys of labels whose values are those of the pod itself: `matchLabelKeys` and `mismatchLabelKeys`.
pub(super) fn check_keys(
    report: &mut Report,
    field: &Field,
    keys: Option<&Vec<String>>,
    selector: Option<&LabelSelector>,
) {
    let keys = keys.map_or(&[][..], Vec::as_slice);
    if selector.is_none() && !keys.is_empty() {
        return report.forbidden(field, "must not be specified when labelSelector is not set");
    }
    for (index, key) in keys.iter().enumerate() {
        report.check(&field.index(index), key, syntax::qualified_name(key));
    }
}

/// Keys of `matchLabelKeys` that are named once more.
pub(super) fn check_twice(
    report: &mut Report,
    field: &Field,
    keys: Option<&Vec<String>>,
    mismatch: Option<&Vec<String>>,
    selector: Option<&LabelSelector>,
) {
    let places: BTreeMap<_, _> = keys.into_iter().flatten().enumerate().map(|(at, key)| (key, at)).collect();
    let labels = selector.and_then(|selector| selector.match_labels.as_ref());
    let mut named: BTreeSet<_> = labels.into_iter().flatten().map(|(key, _)| key).collect();
    for requirement in selector.and_then(|s| s.match_expressions.as_ref()).into_iter().flatten() {
        // The API server merges these keys into the selector, so that once is fine.
        if let Some(at) = places.get(&requirement.key).filter(|_| named.contains(&requirement.key)) {
            report.invalid(
                &field.index(*at),
                &requirement.key,
                "exists in both matchLabelKeys and labelSelector",
            );
        }
        named.insert(&requirement.key);
    }
    let mismatch: BTreeSet<_> = mismatch.into_iter().flatten().collect();
    for (index, key) in keys.into_iter().flatten().enumerate().filter(|(_, key)| mismatch.contains(key)) {
        report.invalid(&field.index(index), key, "exists in both matchLabelKeys and mismatchLabelKeys");
    }
}
