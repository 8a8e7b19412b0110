//! Which containers are restarted, replaced and left alone.

use kube_model::observed::ContainerState;
use kube_model::probe::ProbeOutcome;
use pod_lifecycle::Progress;
use serde_json::{Value, json};

use crate::sim::{Sim, exits, pod, short};

#[test]
fn policies_decide_who_is_restarted() {
    let rule = |operator: &str, code: i32| json!([{ "action": "Restart", "exitCodes": { "operator": operator, "values": [code] } }]);
    let cases: &[(&str, &str, Value, Value, i32, bool)] = &[
        ("Always restarts success", "Always", Value::Null, Value::Null, 0, true),
        ("Always restarts failure", "Always", Value::Null, Value::Null, 1, true),
        ("OnFailure leaves success", "OnFailure", Value::Null, Value::Null, 0, false),
        ("OnFailure restarts failure", "OnFailure", Value::Null, Value::Null, 1, true),
        ("Never leaves failure", "Never", Value::Null, Value::Null, 1, false),
        ("the container's policy wins over the pod's", "Never", json!("Always"), Value::Null, 0, true),
        ("the container's Never wins too", "Always", json!("Never"), Value::Null, 1, false),
        ("a matching In rule restarts", "Never", json!("Never"), rule("In", 42), 42, true),
        ("another code falls back to the policy", "Never", json!("Never"), rule("In", 42), 1, false),
        ("a matching NotIn rule restarts", "Never", json!("Never"), rule("NotIn", 42), 1, true),
        ("a NotIn rule leaves its code", "Never", json!("Never"), rule("NotIn", 42), 42, false),
        ("rules need a policy of the container", "Never", Value::Null, rule("In", 42), 42, false),
    ];
    for (case, pod_policy, policy, rules, code, restarted) in cases {
        let mut container = json!({ "name": "app" });
        if !policy.is_null() {
            container["restartPolicy"] = policy.clone();
        }
        if !rules.is_null() {
            container["restartPolicyRules"] = rules.clone();
        }
        let mut sim = Sim::new(pod(json!({ "restartPolicy": pod_policy, "containers": [container] })));
        sim.behaviours.insert("app".into(), exits(*code));
        // Long enough for the first restart, which comes at once, and for nothing else.
        let plan = sim.run(sim.after(5), |_, _| false);
        let starts = short(&sim.calls).iter().filter(|c| c.starts_with("start")).count();
        assert_eq!(starts == 2, *restarted, "{case}: {:?}", short(&sim.calls));
        assert_eq!(plan.progress == Progress::Ended, !restarted, "{case}");
        let phase = match (restarted, code) {
            (true, _) => "Running",
            (false, 0) => "Succeeded",
            (false, _) => "Failed",
        };
        assert_eq!(sim.phase(), phase, "{case}");
    }
}

#[test]
fn a_changed_image_replaces_the_container_under_every_policy() {
    for policy in ["Always", "OnFailure", "Never"] {
        let mut sim = Sim::started(pod(json!({ "restartPolicy": policy, "containers": ["app", "other"] })));
        sim.new_calls();
        sim.edit(|pod| pod.spec.as_mut().unwrap().containers[0].image = Some("img:2".into()));
        let plan = sim.settle();
        assert_eq!(short(&sim.calls), ["stop app_0 30", "start app_1"], "{policy}");
        assert_eq!((plan.progress, sim.phase().as_str()), (Progress::Settled, "Running"), "{policy}");
    }
}

#[test]
fn a_pod_whose_only_container_is_being_replaced_does_not_end() {
    let mut sim = Sim::started(pod(json!({ "restartPolicy": "Never", "containers": ["app"] })));
    sim.edit(|pod| pod.spec.as_mut().unwrap().containers[0].image = Some("img:2".into()));
    sim.round(usize::MAX);
    sim.round(0);
    assert_eq!(sim.newest("app").state, ContainerState::Exited, "it has been stopped");
    assert_eq!(sim.phase(), "Running");
}

