//! Whether a user may do what a request asks for.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::User;
use super::attributes::{Access, subresources, verb};
use super::cache::Cache;
use crate::host::{AccessReviewer, HostError};

/// Answers that are remembered.
const MOST_ANSWERS: usize = 8192;

/// How rights are found out.
pub struct Authorization(Mode);

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
        Self(Mode::AlwaysAllow)
    }

    /// Asks `reviewer`; a yes holds for `allowed_ttl`, a no for `denied_ttl`.
    pub fn webhook(reviewer: Arc<dyn AccessReviewer>, allowed_ttl: Duration, denied_ttl: Duration) -> Self {
        Self(Mode::Webhook { reviewer, allowed_ttl, denied_ttl, known: Cache::new(MOST_ANSWERS) })
    }

    /// Tries each right that allows the request. `path` is decoded and clean.
    pub(crate) async fn authorize(
        &self,
        user: &User,
        node: &str,
        method: &Method,
        path: &str,
    ) -> Result<(), Refused> {
        let subresources = subresources(path);
        for subresource in subresources {
            let access = Access { verb: verb(method), node: node.to_owned(), subresource };
            match self.allows(user, &access).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(source) => return Err(Refused::Failed { user: user.name.clone(), access, source }),
            }
        }
        Err(Refused::Denied { user: user.name.clone(), verb: verb(method), subresources })
    }

    async fn allows(&self, user: &User, access: &Access) -> Result<bool, HostError> {
        let Mode::Webhook { reviewer, allowed_ttl, denied_ttl, known } = &self.0 else { return Ok(true) };
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
        f.write_str(match self.0 {
            Mode::AlwaysAllow => "AlwaysAllow",
            Mode::Webhook { .. } => "Webhook",
        })
    }
}
