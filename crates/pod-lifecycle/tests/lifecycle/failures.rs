//! Failed attempts: what is shown and when it is tried again.

use std::time::Duration;

use kube_model::k8s_openapi::jiff::SignedDuration;
use kube_model::observed::{Container, ContainerState};
use pod_lifecycle::{FailureReason as R, Intent, Memory, Progress, Rejection};
use serde_json::json;

use crate::sim::{Sim, pod, short};

fn failing(reason: R, message: &str) -> Sim {
    let mut sim = Sim::new(pod(json!({ "containers": ["app", "other"] })));
    sim.behaviours.entry("app".into()).or_default().start_fails = Some((reason, message.into()));
    sim
}

#[test]
fn delays_double_up_to_a_limit() {
    for (reason, want) in [
        (R::ErrImagePull, vec![10, 20, 40, 80, 160, 300, 300]),
        (R::RegistryUnavailable, vec![10, 20, 40]),
        (R::CreateContainerError, vec![1, 2, 4, 8, 10, 10]),
        (R::InvalidImageName, vec![1, 2, 4, 8, 10, 10]),
    ] {
        let mut memory = Memory::default();
        let now = Sim::new(pod(json!({ "containers": ["app"] }))).now;
        let mut delays = Vec::new();
        for _ in &want {
            memory.container_failed("app", reason, "no".into(), None, now);
            delays.push(memory.failures["app"].retry_at.since(now).as_secs());
        }
        assert_eq!(delays, want, "{reason:?}");
    }
}

#[test]
fn what_was_missing_shortens_the_wait_of_those_who_lacked_it_alone() {
    for (reason, at_once) in
        [(R::CreateContainerConfigError, true), (R::CreateContainerError, false), (R::ErrImagePull, false)]
    {
        let mut memory = Memory::default();
        let now = Sim::new(pod(json!({ "containers": ["app"] }))).now;
        memory.container_failed("app", reason, "no".into(), None, now);
        memory.references_changed(now);
        assert_eq!(memory.failures["app"].retry_at == now, at_once, "{reason:?}");
        assert_eq!(memory.failures["app"].attempts, 1);
    }
}

#[test]
fn one_who_knows_better_says_when_to_try_again() {
    let mut sim = failing(R::ErrImagePull, "no");
    sim.settle();
    let after = Some(Duration::from_secs(77));
    sim.memory.container_failed("app", R::ErrImagePull, "no".into(), after, sim.now);
    assert_eq!(sim.memory.failures["app"].retry_at, sim.after(77));
}

#[test]
fn a_failed_container_does_not_hold_back_the_others() {
    let mut sim = failing(R::CreateContainerError, "runtime says no");
    let plan = sim.settle();
    assert_eq!(sim.running(), ["other"]);
    assert_eq!((plan.progress, sim.phase().as_str()), (Progress::Going, "Pending"));
    let wait = &plan.waits[0];
    assert_eq!((wait.container.as_deref(), wait.reason.as_str()), (Some("app"), "CreateContainerError"));
    assert_eq!((wait.message.as_str(), wait.until), ("runtime says no", plan.wake_at));
    assert_eq!(sim.waiting("app"), Some(("CreateContainerError".into(), "runtime says no".into())));
}

#[test]
fn a_failed_pull_shows_its_error_first_and_then_that_it_backs_off() {
    let mut sim = failing(R::ErrImagePull, "not found");
    let plan = sim.settle();
    assert_eq!(sim.waiting("app"), Some(("ErrImagePull".into(), "not found".into())));
    let shown_until = sim.memory.failures["app"].at + SignedDuration::from_secs(5);
    assert_eq!(plan.wake_at, Some(shown_until), "wakes to show the change");
    sim.advance(shown_until);
    let plan = sim.round(usize::MAX);
    let message = r#"Back-off pulling image "img:1": ErrImagePull: not found"#;
    assert_eq!(sim.waiting("app"), Some(("ImagePullBackOff".into(), message.into())));
    assert_eq!(plan.wake_at, Some(sim.memory.failures["app"].retry_at));
    assert_eq!(plan.waits[0].reason, "ImagePullBackOff");
}

