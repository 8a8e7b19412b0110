//! Somebody sets the wall clock while a pod waits: the wait takes as long as it should.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Fake, World, a_pod, now, set_clock};

/// Seconds by which the clock is set, one after the other, each pair within one wait.
const STEPS: [[i64; 2]; 6] =
    [[-600, 0], [-3600, 0], [-31_536_000, 0], [600, 0], [3600, -3600], [31_536_000, -32_000_000]];

/// What a wait takes in seconds during which the clock is set twice.
async fn through(steps: [i64; 2], world: &World, what: &str, over: impl Fn(&Fake) -> bool) -> u64 {
    let began = tokio::time::Instant::now();
    for step in steps {
        tokio::time::sleep(Duration::from_secs(1)).await;
        set_clock(step);
        // Whatever makes the actor look anew while it waits.
        world.workers.wake(&"u1".into());
        world.relist();
    }
    world.until(what, |_, fake| over(fake)).await;
    began.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_stretches_and_shortens_no_crash_back_off() {
    for steps in STEPS {
        let world = World::running([a_pod("u1", "web-node1")]).await;
        let last = |fake: &Fake| fake.state().pods[&"u1".into()].containers[0].clone();
        for (count, delay) in [(1, 0), (2, 10), (3, 20), (4, 40)] {
            world.fake.exit(&last(&world.fake).id, 1);
            world.relist();
            let restarted = format!("start_container u1 app {count}");
            let steps = if delay > 0 { steps } else { [0, 0] };
            let took = through(steps, &world, &restarted, |f| f.calls().contains(&restarted)).await;
            assert!((delay..=delay + 3).contains(&took), "{steps:?}: restart {count} after {took} s");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_shown_goes_with_the_clock() {
    let world = World::running([a_pod("u1", "web-node1")]).await;
    for count in 0..2 {
        let id = world.state().pods[&"u1".into()].containers[0].id.clone();
        world.fake.exit(&id, 1);
        world.relist();
        if count == 0 {
            let restarted = "start_container u1 app 1".to_owned();
            world.until("restarted", |_, fake| fake.calls().contains(&restarted)).await;
        }
    }
    let backs_off = |w: &kube_model::view::Wait| w.reason == "CrashLoopBackOff";
    world.until("waits", |views, _| views[0].waits.iter().any(backs_off)).await;
    let left = || {
        let views = world.workers.views();
        views[0].waits[0].until.unwrap().duration_since(now()).as_secs()
    };
    let before = left();
    for step in [-600, 3600] {
        set_clock(step);
        assert_eq!(left(), before, "after {step}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_stretches_and_shortens_no_retry() {
    for steps in STEPS {
        let world = World::new();
        world.state().fail.insert("start_container", "no");
        world.workers.set(Arc::new(a_pod("u1", "web-node1")));
        for count in [5, 6, 7] {
            // 10 s between them by then.
            let tries = |fake: &Fake| fake.calls().iter().filter(|c| c.starts_with("start_")).count();
            world.until("tried", |_, fake| tries(fake) == count).await;
            let took = through(steps, &world, "tried again", |fake| tries(fake) > count).await;
            assert!((7..=11).contains(&took), "{steps:?}: try {count} after {took} s");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_stretches_and_shortens_no_pull_back_off() {
    for steps in STEPS {
        let world = World::new();
        world.state().pull_after = Some(Duration::from_secs(40));
        world.workers.set(Arc::new(a_pod("u1", "web-node1")));
        let tries = |fake: &Fake| fake.calls().iter().filter(|c| c.starts_with("start_")).count();
        for count in [1, 2] {
            world.until("tried", |_, fake| tries(fake) == count).await;
            let shown = || world.workers.views()[0].waits[0].until.unwrap().duration_since(now()).as_secs();
            world.until("waits", |views, _| !views[0].waits.is_empty()).await;
            assert!((38..=40).contains(&shown()), "{steps:?}: {}", shown());
            let took = through(steps, &world, "tried again", |fake| tries(fake) > count).await;
            assert!((38..=41).contains(&took), "{steps:?}: try {count} after {took} s");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_leaves_a_stop_that_is_tried_again_what_is_left_of_its_grace() {
    for step in [-600, -3600, -31_536_000, 600, 3600, 31_536_000] {
        let world = World::new();
        let mut pod = a_pod("u1", "web-node1");
        pod.spec.as_mut().unwrap().termination_grace_period_seconds = Some(30);
        world.workers.set(Arc::new(pod));
        world.until_running().await;
        world.state().fail.insert("stop_container", "no");
        world.workers.remove(&"u1".into());
        let stops = |fake: &Fake| {
            let calls = fake.calls().into_iter().filter(|c| c.starts_with("stop_container"));
            calls.map(|c| c.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).collect::<Vec<_>>()
        };
        world.until("stopped", |_, fake| !stops(fake).is_empty()).await;
        set_clock(step);
        world.until("stopped again", |_, fake| stops(fake).len() == 3).await;
        assert_eq!(stops(&world.fake), [30, 29, 27], "after {step}");
    }
}
