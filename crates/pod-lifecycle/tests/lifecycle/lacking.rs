//! Pods that name what the node cannot give: nothing of them is started, and what runs goes on.

use kube_model::core::ContainerStatus;
use kube_model::observed::SandboxState;
use kube_model::probe::ProbeOutcome;
use pod_lifecycle::{Action, Progress};
use serde_json::json;

use crate::sim::{Sim, exits, pod, short};

const WHY: &str = "spec.volumes[data].emptyDir: volumes are not supported yet";

/// A pod that another kubelet started.
fn adopted() -> Sim {
    let probe = json!({ "exec": { "command": ["true"] } });
    let side = json!({ "name": "side", "restartPolicy": "Always" });
    let app = json!({ "name": "app", "livenessProbe": probe });
    let mut sim = Sim::started(pod(json!({ "initContainers": [side], "containers": [app, "other"] })));
    sim.forget();
    sim.new_calls();
    sim.unsupported = Some(WHY.into());
    sim
}

#[test]
fn a_new_pod_is_not_started_and_says_why() {
    let mut sim = Sim::new(pod(json!({ "initContainers": ["i"], "containers": ["app"] })));
    sim.unsupported = Some(WHY.into());
    let plan = sim.settle();
    assert_eq!((plan.progress, plan.wake_at, sim.calls.len()), (Progress::Going, None, 0));
    let wait = &plan.waits[0];
    assert_eq!(
        (wait.container.as_deref(), wait.reason.as_str(), wait.message.as_str()),
        (None, "Unsupported", WHY)
    );
    for name in ["i", "app"] {
        assert_eq!(sim.waiting(name), Some(("Unsupported".into(), WHY.into())));
    }
    // As soon as the node can, it does.
    sim.unsupported = None;
    sim.settle();
    assert_eq!(sim.phase(), "Pending");
    assert_eq!(sim.running(), ["i"]);
}

#[test]
fn of_an_adopted_pod_all_that_runs_goes_on_and_nothing_is_started_again() {
    type Happens = fn(&mut Sim);
    let cases: [(&str, Happens, &[&str]); 6] = [
        ("nothing happens", |_| {}, &["app", "other", "side"]),
        ("a container ends", |sim| sim.end("$CONTAINER_app_0", 1, "Error", ""), &["other", "side"]),
        ("a sidecar ends", |sim| sim.end("$CONTAINER_side_0", 1, "Error", ""), &["app", "other"]),
        (
            "its liveness probe fails",
            |sim| sim.probes.0.get_mut("$CONTAINER_app_0").unwrap().liveness = Some(ProbeOutcome::Failure),
            &["app", "other", "side"],
        ),
        (
            "its image changes",
            |sim| sim.edit(|pod| pod.spec.as_mut().unwrap().containers[0].image = Some("img:2".into())),
            &["app", "other", "side"],
        ),
        (
            "its sandbox dies alone",
            |sim| sim.observed.sandboxes[0].state = SandboxState::NotReady,
            &["app", "other", "side"],
        ),
    ];
    for (case, happens, runs) in cases {
        let mut sim = adopted();
        sim.settle();
        happens(&mut sim);
        let plan = sim.run(sim.after(3600), |_, _| false);
        assert_eq!((short(&sim.calls), sim.running()), (vec![], runs.to_vec()), "{case}");
        assert_eq!(
            (plan.waits[0].reason.as_str(), plan.waits[0].message.as_str()),
            ("Unsupported", WHY),
            "{case}"
        );
        for name in ["app", "other", "side"] {
            let says = (!runs.contains(&name)).then(|| ("Unsupported".into(), WHY.into()));
            assert_eq!(sim.waiting(name), says, "{case}: {name}");
        }
    }
}

#[test]
fn such_a_pod_can_still_end_and_be_removed() {
    let side = json!({ "name": "side", "restartPolicy": "Always" });
    let job = json!({ "restartPolicy": "Never", "initContainers": [side], "containers": ["app"] });
    let mut sim = Sim::new(pod(job));
    sim.behaviours.insert("app".into(), exits(0));
    sim.round(usize::MAX);
    sim.round(usize::MAX);
    sim.round(usize::MAX);
    sim.new_calls();
    sim.unsupported = Some(WHY.into());
    assert_eq!(sim.run(sim.after(60), |_, _| false).progress, Progress::Ended);
    assert_eq!(
        (short(&sim.calls), sim.phase().as_str()),
        (vec!["stop side_0 30".into(), "stopbox 0".into()], "Succeeded")
    );

    let mut sim = adopted();
    sim.remove();
    assert!(sim.observed.is_gone());
}

#[test]
fn ephemeral_containers_hold_up_nothing_but_themselves() {
    let mut sim = Sim::started(pod(json!({
        "containers": ["app"],
        "ephemeralContainers": [{ "name": "debug", "image": "img:1" }],
    })));
    let shown =
        |sim: &Sim| -> ContainerStatus { sim.status().ephemeral_container_statuses.unwrap().remove(0) };
    let waiting = shown(&sim).state.unwrap().waiting.unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("Unsupported"));
    assert_eq!(waiting.message.as_deref(), Some("ephemeral containers are not supported yet"));
    let plan = sim.round(0);
    assert_eq!((plan.waits[0].container.as_deref(), plan.waits.len()), (Some("debug"), 1));

    sim.end("$CONTAINER_app_0", 1, "Error", "");
    assert!(matches!(&sim.round(0).actions[..], [Action::StartContainer { name, .. }] if name == "app"));

    // One that another kubelet started goes on, and is shown.
    let mut debug = sim.newest("app").clone();
    debug.name = "debug".into();
    debug.id = "d".into();
    debug.state = kube_model::observed::ContainerState::Running;
    sim.observed.containers.push(debug);
    sim.settle();
    let status = shown(&sim);
    assert!(status.state.unwrap().running.is_some() && !status.ready && status.started.is_none());
    assert_eq!(sim.running(), ["app", "debug"]);
    assert_eq!(sim.round(0).waits, []);
}
