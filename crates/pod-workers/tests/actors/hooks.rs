//! postStart hooks: nothing is probed or shown as running before they have ended.

use std::sync::Arc;
use std::time::Duration;

use kube_model::core::{Container, Lifecycle, LifecycleHandler, Pod, SleepAction};
use kube_model::view::PodView;

use crate::support::{Fake, World, a_pod};

/// `app` has a hook of 15 s, `other` has none.
fn with_hook() -> Pod {
    let mut pod = a_pod("u1", "web-node1");
    let containers = &mut pod.spec.as_mut().unwrap().containers;
    let sleep = Some(LifecycleHandler { sleep: Some(SleepAction { seconds: 15 }), ..Default::default() });
    containers[0].lifecycle = Some(Lifecycle { post_start: sleep, ..Default::default() });
    containers.push(Container { name: "other".into(), ..containers[0].clone() });
    containers[1].lifecycle = None;
    pod
}

fn waits(view: &PodView, container: usize) -> bool {
    let statuses = view.status.container_statuses.as_ref();
    let state = statuses.and_then(|all| all[container].state.clone());
    state.is_some_and(|state| state.waiting.is_some())
}

/// Tells the workers what the runtime has, as its events do.
fn tell(world: &World) {
    let pod = world.state().pods[&"u1".into()].clone();
    world.workers.runtime_observed(world.workers.clock().mono(), pod);
}

#[tokio::test(start_paused = true)]
async fn a_container_in_its_hook_neither_counts_as_running_nor_is_probed() {
    let world = World::new();
    world.workers.set(Arc::new(with_hook()));
    let created = |_: &[_], fake: &Fake| fake.listed().first().is_some_and(|pod| pod.fingerprint > 0);
    world.until("the hook runs", created).await;
    for _ in 0..14 {
        tell(&world);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let view = &world.workers.views()[0];
        assert_eq!(view.status.phase.as_deref(), Some("Pending"));
        assert!(waits(view, 0) && waits(view, 1));
        assert!(world.probes.probed.lock().unwrap().is_empty());
    }
    world.until_running().await;
    assert_eq!(world.fake.calls()[1..], ["start_container u1 app 0", "start_container u1 other 0"]);
    assert_eq!(world.probes.probed.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hook_whose_end_is_known_is_not_waited_for_longer_than_that() {
    let world = World::new();
    // The second container's image takes for ever.
    world.state().hang.insert("start_container u1 other 0");
    world.workers.set(Arc::new(with_hook()));
    let begun = |_: &[_], fake: &Fake| fake.calls().contains(&"start_container u1 other 0".to_owned());
    world.until("the second one is being started", begun).await;
    tell(&world);
    world
        .until("the first one is shown to run", |views, _| !waits(&views[0], 0) && waits(&views[0], 1))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_runs_a_hook_again_that_it_was_cut_off_in() {
    let world = World::new();
    world.workers.set(Arc::new(with_hook()));
    let created = |_: &[_], fake: &Fake| fake.listed().first().is_some_and(|pod| pod.fingerprint > 0);
    world.until("the hook runs", created).await;
    world.workers.shutdown().await;
    world.state().cut_off.insert("app");

    let again = World::over(Arc::clone(&world.fake));
    again.workers.set(Arc::new(with_hook()));
    again.workers.sources_ready();
    let begun = |_: &[_], fake: &Fake| fake.calls().contains(&"post_start app".to_owned());
    again.until("the hook runs again", begun).await;
    tell(&again);
    tokio::time::sleep(Duration::from_secs(14)).await;
    assert!(waits(&again.workers.views()[0], 0) && again.probes.probed.lock().unwrap().is_empty());
    again.until_running().await;
    assert_eq!(
        again.fake.calls()[1..],
        ["start_container u1 app 0", "post_start app", "start_container u1 other 0",]
    );
}
