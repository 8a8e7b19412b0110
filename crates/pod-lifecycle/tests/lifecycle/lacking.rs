//! Pods that lack something: nothing of them is started, and what runs goes on.

use kube_model::Monotonic;
use kube_model::core::{ContainerStatus, PodStatus};
use kube_model::observed::SandboxState;
use kube_model::probe::ProbeOutcome;
use pod_lifecycle::{Action, Plan, Progress, Rejection, Unmet};
use serde_json::json;

use crate::sim::{Sim, exits, pod, short};

const WHY: &str = "spec.volumes[data].emptyDir: volumes are not supported yet";

fn unsupported() -> Vec<Unmet> {
    vec![Unmet::Unsupported { message: WHY.into() }]
}

fn not_mounted(since: Monotonic) -> Unmet {
    Unmet::Waiting {
        reason: "VolumesNotMounted".into(),
        message: "unmounted volumes=[data]".into(),
        since,
        until: None,
    }
}

fn waits(plan: &Plan) -> Vec<(&str, &str, Option<Monotonic>)> {
    plan.waits.iter().map(|w| (w.reason.as_str(), w.message.as_str(), w.since)).collect()
}

/// A pod that another kubelet started.
fn adopted() -> Sim {
    let probe = json!({ "exec": { "command": ["true"] } });
    let side = json!({ "name": "side", "restartPolicy": "Always" });
    let app = json!({ "name": "app", "livenessProbe": probe });
    let mut sim = Sim::started(pod(json!({ "initContainers": [side], "containers": [app, "other"] })));
    sim.forget();
    sim.new_calls();
    sim.preconditions = unsupported();
    sim
}

#[test]
fn a_new_pod_is_not_started_and_says_why() {
    let mut sim = Sim::new(pod(json!({ "initContainers": ["i"], "containers": ["app"] })));
    sim.preconditions = unsupported();
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
    sim.preconditions.clear();
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
    sim.preconditions = unsupported();
    assert_eq!(sim.run(sim.after(60), |_, _| false).progress, Progress::Ended);
    assert_eq!(
        (short(&sim.calls), sim.phase().as_str()),
        (vec!["stop side_0 30".into(), "stopbox 0".into()], "Succeeded")
    );

    let mut sim = adopted();
    sim.remove();
    assert!(sim.observed.is_gone());
}

/// As the kubelet shows it, but for the message.
#[test]
fn what_is_being_worked_on_is_waited_for_and_then_the_pod_starts() {
    for (init, reason) in [(json!([]), "ContainerCreating"), (json!(["i"]), "PodInitializing")] {
        let mut sim = Sim::new(pod(json!({ "initContainers": init, "containers": ["app"] })));
        let since = sim.now;
        let claim = Unmet::Waiting {
            reason: "ClaimsNotPrepared".into(),
            message: "the driver is not there".into(),
            since,
            until: Some(sim.after(7)),
        };
        sim.preconditions = vec![not_mounted(since), claim];
        let plan = sim.settle();
        assert_eq!((plan.progress, plan.wake_at, sim.new_calls().len()), (Progress::Going, None, 0));
        let all = [
            ("VolumesNotMounted", "unmounted volumes=[data]", Some(since)),
            ("ClaimsNotPrepared", "the driver is not there", Some(since)),
        ];
        assert_eq!(waits(&plan), all);
        assert_eq!(plan.waits[1].until, Some(sim.after(7)));
        assert_eq!(sim.phase(), "Pending");
        assert_eq!(sim.waiting("app"), Some((reason.into(), "unmounted volumes=[data]".into())));
        sim.preconditions.clear();
        sim.settle();
        assert_eq!(sim.running().len(), 1);
    }
}

/// What ended shows how it ended, as it does in the kubelet, which makes no new status meanwhile.
#[test]
fn while_something_is_worked_on_what_runs_goes_on_and_nothing_is_restarted() {
    let mut sim = adopted();
    sim.preconditions = vec![not_mounted(sim.now)];
    sim.settle();
    sim.probes.0.get_mut("$CONTAINER_app_0").unwrap().liveness = Some(ProbeOutcome::Failure);
    sim.end("$CONTAINER_other_0", 1, "Error", "");
    let plan = sim.run(sim.after(3600), |_, _| false);
    assert_eq!((short(&sim.calls), sim.running()), (vec![], vec!["app", "side"]));
    assert_eq!(waits(&plan)[0].0, "VolumesNotMounted");
    assert_eq!(sim.waiting("other"), None);
    sim.preconditions.clear();
    sim.probes.0.clear();
    sim.settle();
    assert_eq!(sim.running(), ["app", "other", "side"]);
}

#[test]
fn a_pod_that_can_never_have_what_it_needs_fails_and_ends() {
    let rejection = Rejection { reason: "NoSuchDevice".into(), message: "it is gone".into() };
    let failed = |sim: &Sim| {
        let status = sim.status();
        assert_eq!(sim.phase(), "Failed");
        assert_eq!(status.reason.as_deref(), Some("NoSuchDevice"));
        assert_eq!(status.message.as_deref(), Some("Pod was rejected: it is gone"));
        status
    };
    let mut sim = Sim::new(pod(json!({ "containers": ["app"] })));
    sim.preconditions = vec![not_mounted(sim.now), Unmet::Failed(rejection.clone())];
    assert_eq!((sim.settle().progress, sim.calls.len()), (Progress::Ended, 0));
    assert_eq!(failed(&sim).container_statuses, None);

    let mut sim = adopted();
    sim.preconditions = vec![Unmet::Failed(rejection)];
    assert_eq!(sim.settle().progress, Progress::Ended);
    assert_eq!(sim.running(), Vec::<&str>::new());
    // How its containers ended can still be seen.
    let ended = failed(&sim).container_statuses.unwrap();
    assert!(ended.iter().all(|c| c.state.as_ref().unwrap().terminated.is_some()), "{ended:?}");
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

#[test]
fn a_pod_that_has_ended_stays_as_it_ended_whatever_it_lacks() {
    let rejection = |reason: &str| Rejection { reason: reason.into(), message: "it is gone".into() };
    let statuses = [
        json!({ "phase": "Succeeded" }),
        json!({ "phase": "Succeeded", "reason": "Done", "message": "all of it" }),
        json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource" }),
        json!({ "phase": "Failed", "reason": "OutOfcpu", "message": "Pod was rejected: too much" }),
    ];
    for ended in statuses {
        for (by_node, remembered) in [(false, false), (true, false), (false, true)] {
            let mut sim = Sim::new(pod(json!({ "restartPolicy": "Never", "containers": ["app"] })));
            let status: PodStatus = serde_json::from_value(ended.clone()).unwrap();
            match remembered {
                true => sim.memory.last_status = Some(status.into()),
                false => sim.edit(|pod| pod.status = Some(status)),
            }
            match by_node {
                true => sim.memory.rejection = Some(rejection("NoSuchDevice")),
                false => sim.preconditions = vec![Unmet::Failed(rejection("NoSuchDevice"))],
            }
            assert_eq!((sim.settle().progress, sim.calls.len()), (Progress::Ended, 0), "{ended}");
            let status = sim.status();
            let got = json!({ "phase": status.phase, "reason": status.reason, "message": status.message });
            let want =
                json!({ "phase": ended["phase"], "reason": ended["reason"], "message": ended["message"] });
            assert_eq!(got, want);
        }
    }
}
