//! Rules for eviction thresholds.

use std::collections::BTreeMap;

use kube_model::duration::GoDuration;
use kube_model::quantity::Quantity;

use super::{Check, any_of};
use crate::config::join;

/// What is measured (upstream `pkg/kubelet/eviction/helpers.go`).
const SIGNALS: &[&str] = &[
    "memory.available",
    "allocatableMemory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "containerfs.available",
    "containerfs.inodesFree",
    "pid.available",
];

pub(super) fn thresholds(check: &mut Check<'_>) {
    let config = check.config;
    map(check, "evictionHard", &config.eviction_hard, threshold);
    map(check, "evictionSoft", &config.eviction_soft, threshold);
    map(check, "evictionSoftGracePeriod", &config.eviction_soft_grace_period, grace_period);
    map(check, "evictionMinimumReclaim", &config.eviction_minimum_reclaim, minimum_reclaim);
    for (signal, value) in &config.eviction_soft {
        if !is_off(value) && !config.eviction_soft_grace_period.contains_key(signal) {
            let rule = "needs a grace period for the same signal in evictionSoftGracePeriod";
            check.error(join("evictionSoft", signal), value, rule);
        }
    }
    for (field, map) in [("evictionHard", &config.eviction_hard), ("evictionSoft", &config.eviction_soft)] {
        for (signal, value) in map.iter().filter(|(signal, _)| signal.starts_with("containerfs.")) {
            let rule = "is replaced by the threshold of the file system that the containers are on";
            check.warn(join(field, signal), value, rule);
        }
    }
}

fn map(
    check: &mut Check<'_>,
    field: &str,
    map: &BTreeMap<String, String>,
    wrong: fn(&str) -> Option<String>,
) {
    for (signal, value) in map {
        if !SIGNALS.contains(&signal.as_str()) {
            let rule = format!("is for a signal that there is not: it must be {}", any_of(SIGNALS));
            check.error(join(field, signal), value, rule);
        } else if let Some(rule) = wrong(value) {
            check.error(join(field, signal), value, rule);
        }
    }
}

/// Whether a threshold is one that never applies.
fn is_off(value: &str) -> bool {
    matches!(value, "0%" | "100%")
}

/// The number before the percent signs, of which Go takes several.
fn percentage(value: &str) -> Option<Option<f64>> {
    let number = value.strip_suffix('%')?.trim_end_matches('%');
    Some(number.parse().ok().filter(|number: &f64| number.is_finite()))
}

const AMOUNT: &str = "must be a quantity such as 100Mi or a percentage such as 10%";

fn threshold(value: &str) -> Option<String> {
    match percentage(value) {
        Some(Some(percent)) if (0.0..=100.0).contains(&percent) => None,
        Some(Some(_)) => Some("must be between 0% and 100%".to_owned()),
        Some(None) => Some(AMOUNT.to_owned()),
        None => match value.parse::<Quantity>() {
            Err(error) => Some(format!("{AMOUNT}: {error}")),
            Ok(quantity) => (quantity.nanos() <= 0).then(|| "must be more than 0".to_owned()),
        },
    }
}

fn minimum_reclaim(value: &str) -> Option<String> {
    match percentage(value) {
        Some(Some(percent)) if percent > 0.0 => None,
        Some(Some(_)) => Some("must be more than 0%".to_owned()),
        Some(None) => Some(AMOUNT.to_owned()),
        None => match value.parse::<Quantity>() {
            Err(error) => Some(format!("{AMOUNT}: {error}")),
            Ok(quantity) => (quantity.nanos() < 0).then(|| "must not be negative".to_owned()),
        },
    }
}

fn grace_period(value: &str) -> Option<String> {
    match value.parse::<GoDuration>() {
        Err(error) => Some(format!("must be a duration such as 1m30s: {error}")),
        Ok(period) => (period.as_nanos() < 0).then(|| "must not be negative".to_owned()),
    }
}
