//! Removal and grace periods (reference 4.6).

use kube_model::k8s_openapi::jiff::SignedDuration;
use kube_model::observed::ContainerState;
use pod_lifecycle::{Action, Intent, Progress, StopCause};
use serde_json::json;

use crate::sim::{Sim, exits, pod, short};

/// `name grace` of each container that the next plan stops.
fn stops(sim: &mut Sim) -> Vec<String> {
    let actions = sim.round(0).actions.into_iter();
    let stops = actions.filter_map(|a| match a {
        Action::StopContainer { name, grace_seconds, cause: StopCause::PodRemoved, .. } => {
            Some(format!("{name} {grace_seconds}"))
        }
        _ => None,
    });
    stops.collect()
}

fn two_sidecars() -> Sim {
    let side = |name: &str| json!({ "name": name, "restartPolicy": "Always" });
    Sim::started(pod(json!({
        "terminationGracePeriodSeconds": 20,
        "initContainers": [side("s1"), side("s2")],
        "containers": ["a", "b"],
    })))
}

#[test]
fn the_grace_period_counts_from_when_removal_was_asked_for() {
    let cases = [
        ("just now", None, 0, vec!["a 20", "b 20"]),
        ("a part of a second counts for the pod", None, 500, vec!["a 20", "b 20"]),
        ("after 15 s", None, 15_000, vec!["a 5", "b 5"]),
        ("never less than 2 s", None, 19_000, vec!["a 2", "b 2"]),
        ("long over: all at once", None, 25_000, vec!["a 2", "b 2", "s1 2", "s2 2"]),
        ("an override wins", Some(7), 0, vec!["a 7", "b 7"]),
        ("an override of 0", Some(0), 0, vec!["a 2", "b 2", "s1 2", "s2 2"]),
    ];
    for (case, grace_seconds, millis, want) in cases {
        let mut sim = two_sidecars();
        sim.intent = Intent::Remove { since: sim.now, grace_seconds };
        sim.now += SignedDuration::from_millis(millis);
        let mut stops = stops(&mut sim);
        stops.sort();
        assert_eq!(stops, want, "{case}");
    }
}

#[test]
fn sidecars_stop_last_and_in_reverse_order() {
    let mut sim = two_sidecars();
    sim.new_calls();
    sim.remove();
    let calls = short(&sim.calls);
    // One second passes with each stop.
    assert_eq!(
        calls[..6],
        ["stop b_0 20", "stop a_0 20", "stop s2_0 18", "stop s1_0 17", "stopbox 0", "rm b_0"]
    );
    assert!(sim.observed.is_gone());
}

#[test]
fn a_pod_that_never_got_far_is_removed_too() {
    let mut empty = Sim::new(pod(json!({ "containers": ["a"] })));
    empty.remove();
    assert_eq!(short(&empty.calls), [""; 0]);

    let mut sim = Sim::started(pod(json!({ "containers": ["a"] })));
    sim.newest("a").state = ContainerState::Created;
    sim.new_calls();
    sim.remove();
    assert_eq!(short(&sim.calls), ["stopbox 0", "rm a_0", "rmbox 0"]);
}

#[test]
fn a_container_in_unknown_state_does_not_stop_a_removal() {
    let mut sim = Sim::started(pod(json!({ "containers": ["a"] })));
    sim.newest("a").state = ContainerState::Unknown;
    sim.new_calls();
    sim.remove();
    assert_eq!(short(&sim.calls), ["stopbox 0", "rm a_0", "rmbox 0"]);
}

#[test]
fn a_failed_stop_is_tried_again_and_nothing_else_delays_a_removal() {
    use pod_lifecycle::FailureReason as R;
    let mut sim = Sim::started(pod(json!({ "containers": ["a"] })));
    sim.intent = Intent::Remove { since: sim.now, grace_seconds: None };
    sim.memory.pod_failed(R::FailedCreatePodSandBox, "no".into(), sim.now);
    assert_eq!(stops(&mut sim), ["a 30"]);

    sim.memory.pod_succeeded();
    sim.memory.pod_failed(R::FailedKillPod, "runtime says no".into(), sim.now);
    let plan = sim.round(0);
    assert_eq!((plan.actions.len(), plan.waits[0].message.as_str()), (0, "runtime says no"));
    assert_eq!(plan.wake_at, Some(sim.after(1)));
    sim.advance(sim.after(1));
    assert_eq!(stops(&mut sim), ["a 29"]);
}

#[test]
fn an_ended_pod_keeps_its_containers_until_it_is_removed() {
    let mut sim = Sim::new(pod(json!({ "restartPolicy": "Never", "containers": ["a"] })));
    sim.behaviours.insert("a".into(), exits(0));
    assert_eq!(sim.run(sim.after(3600), |_, _| false).progress, Progress::Ended);
    assert_eq!(short(&sim.new_calls()), ["run 0", "start a_0", "stopbox 0"]);
    sim.remove();
    assert_eq!(short(&sim.calls), ["rm a_0", "rmbox 0"]);
}

#[test]
fn only_a_pod_of_the_api_server_ends_by_its_removal() {
    for (is_static, phase) in [(true, "Running"), (false, "Failed")] {
        let mut sim = Sim::started(pod(json!({ "containers": ["a", "b"] })));
        if !is_static {
            sim.edit(|pod| pod.metadata.annotations = None);
        }
        sim.intent = Intent::Remove { since: sim.now, grace_seconds: None };
        sim.round(usize::MAX);
        let id = sim.newest("a").id.clone();
        sim.container(&id).exit_code = 1;
        sim.round(0);
        assert_eq!(sim.phase(), phase);
    }
}
