//! Objects as the tables that kubectl prints.
//! Rule: upstream `pkg/printers/internalversion/printers.go`; `k8s.io/apimachinery/pkg/apis/meta/v1/types.go`, `Table`.

use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_model::{Timestamp, age, summary};
use serde::Serialize;
use serde_json::{Value, json};

use super::query::Query;
use crate::error::ApiError;
use crate::store::Object;

/// One column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// Shown only when somebody asks for more.
    pub(super) wide: bool,
    pub(super) description: &'static str,
}

impl Column {
    pub(super) const fn new(name: &'static str, description: &'static str) -> Self {
        Self { name, wide: false, description }
    }

    pub(super) const fn wide(name: &'static str, description: &'static str) -> Self {
        Self { name, wide: true, description }
    }
}

/// What can be a row.
pub(super) trait Row: Serialize {
    /// The cells, one for each column.
    fn cells(&self, now: Timestamp) -> Vec<String>;
    /// Its metadata.
    fn metadata(&self) -> ObjectMeta;
}

/// What of an object goes with its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    pub(super) fn read(query: &Query) -> Result<Self, ApiError> {
        match query.text("includeObject") {
            None | Some("Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::None),
            Some("Object") => Ok(Self::Object),
            Some(other) => Err(ApiError::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        }
    }
}

/// The table of `rows`; `head` tells whether it says what its columns are.
pub(super) fn table<T: Row>(
    rows: &[T],
    columns: &[Column],
    resource_version: Option<String>,
    head: bool,
    include: Include,
    now: Timestamp,
) -> serde_json::Result<Value> {
    let rows = rows.iter().map(|row| {
        let object = match include {
            Include::None => Value::Null,
            Include::Metadata => json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": row.metadata()
            }),
            Include::Object => serde_json::to_value(row)?,
        };
        Ok(json!({ "cells": row.cells(now), "object": object }))
    });
    let columns = columns.iter().filter(|_| head).map(|column| {
        json!({
            "name": column.name,
            "type": "string",
            "format": if column.name == "Name" { "name" } else { "" },
            "description": column.description,
            "priority": i32::from(column.wide),
        })
    });
    Ok(json!({
        "apiVersion": "meta.k8s.io/v1",
        "kind": "Table",
        "metadata": { "resourceVersion": resource_version.unwrap_or_default() },
        "columnDefinitions": columns.collect::<Vec<_>>(),
        "rows": rows.collect::<serde_json::Result<Vec<_>>>()?,
    }))
}

/// How long ago something was.
pub(super) fn ago(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or_else(|| "<unknown>".to_owned(), |then| age::since(then, now))
}

/// A cell that is not empty.
pub(super) fn or_none(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "<none>".to_owned())
}

/// The columns of pods.
pub(super) const POD_COLUMNS: &[Column] = &[
    Column::new("Name", "Unique within its namespace"),
    Column::new("Ready", "Containers that are ready, of all"),
    Column::new("Status", "What state the pod is in, in one word"),
    Column::new("Restarts", "How often containers were restarted, and when last"),
    Column::new("Age", "Since when the pod is there"),
    Column::wide("IP", "Address of the pod"),
    Column::wide("Node", "Node that the pod runs on"),
    Column::wide("Nominated Node", "Always <none> on a node by itself"),
    Column::wide("Readiness Gates", "Conditions besides the containers that are met, of all"),
];

impl Row for Object {
    fn cells(&self, now: Timestamp) -> Vec<String> {
        let digest = summary::digest(&self.pod, &self.status, false);
        let spec = self.pod.spec.as_ref();
        let gates = spec.and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
        let met = gates.iter().filter(|gate| summary::has_condition(&self.status, &gate.condition_type));
        let restarts = digest.restarts_text(now);
        vec![
            self.pod.metadata.name.clone().unwrap_or_default(),
            format!("{}/{}", digest.ready, digest.total),
            digest.status,
            restarts,
            ago(summary::born(&self.pod, &self.status), now),
            or_none(self.status.pod_ip.clone()),
            or_none(spec.and_then(|spec| spec.node_name.clone())),
            or_none(self.status.nominated_node_name.clone()),
            or_none((!gates.is_empty()).then(|| format!("{}/{}", met.count(), gates.len()))),
        ]
    }

    fn metadata(&self) -> ObjectMeta {
        Object::metadata(self)
    }
}
