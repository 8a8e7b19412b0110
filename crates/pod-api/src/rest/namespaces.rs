//! Namespaces: there is nothing to them but their names, so those that have something are there, and `default`.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use kube_model::Timestamp;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube_model::objects::Kind;
use serde::Serialize;
use serde_json::{Value, json};

use super::negotiate::Wanted;
use super::query::{ListOptions, Query};
use super::table::{self, Column, Include, Row};
use super::{Answer, Api, At, Shared};
use crate::error::ApiError;

/// One namespace, as old as the oldest in it.
#[derive(Debug, Clone)]
struct Namespace {
    name: String,
    created: Option<Timestamp>,
}

impl Serialize for Namespace {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": self.metadata(),
            "spec": { "finalizers": ["kubernetes"] },
            "status": { "phase": "Active" },
        })
        .serialize(serializer)
    }
}

const NAMESPACE_COLUMNS: &[Column] = &[
    Column::new("Name", "Unique on this node"),
    Column::new("Status", "Always Active"),
    Column::new("Age", "Since when the oldest in it is there"),
];

impl Row for Namespace {
    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![self.name.clone(), "Active".to_owned(), table::ago(self.created, now)]
    }

    fn metadata(&self) -> ObjectMeta {
        let label = ("kubernetes.io/metadata.name".to_owned(), self.name.clone());
        ObjectMeta {
            name: Some(self.name.clone()),
            labels: Some([label].into()),
            creation_timestamp: self.created.map(Time),
            ..ObjectMeta::default()
        }
    }
}

fn all(api: &Api) -> (Vec<Namespace>, String) {
    let (objects, version) = api.store.list();
    let mut names: BTreeMap<String, Option<Timestamp>> = [("default".to_owned(), None)].into();
    for object in &objects {
        let meta = &object.pod.metadata;
        let created = meta.creation_timestamp.as_ref().map(|time| time.0);
        let oldest = names.entry(meta.namespace.clone().unwrap_or_default()).or_insert(created);
        *oldest = oldest.iter().copied().chain(created).min();
    }
    for kind in [Kind::ConfigMap, Kind::Secret] {
        for stored in api.store.contents(kind).0 {
            let meta = &stored.described.metadata;
            let created = meta.creation_timestamp.as_ref().map(|time| time.0);
            let oldest = names.entry(meta.namespace.clone().unwrap_or_default()).or_insert(created);
            *oldest = oldest.iter().copied().chain(created).min();
        }
    }
    let list = names.into_iter().map(|(name, created)| Namespace { name, created });
    (list.collect(), version.to_string())
}

pub(super) async fn list(State(api): Shared, wanted: Wanted, query: Query) -> Answer {
    let options = ListOptions::read(&query, &["metadata.name", "status.phase"])?;
    no_watch(&options, "namespaces")?;
    let (mut list, version) = all(&api);
    list.retain(|namespace| {
        options.labels.matches(namespace.metadata().labels.as_ref())
            && options.fields.matches(|field| match field {
                "metadata.name" => namespace.name.as_str().into(),
                _ => "Active".into(),
            })
    });
    show(&list, NAMESPACE_COLUMNS, &version, "NamespaceList", wanted, &query)
}

pub(super) async fn get(State(api): Shared, At(name): At<String>, wanted: Wanted, query: Query) -> Answer {
    let (mut list, version) = all(&api);
    list.retain(|namespace| namespace.name == name);
    match &list[..] {
        [one] if !wanted.table => Ok(wanted.answer(StatusCode::OK, one)),
        [] => Err(ApiError::no_such("namespaces", &name).into()),
        _ => show(&list, NAMESPACE_COLUMNS, &version, "NamespaceList", wanted, &query),
    }
}

/// The list of what can not be watched, as objects or as a table.
pub(super) fn show<T: Row>(
    list: &[T],
    columns: &[Column],
    version: &str,
    kind: &str,
    wanted: Wanted,
    query: &Query,
) -> Answer {
    let value: Value = if wanted.table {
        let table = table::table(
            list,
            columns,
            Some(version.to_owned()),
            true,
            Include::read(query)?,
            Timestamp::now(),
        );
        table.map_err(ApiError::internal)?
    } else {
        json!({ "apiVersion": "v1", "kind": kind, "metadata": { "resourceVersion": version }, "items": list })
    };
    Ok(wanted.answer(StatusCode::OK, &value))
}

/// Refuses a watch of what has no history.
pub(super) fn no_watch(options: &ListOptions, resource: &str) -> Result<(), ApiError> {
    if options.watch {
        let message = format!("watch is not supported on resources of kind {resource:?}");
        return Err(ApiError::new(405, "MethodNotAllowed", message));
    }
    Ok(())
}
