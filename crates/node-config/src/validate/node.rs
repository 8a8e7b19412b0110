//! Rules for what the node says of itself: labels, taints, metrics.

use std::collections::BTreeMap;

use kube_model::syntax::{label_value, qualified_name};

use super::{Check, Finding, any_of, finding};
use crate::KUBERNETES_VERSION;
use crate::config::join;

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn taints(check: &mut Check<'_>) {
    for (index, taint) in check.config.register_with_taints.iter().enumerate() {
        let field = format!("registerWithTaints[{index}]");
        if let Some(why) = qualified_name(&taint.key) {
            check.error(join(&field, "key"), &taint.key, why);
        }
        if let Some((value, why)) = taint.value.as_ref().and_then(|value| Some((value, label_value(value)?)))
        {
            check.error(join(&field, "value"), value, why);
        }
        if taint.effect.is_empty() {
            let rule = format!("should be {}: the API server takes no taint without", any_of(EFFECTS));
            check.warn(join(&field, "effect"), &taint.effect, rule);
        } else if !EFFECTS.contains(&taint.effect.as_str()) {
            check.error(join(&field, "effect"), &taint.effect, format!("must be {}", any_of(EFFECTS)));
        }
        if let Some(time) = &taint.time_added {
            check.error(join(&field, "timeAdded"), time, "must not be set");
        }
    }
}

/// The label keys under `kubernetes.io` and `k8s.io` that a node may give itself.
const LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// The prefixes under `kubernetes.io` below which a node may give itself any label.
const LABEL_PREFIXES: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

/// Checks the labels of `--node-labels` (upstream `pkg/kubelet/apis/config/validation/validation.go`).
pub fn node_labels<O: Clone>(labels: &BTreeMap<String, String>, origin: &O) -> Vec<Finding<O>> {
    let mut found = Vec::new();
    for (key, value) in labels {
        let rule = if is_reserved(key) {
            Some(format!(
                "is not a label that a node may give itself: under kubernetes.io and k8s.io these are all below \
                 {}, and {}",
                LABEL_PREFIXES.join(" and "),
                LABELS.join(", ")
            ))
        } else {
            qualified_name(key).map(|why| format!("has a key that is none: {why}"))
        };
        for rule in rule.into_iter().chain(label_value(value)) {
            let Finding { field, value, rule, origin: () } = finding(join("--node-labels", key), value, rule);
            found.push(Finding { field, value, rule, origin: origin.clone() });
        }
    }
    found
}

fn is_reserved(key: &str) -> bool {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    let below =
        |domain: &str| prefix.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    (below("kubernetes.io") || below("k8s.io"))
        && !LABELS.contains(&key)
        && !LABEL_PREFIXES.iter().any(|domain| below(domain))
}

pub(super) fn metrics_version(check: &mut Check<'_>) {
    let shown = &check.config.show_hidden_metrics_for_version;
    let mut parts = KUBERNETES_VERSION.split('.');
    let major = parts.next().unwrap_or_default();
    let minor: u32 = parts.next().and_then(|minor| minor.parse().ok()).unwrap_or_default();
    let previous = format!("{major}.{}", minor.saturating_sub(1));
    if !shown.is_empty() && *shown != previous {
        let rule = format!("must be the previous minor version, {previous:?}, or empty");
        check.error("showHiddenMetricsForVersion", shown, rule);
    }
}
