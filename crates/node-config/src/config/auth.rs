//! Who may talk to the kubelet's server.

use kube_model::duration::GoDuration;
use serde::{Deserialize, Serialize};

use super::zero;

/// `authentication`: how the server finds out who sends a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Authentication {
    /// Client certificates.
    pub x509: X509Authentication,
    /// Bearer tokens.
    pub webhook: WebhookAuthentication,
    /// Requests without either.
    pub anonymous: AnonymousAuthentication,
}

/// `authentication.x509`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct X509Authentication {
    /// File with the authorities that client certificates are checked against; empty: none are accepted.
    #[serde(rename = "clientCAFile", skip_serializing_if = "zero")]
    pub client_ca_file: String,
}

/// `authentication.webhook`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WebhookAuthentication {
    /// Whether bearer tokens are checked by the API server's TokenReview. Default true.
    pub enabled: bool,
    /// How long an answer is good for. Default 2m.
    #[serde(rename = "cacheTTL")]
    pub cache_ttl: GoDuration,
}

/// `authentication.anonymous`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AnonymousAuthentication {
    /// Whether requests that name nobody are let in as `system:anonymous`. Default false.
    pub enabled: bool,
}

/// `authorization`: what the server lets whom do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Authorization {
    /// `Webhook` (asks the API server's SubjectAccessReview) or `AlwaysAllow`. Default `Webhook`.
    #[serde(skip_serializing_if = "zero")]
    pub mode: String,
    /// How long answers are good for.
    pub webhook: WebhookAuthorization,
}

/// `authorization.webhook`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WebhookAuthorization {
    /// How long a yes is good for. Default 5m.
    #[serde(rename = "cacheAuthorizedTTL")]
    pub cache_authorized_ttl: GoDuration,
    /// How long a no is good for. Default 30s.
    #[serde(rename = "cacheUnauthorizedTTL")]
    pub cache_unauthorized_ttl: GoDuration,
}
