//! Serves the push API and prints what comes in: `cargo run -p pod-api --example push -- ADDRESS DIR`,
//! where ADDRESS is for example `unix:/tmp/push.sock` or `127.0.0.1:8001`; because nothing is run, it asks nobody who he is.
//!
//! Nothing is run: each pod is told to be running at once, and to have ended as soon as it is deleted. So kubectl works
//! against it as against a node: `kubectl --server=http://127.0.0.1:8001 apply -f pod.yaml`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use kube_model::core::{
    ContainerState, ContainerStateRunning, ContainerStatus, Pod, PodCondition, PodStatus,
};
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_model::view::{Event, EventType, PodView};
use kube_model::{PodKey, Timestamp, pod};
use pod_api::{Settings, start};
use tokio_util::sync::CancellationToken;

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it sees")]
async fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(address), Some(dir)) = (args.next(), args.next()) else {
        eprintln!("usage: push ADDRESS DIR");
        return ExitCode::FAILURE;
    };
    let listen = match address.to_string_lossy().parse() {
        Ok(listen) => listen,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let settings = Settings { anonymous: true, ..Settings::new(listen, "node1", dir) };
    let mut push = match start(settings, CancellationToken::new()).await {
        Ok(push) => push,
        Err(error) => {
            let why = std::error::Error::source(&error).map(|why| format!(": {why}")).unwrap_or_default();
            eprintln!("{error}{why}");
            return ExitCode::FAILURE;
        }
    };
    println!("listening on {}", push.address);
    let mut known: BTreeMap<PodKey, Arc<PodView>> = BTreeMap::new();
    loop {
        let state = push.state.borrow_and_update().clone();
        println!("{} pods, {} problems", state.pods.len(), state.problems.len());
        let views = state.pods.iter().map(|pod| {
            let key = pod::identity(pod).1;
            let view = match known.get(&key) {
                Some(view) if Arc::ptr_eq(&view.pod, pod) => Arc::clone(view),
                old => {
                    println!("{} {key}", if old.is_some() { "~" } else { "+" });
                    Arc::new(pretended(pod))
                }
            };
            (key, view)
        });
        let views: BTreeMap<_, _> = views.collect();
        for key in known.keys().filter(|key| !views.contains_key(key)) {
            println!("- {key}");
        }
        push.handle.observe(&views.values().cloned().collect::<Vec<_>>());
        known = views;
        if push.state.changed().await.is_err() {
            return ExitCode::SUCCESS;
        }
    }
}

/// The pod as if it ran.
fn pretended(pod: &Arc<Pod>) -> PodView {
    let born = pod.metadata.creation_timestamp.clone();
    let now = born.as_ref().map_or_else(Timestamp::now, |time| time.0);
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        ready: true,
        started: Some(true),
        state: Some(ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(Time(now)) }),
            ..ContainerState::default()
        }),
        ..ContainerStatus::default()
    });
    let ready =
        PodCondition { type_: "Ready".to_owned(), status: "True".to_owned(), ..PodCondition::default() };
    let status = PodStatus {
        phase: Some("Running".to_owned()),
        start_time: born,
        conditions: Some(vec![ready]),
        container_statuses: Some(containers.collect()),
        ..PodStatus::default()
    };
    let ended = pod.metadata.deletion_timestamp.is_some();
    PodView {
        pod: Arc::clone(pod),
        status: Arc::new(status),
        removing: ended,
        finished: ended,
        waits: Vec::new(),
        doing: None,
        events: vec![Event {
            kind: EventType::Normal,
            reason: "Started".to_owned(),
            message: "Pretended to start the pod".to_owned(),
            container: None,
            first: now,
            last: now,
            count: 1,
        }],
    }
}
