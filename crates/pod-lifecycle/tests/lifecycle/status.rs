//! Phase, conditions and statuses beyond what the recordings show.

use std::net::IpAddr;
use std::sync::Arc;

use kube_model::core::{PodCondition, PodStatus};
use kube_model::observed::{ContainerState, SandboxState};
use pod_lifecycle::Progress;
use serde_json::json;

use crate::sim::{Sim, exits, pod, short};

fn condition(sim: &Sim, type_: &str) -> PodCondition {
    sim.status().conditions.unwrap().into_iter().find(|c| c.type_ == type_).unwrap()
}

#[test]
fn a_restarted_agent_sees_the_same_pod() {
    let spec = json!({
        "initContainers": ["i", { "name": "s", "restartPolicy": "Always" }],
        "containers": ["a", { "name": "b", "readinessProbe": { "tcpSocket": { "port": 1 } } }],
    });
    let mut sim = Sim::new(pod(spec));
    sim.behaviours.insert("i".into(), exits(0));
    sim.run(sim.after(5), |_, _| false);
    sim.advance(sim.after(100));
    sim.round(0);
    let before = sim.status();
    sim.new_calls();
    sim.forget();
    assert_eq!(sim.settle().progress, Progress::Settled);
    assert_eq!(short(&sim.calls), [""; 0], "nothing is done to it");
    let mut after = sim.status();
    // When a condition changed is in no runtime; all the rest is.
    for (a, b) in after.conditions.iter_mut().flatten().zip(before.conditions.iter().flatten()) {
        a.last_transition_time = b.last_transition_time.clone();
    }
    assert_eq!(after, before);
}

#[test]
fn readiness_and_start_that_are_not_known_any_more_stay_as_they_were() {
    let probe = json!({ "tcpSocket": { "port": 1 } });
    let container = json!({ "name": "a", "readinessProbe": probe, "startupProbe": probe });
    let mut sim = Sim::started(pod(json!({ "containers": [container] })));
    sim.probes.0.clear();
    sim.round(0);
    let status = sim.container_status("a");
    assert_eq!((status.ready, status.started), (true, Some(true)));
    // Another instance starts from nothing.
    sim.newest("a").id = "other".into();
    sim.round(0);
    let status = sim.container_status("a");
    assert_eq!((status.ready, status.started), (false, Some(false)));
}

#[test]
fn a_condition_keeps_its_time_as_long_as_its_status() {
    let mut sim = Sim::started(pod(json!({ "containers": ["a"] })));
    let since = condition(&sim, "Ready").last_transition_time;
    sim.advance(sim.after(10));
    sim.round(0);
    assert_eq!(condition(&sim, "Ready").last_transition_time, since);
    sim.observed.containers[0].state = ContainerState::Created;
    sim.round(0);
    let ready = condition(&sim, "Ready");
    assert_eq!(ready.status, "False");
    assert_eq!(ready.last_transition_time.unwrap().0.as_second(), sim.wall().as_second());
}

#[test]
fn a_readiness_gate_that_nobody_opened_keeps_the_pod_unready() {
    let spec = json!({ "containers": ["a"], "readinessGates": [{ "conditionType": "x/y" }] });
    let mut sim = Sim::started(pod(spec));
    let ready = condition(&sim, "Ready");
    assert_eq!(ready.reason.as_deref(), Some("ReadinessGatesNotReady"));
    assert_eq!(
        ready.message.as_deref(),
        Some("corresponding condition of pod readiness gate \"x/y\" does not exist.")
    );
    assert_eq!(condition(&sim, "ContainersReady").status, "True");

    for (opened, ready) in [("True", "True"), ("False", "False")] {
        let gate = PodCondition { type_: "x/y".into(), status: opened.into(), ..PodCondition::default() };
        Arc::make_mut(&mut sim.pod).status =
            Some(PodStatus { conditions: Some(vec![gate]), ..PodStatus::default() });
        sim.round(0);
        assert_eq!(condition(&sim, "Ready").status, ready);
        assert_eq!(condition(&sim, "x/y").status, opened, "conditions of others stay as they are");
    }
}

