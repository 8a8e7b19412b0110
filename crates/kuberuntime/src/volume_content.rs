//! What volumes are made of, where the agent has it: ConfigMaps and Secrets of the API server or of this node, and tokens.

use std::sync::Arc;

use ::volumes::{Content, ContentError, NoContent, Token};
use apiserver_sync::objects::{Error, Kind, Object};
use apiserver_sync::tokens::{Request, Tokens};
use futures::future::BoxFuture;
use kube_model::core::Pod;
use kube_model::pod;
use volume_plan::payload;

use super::References;

/// What the API asks for where a pod does not say how long a token is to live, in seconds.
const LIFETIME: i64 = 3600;

/// Those who hold it.
pub struct VolumeContent {
    /// ConfigMaps and Secrets.
    pub references: References,
    /// Tokens of service accounts; `None` without an API server.
    pub tokens: Option<Tokens>,
}

impl Content for VolumeContent {
    fn object<'a>(
        &'a self,
        pod: &'a Pod,
        kind: Kind,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Object>, ContentError>> {
        Box::pin(async move {
            let found = self.references.object(pod, kind, name).await;
            found.map_err(|error| match error {
                Error::NotFound(key) => {
                    ContentError::NotFound(format!("{} {:?} not found", key.kind, key.name))
                }
                error => ContentError::Unavailable(error.to_string()),
            })
        })
    }

    fn token<'a>(
        &'a self,
        pod: &'a Pod,
        token: payload::Token<'a>,
    ) -> BoxFuture<'a, Result<Token, ContentError>> {
        let Some(tokens) = &self.tokens else { return NoContent.token(pod, token) };
        Box::pin(async move {
            let (uid, key) = pod::identity(pod);
            let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
            let request = Request {
                namespace: &key.namespace,
                service_account: account.filter(|name| !name.is_empty()).unwrap_or("default"),
                pod: &key.name,
                uid: &uid,
                audience: token.audience,
                expiration_seconds: token.expiration_seconds.unwrap_or(LIFETIME),
            };
            let given = tokens.get(request).await;
            let given = given.map_err(|error| ContentError::Unavailable(error.to_string()))?;
            Ok(Token { token: given.token, expires: given.expires, refresh_at: given.refresh_at })
        })
    }
}
