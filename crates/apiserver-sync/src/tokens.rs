//! Tokens of service accounts for pods, from the TokenRequest API.
//!
//! Each is bound to its pod, kept, and asked for anew before it expires. Rule: upstream
//! `pkg/kubelet/token/token_manager.go`. Unlike there lifetimes are measured from when a token was asked for, by a
//! clock that nobody sets: a node whose clock is wrong has tokens that work all the same.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::api::PostParams;
use kube::core::Request as ApiRequest;
use kube::{Client, Error as KubeError};
use kube_model::hash::Fnv128a;
use kube_model::k8s_openapi::api::authentication::v1::{
    BoundObjectReference, TokenRequest, TokenRequestSpec,
};
use kube_model::{PodUid, syntax};
use serde::Deserialize;
use tokio::time::Instant;

use crate::retry_after::retry_after;

/// No token is used longer than that, however long it lives.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What a server says beyond that is more than can be counted with.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// So much earlier at most tokens are asked for anew, each at another time.
const JITTER: Duration = Duration::from_secs(10);

/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// When a token that could not be had anew, but still works, is asked for again.
const RETRY: Duration = Duration::from_secs(30);

/// What a token is asked for with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request<'a> {
    /// That of pod and service account.
    pub namespace: &'a str,
    /// Whose token it is.
    pub service_account: &'a str,
    /// The pod that it is bound to.
    pub pod: &'a str,
    /// Of that pod.
    pub uid: &'a PodUid,
    /// Whom it is for; empty: the API server.
    pub audience: &'a str,
    /// How long it is to live, in seconds; the server may give it another time.
    pub expiration_seconds: i64,
}

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The token itself.
    pub token: Arc<str>,
    /// When the server says that it expires, RFC 3339.
    pub expires: Option<Arc<str>>,
    /// When to ask again: then there is a new one.
    pub refresh_at: Instant,
}

/// Without the token: it is secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("refresh_at", &self.refresh_at).finish_non_exhaustive()
    }
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There never was one.
    #[error("failed to fetch token: {0}")]
    NotFetched(String),
    /// The one that there was is of no use any more.
    #[error("token {0} expired and refresh failed: {1}")]
    Expired(String, String),
}

/// The tokens of all pods of the node. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    client: Client,
    kept: Arc<Mutex<BTreeMap<Key, Arc<Slot>>>>,
}

/// How many there are: they are secret.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("kept", &self.kept().len()).finish_non_exhaustive()
    }
}

/// What tells tokens apart, shown as text that may be logged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    uid: PodUid,
    namespace: Box<str>,
    service_account: Box<str>,
    audience: Box<str>,
    expiration_seconds: i64,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, namespace, service_account, audience, expiration_seconds } = self;
        write!(f, "{service_account:?}/{namespace:?}/{audience:?}/{expiration_seconds}/{:?}", uid.as_str())
    }
}

/// One request at a time for each token.
type Slot = tokio::sync::Mutex<Option<Held>>;

struct Held {
    token: Token,
    expires_at: Instant,
}

/// The answer, as far as it matters. No `Debug`: it holds the token.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    spec: AnswerSpec,
    status: AnswerStatus,
}

#[derive(Default, Deserialize)]
struct AnswerSpec {
    #[serde(rename = "expirationSeconds", default)]
    expiration_seconds: Option<u64>,
}

#[derive(Deserialize)]
struct AnswerStatus {
    token: String,
    #[serde(rename = "expirationTimestamp", default)]
    expires: Option<String>,
}

impl Tokens {
    /// Nothing is asked for yet.
    pub fn new(client: Client) -> Self {
        Self { client, kept: Arc::default() }
    }

