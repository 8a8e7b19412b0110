//! Pods that the node takes, and those that it does not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube_model::core::Pod;
use kube_model::k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube_model::view::PodView;

use crate::support::{Fake, World, a_deleted_pod, a_pod, now};

/// A world whose node takes this many pods.
fn world_for(pods: u32) -> World {
    let world = World::new();
    set_node(&world.fake, |node| {
        node.allocatable = [("pods".to_owned(), Quantity(pods.to_string()))].into();
    });
    world
}

fn set_node(fake: &Fake, set: impl Fn(&mut admission::Node)) {
    set(&mut fake.state().node);
}

fn view_of(world: &World, uid: &str) -> Arc<PodView> {
    let is = |view: &Arc<PodView>| view.pod.metadata.uid.as_deref() == Some(uid);
    world.workers.views().into_iter().find(is).unwrap()
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
    let view = view_of(&world, "u2");
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
async fn what_runs_when_the_agent_starts_is_not_asked_for_again_but_counts() {
    let world = world_for(1);
    world.workers.set(Arc::new(common("u1")));
    until_phase(&world, "u1", "Running").await;
    let fake = Arc::clone(&world.fake);
    world.workers.shutdown().await;
    set_node(&fake, |node| node.labels = [("disk".to_owned(), "hdd".to_owned())].into());
    let world = World::unlisted(fake);
    assert_eq!(world.workers.active_pods(), None, "what runs is not known yet");
    world.relist();
    // The newcomer first.
    world.workers.set(Arc::new(common("u0")));
    let mut runs = common("u1");
    runs.spec.as_mut().unwrap().node_selector = Some([("disk".to_owned(), "ssd".to_owned())].into());
    world.workers.set(Arc::new(runs));
    until_phase(&world, "u1", "Running").await;
    world.until("all are decided", |views, _| views.iter().all(|v| v.status.phase.is_some())).await;
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
    let view = view_of(&world, "u2");
    assert!(view.events.is_empty() && view.status.conditions.is_none(), "{view:?}");
    assert_eq!(world.workers.active_pods().unwrap().into_keys().collect::<Vec<_>>(), ["u1".into()]);
}

#[tokio::test(start_paused = true)]
async fn the_node_takes_those_who_came_first_but_waits_for_none_of_whom_nothing_is_heard() {
    let world = world_for(1);
    world.state().late.insert("observe u1");
    for uid in ["u1", "u2"] {
        world.workers.set(Arc::new(common(uid)));
    }
    until_phase(&world, "u2", "Failed").await;
    until_phase(&world, "u1", "Running").await;

    let world = world_for(1);
    world.state().hang.insert("observe u1");
    for uid in ["u1", "u2"] {
        world.workers.set(Arc::new(common(uid)));
    }
    until_phase(&world, "u2", "Running").await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_holds_up_only_its_own_pod_and_those_to_whom_it_matters() {
    let world = world_for(2);
    world.state().admission_takes.insert("u1", Duration::from_secs(30));
    let began = now();
    for uid in ["u1", "u2", "u3"] {
        world.workers.set(Arc::new(common(uid)));
    }
    // There is room for two: the second is taken whatever becomes of the first, and the third is not known of.
    until_phase(&world, "u2", "Running").await;
    assert!(now().duration_since(began).as_secs() < 1);
    let waits = |view: &Arc<PodView>| {
        view.doing.as_ref().is_some_and(|doing| doing.what == "waiting to be admitted by the node")
    };
    let two_wait = |views: &[Arc<PodView>], _: &Fake| views.iter().filter(|view| waits(view)).count() == 2;
    world.until("the others say that they wait", two_wait).await;
    until_phase(&world, "u3", "Failed").await;
    assert_eq!(now().duration_since(began).as_secs(), 30);
    until_phase(&world, "u1", "Running").await;
    assert_eq!(view_of(&world, "u3").status.reason.as_deref(), Some("OutOfpods"));
    let state = world.state();
    assert_eq!(
        state.admissions,
        ["u1 beside ", "u2 beside u1", "u3 beside u1 u2", "u3 beside u1 u2"],
        "in the order in which they came"
    );
    assert_eq!(state.allocated, BTreeSet::from(["u1".into(), "u2".into()]));
}

#[tokio::test(start_paused = true)]
async fn who_was_turned_away_for_a_pod_that_is_turned_away_itself_is_taken() {
    let world = world_for(1);
    world.state().admission_takes.insert("u1", Duration::from_secs(30));
    let mut picky = common("u1");
    picky.spec.as_mut().unwrap().node_selector = Some([("disk".to_owned(), "tape".to_owned())].into());
    world.workers.set(Arc::new(picky));
    for uid in ["u2", "u3"] {
        world.workers.set(Arc::new(common(uid)));
    }
    until_phase(&world, "u1", "Failed").await;
    until_phase(&world, "u2", "Running").await;
    until_phase(&world, "u3", "Failed").await;
}

/// A node that is asked slowly and takes none of them: nobody waits for another's answer, nor is asked for twice.
#[tokio::test(start_paused = true)]
async fn who_is_turned_away_for_nobody_elses_sake_waits_for_nobody() {
    let world = world_for(9);
    let began = now();
    for uid in ["u1", "u2", "u3", "u4"] {
        world.state().admission_takes.insert(uid, Duration::from_secs(5));
        let mut picky = common(uid);
        picky.spec.as_mut().unwrap().node_selector = Some([("disk".to_owned(), "tape".to_owned())].into());
        world.workers.set(Arc::new(picky));
    }
    for uid in ["u1", "u2", "u3", "u4"] {
        until_phase(&world, uid, "Failed").await;
    }
    assert_eq!(now().duration_since(began).as_secs(), 5);
    assert_eq!(world.state().admissions.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_answer_never_comes_can_be_removed_and_then_its_place_is_free() {
    for deleted in [false, true] {
        let world = world_for(2);
        world.state().admission_takes.insert("u1", Duration::MAX);
        for uid in ["u1", "u2", "u3"] {
            world.workers.set(Arc::new(common(uid)));
        }
        until_phase(&world, "u2", "Running").await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(view_of(&world, "u3").status.phase, None, "it may be taken yet");
        match deleted {
            true => world.workers.set(Arc::new(a_deleted_pod("u1", "u1", 30))),
            false => world.workers.remove(&"u1".into()),
        }
        until_phase(&world, "u3", "Running").await;
        let started = |call: &String| call.contains(" u1 ") && !call.starts_with("clean_up");
        assert!(!world.fake.calls().iter().any(started), "{:#?}", world.fake.calls());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_pod_was_given_is_taken_back_when_it_ends_and_when_it_goes() {
    let world = World::new();
    let mut ends = common("u1");
    ends.spec.as_mut().unwrap().restart_policy = Some("Never".to_owned());
    world.workers.set(Arc::new(ends));
    world.workers.set(Arc::new(common("u2")));
    world.until_running().await;
    let allocated = |fake: &Fake| fake.state().allocated.clone();
    assert_eq!(allocated(&world.fake), BTreeSet::from(["u1".into(), "u2".into()]));
    let container = world.state().pods[&"u1".into()].containers[0].id.clone();
    world.fake.exit(&container, 0);
    world.relist();
    world.until("u1 gave it back", |_, fake| allocated(fake) == BTreeSet::from(["u2".into()])).await;
    world.workers.remove(&"u2".into());
    world.until("u2 gave it back", |_, fake| allocated(fake).is_empty()).await;
    assert_eq!(phase_of(&world.workers.views(), "u1"), "Succeeded");
}
