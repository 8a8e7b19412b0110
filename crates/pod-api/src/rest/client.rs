//! Who changes something, and the line in the log that says so.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::USER_AGENT;
use axum::http::request::Parts;

use super::query::Query;

/// Most characters of the name of a field manager.
const LONGEST_MANAGER: usize = 128;

/// The other end of a connection, in words; goes with each request.
#[derive(Debug, Clone)]
pub(crate) struct Origin(pub(crate) Arc<str>);

/// The client of a request.
#[derive(Debug)]
pub(super) struct Client {
    /// By its own word, or else the name of its program.
    /// Rule: upstream `k8s.io/apiserver/pkg/endpoints/handlers/create.go`, `managerOrUserAgent`.
    pub(super) manager: String,
    from: Option<Origin>,
}

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // A bad query is refused by those who need it.
        let query = Query::read(&parts.uri).unwrap_or_default();
        let agent = parts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
        let program = agent.and_then(|agent| agent.split('/').next()).filter(|program| !program.is_empty());
        let name = query.text("fieldManager").or(program).unwrap_or("unknown");
        let from = parts.extensions.get().cloned();
        Ok(Self { manager: name.chars().take(LONGEST_MANAGER).collect(), from })
    }
}

impl Client {
    /// Says what it did to an object. A pod runs now, or ends: whoever reads the log wants to know at whose word.
    pub(super) fn changed(&self, verb: &str, object: &dyn fmt::Display, version: u64, dry_run: bool) {
        if dry_run {
            return;
        }
        let from = self.from.as_ref().map_or("", |Origin(from)| from);
        // The name is the client's choice, and must stay within its line.
        let manager = self.manager.escape_debug();
        tracing::info!(verb, %object, version, %manager, from, "Something was changed over the push API");
    }
}
