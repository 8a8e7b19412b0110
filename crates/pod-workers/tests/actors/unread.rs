//! A runtime that lists a sandbox or container and fails to tell its status, each time.

use std::sync::Arc;

use crate::support::{Fake, World, a_pod};

/// A pod that runs, with these not telling their status from now on, and a new agent that never read them.
async fn never_read(ids: [&'static str; 1]) -> World {
    let world = World::running([a_pod("u1", "web-node1")]).await;
    world.workers.shutdown().await;
    world.state().unreadable.extend(ids);
    let again = World::over(Arc::clone(&world.fake));
    again.workers.set(Arc::new(a_pod("u1", "web-node1")));
    again.workers.sources_ready();
    again
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_cannot_be_read_keeps_what_runs_and_is_removed_by_what_the_lists_tell() {
    for id in ["s1", "c2"] {
        let world = never_read([id]).await;
        let before = world.fake.calls();
        world
            .until("it says why it waits", |views, _| {
                let why = "what runs is kept, but the runtime cannot tell how it is: device or resource busy";
                views[0].waits.iter().any(|w| w.reason == "RuntimeError" && w.message == why)
            })
            .await;
        assert_eq!(world.fake.calls(), before, "{id}");
        world.workers.remove(&"u1".into());
        world.until("gone", |views, _| views.is_empty()).await;
        let steps = ["stop_container c2 5", "stop_sandbox s1", "remove_container c2", "remove_sandbox s1"];
        assert_eq!(world.fake.calls()[before.len()..][..4], steps, "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_was_read_before_need_not_tell_its_status_again() {
    let world = World::running([a_pod("u1", "web-node1")]).await;
    world.state().unreadable.insert("s1");
    world.fake.exit("c2", 1);
    world.relist();
    let restarted = |_: &[_], fake: &Fake| fake.calls().iter().any(|c| c == "start_container u1 app 1");
    world.until("restarted", restarted).await;
    world.until_running().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_does_not_tell_how_it_ended_is_not_started_again() {
    let world = World::running([a_pod("u1", "web-node1")]).await;
    let before = world.fake.calls();
    world.state().unreadable.insert("c2");
    world.fake.exit("c2", 1);
    world.relist();
    world.until("it waits", |views, _| views[0].waits.iter().any(|w| w.reason == "RuntimeError")).await;
    assert_eq!(world.fake.calls(), before);
    world.state().unreadable.clear();
    let restarted = |_: &[_], fake: &Fake| fake.calls().iter().any(|c| c == "start_container u1 app 1");
    world.until("restarted", restarted).await;
}
