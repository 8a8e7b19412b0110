//! What volumes are made of and others hold: ConfigMaps, Secrets, service account tokens.
//!
//! Changes are told through `Volumes::changed`; nothing here is asked for again from time to time, but for a
//! token whose time has come.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use kube_model::core::Pod;
use kube_model::objects::{Kind, Object};
use tokio::time::Instant;
use volume_plan::payload;

/// Who holds it. All calls may be dropped half-way.
pub trait Content: Send + Sync + 'static {
    /// A ConfigMap or Secret of the pod's namespace, as it is known now. Waits for the first answer of a server, not for
    /// an object to be made. The object is shared, however many volumes it stands in.
    fn object<'a>(
        &'a self,
        pod: &'a Pod,
        kind: Kind,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Object>, ContentError>>;

    /// A token of the pod's service account, bound to the pod: the same one until it is time for another.
    fn token<'a>(
        &'a self,
        pod: &'a Pod,
        request: payload::Token<'a>,
    ) -> BoxFuture<'a, Result<Token, ContentError>>;
}

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// What is written to the file.
    pub token: Arc<str>,
    /// When the server says that it expires, RFC 3339.
    pub expires: Option<Arc<str>>,
    /// When it is to be asked for anew.
    pub refresh_at: Instant,
}

/// Without the token: it is secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("refresh_at", &self.refresh_at).finish_non_exhaustive()
    }
}

/// Why something cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// There is no such object, which an optional volume does without. In upstream's words: `configmap "a" not found`.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be had now. In upstream's words, nothing of a Secret or token among them.
    #[error("{0}")]
    Unavailable(String),
}

/// Nobody holds anything: a node without an API server and without local objects.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoContent;

impl Content for NoContent {
    fn object<'a>(
        &'a self,
        _: &'a Pod,
        kind: Kind,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Object>, ContentError>> {
        let error = ContentError::NotFound(format!("{kind} {name:?} not found"));
        Box::pin(std::future::ready(Err(error)))
    }

    fn token<'a>(&'a self, _: &'a Pod, _: payload::Token<'a>) -> BoxFuture<'a, Result<Token, ContentError>> {
        let why = "there is no API server that could give out service account tokens".to_owned();
        Box::pin(std::future::ready(Err(ContentError::Unavailable(why))))
    }
}
