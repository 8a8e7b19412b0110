//! What a client may change in a pod that exists. Pure.
//!
//! Rule: upstream `pkg/apis/core/validation/validation.go` `ValidatePodUpdate`.

use kube_model::core::Pod;

use super::error::Cause;

/// Compares the stored pod with the new version.
///
/// # Errors
/// Every field that must not change so.
pub(crate) fn check(old: &Pod, new: &Pod) -> Result<(), Vec<Cause>> {
    if old.spec == new.spec {
        return Ok(());
    }
    Err(vec![Cause {
        reason: "FieldValueForbidden",
        message: "Forbidden: pod updates may not change fields other than the image".to_owned(),
        field: "spec".to_owned(),
    }])
}