#[test]
fn phases_follow_from_containers() {
    // Exit codes by container; None runs on.
    let cases: &[(&str, &str, &[Option<i32>], &str)] = &[
        ("one runs, one ended", "Never", &[None, Some(1)], "Running"),
        ("all ended well", "Never", &[Some(0), Some(0)], "Succeeded"),
        ("one failed", "Never", &[Some(0), Some(1)], "Failed"),
        ("one failed and comes back", "OnFailure", &[Some(0), Some(1)], "Running"),
        ("all come back", "Always", &[Some(0), Some(0)], "Running"),
    ];
    for (case, policy, exit_codes, phase) in cases {
        let mut sim = Sim::new(pod(json!({ "restartPolicy": policy, "containers": ["c0", "c1"] })));
        for (i, code) in exit_codes.iter().enumerate() {
            if let Some(code) = code {
                sim.behaviours.insert(format!("c{i}"), exits(*code));
            }
        }
        sim.run(sim.after(5), |_, _| false);
        assert_eq!(sim.phase(), *phase, "{case}");
    }
}

#[test]
fn a_terminal_phase_stays_with_reason_and_message() {
    // Whoever says so: an earlier round, or somebody else at the server while ours is another.
    for ours in [true, false] {
        let mut sim = Sim::started(pod(json!({ "containers": ["a"] })));
        let mut status = sim.status();
        status.phase = Some("Failed".into());
        (status.reason, status.message) =
            (Some("Evicted".into()), Some("The node was low on resource".into()));
        match ours {
            true => sim.memory.last_status = Some(Arc::new(status)),
            false => sim.edit(|pod| pod.status = Some(status)),
        }
        assert_eq!(sim.settle().progress, Progress::Ended);
        let status = sim.status();
        assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("Evicted")));
        assert_eq!(status.message.as_deref(), Some("The node was low on resource"));
        assert_eq!(sim.running(), [""; 0]);
    }
}

#[test]
fn a_deadline_ends_the_pod_also_when_the_agent_was_away() {
    for forget in [false, true] {
        let spec = json!({ "activeDeadlineSeconds": 50, "restartPolicy": "OnFailure", "containers": ["a"] });
        let mut sim = Sim::started(pod(spec));
        let plan = sim.round(0);
        assert_eq!(plan.progress, Progress::Settled);
        let wake_at = plan.wake_at.expect("wakes at the deadline");
        assert!(wake_at <= sim.after(50) && wake_at >= sim.after(48), "{wake_at:?}");
        if forget {
            sim.advance(sim.after(30));
            sim.forget();
        }
        assert_eq!(sim.run(sim.after(60), |_, _| false).progress, Progress::Ended);
        let ended = sim.status();
        assert_eq!(
            (ended.phase.as_deref(), ended.reason.as_deref()),
            (Some("Failed"), Some("DeadlineExceeded"))
        );
        // It ended with 0 when it was stopped, and that is no success.
        sim.forget();
        assert_eq!(sim.settle().progress, Progress::Ended);
        assert_eq!(sim.status().reason.as_deref(), Some("DeadlineExceeded"));
    }
}

#[test]
fn a_pod_that_ended_before_its_deadline_has_ended() {
    let mut sim =
        Sim::new(pod(json!({ "activeDeadlineSeconds": 50, "restartPolicy": "Never", "containers": ["a"] })));
    sim.behaviours.insert("a".into(), exits(0));
    sim.run(sim.after(5), |_, _| false);
    sim.advance(sim.after(100));
    sim.forget();
    sim.settle();
    assert_eq!(sim.phase(), "Succeeded");
}

#[test]
fn a_lost_container_is_shown_as_ended() {
    let mut sim = Sim::started(pod(json!({ "containers": ["a"] })));
    sim.observed.containers.clear();
    for _ in 0..2 {
        sim.round(0);
        let status = sim.container_status("a");
        let ended = status.state.unwrap().terminated.unwrap();
        assert_eq!((ended.reason.as_deref(), ended.exit_code), (Some("ContainerStatusUnknown"), 137));
        assert_eq!(status.restart_count, 1, "counted once");
    }
}

#[test]
fn a_container_in_unknown_state_is_shown_as_ended() {
    let mut sim = Sim::started(pod(json!({ "containers": ["a"] })));
    sim.newest("a").state = ContainerState::Unknown;
    sim.round(0);
    let status = sim.container_status("a");
    assert_eq!(status.state.unwrap().terminated.unwrap().reason.as_deref(), Some("ContainerStatusUnknown"));
    assert_eq!(status.restart_count, 1);
}

#[test]
fn the_last_state_outlives_the_instance_that_it_tells_of() {
    let mut sim = Sim::new(pod(json!({ "containers": ["a"] })));
    sim.behaviours.insert("a".into(), exits(3));
    sim.run(sim.after(2), |_, _| false);
    assert_eq!(sim.running(), ["a"]);
    let last = |sim: &Sim| sim.container_status("a").last_state.unwrap().terminated.map(|t| t.exit_code);
    assert_eq!(last(&sim), Some(3));
    sim.observed.containers.retain(|c| c.state == ContainerState::Running);
    sim.round(0);
    assert_eq!(last(&sim), Some(3));
}

