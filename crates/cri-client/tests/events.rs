//! The event stream across everything that can end it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::pin::Pin;
use std::time::Duration;

use cri_client::{Client, ErrorKind, EventItem, v1::*};
use futures::{Stream, StreamExt};
use testkit::fake_cri::{Code, FakeCri, Fault};

type Events = Pin<Box<dyn Stream<Item = EventItem> + Send>>;

fn client(runtime: &FakeCri) -> Client {
    Client::builder(&runtime.endpoint()).unwrap().build()
}

async fn next(events: &mut Events) -> EventItem {
    let next = tokio::time::timeout(Duration::from_secs(20), events.next()).await;
    next.expect("an item within 20 s").expect("the stream goes on")
}

async fn connected(events: &mut Events) {
    loop {
        match next(events).await {
            EventItem::Connected => return,
            EventItem::Lost(error) => assert!(error.is_retryable(), "{error}"),
            other => panic!("{other:?}"),
        }
    }
}

async fn event(events: &mut Events) -> ContainerEventResponse {
    match next(events).await {
        EventItem::Event(event) => *event,
        other => panic!("{other:?}"),
    }
}

async fn run(client: &Client, name: &str) -> String {
    let metadata = PodSandboxMetadata { name: name.into(), ..Default::default() };
    let config = Some(PodSandboxConfig { metadata: Some(metadata), ..Default::default() });
    let request = RunPodSandboxRequest { config, ..Default::default() };
    client.run_pod_sandbox(request).await.unwrap().pod_sandbox_id
}

#[tokio::test]
async fn a_silent_runtime_counts_as_connected_and_its_first_event_arrives() {
    let runtime = FakeCri::start().await.unwrap();
    let client = client(&runtime);
    let mut events: Events = Box::pin(client.container_events());
    connected(&mut events).await;
    let id = run(&client, "web").await;
    let created = event(&mut events).await;
    assert_eq!(created.container_id, id);
    assert_eq!(created.container_event_type(), ContainerEventType::ContainerCreatedEvent);
    assert_eq!(created.pod_sandbox_status.unwrap().state(), PodSandboxState::SandboxReady);
    assert_eq!(event(&mut events).await.container_event_type(), ContainerEventType::ContainerStartedEvent);
}

#[tokio::test]
async fn a_broken_stream_resumes_and_what_happened_meanwhile_is_replayed() {
    let mut runtime = FakeCri::start().await.unwrap();
    let client = client(&runtime);
    let mut events: Events = Box::pin(client.container_events());
    connected(&mut events).await;
    let id = run(&client, "web").await;
    let before = [event(&mut events).await, event(&mut events).await];

    runtime.stop().await;
    let EventItem::Lost(error) = next(&mut events).await else { panic!("not lost") };
    assert!(matches!(error.kind(), ErrorKind::Unavailable { .. }), "{error:?}");
    assert!(runtime.kill_sandbox(&id));
    runtime.start_again().await.unwrap();
    connected(&mut events).await;

    let replayed = [event(&mut events).await, event(&mut events).await];
    assert_eq!(replayed, before);
    let stopped = event(&mut events).await;
    assert_eq!(stopped.container_event_type(), ContainerEventType::ContainerStoppedEvent);
    assert!(stopped.created_at > before[1].created_at);
}

#[tokio::test]
async fn a_stream_before_the_runtime_connects_when_it_comes() {
    let mut runtime = FakeCri::start().await.unwrap();
    runtime.stop().await;
    let mut events: Events = Box::pin(client(&runtime).container_events());
    assert!(matches!(next(&mut events).await, EventItem::Lost(_)));
    runtime.start_again().await.unwrap();
    connected(&mut events).await;
}

#[tokio::test]
async fn a_runtime_without_events_ends_the_stream() {
    let runtime = FakeCri::start().await.unwrap();
    runtime.set_events(false);
    let mut events: Events = Box::pin(client(&runtime).container_events());
    loop {
        match next(&mut events).await {
            // The handshake's answer may overtake the refusal.
            EventItem::Connected => {}
            EventItem::Unsupported(error) => {
                assert!(error.is_unimplemented(), "{error}");
                assert_eq!(error.method(), "GetContainerEvents");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_stream_that_fails_at_once_is_retried_with_pauses() {
    let runtime = FakeCri::start().await.unwrap();
    let refused = Fault::Fail(Code::ResourceExhausted, "too many subscribers".into());
    runtime.fault(refused, |_: &GetEventsRequest| true);
    let mut events: Events = Box::pin(client(&runtime).container_events());
    let start = std::time::Instant::now();
    let mut lost = 0;
    while lost < 3 {
        match next(&mut events).await {
            EventItem::Connected => {}
            EventItem::Lost(error) => {
                assert_eq!(error.message(), "too many subscribers");
                lost += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    // 100 ms and 200 ms between the three.
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    runtime.clear_faults();
    connected(&mut events).await;
}
