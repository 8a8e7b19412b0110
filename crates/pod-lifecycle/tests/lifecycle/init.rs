//! Init containers and sidecars.

use kube_model::observed::SandboxState;
use kube_model::probe::ProbeOutcome;
use pod_lifecycle::Progress;
use serde_json::{Value, json};

use crate::sim::{Sim, exits, pod, short};

fn sidecar(name: &str) -> Value {
    json!({ "name": name, "restartPolicy": "Always" })
}

fn probed_sidecar(name: &str) -> Value {
    json!({ "name": name, "restartPolicy": "Always", "startupProbe": { "tcpSocket": { "port": 1 } } })
}

#[test]
fn init_containers_run_one_after_the_other_and_then_all_others_together() {
    let mut sim = Sim::new(pod(json!({ "initContainers": ["i1", "i2"], "containers": ["a", "b"] })));
    for name in ["i1", "i2"] {
        sim.behaviours.insert(name.into(), exits(0));
    }
    sim.settle();
    assert_eq!(short(&sim.new_calls()), ["run 0", "start i1_0"]);
    assert_eq!((sim.phase().as_str(), sim.waiting("a").unwrap().0.as_str()), ("Pending", "PodInitializing"));
    assert_eq!(sim.run(sim.after(5), |_, _| false).progress, Progress::Settled);
    assert_eq!(short(&sim.calls), ["start i2_0", "start a_0", "start b_0"]);
    assert_eq!(sim.phase(), "Running");
}

#[test]
fn a_failed_init_container_restarts_only_itself() {
    let mut sim = Sim::new(pod(json!({ "initContainers": ["i1", "i2"], "containers": ["a"] })));
    sim.behaviours.insert("i1".into(), exits(0));
    sim.behaviours.insert("i2".into(), exits(3));
    sim.run(sim.after(5), |_, _| false);
    assert_eq!(short(&sim.calls), ["run 0", "start i1_0", "start i2_0", "start i2_1", "rm i2_0"]);
    assert_eq!(sim.phase(), "Pending");
}

#[test]
fn a_failed_init_container_ends_the_pod_only_under_never() {
    for (policy, phase) in [("Always", "Pending"), ("OnFailure", "Pending"), ("Never", "Failed")] {
        let spec =
            json!({ "restartPolicy": policy, "initContainers": [sidecar("s"), "i"], "containers": ["a"] });
        let mut sim = Sim::new(pod(spec));
        sim.behaviours.insert("i".into(), exits(3));
        sim.run(sim.after(5), |_, _| false);
        assert_eq!(sim.phase(), phase, "{policy}");
        assert_eq!(sim.running().is_empty(), phase == "Failed", "{policy}: the sidecar goes with the pod");
    }
}

#[test]
fn a_sidecar_lets_the_next_one_start_when_it_has_started() {
    let mut sim = Sim::new(pod(json!({ "initContainers": [probed_sidecar("s"), "i"], "containers": ["a"] })));
    sim.behaviours.insert("i".into(), exits(0));
    sim.round(usize::MAX);
    sim.round(usize::MAX);
    let id = sim.newest("s").id.clone();
    sim.probes.0.get_mut(&id).unwrap().startup = None;
    let plan = sim.settle();
    assert_eq!((plan.progress, plan.waits[0].container.as_deref()), (Progress::Going, Some("s")));
    assert_eq!(short(&sim.calls), ["run 0", "start s_0"]);

    sim.probes.0.get_mut(&id).unwrap().startup = Some(ProbeOutcome::Success);
    assert_eq!(sim.run(sim.after(5), |_, _| false).progress, Progress::Settled);
    assert_eq!(short(&sim.calls), ["run 0", "start s_0", "start i_0", "start a_0"]);
}

#[test]
fn an_unready_or_dying_sidecar_does_not_hold_back_what_comes_after_it_has_started() {
    let mut sim = Sim::started(pod(json!({ "initContainers": [sidecar("s")], "containers": ["a"] })));
    assert_eq!(short(&sim.new_calls()), ["run 0", "start s_0", "start a_0"]);
    let id = sim.newest("s").id.clone();
    sim.end(&id, 0, "Completed", "");
    sim.settle();
    assert_eq!(short(&sim.calls), ["start s_1"], "restarted although it ended well");
    assert_eq!(sim.phase(), "Running");
}

#[test]
fn sidecars_alone_do_not_keep_a_pod_alive() {
    let spec = json!({ "restartPolicy": "Never", "initContainers": [sidecar("s1"), sidecar("s2")], "containers": ["a"] });
    let mut sim = Sim::new(pod(spec));
    sim.behaviours.insert("a".into(), exits(0));
    let plan = sim.run(sim.after(5), |_, _| false);
    let calls = short(&sim.calls);
    assert_eq!(calls[4..], ["stop s2_0 30", "stop s1_0 29", "stopbox 0"], "{calls:?}");
    assert_eq!((plan.progress, sim.phase().as_str()), (Progress::Ended, "Succeeded"));
}

#[test]
fn a_new_sandbox_is_initialised_again() {
    let mut sim = Sim::new(pod(json!({ "initContainers": ["i"], "containers": ["a"] })));
    sim.behaviours.insert("i".into(), exits(0));
    sim.run(sim.after(5), |_, _| false);
    sim.new_calls();
    sim.observed.sandboxes[0].state = SandboxState::NotReady;
    sim.run(sim.after(5), |_, _| false);
    assert_eq!(short(&sim.calls), ["stop a_0 30", "stopbox 0", "run 1", "start i_1", "start a_1", "rm i_0"]);
}

#[test]
fn an_init_container_that_was_removed_does_not_run_again() {
    let mut sim = Sim::new(pod(json!({ "initContainers": ["i"], "containers": ["a"] })));
    sim.behaviours.insert("i".into(), exits(0));
    sim.run(sim.after(5), |_, _| false);
    sim.observed.containers.retain(|c| c.name != "i");
    sim.new_calls();
    sim.forget();
    assert_eq!(sim.settle().progress, Progress::Settled);
    assert_eq!(short(&sim.calls), [""; 0]);
    let i = sim.container_status("i");
    assert_eq!((i.ready, i.state.unwrap().terminated.unwrap().reason.as_deref()), (true, Some("Completed")));
}