    /// The token, the same one until it is time for another. One that can not be had anew is used as long as it is
    /// good.
    ///
    /// # Errors
    /// In upstream's words why there is none.
    pub async fn get(&self, request: Request<'_>) -> Result<Token, Error> {
        let key = Key {
            uid: request.uid.clone(),
            namespace: request.namespace.into(),
            service_account: request.service_account.into(),
            audience: request.audience.into(),
            expiration_seconds: request.expiration_seconds,
        };
        let slot = Arc::clone(self.kept().entry(key.clone()).or_default());
        let mut held = slot.lock().await;
        if let Some(held) = held.as_ref().filter(|held| Instant::now() < held.token.refresh_at) {
            return Ok(held.token.clone());
        }
        let sent = Instant::now();
        let (why, least) = match self.fetch(request).await {
            Ok(answer) => {
                let asked = u64::try_from(request.expiration_seconds).unwrap_or_default();
                let life = Duration::from_secs(answer.spec.expiration_seconds.unwrap_or(asked)).min(FOREVER);
                let AnswerStatus { token, expires } = answer.status;
                let refresh_at = sent + fresh(life, &key);
                let token = Token { token: token.into(), expires: expires.map(Into::into), refresh_at };
                *held = Some(Held { token: token.clone(), expires_at: sent + life });
                return Ok(token);
            }
            Err(failed) => failed,
        };
        let now = Instant::now();
        match &mut *held {
            None => Err(Error::NotFetched(why)),
            Some(held) if now >= held.expires_at => Err(Error::Expired(key.to_string(), why)),
            Some(held) => {
                tracing::error!(token = %key, "the token could not be had anew: {why}");
                held.token.refresh_at = (now + RETRY.max(least)).min(held.expires_at);
                Ok(held.token.clone())
            }
        }
    }

    /// The pod is gone, and with it its tokens.
    pub fn forget(&self, uid: &PodUid) {
        self.kept().retain(|key, _| key.uid != *uid);
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<Slot>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server's answer; or why there is none, and how long it wants to be left alone.
    async fn fetch(&self, request: Request<'_>) -> Result<Answer, (String, Duration)> {
        let Request { namespace, service_account, pod, uid, audience, expiration_seconds } = request;
        // Such a name would be another path.
        if let Some(why) = syntax::dns_subdomain(service_account).or_else(|| syntax::dns_label(namespace)) {
            let why = format!("there can be no service account \"{namespace}/{service_account}\": {why}");
            return Err((why, Duration::ZERO));
        }
        let body = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: (!audience.is_empty()).then(|| vec![audience.to_owned()]),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(pod.to_owned()),
                    uid: Some(uid.as_str().to_owned()),
                }),
                expiration_seconds: Some(expiration_seconds),
            }),
            ..TokenRequest::default()
        };
        let answer = tokio::time::timeout(ANSWER, self.post(namespace, service_account, &body)).await;
        match answer {
            Ok(Ok(text)) => serde_json::from_str(&text).map_err(|error| {
                // The decoder's own words may hold the token.
                let (line, column) = (error.line(), error.column());
                let why = format!("the answer is not what it should be (line {line}, column {column})");
                (why, Duration::ZERO)
            }),
            Ok(Err(KubeError::Api(status))) if status.code == 404 && !self.is_supported().await => {
                let why = "the API server does not have TokenRequest endpoints enabled";
                Err((why.to_owned(), Duration::ZERO))
            }
            Ok(Err(KubeError::Api(status))) => {
                let least = retry_after(&KubeError::Api(status.clone()));
                Err((status.message.clone(), least))
            }
            Ok(Err(error)) => Err((util::causes(&error), Duration::ZERO)),
            Err(_) => Err((format!("the API server did not answer within {ANSWER:?}"), Duration::ZERO)),
        }
    }

    async fn post(&self, namespace: &str, account: &str, body: &TokenRequest) -> Result<String, KubeError> {
        let request = ApiRequest::new(format!("/api/v1/namespaces/{namespace}/serviceaccounts"));
        let body = serde_json::to_vec(body).map_err(KubeError::SerdeError)?;
        let request = request.create_subresource("token", account, &PostParams::default(), body);
        // kube's own decoding logs what it can not decode.
        self.client.request_text(request.map_err(KubeError::BuildRequest)?).await
    }

    /// Whether the server knows of tokens at all; one that does not says so, or one cannot say.
    async fn is_supported(&self) -> bool {
        let resources = tokio::time::timeout(ANSWER, self.client.list_core_api_resources("v1")).await;
        let Ok(Ok(resources)) = resources else { return true };
        resources.resources.iter().any(|resource| resource.name == "serviceaccounts/token")
    }
}

/// How long a token that lives so long is used: four fifths, at most [`LONGEST`], less up to [`JITTER`].
fn fresh(life: Duration, key: &Key) -> Duration {
    let mut hash = Fnv128a::default();
    hash.write(key.to_string().as_bytes());
    let spread = hash.hex().bytes().fold(0u32, |sum, digit| sum.wrapping_mul(31).wrapping_add(digit.into()));
    let jitter = JITTER * (spread % 1000) / 1000;
    // A server that gives out tokens for seconds is not asked without an end.
    (life * 4 / 5).min(LONGEST).saturating_sub(jitter).max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests;
