//! The node's conditions. Rule: upstream `pkg/kubelet/nodestatus/setters.go`.

use kube_model::Timestamp;
use kube_model::core::NodeCondition;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::facts::{Facts, Limits, Settings};
use admission::Resources;
use kube_model::eviction::Signal;

/// One of the three pressures.
pub(crate) struct Pressure {
    kind: &'static str,
    signals: &'static [Signal],
    /// Reason and message while there is pressure.
    high: (&'static str, &'static str),
    /// While there is none.
    low: (&'static str, &'static str),
    /// Events when it comes and when it goes.
    events: (&'static str, &'static str),
}

pub(crate) const PRESSURES: [Pressure; 3] = [
    Pressure {
        kind: "MemoryPressure",
        signals: &[Signal::MemoryAvailable],
        high: ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        low: ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        events: ("NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    },
    Pressure {
        kind: "DiskPressure",
        signals: &[
            Signal::NodefsAvailable,
            Signal::NodefsInodesFree,
            Signal::ImagefsAvailable,
            Signal::ImagefsInodesFree,
        ],
        high: ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        low: ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        events: ("NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    },
    Pressure {
        kind: "PIDPressure",
        signals: &[Signal::PidAvailable],
        high: ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        low: ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        events: ("NodeHasInsufficientPID", "NodeHasSufficientPID"),
    },
];

impl Pressure {
    /// Whether something that it tells of is scarce now.
    pub(crate) fn is_high(&self, settings: &Settings, facts: &Facts) -> bool {
        settings.limits.thresholds.iter().filter(|t| self.signals.contains(&t.signal)).any(|threshold| {
            let observed = facts.observations.get(&threshold.signal);
            observed.is_some_and(|observed| observed.available < threshold.value.of(observed.capacity))
        })
    }

    /// The event that tells of its state.
    pub(crate) fn event(&self, high: bool) -> &'static str {
        if high { self.events.0 } else { self.events.1 }
    }

    pub(crate) fn condition(&self, high: bool) -> NodeCondition {
        let (reason, message) = if high { self.high } else { self.low };
        condition(self.kind, high, reason, message.to_owned())
    }
}

/// Whether the node can run pods.
pub(crate) fn ready(limits: &Limits, facts: &Facts, capacity: &Resources) -> NodeCondition {
    let mut errors = facts.runtime.problems.clone();
    errors.extend(facts.storage.clone());
    let storage = limits.ephemeral_storage.then_some("ephemeral-storage");
    let needed = ["cpu", "memory", "pods"].into_iter().chain(storage);
    let missing: Vec<&str> = needed.filter(|name| !capacity.contains_key(*name)).collect();
    if !missing.is_empty() {
        errors.push(format!("missing node capacity for resources: {}", missing.join(", ")));
    }
    match errors.as_slice() {
        [] => condition("Ready", true, "KubeletReady", "kubelet is posting ready status".to_owned()),
        [one] => condition("Ready", false, "KubeletNotReady", one.clone()),
        // As Go writes several errors at once.
        all => condition("Ready", false, "KubeletNotReady", format!("[{}]", all.join(", "))),
    }
}

fn condition(kind: &str, status: bool, reason: &str, message: String) -> NodeCondition {
    NodeCondition {
        type_: kind.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        ..NodeCondition::default()
    }
}

/// Puts `new` into the place of the condition of its type, with its times. Answers with whether its status is
/// another than before; `None` if there was none before.
pub(crate) fn set(
    conditions: &mut Vec<NodeCondition>,
    mut new: NodeCondition,
    now: Timestamp,
) -> Option<bool> {
    new.last_heartbeat_time = Some(Time(now));
    let Some(old) = conditions.iter_mut().find(|c| c.type_ == new.type_) else {
        new.last_transition_time = Some(Time(now));
        conditions.push(new);
        return None;
    };
    let changed = old.status != new.status;
    new.last_transition_time =
        if changed { Some(Time(now)) } else { old.last_transition_time.clone().or(Some(Time(now))) };
    *old = new;
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{facts, settings};
    use kube_model::eviction::{SignalObservation, Threshold, ThresholdValue};

    #[test]
    fn a_pressure_is_high_below_its_threshold_only() {
        let mut settings = settings();
        settings.limits.thresholds = vec![
            Threshold { signal: Signal::MemoryAvailable, value: ThresholdValue::Quantity(100) },
            Threshold { signal: Signal::ImagefsAvailable, value: ThresholdValue::Percentage(0.15) },
        ];
        let high = |signal, available| {
            let mut facts = facts();
            facts.observations.insert(signal, SignalObservation { capacity: 1000, available });
            PRESSURES.iter().filter(|p| p.is_high(&settings, &facts)).map(|p| p.kind).collect::<Vec<_>>()
        };
        assert_eq!(high(Signal::MemoryAvailable, 100), [""; 0]);
        assert_eq!(high(Signal::MemoryAvailable, 99), ["MemoryPressure"]);
        assert_eq!(high(Signal::ImagefsAvailable, 150), [""; 0]);
        assert_eq!(high(Signal::ImagefsAvailable, 149), ["DiskPressure"]);
        // Without a threshold nothing is scarce.
        assert_eq!(high(Signal::PidAvailable, 0), [""; 0]);
    }

    #[test]
    fn the_ready_condition_says_everything_that_is_wrong() {
        let mut facts = facts();
        let mut capacity = settings().resources.capacity_list();
        capacity.remove("ephemeral-storage");
        let mut limits = settings().limits;
        limits.ephemeral_storage = false;
        assert_eq!(ready(&limits, &facts, &capacity).status, "True");
        limits.ephemeral_storage = true;
        let message = |facts: &Facts, capacity: &Resources| ready(&limits, facts, capacity).message.unwrap();
        assert_eq!(message(&facts, &capacity), "missing node capacity for resources: ephemeral-storage");
        capacity.insert("ephemeral-storage".to_owned(), Default::default());
        assert_eq!(ready(&limits, &facts, &capacity).status, "True");
        facts.runtime.problems = vec!["container runtime is down".to_owned(), "other".to_owned()];
        facts.storage = Some("no CSINode".to_owned());
        assert_eq!(message(&facts, &capacity), "[container runtime is down, other, no CSINode]");
        assert_eq!(ready(&limits, &facts, &capacity).reason.as_deref(), Some("KubeletNotReady"));
    }

    #[test]
    fn a_transition_is_dated_when_the_status_changes_only() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut all = Vec::new();
        let yes = || condition("Ready", true, "r", "m".to_owned());
        assert_eq!(set(&mut all, yes(), at(1)), None);
        assert_eq!(set(&mut all, yes(), at(2)), Some(false));
        assert_eq!(all[0].last_transition_time, Some(Time(at(1))));
        assert_eq!(all[0].last_heartbeat_time, Some(Time(at(2))));
        assert_eq!(set(&mut all, condition("Ready", false, "r", "m".to_owned()), at(3)), Some(true));
        assert_eq!(all[0].last_transition_time, Some(Time(at(3))));
        assert_eq!(all.len(), 1);
    }
}