#[test]
fn a_failed_probe_restarts_by_policy_with_its_own_grace_period() {
    let cases = [
        ("Always", "livenessProbe", vec!["stop app_0 7", "start app_1"]),
        // Even if it ends with 0: it did not end by itself.
        ("OnFailure", "livenessProbe", vec!["stop app_0 7", "start app_1"]),
        ("OnFailure", "startupProbe", vec!["stop app_0 7", "start app_1"]),
        ("Never", "startupProbe", vec!["stop app_0 7", "stopbox 0"]),
    ];
    for (policy, probe, want) in cases {
        let container = json!({ "name": "app", probe: { "tcpSocket": { "port": 1 }, "terminationGracePeriodSeconds": 7 } });
        let mut sim = Sim::started(pod(json!({ "restartPolicy": policy, "containers": [container] })));
        sim.new_calls();
        let id = sim.newest("app").id.clone();
        let outcomes = sim.probes.0.get_mut(&id).unwrap();
        match probe {
            "livenessProbe" => outcomes.liveness = Some(ProbeOutcome::Failure),
            _ => outcomes.startup = Some(ProbeOutcome::Failure),
        }
        sim.settle();
        assert_eq!(short(&sim.calls), want, "{policy} {probe}");
    }
}

#[test]
fn an_outcome_without_a_probe_in_the_spec_does_not_count() {
    let mut sim = Sim::started(pod(json!({ "containers": ["app"] })));
    let id = sim.newest("app").id.clone();
    sim.probes.0.get_mut(&id).unwrap().liveness = Some(ProbeOutcome::Failure);
    assert_eq!(sim.settle().progress, Progress::Settled);
}

#[test]
fn a_container_that_was_created_and_never_started_is_made_anew_with_its_number() {
    let mut sim = Sim::started(pod(json!({ "containers": ["app"] })));
    let app = sim.newest("app");
    (app.state, app.started_at) = (ContainerState::Created, None);
    sim.new_calls();
    sim.settle();
    assert_eq!(short(&sim.calls), ["rm app_0", "start app_0"]);
}

#[test]
fn a_container_in_unknown_state_is_stopped_before_the_next_one_starts() {
    let mut sim = Sim::started(pod(json!({ "containers": ["app"] })));
    sim.newest("app").state = ContainerState::Unknown;
    sim.new_calls();
    sim.settle();
    assert_eq!(short(&sim.calls), ["stop app_0 30", "start app_1"]);
}

#[test]
fn a_container_that_the_spec_does_not_have_is_stopped_and_removed() {
    let mut sim = Sim::started(pod(json!({ "containers": ["app", "old"] })));
    sim.new_calls();
    sim.edit(|pod| pod.spec.as_mut().unwrap().containers.truncate(1));
    assert_eq!(sim.settle().progress, Progress::Settled);
    assert_eq!(short(&sim.calls), ["stop old_0 30", "rm old_0"]);
}

#[test]
fn an_ephemeral_container_is_left_alone() {
    let mut sim = Sim::started(pod(json!({ "containers": ["app", "debug"] })));
    sim.new_calls();
    sim.edit(|pod| {
        let spec = pod.spec.as_mut().unwrap();
        spec.containers.truncate(1);
        spec.ephemeral_containers = Some(serde_json::from_value(json!([{ "name": "debug" }])).unwrap());
    });
    assert_eq!(sim.settle().progress, Progress::Settled);
    assert_eq!(short(&sim.calls), [""; 0]);
}

#[test]
fn the_restart_count_goes_on_when_the_runtime_has_lost_the_container() {
    let mut sim = Sim::started(pod(json!({ "containers": ["app"] })));
    sim.newest("app").restart_count = 4;
    sim.round(0);
    sim.observed.containers.clear();
    sim.new_calls();
    sim.settle();
    assert_eq!(short(&sim.calls), ["start app_5"]);
    assert_eq!(sim.container_status("app").restart_count, 5);
}

#[test]
fn a_lost_container_does_not_run_twice_under_never() {
    let mut sim = Sim::started(pod(json!({ "restartPolicy": "Never", "containers": ["app"] })));
    sim.observed.containers.clear();
    sim.new_calls();
    assert_eq!(sim.settle().progress, Progress::Ended);
    assert_eq!(short(&sim.calls), ["stopbox 0"]);
    assert_eq!(sim.phase(), "Failed");
}
