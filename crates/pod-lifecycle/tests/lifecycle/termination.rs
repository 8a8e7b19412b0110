//! Removal and grace periods.

use kube_model::Timestamp;
use kube_model::core::Pod;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_model::k8s_openapi::jiff::SignedDuration;
use kube_model::observed::ContainerState;
use pod_lifecycle::{Action, Intent, Progress, StopCause};
use serde_json::json;

use crate::sim::{Sim, exits, pod, short};

/// `name grace turn` of each container that the next plan stops.
fn stops(sim: &mut Sim) -> Vec<String> {
    let actions = sim.round(0).actions.into_iter();
    let stops = actions.filter_map(|a| match a {
        Action::StopContainer { name, grace_seconds, cause: StopCause::PodRemoved, turn, .. } => {
            Some(format!("{name} {grace_seconds} {turn}"))
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
        ("just now", None, 0, ["a 20 0", "b 20 0", "s1 20 2", "s2 20 1"]),
        ("a part of a second counts for the pod", None, 500, ["a 20 0", "b 20 0", "s1 20 2", "s2 20 1"]),
        ("after 15 s", None, 15_000, ["a 5 0", "b 5 0", "s1 5 2", "s2 5 1"]),
        ("never less than 2 s", None, 19_000, ["a 2 0", "b 2 0", "s1 2 2", "s2 2 1"]),
        ("long over: all at once", None, 25_000, ["a 2 0", "b 2 0", "s1 2 0", "s2 2 0"]),
        ("an override wins", Some(7), 0, ["a 7 0", "b 7 0", "s1 7 2", "s2 7 1"]),
        ("an override of 0", Some(0), 0, ["a 2 0", "b 2 0", "s1 2 0", "s2 2 0"]),
    ];
    for (case, grace_seconds, millis, want) in cases {
        let mut sim = two_sidecars();
        sim.intent = Intent::Remove { since: sim.now, grace_seconds };
        sim.now = sim.now + SignedDuration::from_millis(millis);
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

    // One that has ended puts no other out of its turn.
    let mut sim = two_sidecars();
    sim.end("$CONTAINER_s2_0", 1, "Error", "");
    sim.intent = Intent::Remove { since: sim.now, grace_seconds: None };
    assert_eq!(stops(&mut sim), ["b 20 0", "a 20 0", "s1 20 1"]);
}

#[test]
fn a_job_that_is_done_stops_its_sidecars_in_one_go() {
    let side = |name: &str| json!({ "name": name, "restartPolicy": "Always" });
    let mut sim = Sim::new(pod(json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 6,
        "initContainers": [side("s1"), side("s2"), side("s3")],
        "containers": ["main"],
    })));
    sim.behaviours.insert("main".into(), exits(0));
    sim.run(sim.after(3600), |_, _| false);
    // There is one grace period for all of them.
    let calls = short(&sim.new_calls());
    assert_eq!(calls[5..], ["stop s3_0 6", "stop s2_0 5", "stop s1_0 4", "stopbox 0"]);
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
    assert_eq!(stops(&mut sim), ["a 30 0"]);

    sim.memory.pod_succeeded();
    sim.memory.pod_failed(R::FailedKillPod, "runtime says no".into(), sim.now);
    let plan = sim.round(0);
    assert_eq!((plan.actions.len(), plan.waits[0].message.as_str()), (0, "runtime says no"));
    assert_eq!(plan.wake_at, Some(sim.after(1)));
    sim.advance(sim.after(1));
    assert_eq!(stops(&mut sim), ["a 29 0"]);
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
fn only_a_pod_that_was_deleted_ends_by_its_removal() {
    let deleted = |pod: &mut Pod| pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let of_the_api = |pod: &mut Pod| pod.metadata.annotations = None;
    type Edit<'a> = &'a dyn Fn(&mut Pod);
    let cases: [(&str, Edit<'_>, &str); 4] = [
        ("a static pod whose manifest is gone", &|_| {}, "Running"),
        ("one that was deleted at its source", &deleted, "Failed"),
        ("one of the API server", &|pod| [of_the_api, deleted].iter().for_each(|edit| edit(pod)), "Failed"),
        ("one of the API server whose object is gone", &of_the_api, "Failed"),
    ];
    for (case, edit, phase) in cases {
        let mut sim = Sim::started(pod(json!({ "containers": ["a", "b"] })));
        sim.edit(edit);
        sim.intent = Intent::Remove { since: sim.now, grace_seconds: None };
        sim.round(usize::MAX);
        let id = sim.newest("a").id.clone();
        sim.container(&id).exit_code = 1;
        sim.round(0);
        assert_eq!(sim.phase(), phase, "{case}");
    }
}

/// What a container of a deleted pod shows in the end: `unknown` for one that nobody saw end.
#[test]
fn a_deleted_pod_ends_with_nothing_left_open() {
    let shown = |sim: &Sim, name: &str| {
        let state = sim.container_status(name).state.unwrap();
        match state.terminated {
            Some(ended) if ended.reason.as_deref() == Some("ContainerStatusUnknown") => {
                let message = "The container could not be located when the pod was terminated";
                assert_eq!((ended.exit_code, ended.message.as_deref()), (137, Some(message)), "{name}");
                "unknown".to_owned()
            }
            Some(ended) => format!("exit {}", ended.exit_code),
            None => state.waiting.unwrap().reason.unwrap(),
        }
    };
    let init = |fails: &'static str| {
        move |sim: &mut Sim| {
            for (name, code) in [("i1", 0), ("i2", 0)] {
                sim.behaviours.insert(name.into(), if name == fails { exits(3) } else { exits(code) });
            }
        }
    };
    let spec = json!({ "initContainers": ["i1", "i2"], "containers": ["a"] });
    let simple = json!({ "containers": ["a"] });
    type Prepare = Box<dyn Fn(&mut Sim)>;
    let cases: [(_, _, Prepare, _, Vec<(&str, &str)>); 5] = [
        ("stopped", &simple, Box::new(|_| ()), "Succeeded", vec![("a", "exit 0")]),
        (
            "its sandbox never came up",
            &simple,
            Box::new(|sim| sim.sandbox_fails = Some("no".into())),
            "Failed",
            vec![("a", "unknown")],
        ),
        (
            "nor that of one with init containers",
            &spec,
            Box::new(|sim| sim.sandbox_fails = Some("no".into())),
            "Failed",
            vec![("i1", "unknown"), ("i2", "PodInitializing"), ("a", "PodInitializing")],
        ),
        (
            "an init container fails",
            &spec,
            Box::new(init("i2")),
            "Failed",
            vec![("i1", "exit 0"), ("i2", "exit 3"), ("a", "PodInitializing")],
        ),
        (
            "initialised, then its image is missing",
            &spec,
            Box::new(move |sim| {
                init("")(sim);
                let fails = Some((pod_lifecycle::FailureReason::ErrImagePull, "no".to_owned()));
                sim.behaviours
                    .insert("a".into(), crate::sim::Behaviour { start_fails: fails, ..Default::default() });
            }),
            "Failed",
            vec![("i1", "exit 0"), ("i2", "exit 0"), ("a", "unknown")],
        ),
    ];
    for (case, spec, prepare, phase, want) in cases {
        let mut sim = Sim::new(pod(spec.clone()));
        prepare(&mut sim);
        sim.run(sim.after(5), |_, _| false);
        sim.edit(|pod| pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH)));
        sim.remove();
        let got: Vec<_> = want.iter().map(|(name, _)| (*name, shown(&sim, name))).collect();
        let got: Vec<_> = got.iter().map(|(name, state)| (*name, state.as_str())).collect();
        assert_eq!((sim.phase().as_str(), got), (phase, want), "{case}");
        let ready = sim.status().conditions.unwrap().into_iter().find(|c| c.type_ == "Ready").unwrap();
        let reason = if phase == "Succeeded" { "PodCompleted" } else { "PodFailed" };
        assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("False", Some(reason)), "{case}");
    }
}
