//! `/log`: what a container wrote, from whoever runs it ([`Logs`](crate::Logs)).
//! Rule and words: upstream `pkg/registry/core/pod/strategy.go`, `LogLocation`.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use futures::StreamExt as _;
use kube_model::core::{Container, Pod};

use super::query::Query;
use super::{Answer, At, Shared, key, negotiate};
use crate::error::ApiError;

pub(super) async fn get(State(api): Shared, At(at): At<(String, String)>, query: Query, uri: Uri) -> Answer {
    let Some(logs) = api.logs.get() else {
        return Err(ApiError::new(404, "NotFound", "the logs of pods are not served here").into());
    };
    let key = key(at);
    check(&query, &key.name)?;
    let object = api.store.get(&key)?;
    let container = container(&object.pod, query.text("container"))?;
    let permit = Arc::clone(&api.watches).try_acquire_owned();
    let many = |_| {
        ApiError::new(429, "TooManyRequests", "too many watches and logs at once, please try again later")
    };
    let permit = permit.map_err(many)?;
    let query = uri.query().unwrap_or_default();
    let log = logs.log(&key.namespace, &key.name, container, query).await.map_err(|none| {
        let reason = match none.code {
            400 => "BadRequest",
            404 => "NotFound",
            _ => "InternalError",
        };
        ApiError::new(none.code, reason, none.message)
    })?;
    // Whoever still follows when the server ends has had everything so far.
    let ending = api.ending.clone().cancelled_owned();
    let pieces = log.take_until(ending).map(move |piece| {
        let _place = &permit;
        Ok::<_, Infallible>(piece)
    });
    Ok(negotiate::with_type(StatusCode::OK, "text/plain", Body::from_stream(pieces)))
}

/// Refuses options that make no sense. Rule: upstream `pkg/apis/core/v1/validation`, `ValidatePodLogOptions`.
fn check(query: &Query, pod: &str) -> Result<(), ApiError> {
    let mut wrong = Vec::new();
    for (name, least) in [("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)] {
        if let Some(value) = query.number(name)?.filter(|&value| value < least) {
            wrong.push(format!("{name}: Invalid value: {value}: must be greater than or equal to {least}"));
        }
    }
    if query.text("sinceSeconds").is_some() && query.text("sinceTime").is_some() {
        wrong.push("Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified".to_owned());
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(ApiError::new(422, "Invalid", format!("PodLogOptions {pod:?} is invalid: {}", wrong.join(", "))))
}

/// The container that is meant: without a name the only one.
fn container<'a>(pod: &'a Pod, wanted: Option<&'a str>) -> Result<&'a str, ApiError> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let Some(spec) = &pod.spec else { return Err(ApiError::bad_request(format!("pod {name} has no spec"))) };
    let init = spec.init_containers.iter().flatten();
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| &container.name);
    match (wanted, spec.containers.as_slice()) {
        (Some(wanted), all) => {
            let mut names = all.iter().chain(init).map(|container| &container.name).chain(ephemeral);
            if names.any(|known| known == wanted) {
                return Ok(wanted);
            }
            Err(ApiError::bad_request(format!("container {wanted} is not valid for pod {name}")))
        }
        (None, [one]) => Ok(&one.name),
        (None, all) => {
            let mut message = format!("a container name must be specified for pod {name}");
            if !all.is_empty() {
                message += &format!(", choose one of: {}", list(all));
            }
            if let Some(init) = spec.init_containers.as_ref().filter(|init| !init.is_empty()) {
                message += &format!(" or one of the init containers: {}", list(init));
            }
            Err(ApiError::bad_request(message))
        }
    }
}

/// As Go prints lists.
fn list(containers: &[Container]) -> String {
    let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
    format!("[{}]", names.join(" "))
}
