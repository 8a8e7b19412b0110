//! What the workers give to count.

use std::sync::Arc;
use std::time::Duration;

use pod_workers::{Lifecycle, Wanted, Working};

use crate::support::{Fake, World, a_deleted_pod, a_pod};

fn working(world: &World) -> Vec<(Lifecycle, Wanted, bool, usize)> {
    let line = |(w, count): (Working, usize)| (w.lifecycle, w.wanted, w.is_static, count);
    world.workers.working().into_iter().map(line).collect()
}

#[tokio::test(start_paused = true)]
async fn starts_and_ends_are_counted_once() {
    let world = World::unlisted(Arc::default());
    world.workers.set(Arc::new(a_pod("u1", "web-node1")));
    tokio::time::sleep(Duration::from_secs(7)).await;
    world.relist();
    world.until_running().await;
    assert_eq!(world.counted.take(), ["started u1 7", "runs 7"]);
    world.fake.exit("c2", 3);
    world.relist();
    world.until("restarted", |_, fake| fake.calls().contains(&"start_container u1 app 1".to_owned())).await;
    assert_eq!(world.counted.take(), ["ended Some(Regular) app 3"]);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_agent_started_is_not_counted_as_a_start() {
    let first = World::running([a_pod("u1", "web-node1")]).await;
    let second = World::over(Arc::clone(&first.fake));
    second.workers.set(Arc::new(a_pod("u1", "web-node1")));
    second.until_running().await;
    assert_eq!(second.counted.take(), ["started u1 0"]);
}

#[tokio::test(start_paused = true)]
async fn orphans_and_pods_that_come_back_are_counted() {
    let first = World::running([a_pod("u1", "web-node1")]).await;
    let world = World::over(Arc::clone(&first.fake));
    drop(first);
    world.state().hang.insert("stop_container");
    world.workers.sources_ready();
    assert_eq!(world.counted.take(), ["orphaned"]);
    assert_eq!(working(&world), [(Lifecycle::Terminating, Wanted::RuntimeOnly, true, 1)]);

    let world = World::over(Arc::<Fake>::default());
    world.workers.set(Arc::new(a_pod("u1", "web-node1")));
    assert_eq!(working(&world), [(Lifecycle::Sync, Wanted::Desired, true, 1)]);
    world.until_running().await;
    world.counted.take();
    world.workers.remove(&"u1".into());
    assert_eq!(working(&world), [(Lifecycle::Terminating, Wanted::Orphan, true, 1)]);
    world.workers.set(Arc::new(a_pod("u1", "web-node1")));
    assert_eq!(working(&world), [(Lifecycle::Terminating, Wanted::Desired, true, 1)]);
    world
        .until("anew", |_, fake| fake.calls().iter().filter(|c| c.starts_with("create_sandbox")).count() > 1)
        .await;
    world.until_running().await;
    assert!(world.counted.take().contains(&"restarted u1".to_owned()));
    world.workers.delete(Arc::new(a_deleted_pod("u1", "web-node1", 1)));
    assert_eq!(working(&world), [(Lifecycle::Terminating, Wanted::Desired, true, 1)]);
    world.until("finished", |views, _| views.iter().all(|view| view.finished)).await;
    assert_eq!(working(&world), [(Lifecycle::Terminated, Wanted::Desired, true, 1)]);
}
