//! The actors against a scripted runtime, on a paused clock.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "actors/admission.rs"]
mod admitted;
#[path = "actors/clock.rs"]
mod clock;
#[path = "actors/counting.rs"]
mod counting;
#[path = "actors/deletion.rs"]
mod deletion;
#[path = "actors/garbage.rs"]
mod garbage;
#[path = "actors/hooks.rs"]
mod hooks;
#[path = "actors/lifecycle.rs"]
mod lifecycle;
mod support;
#[path = "actors/termination.rs"]
mod termination;
#[path = "actors/unread.rs"]
mod unread;

use std::sync::Arc;
use std::time::Duration;

use kube_model::view::EventType;
use pod_workers::{NodeState, RuntimeDown};
use support::{Fake, World, a_pod, now};

#[tokio::test(start_paused = true)]
async fn a_pod_is_started_and_removed_with_nothing_left() {
    let world = World::running([a_pod("u1", "web-node1")]).await;
    world.workers.remove(&"u1".into());
    world.until("gone", |views, _| views.is_empty()).await;
    assert_eq!(
        world.fake.calls(),
        [
            "create_sandbox u1 0",
            "start_container u1 app 0",
            "stop_container c2 5",
            "stop_sandbox s1",
            "remove_container c2",
            "remove_sandbox s1",
            "clean_up u1 Removed",
        ]
    );
    assert!(world.probes.calls.lock().unwrap().contains(&"remove u1".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn an_event_is_shown_and_is_no_change_of_a_status() {
    let world = World::new();
    let (mut all, mut statuses) = (world.workers.changes(), world.workers.status_changes());
    world.workers.set(Arc::new(a_pod("u1", "web-node1")));
    world.until_running().await;
    assert!(statuses.has_changed().unwrap());
    all.mark_unchanged();
    statuses.mark_unchanged();
    world.workers.event(&"u1".into(), None, EventType::Warning, "FailedSync", "no".to_owned());
    assert!(all.has_changed().unwrap() && !statuses.has_changed().unwrap());
    world.workers.remove(&"u1".into());
    statuses.changed().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_running_pod_is_adopted_without_a_single_step() {
    let world = World::running([a_pod("u1", "web-node1")]).await;
    world.workers.shutdown().await;
    let before = world.fake.calls();

    let again = World::over(Arc::clone(&world.fake));
    again.workers.set(Arc::new(a_pod("u1", "web-node1")));
    again.workers.sources_ready();
    again.until_running().await;
    assert_eq!(again.fake.calls(), before);
}

#[tokio::test(start_paused = true)]
async fn outcomes_of_probes_are_restored_once_for_a_pod_that_has_run() {
    let probed = |uid: &str| {
        let mut pod = a_pod(uid, uid);
        pod.spec.as_mut().unwrap().containers[0].readiness_probe = Some(Default::default());
        Arc::new(pod)
    };
    let world = World::new();
    world.workers.set(probed("u1"));
    world.workers.set(Arc::new(a_pod("u2", "u2")));
    world.until_running().await;
    world.workers.shutdown().await;
    assert_eq!(world.probes.calls.lock().unwrap()[..], [""; 0], "nothing had run");

    let again = World::over(Arc::clone(&world.fake));
    again.workers.set(probed("u1"));
    again.workers.set(Arc::new(a_pod("u2", "u2")));
    again.until_running().await;
    again.workers.set(probed("u1"));
    again.fake.exit("c2", 1);
    again.relist();
    again.until("restarted", |_, fake| fake.calls().iter().any(|call| call.ends_with("app 1"))).await;
    assert_eq!(again.probes.calls.lock().unwrap()[..], ["restore u1"]);
    again.workers.shutdown().await;

    // A disk that does not answer holds up that pod, and none that comes later.
    let stuck = World::over(Arc::clone(&world.fake));
    stuck.probes.restore_hangs.lock().unwrap().insert("u1".into());
    stuck.workers.set(probed("u1"));
    stuck.workers.set(Arc::new(a_pod("u3", "u3")));
    stuck.until("u3 runs", |_, fake| fake.calls().contains(&"start_container u3 app 0".to_owned())).await;
    assert_eq!(stuck.probes.calls.lock().unwrap()[..], ["restore u1"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_read_already_is_adopted_without_asking_the_runtime() {
    let world = World::running([a_pod("u1", "web-node1")]).await;
    world.workers.shutdown().await;
    world.state().calls.clear();

    let again = World::over(Arc::clone(&world.fake));
    let pod = again.state().pods[&"u1".into()].clone();
    again.workers.runtime_observed(again.workers.clock().mono(), pod);
    again.workers.set(Arc::new(a_pod("u1", "web-node1")));
    again.until_running().await;
    assert!(again.state().calls.is_empty());
    again.fake.exit("c2", 1);
    again.relist();
    let restarted = |_: &[_], fake: &Fake| fake.calls().contains(&"start_container u1 app 1".to_owned());
    again.until("restarted", restarted).await;
}

#[tokio::test(start_paused = true)]
async fn a_crashed_container_restarts_after_its_back_off_and_a_lost_event_only_costs_time() {
    let world = World::running([a_pod("u1", "web-node1")]).await;
    let crashed = now();
    world.fake.exit("c2", 1);
    world.relist();
    let restarted = |_: &[_], fake: &Fake| fake.calls().contains(&"start_container u1 app 1".to_owned());
    world.until("restarted", restarted).await;
    assert!(now().duration_since(crashed).as_secs() <= 10);
}

#[tokio::test(start_paused = true)]
async fn orphaned_pods_of_ours_are_removed_and_foreign_ones_are_not() {
    let world = World::running([a_pod("u1", "old-node1"), a_pod("u2", "foreign")]).await;
    world.workers.shutdown().await;
    for sandbox in &mut world.state().pods.get_mut(&"u2".into()).unwrap().sandboxes {
        sandbox.config_source = None;
    }

    let again = World::over(Arc::clone(&world.fake));
    assert!(again.workers.views().is_empty(), "no source has spoken yet, so nothing may be removed");
    again.workers.sources_ready();
    again.until("the orphan is gone", |v, f| v.is_empty() && f.listed().len() == 1).await;
    assert_eq!(again.fake.listed()[0].uid.as_str(), "u2");
    let stops: Vec<_> = again.fake.calls().into_iter().filter(|c| c.starts_with("stop_container")).collect();
    assert_eq!(stops.len(), 1);
    assert!(stops[0].ends_with(" 2"), "an orphan gets two seconds: {stops:?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_pod_of_the_same_name_waits_for_the_old_one() {
    let world = World::running([a_pod("u1", "web-node1")]).await;
    world.state().hang.insert("stop_container");
    world.workers.remove(&"u1".into());
    world.workers.set(Arc::new(a_pod("u2", "web-node1")));
    world
        .until("waiting", |views, _| {
            views.iter().any(|v| v.waits.iter().any(|w| w.reason == "EarlierPodTerminating"))
        })
        .await;
    assert!(!world.fake.calls().iter().any(|c| c.starts_with("create_sandbox u2")));
}

/// The manifest was changed while the agent was down. Which of the three it hears first is chance.
#[tokio::test(start_paused = true)]
async fn an_orphan_goes_before_the_new_pod_of_its_name_comes() {
    for (first, second, third) in
        [("set", "ready", "list"), ("set", "list", "ready"), ("list", "set", "ready")]
    {
        let old = World::running([a_pod("u2", "web-node1")]).await;
        old.workers.shutdown().await;
        old.state().calls.clear();

        let world = World::unlisted(Arc::clone(&old.fake));
        for step in [first, second, third] {
            match step {
                "set" => world.workers.set(Arc::new(a_pod("u1", "web-node1"))),
                "list" => world.relist(),
                _ => world.workers.sources_ready(),
            }
        }
        world
            .until("replaced", |v, f| v.len() == 1 && f.calls().contains(&"start_container u1 app 0".into()))
            .await;
        let calls = world.fake.calls();
        let at = |call: &str| calls.iter().position(|c| c == call).unwrap();
        assert!(
            at("clean_up u2 Removed") < at("create_sandbox u1 0"),
            "{first}, {second}, {third}: {calls:#?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_wanted_again_while_it_goes_starts_anew_afterwards() {
    let world = World::running([a_pod("u1", "web-node1")]).await;
    world.workers.remove(&"u1".into());
    world.workers.set(Arc::new(a_pod("u1", "web-node1")));
    world
        .until("started anew", |_, f| {
            f.calls().iter().filter(|c| *c == "start_container u1 app 0").count() == 2
        })
        .await;
    assert!(world.fake.calls().contains(&"clean_up u1 Removed".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_hung_call_parks_its_own_pod_only_and_removal_gets_through() {
    let world = World::new();
    world.state().hang.insert("start_container");
    world.workers.set(Arc::new(a_pod("u1", "stuck-node1")));
    world
        .until("stuck, and says so", |views, _| {
            views.iter().any(|v| v.doing.as_ref().is_some_and(|d| d.what.contains("creating")))
        })
        .await;
    world.state().hang.clear();
    world.workers.set(Arc::new(a_pod("u2", "fine-node1")));
    world
        .until("the other runs", |views, _| {
            views.iter().any(|v| v.status.phase.as_deref() == Some("Running"))
        })
        .await;
    world.workers.remove(&"u1".into());
    world.until("the stuck one is gone", |views, _| views.len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_question_that_hangs_is_shown() {
    let world = World::new();
    world.state().hang.insert("observe");
    world.workers.set(Arc::new(a_pod("u1", "stuck-node1")));
    let asks = "asking the runtime about the pod";
    world
        .until("it says what it does", |v, _| {
            v.iter().any(|v| v.doing.as_ref().is_some_and(|d| d.what == asks))
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_step_is_tried_again_with_growing_pauses_and_its_words_are_shown() {
    let world = World::new();
    world.state().fail.insert("create_sandbox", "no space left on device");
    world.workers.set(Arc::new(a_pod("u1", "web-node1")));
    world
        .until("shown", |views, _| {
            views
                .iter()
                .flat_map(|v| &v.waits)
                .any(|w| w.message.contains("no space left on device") && w.until.is_some())
        })
        .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let tries = world.fake.calls().len();
    assert!((4..=30).contains(&tries), "{tries} tries in a minute");
    world.state().fail.clear();
    world.until_running().await;
}

#[tokio::test(start_paused = true)]
async fn while_the_runtime_is_down_nothing_is_tried_and_the_reason_is_shown() {
    let world = World::new();
    world.node.send_modify(|n| {
        let down = RuntimeDown {
            message: "unix:///x: connection refused".into(),
            since: world.workers.clock().mono(),
        };
        *n = Arc::new(NodeState { runtime_down: Some(down), ..NodeState::default() });
    });
    world.workers.set(Arc::new(a_pod("u1", "web-node1")));
    world
        .until("shown", |views, _| {
            views.iter().flat_map(|v| &v.waits).any(|w| w.message.contains("connection refused"))
        })
        .await;
    assert!(world.state().calls.is_empty());
    world.node.send_replace(Arc::default());
    world.until_running().await;
}

#[tokio::test(start_paused = true)]
async fn with_no_runtime_from_the_start_pods_wait_for_it() {
    let world = World::unlisted(Arc::default());
    let down = RuntimeDown { message: "nobody listens".into(), since: world.workers.clock().mono() };
    world.node.send_replace(Arc::new(NodeState { runtime_down: Some(down), ..NodeState::default() }));
    world.workers.set(Arc::new(a_pod("u1", "web-node1")));
    let waits = world.workers.views()[0].waits.clone();
    assert_eq!((waits[0].reason.as_str(), waits[0].message.as_str()), ("RuntimeNotReady", "nobody listens"));
    assert_eq!(waits[0].since, Some(now()));

    world.node.send_replace(Arc::default());
    assert!(
        world.workers.views()[0].waits[0].message.contains("has not listed"),
        "it hangs in its first list"
    );
    world.relist();
    world.until_running().await;
    assert_eq!(world.workers.views()[0].waits, []);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_one_actor_ends_neither_the_agent_nor_the_pod() {
    let world = World::new();
    world.state().panic_once = true;
    world.workers.set(Arc::new(a_pod("u1", "web-node1")));
    world.until_running().await;
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_lies_about_success_is_not_asked_in_a_tight_loop() {
    let world = World::running([a_pod("u1", "web-node1")]).await;
    // Each stop "succeeds", yet the container runs on.
    world.state().lie = true;
    world.workers.remove(&"u1".into());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let stops = world.fake.calls().iter().filter(|c| c.starts_with("stop_container")).count();
    assert!((2..=30).contains(&stops), "{stops} stops in a minute");
}

#[tokio::test(start_paused = true)]
async fn why_a_container_was_killed_is_asked_for_once_more() {
    let world = World::new();
    let mut pod = a_pod("u1", "web-node1");
    pod.spec.as_mut().unwrap().restart_policy = Some("Never".into());
    world.workers.set(Arc::new(pod));
    world.until_running().await;
    world.fake.exit("c2", 137);
    world.relist();
    let reason = |views: &[Arc<kube_model::view::PodView>]| {
        let status = views[0].status.container_statuses.clone().unwrap().remove(0);
        status.state.unwrap().terminated.and_then(|t| t.reason)
    };
    world.until("the end is seen", |views, _| reason(views).as_deref() == Some("Error")).await;
    // The runtime tells nobody that it has learned more.
    let set = |pod: &mut kube_model::observed::ObservedPod| pod.containers[0].reason = "OOMKilled".into();
    world.state().pods.values_mut().for_each(set);
    world.until("the reason is seen", |views, _| reason(views).as_deref() == Some("OOMKilled")).await;
    let asked = || world.state().calls.iter().filter(|c| c.starts_with("observe")).count();
    let before = asked();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(asked(), before, "then it is known");
}
