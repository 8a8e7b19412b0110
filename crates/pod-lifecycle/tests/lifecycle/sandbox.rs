//! When a sandbox is created and replaced.

use kube_model::observed::SandboxState;
use pod_lifecycle::{Action, Progress};
use serde_json::json;

use crate::sim::{Sim, exits, pod, short};

#[test]
fn a_sandbox_that_cannot_be_used_is_replaced() {
    type Break = fn(&mut Sim);
    let cases: [(&str, Break, Vec<&str>); 4] = [
        (
            "its pause process died",
            |sim| sim.observed.sandboxes[0].state = SandboxState::NotReady,
            vec!["stop app_0 30", "stopbox 0", "run 1", "start app_1"],
        ),
        (
            "a second one is ready",
            |sim| {
                let mut second = sim.observed.sandboxes[0].clone();
                (second.id, second.attempt) = ("$SANDBOX9".into(), 1);
                sim.observed.sandboxes.insert(0, second);
            },
            vec!["stop app_0 30", "stopbox 9", "stopbox 0", "stopbox 9", "run 2", "start app_1", "rmbox 9"],
        ),
        (
            "the network mode changed",
            |sim| sim.edit(|pod| pod.spec.as_mut().unwrap().host_network = Some(true)),
            vec!["stop app_0 30", "stopbox 0", "stopbox 0", "run 1", "start app_1"],
        ),
        (
            "it has no address",
            |sim| sim.observed.sandboxes[0].ips.clear(),
            vec!["stop app_0 30", "stopbox 0", "stopbox 0", "run 1", "start app_1"],
        ),
    ];
    for (case, break_it, want) in cases {
        let mut sim = Sim::started(pod(json!({ "containers": ["app"] })));
        sim.new_calls();
        break_it(&mut sim);
        sim.round(0);
        let ready = sim.status().conditions.unwrap().remove(0);
        assert_eq!(
            (ready.type_.as_str(), ready.status.as_str()),
            ("PodReadyToStartContainers", "False"),
            "{case}"
        );
        assert_eq!(sim.settle().progress, Progress::Settled, "{case}");
        assert_eq!(short(&sim.calls), want, "{case}");
    }
}

#[test]
fn a_sandbox_on_the_nodes_network_needs_no_address() {
    let mut sim = Sim::started(pod(json!({ "hostNetwork": true, "containers": ["app"] })));
    assert_eq!(short(&sim.calls), ["run 0", "start app_0"]);
    assert_eq!(sim.settle().progress, Progress::Settled);
}

#[test]
fn a_sandbox_is_created_alone_and_last() {
    let mut sim = Sim::new(pod(json!({ "containers": ["a", "b"] })));
    assert_eq!(sim.round(usize::MAX).actions, [Action::CreateSandbox { attempt: 0 }]);
    let starts = sim.round(usize::MAX).actions;
    assert!(
        matches!(starts.as_slice(), [Action::StartContainer { .. }, Action::StartContainer { .. }]),
        "{starts:?}"
    );
}

#[test]
fn under_never_a_pod_that_has_run_gets_no_new_sandbox() {
    let mut sim = Sim::started(pod(json!({ "restartPolicy": "Never", "containers": ["app"] })));
    sim.new_calls();
    sim.observed.sandboxes[0].state = SandboxState::NotReady;
    assert_eq!(sim.settle().progress, Progress::Ended);
    assert_eq!(short(&sim.calls), ["stop app_0 30"]);
}

#[test]
fn under_never_a_pod_that_has_not_run_gets_a_new_sandbox() {
    let mut sim = Sim::new(pod(json!({ "restartPolicy": "Never", "containers": ["app"] })));
    sim.round(usize::MAX);
    sim.observed.sandboxes[0].state = SandboxState::NotReady;
    assert_eq!(sim.settle().progress, Progress::Settled);
    assert_eq!(short(&sim.calls), ["run 0", "stopbox 0", "run 1", "start app_0", "rmbox 0"]);
}

#[test]
fn nothing_left_to_run_needs_no_sandbox() {
    let mut sim = Sim::new(pod(json!({ "restartPolicy": "OnFailure", "containers": ["app"] })));
    sim.behaviours.insert("app".into(), exits(0));
    sim.run(sim.after(5), |_, _| false);
    sim.forget();
    sim.new_calls();
    assert_eq!(sim.settle().progress, Progress::Ended);
    assert_eq!(short(&sim.calls), [""; 0]);
    assert_eq!(sim.phase(), "Succeeded");
}

#[test]
fn without_pod_network_nothing_new_starts_but_what_runs_goes_on() {
    let mut sim = Sim::new(pod(json!({ "containers": ["app"] })));
    sim.node.network_not_ready = Some("NetworkPluginNotReady: cni plugin not initialized".into());
    let plan = sim.round(usize::MAX);
    assert_eq!((plan.actions.len(), plan.waits[0].reason.as_str()), (0, "NetworkNotReady"));
    assert_eq!(
        plan.waits[0].message,
        "network is not ready: NetworkPluginNotReady: cni plugin not initialized"
    );
    assert_eq!(plan.wake_at, None, "the node wakes the pod");

    sim.node.network_not_ready = None;
    sim.settle();
    sim.node.network_not_ready = Some("gone again".into());
    assert_eq!(sim.settle().progress, Progress::Settled);

    let mut host = Sim::new(pod(json!({ "hostNetwork": true, "containers": ["app"] })));
    host.node.network_not_ready = sim.node.network_not_ready.clone();
    assert_eq!(host.settle().progress, Progress::Settled, "the node's network is not the pod network");
}

#[test]
fn an_old_sandbox_goes_when_nothing_lives_in_it() {
    let mut sim = Sim::started(pod(json!({ "containers": ["app"] })));
    sim.observed.sandboxes[0].state = SandboxState::NotReady;
    sim.settle();
    assert_eq!(sim.observed.sandboxes.len(), 2, "the last ended instance still belongs to the old one");
    let id = sim.newest("app").id.clone();
    sim.end(&id, 1, "Error", "");
    sim.run(sim.after(60), |_, _| false);
    assert_eq!(sim.observed.sandboxes.len(), 1);
}

/// The sidecar may restart, but a sandbox only for it would be stopped as soon as it is there, again and again.
#[test]
fn no_sandbox_is_made_for_a_pod_whose_containers_are_all_done_and_gone() {
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [{ "name": "proxy", "restartPolicy": "Always" }],
        "containers": ["app"],
    });
    let mut sim = Sim::started(pod(spec));
    sim.forget();
    sim.observed.containers.retain(|c| c.name == "app");
    sim.round(0);
    sim.observed.containers.clear();
    sim.new_calls();
    let plan = sim.settle();
    assert_eq!(short(&sim.calls), ["stopbox 0"]);
    assert_eq!(plan.waits[0].reason, "SandboxChanged", "{plan:?}");
}
