//! Events to the API server: what happened to a pod or to the node, for `kubectl describe`.
//!
//! Repeated events are one object with a count, many similar ones are combined, and who talks too much is cut
//! short. Rule: upstream `client-go/tools/record`.

mod correlate;

use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use kube_model::core::{Event, EventSource, ObjectReference, PersistentVolumeClaim, Pod};
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube_model::pod::{self, ContainerKind};
use kube_model::view::EventType;
use kube_model::{Monotonic, Timestamp};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep};

use correlate::{Correlator, Step};

/// Who reports.
const COMPONENT: &str = "kubelet";

/// Events that wait to be sent; more are dropped: they are news, not state.
const WAITING: usize = 1000;

/// Tries for one event, and the pause between them.
const TRIES: usize = 12;
const PAUSE: Duration = Duration::from_secs(10);

/// Takes events; cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    send: mpsc::Sender<Event>,
    node: String,
}

/// Sends what a [`Recorder`] takes.
pub struct Sender {
    events: mpsc::Receiver<Event>,
    client: Client,
}

/// A recorder for this node, and what sends its events over `client`, which should be that of events alone.
pub fn channel(client: Client, node: &str) -> (Recorder, Sender) {
    let (send, events) = mpsc::channel(WAITING);
    (Recorder { send, node: node.to_owned() }, Sender { events, client })
}

impl Recorder {
    /// Records an event about a pod, or about one of its containers. Never waits.
    pub fn pod(&self, pod: &Pod, container: Option<&str>, kind: EventType, reason: &str, message: String) {
        let meta = &pod.metadata;
        self.record(
            ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                namespace: meta.namespace.clone(),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
                resource_version: meta.resource_version.clone(),
                field_path: container.and_then(|name| field_path(pod, name)),
            },
            kind,
            reason,
            message,
        );
    }

    /// Records an event about a claim. Never waits.
    pub fn claim(&self, claim: &PersistentVolumeClaim, kind: EventType, reason: &str, message: String) {
        let meta = &claim.metadata;
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("PersistentVolumeClaim".to_owned()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            ..ObjectReference::default()
        };
        self.record(about, kind, reason, message);
    }

    /// Records an event about the node; as from the kubelet, without the Node's UID. Never waits.
    pub fn node(&self, kind: EventType, reason: &str, message: String) {
        let about = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(self.node.clone()),
            ..ObjectReference::default()
        };
        self.record(about, kind, reason, message);
    }

    fn record(&self, about: ObjectReference, kind: EventType, reason: &str, message: String) {
        let now = Timestamp::now();
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let name = about.name.as_deref().unwrap_or_default();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}", now.as_nanosecond())),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            type_: Some(format!("{kind:?}")),
            reason: Some(reason.to_owned()),
            message: Some(message),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            source: Some(EventSource {
                component: Some(COMPONENT.to_owned()),
                host: Some(self.node.clone()),
            }),
            reporting_component: Some(COMPONENT.to_owned()),
            reporting_instance: Some(self.node.clone()),
            involved_object: about,
            ..Event::default()
        };
        if self.send.try_send(event).is_err() {
            tracing::debug!(reason, "event dropped: too many wait to be sent");
        }
    }
}

fn field_path(pod: &Pod, container: &str) -> Option<String> {
    let (kind, _) = pod::container(pod.spec.as_ref()?, container)?;
    let list = match kind {
        ContainerKind::Regular => "containers",
        ContainerKind::Init | ContainerKind::Sidecar => "initContainers",
    };
    Some(format!("spec.{list}{{{container}}}"))
}

impl Sender {
    /// Sends until every recorder is gone or the future is dropped.
    pub async fn run(mut self) {
        let (mut correlator, began) = (Correlator::default(), Instant::now());
        while let Some(event) = self.events.recv().await {
            let step = correlator.take(event, Monotonic::after_start(began.elapsed()));
            self.carry_out(step, &mut correlator).await;
        }
    }

    async fn carry_out(&self, mut step: Step, correlator: &mut Correlator) {
        for _ in 0..TRIES {
            let result = match &step {
                Step::Drop => return,
                Step::Create { event, .. } => {
                    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
                    Api::<Event>::namespaced(self.client.clone(), namespace)
                        .create(&PostParams::default(), event)
                        .await
                }
                Step::Patch { namespace, name, patch, .. } => {
                    Api::<Event>::namespaced(self.client.clone(), namespace)
                        .patch(name, &PatchParams::default(), &Patch::Strategic(patch))
                        .await
                }
            };
            match result {
                Ok(_) => return,
                Err(Error::Api(status)) if status.code == 404 && matches!(step, Step::Patch { .. }) => {
                    // It outlived its time on the server.
                    step = correlator.anew(step);
                }
                // The server understood and does not want it.
                Err(Error::Api(status)) if status.code != 429 && status.code < 500 => {
                    tracing::debug!("event refused: {}", status.message);
                    correlator.refused(&step);
                    return;
                }
                Err(error) => {
                    tracing::debug!("event not sent yet: {}", util::causes(&error));
                    sleep(PAUSE).await;
                }
            }
        }
        correlator.refused(&step);
    }
}
