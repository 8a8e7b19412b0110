//! postStart hooks: what a container counts as until its hook has ended, and what becomes of one that was cut off.

use pod_lifecycle::{Action, FailureReason, Intent, Plan};
use serde_json::{Value, json};

use crate::sim::{Sim, pod};

fn hooked(name: &str) -> Value {
    json!({ "name": name, "lifecycle": { "postStart": { "sleep": { "seconds": 5 } } } })
}

fn sidecar(name: &str) -> Value {
    let mut container = hooked(name);
    container["restartPolicy"] = "Always".into();
    container
}

/// Takes the steps of the next plan as an actor does, and tells what is shown while the last hook of them runs.
fn in_the_hook(sim: &mut Sim) -> Plan {
    sim.memory.before_plan(&sim.pod, &sim.observed, sim.both());
    let plan = pod_lifecycle::plan(&sim.inputs());
    sim.round(usize::MAX);
    let pod = sim.pod.clone();
    sim.memory.before_steps(&pod, &plan.actions);
    sim.round(0);
    plan
}

/// `<name>: <state>`, and the phase.
fn shown(sim: &Sim) -> Vec<String> {
    let status = sim.status();
    let all = status.init_container_statuses.into_iter().chain(status.container_statuses).flatten();
    let one = |s: kube_model::core::ContainerStatus| {
        let state = s.state.unwrap();
        let what = match (state.waiting, state.running, state.terminated) {
            (Some(waiting), ..) => waiting.reason.unwrap(),
            (_, Some(_), _) => format!("running, ready {}, started {:?}", s.ready, s.started),
            (.., Some(ended)) => format!("exit {} of {}", ended.exit_code, ended.container_id.unwrap()),
            _ => "nothing".to_owned(),
        };
        format!("{} {}: {what}", s.name, s.restart_count)
    };
    all.map(one).chain(status.phase).collect()
}

#[test]
fn until_its_hook_has_ended_a_container_is_shown_as_before_its_start() {
    let mut sim = Sim::new(pod(json!({ "containers": [hooked("app"), "other"] })));
    sim.round(usize::MAX);
    in_the_hook(&mut sim);
    let other = "other 0: running, ready true, started Some(true)";
    assert_eq!(shown(&sim), ["app 0: ContainerCreating", other, "Pending"]);
    assert_eq!(sim.container_status("app").container_id, None);
    let probed = sim.memory.counted(&sim.observed, &sim.intent);
    assert_eq!(probed.containers.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["other"]);

    sim.memory.container_started("app");
    sim.round(0);
    let app = "app 0: running, ready true, started Some(true)";
    assert_eq!(shown(&sim), [app, other, "Running"]);

    // So is one that is started again.
    sim.end("$CONTAINER_app_0", 3, "Error", "");
    in_the_hook(&mut sim);
    assert_eq!(shown(&sim), ["app 0: exit 3 of containerd://$CONTAINER_app_0", other, "Running"]);
    sim.memory.container_started("app");
    sim.round(0);
    assert_eq!(shown(&sim), ["app 1: running, ready true, started Some(true)", other, "Running"]);
}

#[test]
fn a_sidecar_has_started_when_its_hook_has_ended() {
    let mut sim = Sim::new(pod(json!({ "initContainers": [sidecar("side"), "i"], "containers": ["app"] })));
    sim.round(usize::MAX);
    in_the_hook(&mut sim);
    assert_eq!(
        shown(&sim),
        ["side 0: PodInitializing", "i 0: PodInitializing", "app 0: PodInitializing", "Pending"]
    );
    let plan = sim.round(0);
    assert!(!plan.actions.iter().any(|a| matches!(a, Action::StartContainer { .. })), "{plan:?}");
    sim.memory.container_started("side");
    assert!(matches!(&sim.round(0).actions[..], [Action::StartContainer { name, .. }] if name == "i"));
}

#[test]
fn a_hook_that_was_cut_off_runs_again() {
    let mut sim =
        Sim::started(pod(json!({ "initContainers": [sidecar("side")], "containers": [hooked("app")] })));
    for name in ["side", "app"] {
        sim.forget();
        sim.memory.hooks_were_cut_off([name.to_owned()]);
        let plan = sim.round(0);
        let again = |a: &Action| matches!(a, Action::RunPostStartHook { name: of, .. } if of == name);
        assert!(matches!(&plan.actions[..], [one] if again(one)), "{plan:?}");
        let waits = shown(&sim).iter().any(|line| *line == format!("{name} 0: PodInitializing"));
        assert!(waits, "{:?}", shown(&sim));
        sim.settle();
        assert_eq!(sim.hooks_run.pop().as_deref(), Some(name));
        assert_eq!((sim.phase().as_str(), sim.running()), ("Running", vec!["app", "side"]));
    }
    // One that ended meanwhile is started anew, hook and all.
    sim.forget();
    sim.memory.hooks_were_cut_off(["app".to_owned()]);
    sim.end("$CONTAINER_app_0", 1, "Error", "");
    sim.settle();
    assert_eq!((sim.hooks_run.len(), sim.running()), (0, vec!["app", "side"]));
}

#[test]
fn a_failed_hook_is_a_failed_start_and_holds_on_as_long_as_the_container_runs() {
    for (reason, again) in [(FailureReason::PostStartHookError, false), (FailureReason::FailedKillPod, true)]
    {
        let mut sim = Sim::started(pod(json!({ "containers": [hooked("app")] })));
        sim.memory.hooks_were_cut_off(["app".to_owned()]);
        sim.memory.container_failed("app", reason, "no".into(), None, sim.now);
        let plan = sim.round(0);
        assert_eq!(plan.actions, [], "{reason:?}");
        assert_eq!(plan.wake_at.is_some(), again, "{reason:?}");
        sim.advance(sim.after(10));
        let hooks = sim.round(0).actions.iter().any(|a| matches!(a, Action::RunPostStartHook { .. }));
        assert_eq!(hooks, again, "{reason:?}");
    }
}

#[test]
fn a_pod_that_is_to_be_removed_waits_for_no_hook() {
    let mut sim = Sim::new(pod(json!({ "containers": [hooked("app")] })));
    sim.round(usize::MAX);
    let plan = in_the_hook(&mut sim);
    assert_eq!(sim.phase(), "Pending");
    sim.intent = Intent::Remove { since: sim.now, grace_seconds: None };
    sim.memory.after_steps(&plan.actions);
    let plan = sim.round(0);
    assert!(
        matches!(&plan.actions[..], [Action::StopContainer { .. }, Action::StopSandbox { .. }]),
        "{plan:?}"
    );
    assert_eq!(shown(&sim), ["app 0: running, ready true, started Some(true)", "Running"]);
}
