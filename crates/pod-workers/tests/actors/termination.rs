//! The end of a pod with sidecars: hooks, turns and the one grace period for all of them.

use std::sync::Arc;

use kube_model::core::{Container, Lifecycle, LifecycleHandler, Pod, SleepAction};

use crate::support::{World, a_pod, now};

/// `main` and the sidecars `s1` and `s2`; a hook's length in seconds each, 0 for none.
fn with_sidecars(grace_seconds: i64, hooks: [(&str, i64); 3]) -> Pod {
    let mut pod = a_pod("u1", "web-node1");
    let spec = pod.spec.as_mut().unwrap();
    spec.termination_grace_period_seconds = Some(grace_seconds);
    let [main, sidecars @ ..] = hooks.map(|(name, seconds)| {
        let sleep = Some(LifecycleHandler { sleep: Some(SleepAction { seconds }), ..Default::default() });
        Container {
            name: name.into(),
            image: Some("busybox:1".into()),
            lifecycle: (seconds > 0).then(|| Lifecycle { pre_stop: sleep, ..Default::default() }),
            restart_policy: (name != "main").then(|| "Always".into()),
            ..Default::default()
        }
    });
    spec.containers = vec![main];
    spec.init_containers = Some(sidecars.into());
    pod
}

/// The steps of the pod's end, each with the seconds since it was removed. The Nth container gets the ID `c<N+1>`.
async fn end(pod: Pod, ignores: &[&'static str]) -> Vec<String> {
    let world = World::new();
    world.workers.set(Arc::new(pod));
    world
        .until("all run", |_, fake| fake.calls().iter().any(|c| c.starts_with("start_container u1 main")))
        .await;
    world.until_running().await;
    {
        let mut state = world.state();
        state.ignore_sigterm.extend(ignores);
        state.calls.clear();
        state.since = Some(now());
    }
    world.workers.remove(&"u1".into());
    world.until("gone", |views, _| views.is_empty()).await;
    let steps = world.fake.calls().into_iter();
    steps.filter(|c| c.contains("pre_stop") || c.contains("stop_")).collect()
}

#[tokio::test(start_paused = true)]
async fn hooks_run_side_by_side_and_only_signals_wait_for_their_turn() {
    let pod = with_sidecars(20, [("main", 0), ("s1", 4), ("s2", 6)]);
    // `main` is c4 and takes what it is given.
    let steps = end(pod, &["c4"]).await;
    assert_eq!(
        steps,
        [
            "0 stop_container c4 20",
            "0 pre_stop s2",
            "0 pre_stop s1",
            "20 stop_container c3 0",
            "20 stop_container c2 0",
            "20 stop_sandbox s1",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_goes_when_those_before_it_have_ended() {
    let pod = with_sidecars(20, [("main", 3), ("s1", 1), ("s2", 5)]);
    assert_eq!(
        end(pod, &[]).await,
        [
            "0 pre_stop main",
            "0 pre_stop s2",
            "0 pre_stop s1",
            "3 stop_container c4 17",
            "5 stop_container c3 15",
            "5 stop_container c2 15",
            "5 stop_sandbox s1",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_time_is_one_for_all() {
    let pod = with_sidecars(6, [("main", 0), ("s1", 0), ("s2", 0)]);
    let steps = end(pod, &["c2", "c3"]).await;
    assert_eq!(
        steps,
        ["0 stop_container c4 6", "0 stop_container c3 6", "6 stop_container c2 0", "8 stop_sandbox s1"]
    );
}