#[test]
fn addresses_are_those_of_the_pod_or_of_the_node() {
    let node: Vec<IpAddr> = ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().unwrap()).into();
    let ips = |sim: &Sim| -> Vec<String> {
        sim.status().pod_ips.unwrap_or_default().into_iter().map(|ip| ip.ip).collect()
    };
    let mut host = Sim::new(pod(json!({ "hostNetwork": true, "containers": ["a"] })));
    host.node.host_ips.clone_from(&node);
    host.settle();
    assert_eq!(ips(&host), ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(host.status().host_ip.as_deref(), Some("192.0.2.1"));

    let mut own = Sim::new(pod(json!({ "restartPolicy": "Never", "containers": ["a"] })));
    own.node.host_ips = node;
    own.round(usize::MAX);
    own.observed.sandboxes[0].ips = ["fd00::2", "10.0.0.2", "10.0.0.3"].map(|ip| ip.parse().unwrap()).into();
    own.settle();
    assert_eq!(ips(&own), ["10.0.0.2", "fd00::2"], "one of each family, the node's first one first");
    own.observed.sandboxes[0].state = SandboxState::NotReady;
    own.observed.sandboxes[0].ips.clear();
    own.round(0);
    assert_eq!(ips(&own), ["10.0.0.2", "fd00::2"], "a stopped sandbox leaves them");
}

#[test]
fn statuses_stand_in_the_kubelets_order() {
    let sim = Sim::started(pod(json!({ "initContainers": ["z", "y"], "containers": ["b", "a"] })));
    let names = |list: Option<Vec<kube_model::core::ContainerStatus>>| -> Vec<String> {
        list.unwrap().into_iter().map(|s| s.name).collect()
    };
    assert_eq!(names(sim.status().init_container_statuses), ["z", "y"], "as in the spec");
    assert_eq!(names(sim.status().container_statuses), ["a", "b"], "by name");
}

#[test]
fn the_generation_is_passed_on() {
    let mut sim = Sim::new(pod(json!({ "containers": ["a"] })));
    sim.edit(|pod| pod.metadata.generation = Some(3));
    sim.settle();
    assert_eq!(sim.status().observed_generation, Some(3));
    assert_eq!(condition(&sim, "Ready").observed_generation, Some(3));
}

/// A sidecar that crashes while the regular container does its work, and is found in each state when that ends.
#[test]
fn an_ended_pod_has_no_waiting_container_and_the_last_state_is_the_instance_before() {
    for (case, work_seconds, instance) in [
        ("it runs and is stopped", 2, 1),
        ("it waits for its restart", 8, 1),
        ("it waits for the next one", 25, 2),
    ] {
        let side = json!({ "name": "side", "restartPolicy": "Always" });
        let mut sim = Sim::new(pod(
            json!({ "restartPolicy": "Never", "initContainers": [side], "containers": ["main"] }),
        ));
        sim.behaviours.insert("side".into(), exits(1));
        let mut work = exits(0);
        work.exit.as_mut().unwrap().after_seconds = work_seconds;
        sim.behaviours.insert("main".into(), work);
        if case == "it runs and is stopped" {
            sim.behaviours.get_mut("side").unwrap().exit.as_mut().unwrap().after_seconds = 2;
        }
        // While it waits, its last state is the instance that has just ended.
        let before_the_end = sim.after(work_seconds - 1);
        sim.run(before_the_end, |_, _| false);
        if case != "it runs and is stopped" {
            let status = sim.container_status("side");
            assert!(status.state.unwrap().waiting.is_some(), "{case}");
            let last = status.last_state.unwrap().terminated.unwrap();
            assert_eq!(last.container_id, Some(format!("containerd://$CONTAINER_side_{instance}")), "{case}");
        }
        assert_eq!(sim.run(sim.after(60), |_, _| false).progress, Progress::Ended, "{case}");
        assert_eq!(sim.phase(), "Succeeded", "{case}");
        let status = sim.container_status("side");
        let ended = |state: Option<kube_model::core::ContainerState>| {
            state.unwrap().terminated.and_then(|t| t.container_id)
        };
        let id = |n: i32| Some(format!("containerd://$CONTAINER_side_{n}"));
        assert_eq!((ended(status.state), status.restart_count), (id(instance), instance), "{case}");
        assert_eq!(ended(status.last_state), id(instance - 1), "{case}");
    }
}
