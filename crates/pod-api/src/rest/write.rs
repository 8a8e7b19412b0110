//! What requests have in common that change something.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts as _, Request};
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::body::{self, Text};
use super::client::Client;
use super::negotiate::{self, Wanted};
use super::query::Query;
use super::{Answer, Api, Refusal};
use crate::error::ApiError;
use crate::store::{Object, Versioned};

/// What can be changed, and how a line of the log names it.
pub(super) trait Shown: Versioned + Serialize {
    /// Kind and name.
    fn shown(&self) -> String;
}

impl Shown for Object {
    fn shown(&self) -> String {
        format!("pod {}", self.key())
    }
}

/// A request that changes something.
pub(super) struct Write {
    pub(super) api: Arc<Api>,
    pub(super) wanted: Wanted,
    pub(super) query: Query,
    pub(super) client: Client,
    pub(super) headers: HeaderMap,
    body: Body,
}

impl FromRequest<Arc<Api>> for Write {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let wanted = Wanted::from_request_parts(&mut parts, api).await?;
        let query = Query::from_request_parts(&mut parts, api).await?;
        let Ok(client) = Client::from_request_parts(&mut parts, api).await;
        Ok(Self { api: Arc::clone(api), wanted, query, client, headers: parts.headers, body })
    }
}

impl Write {
    /// The body as a whole.
    pub(super) async fn text(&mut self) -> Result<Text, ApiError> {
        body::read(&self.api, &self.headers, std::mem::take(&mut self.body)).await
    }

    /// The same of one that is not needed, and is JSON or YAML where there is one.
    pub(super) async fn text_if_any(&mut self) -> Result<Text, ApiError> {
        let text = self.text().await?;
        if !text.bytes.trim_ascii().is_empty() {
            body::must_be_manifest(&self.headers)?;
        }
        Ok(text)
    }

    /// Says in the log who changed it.
    pub(super) fn changed(&self, verb: &str, object: &impl Shown, dry_run: bool) {
        self.client.changed(verb, &object.shown(), object.resource_version(), dry_run);
    }

    /// Tells of an object that was changed.
    pub(super) fn answer(
        &self,
        verb: &str,
        code: StatusCode,
        object: &impl Shown,
        dry_run: bool,
        warnings: &[String],
    ) -> Answer {
        self.changed(verb, object, dry_run);
        Ok(negotiate::warn(self.wanted.no_table().answer(code, object), warnings))
    }
}
