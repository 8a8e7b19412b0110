//! Patches of a pod, as JSON: the four kinds that Kubernetes has. Pure.

mod apply;
mod fields;
mod json;
mod lists;
mod strategic;
#[cfg(test)]
mod tests;

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
    /// It asks for more than one request may.
    #[error("Request entity too large: {0}")]
    TooLarge(String),
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
            Self::TooLarge(_) => ApiError::new(413, "RequestEntityTooLarge", self.to_string()),
            // Without the name: kubectl shows the message only of an error that is about no object.
            Self::Unprocessable(_) => ApiError::new(422, "Invalid", self.to_string()),
            Self::Conflict(causes) => ApiError::apply_conflict(name, causes),
        }
    }
}

/// Applies `patch` to the pod `current`. Server-side apply makes a new pod of `null`.
///
/// # Errors
/// See [`PatchError`].
pub(crate) fn apply(kind: &PatchType, current: &Value, patch: &Value) -> Result<Value, PatchError> {
    let mut patched = current.clone();
    match kind {
        PatchType::Json => json::apply(&mut patched, patch)?,
        PatchType::Merge => json_patch::merge(&mut patched, patch),
        PatchType::Strategic => strategic::merge(&mut patched, patch.clone())?,
        PatchType::Apply { manager, force, now } => {
            patched = apply::apply(patched, patch.clone(), manager, *force, *now)?;
        }
    }
    if patched.is_object() {
        Ok(patched)
    } else {
        Err(PatchError::Malformed("the patch makes something of the pod that is no object".to_owned()))
    }
}

/// Puts into `metadata.managedFields` what `manager` changed from `old` to `new` by any other way than server-side
/// apply. Without it a later apply would not see that the fields are another one's. Like Kubernetes it takes the
/// managed fields of `old` if `new` has none, and forgets all of them if `new` has an empty list. Unlike Kubernetes it
/// does nothing to a pod that nobody ever applied on the server.
pub(crate) fn track(old: &Value, new: &mut Value, manager: &str, now: Timestamp) {
    apply::track(old, new, manager, now);
}
