//! Refusals that say when to ask again: kube reads the body of a refusal and drops its headers, and a server that has
//! too much to do (API Priority and Fairness) says it in a header only.

use http::Response;
use http::header::RETRY_AFTER;
use http_body_util::BodyExt as _;
use kube::core::Status;
use kube::core::response::StatusDetails;
use tower::BoxError;

use super::answer::Answer;

/// A refusal with `Retry-After` in seconds becomes the error that kube makes of it, with that time in its details.
pub(super) async fn with_its_time(answer: Response<Answer>) -> Result<Response<Answer>, BoxError> {
    let code = answer.status();
    let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let Some(seconds) = seconds.filter(|_| code.is_client_error() || code.is_server_error()) else {
        return Ok(answer);
    };
    let body = answer.into_body().collect().await?.to_bytes();
    let mut status = serde_json::from_slice::<Status>(&body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&body);
        Status::failure(text.trim(), code.canonical_reason().unwrap_or_default()).with_code(code.as_u16())
    });
    let nothing = || StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    };
    status.details.get_or_insert_with(nothing).retry_after_seconds = seconds;
    Err(kube::Error::Api(status.boxed()).into())
}
