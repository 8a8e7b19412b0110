//! What clients send: of which type it is, and that it does not use up the memory.

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Api;
use crate::error::ApiError;

/// A body. Its share of what all bodies may have goes with it.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) bytes: Vec<u8>,
    _share: OwnedSemaphorePermit,
}

/// Reads a body as a whole.
pub(super) async fn read(api: &Api, headers: &HeaderMap, body: Body) -> Result<Text, ApiError> {
    let most = api.limits.body_bytes;
    let too_large = || {
        let message = format!("Request entity too large: limit is {most}");
        ApiError::new(413, "RequestEntityTooLarge", message)
    };
    let told = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if told.is_some_and(|length| length > most) {
        return Err(too_large());
    }
    let mut share = take(&api.body_budget, 0)?;
    let (mut bytes, mut body) = (Vec::new(), body);
    while let Some(frame) = body.frame().await {
        let cut = |error| ApiError::bad_request(format!("the body could not be read to its end: {error}"));
        let data: Bytes = frame.map_err(cut)?.into_data().unwrap_or_default();
        if bytes.len() + data.len() > most {
            return Err(too_large());
        }
        share.merge(take(&api.body_budget, data.len())?);
        bytes.extend_from_slice(&data);
    }
    Ok(Text { bytes, _share: share })
}

fn take(budget: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
    let many = || ApiError::new(429, "TooManyRequests", "too many bodies at once, please try again later");
    let bytes = u32::try_from(bytes).map_err(|_| many())?;
    Arc::clone(budget).try_acquire_many_owned(bytes).map_err(|_| many())
}

/// The media type of a body, without parameters; empty when it is not said.
pub(super) fn media_type(headers: &HeaderMap) -> Result<&str, ApiError> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok("") };
    let text = value.to_str().map_err(|_| unsupported("not readable", MANIFESTS))?;
    Ok(text.split(';').next().unwrap_or_default().trim())
}

/// What a manifest may come as.
const MANIFESTS: &[&str] = &["application/json", "application/yaml"];

/// Whether the body may be a manifest; JSON and YAML are told apart by content. What a page can send without asking
/// (`text/plain`, forms, no type at all) is none, so that a type that is fit for browsers only never changes anything.
/// (The API server takes a body without a type for JSON.)
pub(super) fn must_be_manifest(headers: &HeaderMap) -> Result<(), ApiError> {
    match media_type(headers)?.to_ascii_lowercase().as_str() {
        "application/json" | "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => {
            Ok(())
        }
        other => Err(unsupported(other, MANIFESTS)),
    }
}

pub(super) fn unsupported(kind: &str, supported: &[&str]) -> ApiError {
    let supported = supported.join(", ");
    let message = match kind {
        "" => format!("the header Content-Type is missing - accepted media types include: {supported}"),
        _ => format!(
            "the body of the request was in an unknown format ({kind}) - accepted media types include: {supported}"
        ),
    };
    let hint = match kind {
        // What curl says of a body unless it is told otherwise.
        "" | "application/x-www-form-urlencoded" => "; with curl: -H 'Content-Type: application/yaml'",
        _ => "",
    };
    ApiError::new(415, "UnsupportedMediaType", message + hint)
}
