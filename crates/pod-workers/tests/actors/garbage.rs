//! What the runtime can neither stop nor remove: the pod ends, its name and UID are free, and one tries on.

use std::sync::Arc;

use crate::support::{Fake, World, a_deleted_pod, a_pod};

/// A pod that runs in a sandbox which the runtime will not remove.
async fn with_a_sandbox_that_stays() -> World {
    let world = World::running([a_pod("u1", "web-node1")]).await;
    world.state().fail.insert("remove_sandbox s1", "device or resource busy");
    world
}

fn has_called(call: &str) -> impl Fn(&[Arc<kube_model::view::PodView>], &Fake) -> bool {
    move |_, fake| fake.calls().iter().any(|c| c == call)
}

fn count(fake: &Fake, call: &str) -> usize {
    fake.calls().iter().filter(|c| *c == call).count()
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_stays_holds_up_neither_the_end_of_its_pod_nor_the_next_of_its_name() {
    let world = with_a_sandbox_that_stays().await;
    world.workers.remove(&"u1".into());
    world.workers.set(Arc::new(a_pod("u2", "web-node1")));
    world.until("the next one runs", has_called("start_container u2 app 0")).await;
    assert_eq!(count(&world.fake, "clean_up u1 Left"), 1);
    // Nor is it an orphan.
    world.relist();
    world.until_running().await;
    assert_eq!(world.workers.views().len(), 1);
    assert_eq!(world.counted.take().iter().filter(|line| *line == "orphaned").count(), 0);

    world.state().fail.clear();
    world.until("it is removed later", has_called("clean_up u1 Forgotten")).await;
    let state = world.state();
    assert_eq!(state.pods.keys().map(|uid| uid.as_str()).collect::<Vec<_>>(), ["u2"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_tried_again_more_and_more_seldom() {
    let world = with_a_sandbox_that_stays().await;
    world.workers.remove(&"u1".into());
    world.until("gone", |views, _| views.is_empty()).await;
    assert_eq!(count(&world.fake, "remove_sandbox s1"), 3);
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    let tries = count(&world.fake, "remove_sandbox s1");
    assert!((10..=25).contains(&tries), "{tries} in an hour");
}

#[tokio::test(start_paused = true)]
async fn the_same_pod_runs_again_beside_what_is_left_of_it() {
    let world = with_a_sandbox_that_stays().await;
    world.workers.remove(&"u1".into());
    world.until("gone", |views, _| views.is_empty()).await;
    world.workers.set(Arc::new(a_pod("u1", "web-node1")));
    world.until_running().await;
    assert_eq!(count(&world.fake, "create_sandbox u1 1"), 1, "{:?}", world.fake.calls());
    world.state().fail.clear();
    // Its own actor collects the old sandbox.
    let one = |_: &[_], fake: &Fake| fake.state().pods[&"u1".into()].sandboxes.len() == 1;
    world.until("the old sandbox is gone", one).await;
    world.until_running().await;
    world.workers.remove(&"u1".into());
    world.until("all is gone", has_called("clean_up u1 Removed")).await;
    assert!(world.state().pods.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_its_source_keeps_is_finished_with_its_last_status() {
    let world = with_a_sandbox_that_stays().await;
    world.workers.set(Arc::new(a_deleted_pod("u1", "web-node1", 5)));
    world.until("finished", |views, _| views[0].finished).await;
    let status = Arc::clone(&world.workers.views()[0].status);
    assert_eq!(status.phase.as_deref(), Some("Succeeded"));
    world.workers.remove(&"u1".into());
    world.relist();
    assert!(world.workers.views().is_empty(), "what is left is no pod");
}

#[tokio::test(start_paused = true)]
async fn an_orphan_that_cannot_be_removed_is_left_to_itself_too() {
    let world = with_a_sandbox_that_stays().await;
    let again = world.restarted().await;
    again.workers.set(Arc::new(a_pod("u2", "web-node1")));
    again.workers.sources_ready();
    again.until("the next one runs", has_called("start_container u2 app 0")).await;
    again.state().fail.clear();
    again.until("it is removed later", has_called("clean_up u1 Forgotten")).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_fails_pauses_tells_and_ends_the_grace() {
    let world = World::running([a_pod("u1", "web-node1")]).await;
    {
        let mut state = world.state();
        state.fail.insert("stop_container", "unknown error after kill");
        state.since = Some(crate::support::now());
    }
    let mut pod = a_pod("u1", "web-node1");
    pod.spec.as_mut().unwrap().termination_grace_period_seconds = Some(600);
    world.workers.set(Arc::new(pod));
    world.workers.remove(&"u1".into());
    world.until("it has no more grace", |_, fake| fake.calls().iter().any(|c| c.ends_with("c2 2"))).await;
    let stops: Vec<_> = world.fake.calls().into_iter().filter(|c| c.contains("stop_container")).collect();
    let [first, second, third, last] = stops.as_slice() else { panic!("{stops:?}") };
    assert_eq!(first, "0 stop_container c2 600");
    assert!(
        second.starts_with("1 ") && third.starts_with("3 ") && last == "7 stop_container c2 2",
        "{stops:?}"
    );
    let views = world.workers.views();
    let event = views[0].events.iter().find(|event| event.reason == "FailedKillPod").unwrap();
    assert_eq!(event.message, "error killing pod: unknown error after kill");
}
