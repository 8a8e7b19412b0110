//! What becomes of pods whose node lacks something, whose time is over, or whose sandbox dies.

use std::sync::Arc;

use kube_model::core::{Pod, PodCondition, PodReadinessGate, PodStatus};
use kube_model::observed::{ContainerState, SandboxState};
use kube_model::view::PodView;
use pod_lifecycle::{Rejection, Unmet};
use pod_workers::ActivePods;

use crate::support::{Fake, World, a_pod};

fn events<'a>(view: &'a PodView, reason: &'a str) -> impl Iterator<Item = (u32, &'a str)> {
    view.events.iter().filter(move |e| e.reason == reason).map(|e| (e.count, e.message.as_str()))
}

#[tokio::test(start_paused = true)]
async fn an_adopted_pod_is_not_started_again_without_what_it_names_and_says_so() {
    let world = World::running([a_pod("u1", "web-node1")]).await;
    world.workers.shutdown().await;
    let unsupported = Unmet::Unsupported { message: "spec.volumes[data].emptyDir: no".to_owned() };
    world.state().preconditions = vec![unsupported];
    let before = world.fake.calls();

    let again = World::over(Arc::clone(&world.fake));
    again.workers.set(Arc::new(a_pod("u1", "web-node1")));
    again.workers.sources_ready();
    let is_shown = |views: &[Arc<PodView>], _: &Fake| {
        views
            .iter()
            .any(|v| events(v, "Unsupported").eq([(1, "Not started: spec.volumes[data].emptyDir: no")]))
    };
    again.until("told", is_shown).await;
    again.until_running().await;
    again.fake.exit("c2", 1);
    again.relist();
    again
        .until("it waits", |views, _| {
            let status = views[0].status.container_statuses.as_ref().unwrap()[0].state.clone().unwrap();
            status.waiting.is_some_and(|w| w.reason.as_deref() == Some("Unsupported"))
        })
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    assert_eq!(again.fake.calls(), before);
    // A change of the pod is looked at anew.
    again.state().preconditions.clear();
    again.workers.set(Arc::new(a_pod("u1", "web-node1")));
    let restarted = |_: &[_], fake: &Fake| fake.calls().contains(&"start_container u1 app 1".to_owned());
    again.until("restarted", restarted).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_what_it_needs_and_goes_on_when_it_is_woken() {
    let world = World::new();
    let waiting = Unmet::Waiting {
        reason: "VolumesNotMounted".to_owned(),
        message: "unmounted volumes=[data]".to_owned(),
        since: world.workers.clock().mono(),
        until: None,
    };
    world.state().preconditions = vec![waiting];
    world.workers.set(Arc::new(a_pod("u1", "web-node1")));
    world.workers.sources_ready();
    let is_shown = |views: &[Arc<PodView>], _: &Fake| {
        let waits = views.iter().flat_map(|v| &v.waits);
        waits
            .map(|w| (w.reason.as_str(), w.message.as_str()))
            .eq([("VolumesNotMounted", "unmounted volumes=[data]")])
    };
    world.until("told", is_shown).await;
    // Nothing is asked again and again.
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    assert_eq!(world.fake.calls(), Vec::<String>::new());
    world.state().preconditions.clear();
    world.workers.wake(&"u1".into());
    world.until_running().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_lacks_what_it_refers_to_starts_when_that_comes() {
    let world = World::new();
    world.fake.state().lacks = Some("configmap \"settings\" not found");
    world.workers.set(Arc::new(a_pod("u1", "web-node1")));
    let starts = |fake: &Fake| fake.calls().iter().filter(|call| call.starts_with("start_container")).count();
    // By now it waits for ten seconds each time.
    world.until("tried", |_, fake| starts(fake) == 6).await;
    world.fake.state().lacks = None;
    let came = tokio::time::Instant::now();
    world.workers.wake_to_retry(&"u1".into());
    world.until_running().await;
    assert!(came.elapsed() < std::time::Duration::from_secs(1), "{:?}", came.elapsed());
    assert_eq!(starts(&world.fake), 7);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_can_never_have_what_it_needs_has_failed_for_good_and_that_is_told_once() {
    let world = World::new();
    let rejection = Rejection { reason: "NoSuchDevice".to_owned(), message: "it is gone".to_owned() };
    world.state().preconditions = vec![Unmet::Failed(rejection)];
    world.workers.set(Arc::new(a_pod("u1", "web-node1")));
    world.workers.sources_ready();
    let failed = |views: &[Arc<PodView>], _: &Fake| {
        views.iter().any(|v| v.status.message.as_deref() == Some("Pod was rejected: it is gone"))
    };
    world.until("failed", failed).await;
    world.state().preconditions.clear();
    world.workers.wake(&"u1".into());
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    let views = world.workers.views();
    assert!(failed(&views, &world.fake));
    assert!(events(&views[0], "NoSuchDevice").eq([(1, "it is gone")]));
    assert!(!world.fake.calls().iter().any(|call| call.starts_with("create")));
}

/// What makes something ready may give it up when the pod has ended.
#[tokio::test(start_paused = true)]
async fn a_pod_that_has_ended_needs_nothing_any_more() {
    let world = World::new();
    let mut job = a_pod("u1", "web-node1");
    job.spec.as_mut().unwrap().restart_policy = Some("Never".to_owned());
    world.workers.set(Arc::new(job.clone()));
    world.until_running().await;
    let rejection = Rejection { reason: "NoSuchDevice".to_owned(), message: "it is gone".to_owned() };
    world.fake.exit("c2", 0);
    world.relist();
    let succeeded = |views: &[Arc<PodView>], _: &Fake| {
        views.iter().any(|view| view.status.phase.as_deref() == Some("Succeeded"))
    };
    world.until("succeeded", succeeded).await;
    world.state().preconditions = vec![Unmet::Failed(rejection)];
    world.workers.wake(&"u1".into());
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    // Also after a restart of the agent, with the status that the API server has.
    let status = world.workers.views()[0].status.clone();
    let again = world.restarted().await;
    again.workers.set(Arc::new(Pod { status: Some((*status).clone()), ..job }));
    again.workers.sources_ready();
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    for world in [&world, &again] {
        let views = world.workers.views();
        assert!(succeeded(&views, &world.fake), "{views:?}");
        assert_eq!(events(&views[0], "NoSuchDevice").count(), 0);
        assert!(world.counted.take().iter().all(|line| !line.starts_with("rejected")));
    }
}

/// Its node has taken it once, and need not take it again: it has no share of it any more.
#[tokio::test(start_paused = true)]
async fn what_comes_to_life_of_a_pod_that_has_ended_is_stopped_and_cleaned_up() {
    let world = World::new();
    let mut job = a_pod("u1", "web-node1");
    job.spec.as_mut().unwrap().restart_policy = Some("Never".to_owned());
    world.workers.set(Arc::new(job));
    world.until_running().await;
    world.fake.exit("c2", 0);
    world.relist();
    let cleaned_up = |times| {
        move |_: &[Arc<PodView>], fake: &Fake| {
            fake.calls().iter().filter(|call| *call == "clean_up u1 Ended").count() == times
        }
    };
    world.until("it has ended", cleaned_up(1)).await;
    world.state().pods.get_mut(&"u1".into()).unwrap().containers[0].state = ContainerState::Running;
    world.relist();
    world.until("it is cleaned up again", cleaned_up(2)).await;
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    let calls = world.fake.calls();
    assert_eq!(calls.iter().filter(|call| call.starts_with("stop_container c2")).count(), 1, "{calls:#?}");
    assert!(cleaned_up(2)(&[], &world.fake), "{calls:#?}");
    assert_eq!(world.state().admissions, ["u1 beside "]);
    assert_eq!(world.workers.active_pods(), Some(ActivePods::new()));
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_deadline_has_passed_says_why_until_it_has_ended() {
    let world = World::new();
    let mut pod = a_pod("u1", "web-node1");
    pod.spec.as_mut().unwrap().active_deadline_seconds = Some(8);
    world.state().ignore_sigterm.insert("c2");
    world.workers.set(Arc::new(pod));
    let waits = |views: &[Arc<PodView>]| {
        let waits = views[0].waits.iter().map(|wait| (wait.reason.clone(), wait.message.clone()));
        waits.collect::<Vec<_>>()
    };
    let text = "DeadlineExceeded: Pod was active on the node longer than the specified deadline; containers have the \
                grace period to end";
    let want = vec![("Terminating".to_owned(), text.to_owned())];
    world.until("it says why", |views, _| waits(views) == want).await;
    assert_eq!(world.workers.active_pods(), Some(ActivePods::new()));
    let ended = |_: &[Arc<PodView>], fake: &Fake| fake.calls().contains(&"clean_up u1 Ended".to_owned());
    world.until("it has ended", ended).await;
    world.until("it waits for nothing", |views, _| waits(views).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_deadline_is_told_once() {
    let world = World::new();
    let mut pod = a_pod("u1", "web-node1");
    pod.spec.as_mut().unwrap().active_deadline_seconds = Some(8);
    world.workers.set(Arc::new(pod.clone()));
    let is_shown = |views: &[Arc<PodView>], fake: &Fake| {
        let text = "Pod was active on the node longer than the specified deadline";
        let ended = fake.calls().iter().any(|call| call.starts_with("clean_up"));
        ended && views.iter().any(|v| events(v, "DeadlineExceeded").eq([(1, text)]))
    };
    world.until("ended and told", is_shown).await;
    let again = world.restarted().await;
    again.workers.set(Arc::new(pod));
    again.workers.sources_ready();
    let failed =
        |views: &[Arc<PodView>], _: &Fake| views.iter().any(|v| v.status.phase.as_deref() == Some("Failed"));
    again.until("failed", failed).await;
    assert_eq!(events(&again.workers.views()[0], "DeadlineExceeded").count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_died_is_replaced_and_that_is_told() {
    let world = World::running([a_pod("u1", "web-node1")]).await;
    assert_eq!(events(&world.workers.views()[0], "SandboxChanged").count(), 0);
    for pod in world.state().pods.values_mut() {
        pod.sandboxes[0].state = SandboxState::NotReady;
    }
    world.fake.exit("c2", 137);
    world.relist();
    let is_shown = |views: &[Arc<PodView>], fake: &Fake| {
        let text = "Pod sandbox changed, it will be killed and re-created.";
        fake.calls().contains(&"create_sandbox u1 1".to_owned())
            && views.iter().any(|v| events(v, "SandboxChanged").eq([(1, text)]))
    };
    world.until("replaced and told", is_shown).await;
}

/// A load balancer's controller opens a readiness gate, and closes it.
#[tokio::test(start_paused = true)]
async fn a_condition_that_others_set_counts_at_once_and_our_own_words_wake_nobody() {
    let world = World::new();
    let mut pod = a_pod("u1", "web-node1");
    let gate = PodReadinessGate { condition_type: "lb/registered".to_owned() };
    pod.spec.as_mut().unwrap().readiness_gates = Some(vec![gate]);
    let with = |conditions: &[(&str, &str)]| {
        let condition = |(type_, status): &(&str, &str)| PodCondition {
            type_: (*type_).to_owned(),
            status: (*status).to_owned(),
            ..PodCondition::default()
        };
        let conditions = Some(conditions.iter().map(condition).collect());
        Arc::new(Pod { status: Some(PodStatus { conditions, ..PodStatus::default() }), ..pod.clone() })
    };
    let ready = |views: &[Arc<PodView>]| {
        let conditions = views[0].status.conditions.as_deref().unwrap_or_default();
        conditions.iter().find(|c| c.type_ == "Ready").is_some_and(|c| c.status == "True")
    };
    world.workers.set(Arc::new(pod.clone()));
    world.until_running().await;
    assert!(!ready(&world.workers.views()), "the gate is closed");

    world.workers.reconcile(with(&[("lb/registered", "True")]));
    world.until("ready", |views, _| ready(views)).await;
    let before = *world.workers.status_changes().borrow();
    world.workers.reconcile(with(&[("Ready", "False"), ("lb/registered", "True")]));
    world.workers.reconcile(with(&[("lb/registered", "False")]));
    world.until("not ready", |views, _| !ready(views)).await;
    assert_eq!(
        *world.workers.status_changes().borrow(),
        before + 1,
        "what came back of our own changed nothing"
    );
    world.workers.reconcile(with(&[]));
    world
        .until("the condition is gone", |views, _| {
            let conditions = views[0].status.conditions.as_deref().unwrap_or_default();
            conditions.iter().any(|c| c.message.as_deref().is_some_and(|m| m.contains("does not exist")))
        })
        .await;
}
