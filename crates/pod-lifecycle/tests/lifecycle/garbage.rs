//! What cannot be removed or stopped: it holds back nothing that need not wait for it.

use kube_model::observed::ContainerState;
use pod_lifecycle::{FailureReason as R, Intent, Plan, Progress};
use serde_json::json;

use crate::sim::{Sim, exits, pod, short};

/// Goes on with a removal until it waits for nothing any more; returns the seconds that it took.
fn ended(sim: &mut Sim) -> (Plan, i64) {
    let began = sim.now;
    sim.intent = Intent::Remove { since: began, grace_seconds: None };
    for _ in 0..50 {
        let plan = sim.round(usize::MAX);
        if matches!(plan.progress, Progress::Removed | Progress::Left) {
            return (plan, sim.now.since(began).as_secs());
        }
        if plan.actions.is_empty() {
            sim.advance(plan.wake_at.expect("a removal that waits says for how long"));
        }
    }
    panic!("it does not end: {:?}", sim.observed);
}

#[test]
fn a_removed_pod_ends_though_its_sandbox_cannot_be_removed() {
    let mut sim = Sim::started(pod(json!({ "containers": ["a", "b"] })));
    sim.new_calls();
    sim.kept.insert("$SANDBOX0".into());
    let (plan, seconds) = ended(&mut sim);
    assert_eq!((plan.progress, plan.actions.len()), (Progress::Left, 0));
    assert_eq!(short(&sim.calls), ["stop b_0 30", "stop a_0 30", "stopbox 0", "rm b_0", "rm a_0"]);
    assert!((3..=6).contains(&seconds), "three attempts took {seconds} s");
}

#[test]
fn a_container_that_cannot_be_removed_holds_back_its_sandbox_and_no_other() {
    let mut sim = Sim::started(pod(json!({ "containers": ["a", "b"] })));
    sim.new_calls();
    sim.kept.insert("$CONTAINER_b_0".into());
    let (plan, _) = ended(&mut sim);
    assert_eq!(plan.progress, Progress::Left);
    assert_eq!(short(&sim.calls), ["stop b_0 30", "stop a_0 30", "stopbox 0", "rm a_0"]);

    // It says what it waits for while it does.
    let mut sim = Sim::started(pod(json!({ "containers": ["a"] })));
    sim.kept.insert("$CONTAINER_a_0".into());
    sim.intent = Intent::Remove { since: sim.now, grace_seconds: None };
    let mut plan = sim.round(usize::MAX);
    while !plan.actions.is_empty() {
        plan = sim.round(usize::MAX);
    }
    let wait = &plan.waits[0];
    assert_eq!((wait.reason.as_str(), wait.message.as_str()), ("FailedKillPod", "$CONTAINER_a_0 is busy"));
    assert_eq!((plan.wake_at, plan.progress), (Some(sim.after(1)), Progress::Going));
    sim.kept.clear();
    sim.advance(sim.after(1));
    assert_eq!(ended(&mut sim).0.progress, Progress::Removed);
}

#[test]
fn what_runs_is_never_left() {
    let mut sim = Sim::started(pod(json!({ "containers": ["a"] })));
    for id in ["$SANDBOX0", "$CONTAINER_a_0"] {
        for _ in 0..5 {
            sim.memory.removal_failed(id.into(), "no".into(), sim.now);
        }
    }
    sim.intent = Intent::Remove { since: sim.now, grace_seconds: None };
    assert_eq!(sim.round(0).progress, Progress::Going);
    sim.end("$CONTAINER_a_0", 0, "", "");
    assert_eq!(sim.round(0).progress, Progress::Going, "the sandbox is ready");
}

#[test]
fn garbage_that_cannot_be_removed_holds_back_neither_a_restart_nor_an_end() {
    let mut sim = Sim::new(pod(json!({ "containers": ["app"] })));
    sim.kept.insert("$CONTAINER_app_0".into());
    for restart in 0..3 {
        sim.settle();
        sim.end(&format!("$CONTAINER_app_{restart}"), 1, "Error", "");
        sim.run(sim.after(600), |_, _| false);
    }
    let starts: Vec<_> = short(&sim.calls).into_iter().filter(|c| c.starts_with("start")).collect();
    assert_eq!(starts, ["start app_0", "start app_1", "start app_2", "start app_3"]);
    let plan = sim.round(0);
    assert_eq!((plan.progress, plan.actions.len()), (Progress::Settled, 0));
    assert_eq!(plan.waits[0].message, "$CONTAINER_app_0 is busy");

    let mut job = Sim::new(pod(json!({ "restartPolicy": "OnFailure", "containers": ["app"] })));
    job.kept.insert("$CONTAINER_app_0".into());
    job.behaviours.insert("app".into(), exits(1));
    job.run(job.after(5), |_, _| false);
    job.behaviours.insert("app".into(), exits(0));
    assert_eq!(job.run(job.after(60), |_, _| false).progress, Progress::Ended);
}

#[test]
fn a_container_that_was_made_in_vain_is_started_anew_when_it_is_removed_or_beside_it() {
    for (removable, start) in [(true, "start a_0"), (false, "start a_1")] {
        let mut sim = Sim::started(pod(json!({ "containers": ["a", "b"] })));
        for name in ["a", "b"] {
            sim.newest(name).state = ContainerState::Created;
        }
        sim.kept.insert("$CONTAINER_a_0".into());
        let wait = sim.settle().waits.remove(0);
        assert_eq!(sim.running(), ["b"]);
        assert_eq!((wait.container.as_deref(), wait.reason.as_str()), (Some("a"), "FailedKillPod"));
        if removable {
            sim.kept.clear();
        }
        sim.run(sim.after(5), |_, _| false);
        assert_eq!(sim.running(), ["a", "b"]);
        assert_eq!(short(&sim.calls).last().unwrap(), start);
    }
}

#[test]
fn a_container_that_each_time_cannot_be_stopped_gets_no_more_grace() {
    let mut sim = Sim::started(pod(json!({ "containers": ["a"] })));
    let grace = |sim: &mut Sim| {
        sim.intent = Intent::Remove { since: sim.now, grace_seconds: None };
        sim.round(0).actions.iter().find_map(|action| match action {
            pod_lifecycle::Action::StopContainer { grace_seconds, .. } => Some(*grace_seconds),
            _ => None,
        })
    };
    // Failures to start count for nothing.
    for _ in 0..4 {
        sim.memory.pod_failed(R::FailedCreatePodSandBox, "no".into(), sim.now);
    }
    for expected in [Some(30), Some(30), Some(30), Some(2)] {
        assert_eq!(grace(&mut sim), expected);
        sim.memory.stop_failed("no".into(), sim.now);
        assert_eq!(grace(&mut sim), None, "it pauses");
        sim.advance(sim.after(10));
    }
}
