//! Pods whose end somebody wants while their objects stay.

use pod_lifecycle::{FailedStatus, Grace, Intent, Plan, Progress};
use serde_json::{Value, json};

use crate::sim::{Sim, exits, pod, short};

fn terminate(grace: Grace) -> Intent {
    let status = FailedStatus { reason: "Evicted".into(), message: "The node was low on resource".into() };
    Intent::Terminate { grace, status }
}

#[test]
fn a_terminated_pod_is_stopped_with_the_grace_that_it_is_given_and_stays_failed() {
    type Set = fn(&mut Sim);
    let none: Set = |_| {};
    let failed = ("Failed", Some("Evicted"));
    let deadline = json!({ "activeDeadlineSeconds": 1 });
    let never = json!({ "restartPolicy": "Never" });
    let cases: &[(&str, Value, Set, _, &[&str], _)] = &[
        ("its own grace", json!({}), none, None, &["stop a_0 20", "stopbox 0"], failed),
        ("a shorter one", json!({}), none, Some(7), &["stop a_0 7", "stopbox 0"], failed),
        ("a longer one", json!({}), none, Some(90), &["stop a_0 90", "stopbox 0"], failed),
        ("the time is over", json!({}), none, Some(-5), &["stop a_0 2", "stopbox 0"], failed),
        (
            "later than its deadline",
            deadline,
            |s| s.now = s.after(2),
            Some(7),
            &["stop a_0 7", "stopbox 0"],
            failed,
        ),
        (
            "it waits for its restart",
            json!({}),
            |s| s.end("$CONTAINER_a_0", 1, "Error", ""),
            None,
            &["stopbox 0"],
            failed,
        ),
        (
            "it has ended",
            never,
            |s| {
                s.end("$CONTAINER_a_0", 0, "Completed", "");
                s.settle();
            },
            None,
            &[],
            ("Succeeded", None),
        ),
    ];
    for (case, spec, set, grace, calls, (phase, reason)) in cases {
        let mut spec = spec.clone();
        spec["terminationGracePeriodSeconds"] = json!(20);
        spec["containers"] = json!(["a"]);
        let mut sim = Sim::started(pod(spec));
        set(&mut sim);
        sim.new_calls();
        sim.intent = terminate(grace.map_or(Grace::OfPod, |seconds| Grace::Until(sim.after(seconds))));
        let rest = sim.run(sim.after(3600), |_, _| false);
        assert_eq!((rest.progress, rest.wake_at), (Progress::Ended, None), "{case}");
        assert_eq!(short(&sim.new_calls()), *calls, "{case}");
        assert!(!sim.observed.is_gone(), "{case}: what tells how its containers ended is kept");
        for when in ["while it is there", "when it is removed"] {
            let status = sim.status();
            assert_eq!((sim.phase().as_str(), status.reason.as_deref()), (*phase, *reason), "{case}, {when}");
            let message = reason.map(|_| "The node was low on resource");
            assert_eq!(status.message.as_deref(), message, "{case}, {when}");
            assert!(
                status.container_statuses.unwrap()[0].state.as_ref().unwrap().terminated.is_some(),
                "{case}"
            );
            sim.remove();
        }
        assert!(sim.observed.is_gone(), "{case}");
    }
}

/// What is shown of it until its containers have ended, also after a first attempt that was cut off.
#[test]
fn a_terminated_pod_is_shown_to_wait_with_what_terminates_it() {
    let evicted = "Evicted: The node was low on resource; containers have the grace period to end";
    let late = "DeadlineExceeded: Pod was active on the node longer than the specified deadline; containers have the \
                grace period to end";
    type Set = fn(&mut Sim);
    let cases: &[(&str, Set, Option<&str>, Option<i64>)] = &[
        ("its own grace", |s| s.intent = terminate(Grace::OfPod), Some(evicted), None),
        ("another one", |s| s.intent = terminate(Grace::Until(s.after(7))), Some(evicted), Some(7)),
        ("its deadline", |s| s.now = s.after(60), Some(late), None),
        (
            "its deadline, and nothing is remembered but the status",
            |s| {
                s.now = s.after(60);
                s.round(0);
                let status = s.status();
                s.forget();
                s.edit(|pod| pod.status = Some(status));
            },
            Some(late),
            None,
        ),
        (
            "it is told later than its deadline",
            |s| {
                s.now = s.after(60);
                s.intent = terminate(Grace::Until(s.after(7)));
            },
            Some(evicted),
            Some(7),
        ),
        ("it runs", |_| (), None, None),
    ];
    for (case, set, want, left) in cases {
        let spec = json!({ "activeDeadlineSeconds": 50, "containers": ["a", "b"] });
        let mut sim = Sim::started(pod(spec));
        set(&mut sim);
        let until = left.map(|seconds| sim.after(seconds));
        let shown = |plan: &Plan| {
            let terminating = plan.waits.iter().filter(|wait| wait.reason == "Terminating");
            terminating.map(|wait| (wait.message.clone(), wait.until)).collect::<Vec<_>>()
        };
        let want: Vec<_> = want.iter().map(|text| ((*text).to_owned(), until)).collect();
        for round in ["first", "second"] {
            assert_eq!(shown(&sim.round(1)), want, "{case}, {round} round");
        }
        assert_eq!(shown(&sim.settle()), [], "{case}: nothing of it runs, or all");
    }
}

#[test]
fn of_a_pod_that_is_terminated_before_it_started_nothing_starts() {
    let mut sim = Sim::new(pod(json!({ "initContainers": ["i"], "containers": ["a"] })));
    sim.intent = terminate(Grace::OfPod);
    assert_eq!((sim.settle().progress, sim.calls.len()), (Progress::Ended, 0));
    assert_eq!((sim.phase().as_str(), sim.status().reason.as_deref()), ("Failed", Some("Evicted")));
}

/// The first round may be cut off anywhere: what is left to do is done with the time that is left.
#[test]
fn a_termination_that_was_cut_off_goes_on() {
    let mut sim = Sim::started(pod(json!({ "containers": ["a", "b"] })));
    sim.behaviours.insert("a".into(), exits(0));
    sim.new_calls();
    sim.intent = terminate(Grace::Until(sim.after(10)));
    sim.round(1);
    sim.now = sim.after(4);
    assert_eq!(sim.settle().progress, Progress::Ended);
    let calls = short(&sim.new_calls());
    assert_eq!(calls.len(), 3, "{calls:?}");
    assert!(calls[0].ends_with(" 10") && calls[1].ends_with(" 5"), "{calls:?}");
    // Nobody wants its end any more, as after a restart of the agent: it has ended.
    sim.intent = Intent::Run;
    assert_eq!((sim.settle().progress, sim.phase().as_str()), (Progress::Ended, "Failed"));
}
