//! Whether a user may do what a request asks for.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::User;
use super::attributes::{Access, is_stream, subresources, verb};
use super::cache::Cache;
use crate::host::{AccessReviewer, HostError};

/// Answers that are remembered.
const MOST_ANSWERS: usize = 8192;

/// How rights are found out.
pub struct Authorization {
    mode: Mode,
    streams_need_create: bool,
}

enum Mode {
    AlwaysAllow,
    Webhook {
        reviewer: Arc<dyn AccessReviewer>,
        allowed_ttl: Duration,
        denied_ttl: Duration,
        known: Cache<(User, Access), bool>,
    },
}

/// Why a request is not served. Displays as the kubelet words it to the client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{}])\n", subresources.join(" "))]
    Denied { user: String, verb: &'static str, subresources: &'static [&'static str] },
    #[error("Authorization error (user={user}, verb={}, resource=nodes, subresource={})", access.verb, access.subresource)]
    Failed { user: String, access: Access, source: HostError },
}

impl Authorization {
    /// Everybody may do everything.
    pub fn always_allow() -> Self {
        Self { mode: Mode::AlwaysAllow, streams_need_create: false }
    }

    /// Asks `reviewer`; a yes holds for `allowed_ttl`, a no for `denied_ttl`.
    pub fn webhook(reviewer: Arc<dyn AccessReviewer>, allowed_ttl: Duration, denied_ttl: Duration) -> Self {
        let mode = Mode::Webhook { reviewer, allowed_ttl, denied_ttl, known: Cache::new(MOST_ANSWERS) };
        Self { mode, streams_need_create: false }
    }

    /// Whether a stream into a pod needs `create`, too, where its method stands for `get`: WebSockets are opened with
    /// GET, so that who may read something of the node could run commands in its pods.
    pub fn streams_need_create(self, streams_need_create: bool) -> Self {
        Self { streams_need_create, ..self }
    }

    /// Tries each right that allows the request. `path` is decoded and clean.
    pub(crate) async fn authorize(
        &self,
        user: &User,
        node: &str,
        method: &Method,
        path: &str,
    ) -> Result<(), Refused> {
        const CREATE: &str = "create";
        self.authorize_verb(user, node, verb(method), path).await?;
        if self.streams_need_create && is_stream(path) && verb(method) != CREATE {
            self.authorize_verb(user, node, CREATE, path).await?;
        }
        Ok(())
    }

    async fn authorize_verb(
        &self,
        user: &User,
        node: &str,
        verb: &'static str,
        path: &str,
    ) -> Result<(), Refused> {
        let subresources = subresources(path);
        for subresource in subresources {
            let access = Access { verb, node: node.to_owned(), subresource };
            match self.allows(user, &access).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(source) => return Err(Refused::Failed { user: user.name.clone(), access, source }),
            }
        }
        Err(Refused::Denied { user: user.name.clone(), verb, subresources })
    }

    async fn allows(&self, user: &User, access: &Access) -> Result<bool, HostError> {
        let Mode::Webhook { reviewer, allowed_ttl, denied_ttl, known } = &self.mode else { return Ok(true) };
        let key = (user.clone(), access.clone());
        if let Some(answer) = known.get(&key) {
            return Ok(answer);
        }
        let answer = reviewer.review(user, access).await?;
        known.put(key, answer, if answer { *allowed_ttl } else { *denied_ttl });
        Ok(answer)
    }
}

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.mode {
            Mode::AlwaysAllow => "AlwaysAllow",
            Mode::Webhook { .. } => "Webhook",
        })
    }
}
