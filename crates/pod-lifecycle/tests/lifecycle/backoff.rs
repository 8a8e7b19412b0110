//! Crash back-off.

use kube_model::k8s_openapi::jiff::SignedDuration;
use serde_json::json;

use crate::sim::{Sim, exits, pod};

/// Seconds from the end of each instance to the start of the next one.
fn delays(sim: &Sim) -> Vec<i64> {
    sim.starts[1..].iter().zip(&sim.ends).map(|(start, end)| start.since(*end).as_secs()).collect()
}

/// A pod whose container ends one second after each start, for some time.
fn crashing(code: i32, seconds: i64) -> Sim {
    let mut sim = Sim::new(pod(json!({ "containers": ["app"] })));
    sim.behaviours.insert("app".into(), exits(code));
    sim.run(sim.after(seconds), |_, _| false);
    sim
}

#[test]
fn the_first_restart_comes_at_once_and_then_10_s_double_to_5_min() {
    assert_eq!(delays(&crashing(1, 1000)), [0, 10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn ending_well_counts_too() {
    assert_eq!(delays(&crashing(0, 40)), [0, 10, 20]);
}

#[test]
fn the_wait_shows_at_once_and_says_until_when() {
    let mut sim = crashing(1, 20);
    assert_eq!(delays(&sim), [0, 10]);
    let plan = sim.round(0);
    let wait = &plan.waits[0];
    assert_eq!((wait.container.as_deref(), wait.reason.as_str()), (Some("app"), "CrashLoopBackOff"));
    assert_eq!(wait.since, sim.ends.last().copied());
    assert_eq!(wait.until.unwrap().since(wait.since.unwrap()).as_secs(), 20);
    assert_eq!(wait.until, plan.wake_at);
    let message = "back-off 20s restarting failed container=app pod=p_default(u)";
    assert_eq!(wait.message, message);
    assert_eq!(sim.waiting("app"), Some(("CrashLoopBackOff".into(), message.into())));
    assert_eq!(sim.container_status("app").last_state.unwrap().terminated.unwrap().exit_code, 1);
    assert_eq!(sim.phase(), "Running");
}

#[test]
fn long_waits_are_shown_as_go_does() {
    let waiting = |seconds| crashing(1, seconds).waiting("app").unwrap().1;
    assert!(waiting(90).starts_with("back-off 1m20s "), "{}", waiting(90));
    assert!(waiting(900).starts_with("back-off 5m0s "), "{}", waiting(900));
}

#[test]
fn a_long_run_is_no_crash_in_a_row() {
    let mut sim = crashing(1, 80);
    assert_eq!(delays(&sim), [0, 10, 20, 40]);
    // The next instance runs for long, those after it do not.
    sim.behaviours.get_mut("app").unwrap().exit.as_mut().unwrap().after_seconds = 601;
    sim.run(sim.after(100), |_, _| false);
    sim.behaviours.insert("app".into(), exits(1));
    sim.run(sim.after(700), |_, _| false);
    assert_eq!(delays(&sim)[4..8], [80, 0, 10, 20]);
}

#[test]
fn a_changed_image_or_resource_starts_afresh() {
    for what in ["image", "resources"] {
        let mut sim = crashing(1, 80);
        assert!(sim.waiting("app").is_some(), "it waits");
        sim.edit(|pod| {
            let app = &mut pod.spec.as_mut().unwrap().containers[0];
            match what {
                "image" => app.image = Some("img:2".into()),
                _ => app.resources = serde_json::from_value(json!({ "limits": { "cpu": "1" } })).unwrap(),
            }
        });
        let changed = sim.now;
        sim.round(usize::MAX);
        assert_eq!(sim.starts.last().unwrap().since(changed).as_secs(), 0, "{what}");
    }
}

#[test]
fn a_restarted_agent_goes_on_with_a_crash_loop() {
    let mut sim = crashing(1, 80);
    assert_eq!(delays(&sim), [0, 10, 20, 40]);
    sim.forget();
    sim.run(sim.after(300), |_, _| false);
    assert_eq!(delays(&sim), [0, 10, 20, 40, 80, 160]);
}

#[test]
fn a_clock_that_was_set_back_does_not_stretch_the_wait() {
    let mut sim = crashing(1, 20);
    sim.forget();
    let future = sim.wall() + SignedDuration::from_secs(100_000);
    sim.newest("app").finished_at = Some(future);
    let plan = sim.round(0);
    assert!(plan.wake_at.unwrap() <= sim.after(20), "{plan:?}");
}
