//! Pods that the node takes, and those that it does not.

use std::sync::Arc;

use kube_model::core::Pod;
use kube_model::k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube_model::view::PodView;

use crate::support::{Fake, World, a_pod};

/// A world whose node takes this many pods.
fn world_for(pods: u32) -> World {
    let world = World::new();
    set_node(&world.fake, |node| {
        node.allocatable = [("pods".to_owned(), Quantity(pods.to_string()))].into();
    });
    world
}

fn set_node(fake: &Fake, set: impl Fn(&mut admission::Node)) {
    let mut state = fake.state.lock().unwrap();
    set(&mut state.node);
    set(&mut state.fresh_node);
}

/// A pod of an API server: static ones are critical.
fn common(uid: &str) -> Pod {
    let mut pod = a_pod(uid, uid);
    pod.metadata.annotations = None;
    pod
}

fn phase_of(views: &[Arc<PodView>], uid: &str) -> String {
    let view = views.iter().find(|view| view.pod.metadata.uid.as_deref() == Some(uid)).unwrap();
    view.status.phase.clone().unwrap_or_default()
}

async fn until_phase(world: &World, uid: &str, phase: &str) {
    world.until(&format!("{uid} is {phase}"), |views, _| phase_of(views, uid) == phase).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_beyond_what_the_node_has_fails_for_good_and_another_takes_the_place_of_one_that_left() {
    let world = world_for(1);
    world.workers.set(Arc::new(common("u1")));
    until_phase(&world, "u1", "Running").await;
    world.workers.set(Arc::new(common("u2")));
    until_phase(&world, "u2", "Failed").await;
    assert!(world.counted.take().contains(&"rejected OutOfpods".to_owned()));
    let view =
        world.workers.views().into_iter().find(|v| v.pod.metadata.uid.as_deref() == Some("u2")).unwrap();
    assert_eq!(view.status.reason.as_deref(), Some("OutOfpods"));
    assert_eq!((view.events[0].reason.as_str(), view.events.len()), ("OutOfpods", 1));
    assert!(view.events[0].message.starts_with("Node didn't have enough resource: pods"), "{view:?}");

    world.workers.remove(&"u1".into());
    world.until("u1 is gone", |views, _| views.len() == 1).await;
    world.workers.set(Arc::new(common("u3")));
    until_phase(&world, "u3", "Running").await;
    assert_eq!(phase_of(&world.workers.views(), "u2"), "Failed");
    assert!(!world.fake.calls().iter().any(|call| call.starts_with("create_sandbox u2")));

    world.workers.remove(&"u2".into());
    world.until("u2 is gone", |views, _| views.len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_when_the_agent_starts_is_not_judged_again_but_counts() {
    let world = world_for(1);
    world.workers.set(Arc::new(common("u1")));
    until_phase(&world, "u1", "Running").await;
    let fake = Arc::clone(&world.fake);
    world.workers.shutdown().await;
    set_node(&fake, |node| node.labels = [("disk".to_owned(), "hdd".to_owned())].into());
    let world = World::over(fake);
    // The newcomer first.
    world.workers.set(Arc::new(common("u0")));
    let mut runs = common("u1");
    runs.spec.as_mut().unwrap().node_selector = Some([("disk".to_owned(), "ssd".to_owned())].into());
    world.workers.set(Arc::new(runs));
    until_phase(&world, "u1", "Running").await;
    world.until("all are judged", |views, _| views.iter().all(|v| v.status.phase.is_some())).await;
    // A pod that was rejected once stays so.
    let mut rejected = common("u2");
    rejected.status = Some(kube_model::core::PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some("OutOfcpu".to_owned()),
        message: Some("Pod was rejected: too much".to_owned()),
        ..Default::default()
    });
    world.workers.set(Arc::new(rejected));
    until_phase(&world, "u2", "Failed").await;
    let view =
        world.workers.views().into_iter().find(|v| v.pod.metadata.uid.as_deref() == Some("u2")).unwrap();
    assert!(view.events.is_empty() && view.status.conditions.is_none(), "{view:?}");
}

#[tokio::test(start_paused = true)]
async fn the_node_takes_those_who_came_first_but_waits_for_none_of_whom_nothing_is_heard() {
    let world = world_for(1);
    world.fake.state.lock().unwrap().late.insert("observe u1");
    for uid in ["u1", "u2"] {
        world.workers.set(Arc::new(common(uid)));
    }
    until_phase(&world, "u2", "Failed").await;
    until_phase(&world, "u1", "Running").await;

    let world = world_for(1);
    world.fake.state.lock().unwrap().hang.insert("observe u1");
    for uid in ["u1", "u2"] {
        world.workers.set(Arc::new(common(uid)));
    }
    until_phase(&world, "u2", "Running").await;
}

#[tokio::test(start_paused = true)]
async fn a_label_that_was_given_lately_is_looked_up_before_a_pod_is_rejected_for_want_of_it() {
    let world = World::new();
    let ssd = || std::collections::BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]);
    world.fake.state.lock().unwrap().fresh_node.labels = ssd();
    let mut pod = common("u1");
    pod.spec.as_mut().unwrap().node_selector = Some(ssd());
    world.workers.set(Arc::new(pod.clone()));
    until_phase(&world, "u1", "Running").await;

    pod.metadata.uid = Some("u2".to_owned());
    pod.metadata.name = Some("u2".to_owned());
    pod.spec.as_mut().unwrap().node_selector = Some([("disk".to_owned(), "tape".to_owned())].into());
    world.workers.set(Arc::new(pod));
    until_phase(&world, "u2", "Failed").await;
}
