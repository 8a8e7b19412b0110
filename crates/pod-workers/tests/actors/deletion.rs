//! Deletion of pods that their source keeps until they have ended.

use std::sync::Arc;

use kube_model::view::PodView;

use crate::support::{Fake, World, a_deleted_pod, a_pod, now};

async fn running() -> World {
    World::running([a_pod("u1", "web-node1")]).await
}

fn stops(fake: &Fake) -> Vec<String> {
    fake.calls().into_iter().filter(|call| call.starts_with("stop_container")).collect()
}

fn finished(views: &[Arc<PodView>]) -> bool {
    views.iter().any(|view| view.finished)
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_stays_with_its_final_status_until_its_source_drops_it() {
    let world = running().await;
    let deleted = Arc::new(a_deleted_pod("u1", "web-node1", 7));
    // As the source says it: not by another verb.
    world.workers.set(Arc::clone(&deleted));
    world.until("finished", |views, _| finished(views)).await;
    assert_eq!(
        world.fake.calls()[2..],
        [
            "stop_container c2 7",
            "stop_sandbox s1",
            "remove_container c2",
            "remove_sandbox s1",
            "clean_up u1 Removed",
        ]
    );
    let view = world.workers.views().remove(0);
    assert!(view.removing && view.waits.is_empty() && Arc::ptr_eq(&view.pod, &deleted));
    assert_eq!(view.status.phase.as_deref(), Some("Succeeded"));
    let ended = view.status.container_statuses.clone().unwrap().remove(0).state.unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, ended.container_id.as_deref()), (0, Some("://c2")));

    world.workers.delete(deleted);
    world.relist();
    assert_eq!(world.fake.calls().len(), 7, "a finished pod is left alone");
    world.workers.remove(&"u1".into());
    assert!(world.workers.views().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_shorter_grace_is_taken_over_at_once_and_a_longer_one_is_not() {
    let world = running().await;
    world.state().hang.insert("stop_container");
    let began = now();
    for (grace, stop) in [(60, Some(60)), (90, None), (20, Some(20)), (2, Some(2)), (0, Some(2))] {
        let before = stops(&world.fake).len();
        world.workers.delete(Arc::new(a_deleted_pod("u1", "web-node1", grace)));
        let Some(stop) = stop else { continue };
        world.until("stops with the new grace", |_, fake| stops(fake).len() > before).await;
        assert_eq!(stops(&world.fake)[before..], [format!("stop_container c2 {stop}")]);
    }
    assert_eq!(now(), began, "none of them waited for the one before");
}

#[tokio::test(start_paused = true)]
async fn a_later_grace_counts_from_the_first_deletion() {
    let world = running().await;
    world.state().hang.insert("stop_container");
    world.workers.delete(Arc::new(a_deleted_pod("u1", "web-node1", 60)));
    world.until("it is being stopped", |_, fake| stops(fake).len() == 1).await;
    tokio::time::advance(std::time::Duration::from_secs(10)).await;
    world.workers.delete(Arc::new(a_deleted_pod("u1", "web-node1", 15)));
    world.until("it is being stopped faster", |_, fake| stops(fake).len() == 2).await;
    assert_eq!(stops(&world.fake)[1], "stop_container c2 5");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_comes_deleted_with_nothing_running_is_finished_at_once() {
    let world = World::unlisted(Arc::default());
    world.workers.delete(Arc::new(a_deleted_pod("u1", "web-node1", 30)));
    assert!(!finished(&world.workers.views()), "what the runtime has is not known yet");
    world.relist();
    world.until("finished", |views, _| finished(views)).await;
    assert_eq!(world.fake.calls(), ["clean_up u1 Removed"]);
    assert_eq!(world.workers.views()[0].status.phase.as_deref(), Some("Failed"));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_goes_on_after_a_restart_of_the_agent() {
    let old = running().await;
    old.state().hang.insert("stop_sandbox");
    old.workers.delete(Arc::new(a_deleted_pod("u1", "web-node1", 7)));
    old.until("half-way", |_, fake| fake.calls().contains(&"stop_sandbox s1".to_owned())).await;
    old.workers.shutdown().await;
    old.state().hang.clear();

    let world = World::over(Arc::clone(&old.fake));
    world.workers.set(Arc::new(a_deleted_pod("u1", "web-node1", 7)));
    world.workers.sources_ready();
    world.until("finished", |views, _| finished(views)).await;
    assert_eq!(stops(&world.fake).len(), 1, "what has ended is not stopped again");
    assert_eq!(world.workers.views()[0].status.phase.as_deref(), Some("Succeeded"));
}

#[tokio::test(start_paused = true)]
async fn a_finished_pod_that_is_still_kept_does_not_hold_up_the_next_of_its_name() {
    let world = running().await;
    world.workers.delete(Arc::new(a_deleted_pod("u1", "web-node1", 7)));
    world.workers.set(Arc::new(a_pod("u2", "web-node1")));
    let runs = "start_container u2 app 0".to_owned();
    world.until("the next one runs", |_, fake| fake.calls().contains(&runs)).await;
    let calls = world.fake.calls();
    let at = |call: &str| calls.iter().position(|c| c == call).unwrap();
    assert!(at("clean_up u1 Removed") < at("create_sandbox u2 0"), "{calls:#?}");
    assert_eq!(world.workers.views().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_its_source_drops_half_way_goes_without_staying() {
    let world = running().await;
    world.state().hang.insert("stop_container");
    world.workers.delete(Arc::new(a_deleted_pod("u1", "web-node1", 30)));
    world.until("it is being stopped", |_, fake| !stops(fake).is_empty()).await;
    world.workers.remove(&"u1".into());
    world.state().hang.clear();
    world.workers.delete(Arc::new(a_deleted_pod("u1", "web-node1", 3)));
    world.workers.remove(&"u1".into());
    world.until("gone", |views, _| views.is_empty()).await;
    assert!(world.fake.calls().contains(&"clean_up u1 Removed".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_finished_pod_that_is_wanted_again_starts_anew() {
    let world = running().await;
    world.workers.delete(Arc::new(a_deleted_pod("u1", "web-node1", 7)));
    world.until("finished", |views, _| finished(views)).await;
    world.workers.set(Arc::new(a_pod("u1", "web-node1")));
    world.until_running().await;
    assert!(!finished(&world.workers.views()));
}

/// `kubectl delete --force` takes the object away at once, with or without a graceful deletion before.
#[tokio::test(start_paused = true)]
async fn a_pod_that_was_deleted_by_force_ends_now_and_its_name_is_free() {
    for graceful_before in [false, true] {
        let world = World::new();
        let mut pod = a_deleted_pod("u1", "web-node1", 3600);
        pod.metadata.deletion_timestamp = None;
        pod.spec.as_mut().unwrap().termination_grace_period_seconds = Some(3600);
        world.workers.set(Arc::new(pod));
        world.until_running().await;
        world.state().hang.insert("stop_container c2 3600");
        let began = now();
        if graceful_before {
            world.workers.set(Arc::new(a_deleted_pod("u1", "web-node1", 3600)));
            world.until("it is being stopped", |_, fake| !stops(fake).is_empty()).await;
        }
        world.workers.remove(&"u1".into());
        world.workers.set(Arc::new(a_pod("u2", "web-node1")));
        let runs = "start_container u2 app 0".to_owned();
        world.until("the next one runs", |_, fake| fake.calls().contains(&runs)).await;
        assert_eq!(stops(&world.fake).last().unwrap(), "stop_container c2 2");
        assert_eq!(now(), began, "nothing was waited for");
    }
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_whose_manifest_goes_has_its_own_grace() {
    let world = running().await;
    world.workers.remove(&"u1".into());
    world.until("gone", |views, _| views.is_empty()).await;
    assert_eq!(stops(&world.fake), ["stop_container c2 5"]);
}
