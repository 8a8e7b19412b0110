//! What happened to the pods, as the agent tells it: read-only, and gone with the pod.

use std::borrow::Cow;

use axum::extract::State;
use axum::http::StatusCode;
use kube_model::core::{Event, EventSource, ObjectReference};
use kube_model::hash::Fnv128a;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube_model::view::{self, EventType, PodView};
use kube_model::{Timestamp, age, pod};

use super::namespaces::{no_watch, show};
use super::negotiate::Wanted;
use super::query::{ListOptions, Query};
use super::table::{Column, Row, ago};
use super::{Answer, Api, At, Shared};
use crate::error::ApiError;

/// What field selectors of events may name.
const FIELDS: &[&str] = &[
    "involvedObject.apiVersion",
    "involvedObject.fieldPath",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.resourceVersion",
    "involvedObject.uid",
    "metadata.name",
    "metadata.namespace",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// Who reports the events.
const COMPONENT: &str = "kubelet";

pub(super) async fn list_all(State(api): Shared, wanted: Wanted, query: Query) -> Answer {
    list_of(&api, None, wanted, &query)
}

pub(super) async fn list(
    State(api): Shared,
    At(namespace): At<String>,
    wanted: Wanted,
    query: Query,
) -> Answer {
    list_of(&api, Some(&namespace), wanted, &query)
}

pub(super) async fn get(
    State(api): Shared,
    At((namespace, name)): At<(String, String)>,
    wanted: Wanted,
) -> Answer {
    let found = all(&api, Some(&namespace)).find(|event| event.metadata.name.as_ref() == Some(&name));
    let event = found.ok_or_else(|| ApiError::no_such("events", &name))?;
    Ok(wanted.no_table().answer(StatusCode::OK, &event))
}

fn list_of(api: &Api, namespace: Option<&str>, wanted: Wanted, query: &Query) -> Answer {
    let options = ListOptions::read(query, FIELDS)?;
    no_watch(&options, "events")?;
    let events: Vec<_> = all(api, namespace)
        .filter(|event| options.labels.matches(event.metadata.labels.as_ref()))
        .filter(|event| options.fields.matches(|name| field(event, name)))
        .collect();
    show(&events, EVENT_COLUMNS, &api.store.list().1.to_string(), "EventList", wanted, query)
}

fn all<'a>(api: &Api, namespace: Option<&'a str>) -> impl Iterator<Item = Event> + use<'a> {
    let views = api.views();
    let here = move |view: &PodView| {
        namespace.is_none_or(|namespace| view.pod.metadata.namespace.as_deref() == Some(namespace))
    };
    let views: Vec<_> = views.iter().filter(|view| here(view)).cloned().collect();
    views.into_iter().flat_map(|view| view.events.iter().map(|event| of(&view, event)).collect::<Vec<_>>())
}

fn of(view: &PodView, event: &view::Event) -> Event {
    let meta = &view.pod.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let field_path = event.container.as_ref().map(|container| {
        let init = view.pod.spec.as_ref().and_then(|spec| pod::container(spec, container));
        let list = match init {
            Some((pod::ContainerKind::Regular, _)) | None => "containers",
            Some(_) => "initContainers",
        };
        format!("spec.{list}{{{container}}}")
    });
    let kind = match event.kind {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    };
    // What tells two events of a pod apart; the same in each list.
    let mut hash = Fnv128a::default();
    for part in [kind, &event.reason, &event.message, field_path.as_deref().unwrap_or_default()] {
        hash.write(part.as_bytes());
        hash.write(&[0]);
    }
    let node = view.pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{}", &hash.hex()[..16])),
            namespace: meta.namespace.clone(),
            creation_timestamp: Some(Time(event.first)),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            field_path,
            resource_version: None,
        },
        reason: Some(event.reason.clone()),
        message: Some(event.message.clone()),
        source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: node }),
        reporting_component: Some(COMPONENT.to_owned()),
        first_timestamp: Some(Time(event.first)),
        last_timestamp: Some(Time(event.last)),
        count: Some(i32::try_from(event.count).unwrap_or(i32::MAX)),
        type_: Some(kind.to_owned()),
        ..Event::default()
    }
}

fn field<'a>(event: &'a Event, name: &str) -> Cow<'a, str> {
    let object = &event.involved_object;
    let value = match name {
        "involvedObject.apiVersion" => &object.api_version,
        "involvedObject.fieldPath" => &object.field_path,
        "involvedObject.kind" => &object.kind,
        "involvedObject.name" => &object.name,
        "involvedObject.namespace" => &object.namespace,
        "involvedObject.resourceVersion" => &object.resource_version,
        "involvedObject.uid" => &object.uid,
        "metadata.name" => &event.metadata.name,
        "metadata.namespace" => &event.metadata.namespace,
        "reason" => &event.reason,
        "reportingComponent" | "source" => &event.reporting_component,
        "type" => &event.type_,
        // Selectors know no others.
        _ => &None,
    };
    value.as_deref().unwrap_or_default().into()
}

const EVENT_COLUMNS: &[Column] = &[
    Column::new("Last Seen", "How long ago it happened last, and how often"),
    Column::new("Type", "Normal or Warning"),
    Column::new("Reason", "What happened, in one word"),
    Column::new("Object", "What it happened to"),
    Column::wide("Subobject", "Which part of it"),
    Column::wide("Source", "Who tells it"),
    Column::new("Message", "What happened"),
    Column::wide("First Seen", "How long ago it happened first"),
    Column::wide("Count", "How often it happened"),
    Column::wide("Name", "Unique within its namespace"),
];

impl Row for Event {
    fn cells(&self, now: Timestamp) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let time = |time: &Option<Time>| time.as_ref().map(|time| time.0);
        let (first, last) = (time(&self.first_timestamp), time(&self.last_timestamp));
        let count = self.count.unwrap_or(1);
        let seen = match first.filter(|_| count > 1) {
            Some(first) => format!("{} (x{count} over {})", ago(last, now), age::since(first, now)),
            None => ago(last, now),
        };
        vec![
            seen,
            text(&self.type_),
            text(&self.reason),
            format!("pod/{}", text(&self.involved_object.name)),
            text(&self.involved_object.field_path),
            text(&self.reporting_component),
            text(&self.message).trim().to_owned(),
            ago(first, now),
            count.to_string(),
            text(&self.metadata.name),
        ]
    }

    fn metadata(&self) -> ObjectMeta {
        self.metadata.clone()
    }
}
