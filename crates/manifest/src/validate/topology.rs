//! Spread over the nodes. Nothing on a node depends on it; a manifest that is wrong here is wrong elsewhere, too.

use std::collections::BTreeMap;

use kube_model::core::TopologySpreadConstraint;

use super::super::invalid::{Field, Report};
use super::selector;

pub(super) fn check(report: &mut Report, field: &Field, constraints: &[TopologySpreadConstraint]) {
    // The last of equal ones is no mistake.
    let pair = |constraint: &'_ TopologySpreadConstraint| {
        (constraint.topology_key.clone(), constraint.when_unsatisfiable.clone())
    };
    let last: BTreeMap<_, _> = constraints.iter().enumerate().map(|(index, c)| (pair(c), index)).collect();
    for (index, constraint) in constraints.iter().enumerate() {
        let field = field.index(index);
        positive(report, &field.child("maxSkew"), constraint.max_skew);
        if constraint.topology_key.is_empty() {
            report.required(&field.child("topologyKey"), "can not be empty");
        }
        let when = constraint.when_unsatisfiable.as_str();
        report.one_of(&field.child("whenUnsatisfiable"), Some(when), &["DoNotSchedule", "ScheduleAnyway"]);
        if last.get(&pair(constraint)).is_some_and(|last| *last > index) {
            let pair = format!("{{{}, {when}}}", constraint.topology_key);
            report.duplicate(&field.child("{topologyKey, whenUnsatisfiable}"), pair);
        }
        if let Some(domains) = constraint.min_domains {
            positive(report, &field.child("minDomains"), domains);
            if when != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}");
                report.invalid(&field.child("minDomains"), domains, why);
            }
        }
        for (name, policy) in [
            ("nodeAffinityPolicy", &constraint.node_affinity_policy),
            ("nodeTaintsPolicy", &constraint.node_taints_policy),
        ] {
            report.one_of(&field.child(name), policy.as_deref(), &["Honor", "Ignore"]);
        }
        let (keys, of) = (constraint.match_label_keys.as_ref(), constraint.label_selector.as_ref());
        selector::check_keys(report, &field.child("matchLabelKeys"), keys, of);
        selector::check_twice(report, &field.child("matchLabelKeys"), keys, None, of);
        selector::check(report, &field.child("labelSelector"), of);
    }
}

fn positive(report: &mut Report, field: &Field, value: i32) {
    if value <= 0 {
        report.invalid(field, value, "must be greater than zero");
    }
}
