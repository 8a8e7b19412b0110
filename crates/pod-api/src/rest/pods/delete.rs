//! Deletion of one pod and of many.

use axum::http::StatusCode;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
use kube_model::yaml;
use serde::Deserialize as _;
use serde_json::json;

use super::super::query::{self, ListOptions, Query};
use super::super::watch::Selects as _;
use super::super::write::Write;
use super::super::{Answer, At, key, negotiate};
use super::{FIELDS, Selection};
use crate::error::ApiError;
use crate::store::Preconditions;

/// How to delete.
pub(in crate::rest) struct Deletion {
    pub(in crate::rest) preconditions: Preconditions,
    pub(in crate::rest) grace: Option<i64>,
    pub(in crate::rest) dry_run: bool,
}

impl Deletion {
    pub(in crate::rest) async fn of(write: &mut Write) -> Result<Self, ApiError> {
        let text = write.text_if_any().await?;
        Self::read(&write.query, &text.bytes)
    }

    /// From the body if there is one, else from the query.
    fn read(query: &Query, text: &[u8]) -> Result<Self, ApiError> {
        if text.trim_ascii().is_empty() {
            let orphan = query.text("orphanDependents").map(|_| query.flag("orphanDependents"));
            query::propagation(query.text("propagationPolicy"), orphan)?;
            return Ok(Self {
                preconditions: Preconditions::default(),
                grace: query.number("gracePeriodSeconds")?,
                dry_run: query.dry_run()?,
            });
        }
        let bad = |error: String| ApiError::bad_request(format!("bad DeleteOptions: {error}"));
        let value = yaml::parse(text).map_err(|error| bad(error.to_string()))?.value;
        let options = DeleteOptions::deserialize(value).map_err(|error| bad(error.to_string()))?;
        query::propagation(options.propagation_policy.as_deref(), options.orphan_dependents)?;
        let preconditions = options.preconditions.unwrap_or_default();
        let mut dry_run = options.dry_run.iter().flatten().map(String::as_str);
        Ok(Self {
            preconditions: Preconditions {
                uid: preconditions.uid,
                resource_version: preconditions.resource_version,
            },
            grace: options.grace_period_seconds,
            dry_run: query::dry_run(&mut dry_run)?,
        })
    }
}

pub(in crate::rest) async fn delete(At(at): At<(String, String)>, mut write: Write) -> Answer {
    let Deletion { preconditions, grace, dry_run } = Deletion::of(&mut write).await?;
    let object = write.api.store.delete(key(at), preconditions, grace, dry_run).await?;
    write.answer("delete", StatusCode::OK, &object, dry_run, &[])
}

/// Deletes the pushed pods that are selected. Those of other sources stay, with a warning.
pub(in crate::rest) async fn delete_all(At(namespace): At<String>, mut write: Write) -> Answer {
    let options = ListOptions::read(&write.query, FIELDS)?;
    let selection = Selection { namespace: Some(namespace), name: None, options };
    let Deletion { preconditions, grace, dry_run } = Deletion::of(&mut write).await?;
    let (mut deleted, mut warnings) = (Vec::new(), Vec::new());
    for object in selection.list(&write.api).0 {
        match write.api.store.delete(object.key(), preconditions.clone(), grace, dry_run).await {
            Ok(object) => {
                write.changed("delete", &object, dry_run);
                deleted.push(object);
            }
            // It went by itself.
            Err(error) if error.code == 404 => {}
            Err(error) if error.code == 403 => warnings.push(error.message),
            Err(error) => return Err(error.into()),
        }
    }
    let list = json!({ "apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": deleted });
    Ok(negotiate::warn(write.wanted.no_table().answer(StatusCode::OK, &list), &warnings))
}
