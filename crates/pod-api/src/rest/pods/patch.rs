//! Patches and server-side apply.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use kube_model::core::Pod;
use kube_model::{PodKey, Timestamp};
use serde_json::Value;
use tokio::sync::oneshot;

use super::super::query::WriteOptions;
use super::super::write::Write;
use super::super::{Answer, At, body, key};
use super::{complete, must_be_in, must_be_named};
use crate::error::ApiError;
use crate::patch::{self, PatchType};
use manifest::submitted::{self, Submitted};

pub(in crate::rest) async fn patch(At(at): At<(String, String)>, mut write: Write) -> Answer {
    let options = WriteOptions::read(&write.query)?;
    let kind = patch_type(&write.headers, &options)?;
    let text = write.text().await?;
    let (key, dry_run) = (key(at), options.dry_run);
    let manager = write.client.manager.clone();
    let patch = Arc::new(Patch::read(key.clone(), kind, manager, &text.bytes, options)?);
    let api = &write.api;
    let (warn, warned) = oneshot::channel();
    let of_old = Arc::clone(&patch);
    let change = move |old: &Pod| {
        let (pod, warnings) = of_old.apply(&serde_json::to_value(old).map_err(ApiError::internal)?)?;
        // Whoever asked may have gone.
        let _ = warn.send(warnings);
        Ok(pod)
    };
    let (verb, code, object, warnings) = match api.store.update(key, dry_run, change).await {
        Ok(object) => ("patch", StatusCode::OK, object, warned.await.unwrap_or_default()),
        // Server-side apply makes what is not there.
        Err(error) if error.code == 404 && matches!(patch.kind, PatchType::Apply { .. }) => {
            let (pod, warnings) = patch.apply(&Value::Null)?;
            ("create", StatusCode::CREATED, api.store.create(pod, dry_run).await?, warnings)
        }
        Err(error) => return Err(error.into()),
    };
    write.answer(verb, code, &object, dry_run, &warnings)
}

/// A patch that was sent.
struct Patch {
    key: PodKey,
    kind: PatchType,
    manager: String,
    value: Value,
    /// What is odd about its text.
    odd: Vec<String>,
    options: WriteOptions,
}

impl Patch {
    fn read(
        key: PodKey,
        kind: PatchType,
        manager: String,
        text: &[u8],
        options: WriteOptions,
    ) -> Result<Self, ApiError> {
        let (value, odd) = if let PatchType::Apply { .. } = kind {
            submitted::document(text).map(|(_, value, odd)| (value, odd)).map_err(ApiError::bad_request)?
        } else {
            let bad = |error| ApiError::bad_request(format!("error decoding patch: {error}"));
            (serde_json::from_slice(text).map_err(bad)?, Vec::new())
        };
        Ok(Self { key, kind, manager, value, odd, options })
    }

    /// The patched pod, and what to warn of.
    fn apply(&self, current: &Value) -> Result<(Pod, Vec<String>), ApiError> {
        let patched = patch::apply(&self.kind, current, &self.value);
        let mut patched = patched.map_err(|error| error.into_api(&self.key.name))?;
        if !matches!(self.kind, PatchType::Apply { .. }) {
            patch::track(current, &mut patched, &self.manager, Timestamp::now());
        }
        let Submitted { mut pod, odd } = submitted::from_value(patched).map_err(ApiError::bad_request)?;
        let warnings = self.options.judge(self.odd.iter().cloned().chain(odd).collect())?;
        must_be_in(&mut pod, &self.key.namespace)?;
        must_be_named(&pod, &self.key)?;
        complete(&mut pod)?;
        Ok((pod, warnings))
    }
}

pub(in crate::rest) fn patch_type(
    headers: &HeaderMap,
    options: &WriteOptions,
) -> Result<PatchType, ApiError> {
    const JSON: &str = "application/json-patch+json";
    const MERGE: &str = "application/merge-patch+json";
    const STRATEGIC: &str = "application/strategic-merge-patch+json";
    const APPLY: &str = "application/apply-patch+yaml";
    let kind = match body::media_type(headers)? {
        JSON => PatchType::Json,
        MERGE => PatchType::Merge,
        STRATEGIC => PatchType::Strategic,
        APPLY => {
            let missing = "fieldManager: Required value: is required for apply patch";
            let manager =
                options.field_manager.clone().ok_or_else(|| ApiError::new(422, "Invalid", missing))?;
            return Ok(PatchType::Apply { manager, force: options.force, now: Timestamp::now() });
        }
        other => return Err(body::unsupported(other, &[JSON, MERGE, STRATEGIC, APPLY])),
    };
    if options.force {
        return Err(ApiError::new(
            422,
            "Invalid",
            "force: Forbidden: may not be specified for non-apply patch",
        ));
    }
    Ok(kind)
}