#[test]
fn success_ends_the_matter() {
    let mut sim = failing(R::CreateContainerError, "no");
    sim.settle();
    sim.behaviours.clear();
    assert_eq!(sim.run(sim.after(2), |_, _| false).progress, Progress::Settled);
    assert!(sim.memory.failures.is_empty());
    assert_eq!(sim.phase(), "Running");
}

#[test]
fn a_changed_image_is_tried_at_once() {
    let mut sim = failing(R::ErrImagePull, "no");
    sim.settle();
    sim.behaviours.clear();
    sim.edit(|pod| pod.spec.as_mut().unwrap().containers[0].image = Some("img:2".into()));
    assert_eq!(sim.settle().progress, Progress::Settled);
}

#[test]
fn a_failed_sandbox_is_tried_again_and_explains_the_waiting_containers() {
    let mut sim = Sim::new(pod(json!({ "containers": ["app"] })));
    sim.sandbox_fails = Some("cni says no".into());
    let plan = sim.settle();
    assert_eq!(
        (plan.waits[0].container.as_deref(), plan.waits[0].reason.as_str()),
        (None, "FailedCreatePodSandBox")
    );
    assert_eq!(sim.waiting("app"), Some(("ContainerCreating".into(), "cni says no".into())));
    sim.run(sim.after(60), |_, _| false);
    assert!(sim.memory.pod_failure.as_ref().unwrap().attempts > 5);
    sim.sandbox_fails = None;
    assert_eq!(sim.run(sim.after(10), |_, _| false).progress, Progress::Settled);
    assert_eq!(short(&sim.calls), ["run 0", "start app_0"]);
}

#[test]
fn a_dead_sandbox_is_stopped_once_and_not_before_each_attempt_to_replace_it() {
    let mut sim = Sim::started(pod(json!({ "containers": ["app"] })));
    sim.new_calls();
    sim.observed.sandboxes[0].state = kube_model::observed::SandboxState::NotReady;
    sim.sandbox_fails = Some("cni says no".into());
    sim.run(sim.after(30), |_, _| false);
    assert_eq!(short(&sim.calls), ["stop app_0 30", "stopbox 0"]);
    assert!(sim.memory.pod_failure.as_ref().unwrap().attempts > 3, "the delays grow");
}

#[test]
fn a_pod_that_its_node_does_not_take_has_failed_and_never_starts() {
    let mut sim = Sim::new(pod(json!({ "containers": ["app"], "restartPolicy": "Always" })));
    let rejection = Rejection { reason: "OutOfcpu".into(), message: "too much".into() };
    sim.memory.rejection = Some(rejection.clone());
    let plan = sim.settle();
    assert_eq!((plan.progress, sim.new_calls().len()), (Progress::Ended, 0));
    let status = sim.status();
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(status.reason.as_deref(), Some("OutOfcpu"));
    assert_eq!(status.message.as_deref(), Some("Pod was rejected: too much"));
    assert!(
        status.start_time.is_some() && status.conditions.is_none() && status.container_statuses.is_none()
    );
    assert_eq!(Rejection::from_status(&status), Some(rejection), "another run of the agent reads it there");
    sim.remove();
    assert_eq!(sim.settle().progress, Progress::Removed);
}

/// Far more than any pod has: with a search through all of them for each, this takes longer than any test may.
#[test]
fn a_round_of_a_pod_with_very_many_containers_is_one_walk_through_them() {
    let names: Vec<String> = (0..20_000).map(|i| format!("c{i}")).collect();
    let mut sim = Sim::started(pod(json!({ "containers": ["c0"] })));
    let first = sim.observed.containers.remove(0);
    sim.pod = pod(json!({ "containers": names })).into();
    sim.observed.containers = names
        .iter()
        .flat_map(|name| {
            let ran = Container {
                id: format!("{name}_0"),
                name: name.clone(),
                state: ContainerState::Exited,
                ..first.clone()
            };
            let runs =
                Container { id: format!("{name}_1"), name: name.clone(), restart_count: 1, ..first.clone() };
            [ran, runs]
        })
        .collect();
    sim.observed.sort();
    for intent in [Intent::Run, Intent::Remove { since: sim.now, grace_seconds: None }] {
        sim.intent = intent;
        for _ in 0..2 {
            sim.round(0);
        }
    }
    assert_eq!(sim.status().container_statuses.unwrap().len(), names.len());
}
