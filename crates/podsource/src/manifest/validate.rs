//! Upstream's validation of a new pod, for the fields that a node acts on, and what a static pod may not refer
//! to. Finds everything at once.
//!
//! Not checked, because nothing on a node depends on them: affinity to other pods, topology spread, and the parameters
//! of volume plugins that need an API server.
//! Rules: upstream `pkg/apis/core/validation/validation.go`, `k8s.io/apimachinery/pkg/api/validation/objectmeta.go`.

mod affinity;
mod container;
mod handler;
mod metadata;
mod pod;
mod references;
mod resources;
mod security;
mod syntax;
mod volume;

use kube_model::core::Pod;

use super::invalid::{Field, Invalid, Report};

/// Everything that is wrong with a defaulted pod.
pub(super) fn validate(pod: &Pod) -> Vec<Invalid> {
    let mut report = Report::default();
    metadata::check(&mut report, &Field::new("metadata"), &pod.metadata);
    let field = Field::new("spec");
    match &pod.spec {
        Some(spec) => {
            pod::check(&mut report, &field, spec);
            references::check(&mut report, &field, spec);
        }
        None => report.required(&field, ""),
    }
    report.into_found()
}
