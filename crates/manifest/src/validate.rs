//! Upstream's validation of a new pod, and what a static pod may not refer to. Finds everything at once.
//!
//! Rules: upstream `pkg/apis/core/validation/validation.go`, `k8s.io/apimachinery/pkg/api/validation/objectmeta.go`.

mod affinity;
mod annotations;
mod container;
mod handler;
pub(super) mod metadata;
mod pod;
mod references;
mod remote;
mod resources;
mod restart;
mod security;
mod selector;
mod syntax;
mod topology;
mod volume;
mod windows;

use kube_model::core::{Container, Pod, PodSpec};
use kube_model::pod::{ContainerKind, containers};

use super::invalid::{Field, Invalid, Report};

/// Everything that is wrong with a defaulted pod.
pub(super) fn validate(pod: &Pod) -> Vec<Invalid> {
    let mut report = Report::default();
    metadata::check(&mut report, &Field::new("metadata"), &pod.metadata);
    let field = Field::new("spec");
    match &pod.spec {
        Some(spec) => {
            annotations::check(&mut report, &Field::new("metadata").child("annotations"), pod, spec);
            pod::check(&mut report, &field, spec);
            references::check(&mut report, &field, spec);
        }
        None => report.required(&field, ""),
    }
    report.into_found()
}

/// Visits the containers of `spec`, which stands at `field`, each with its place: init containers and sidecars first.
fn each_container<'a>(
    field: &Field,
    spec: &'a PodSpec,
    mut visit: impl FnMut(&Field, ContainerKind, &'a Container),
) {
    let (init, regular) = (field.child("initContainers"), field.child("containers"));
    let first_regular = spec.init_containers.as_ref().map_or(0, Vec::len);
    for (index, (kind, container)) in containers(spec).enumerate() {
        let place = match kind {
            ContainerKind::Regular => regular.index(index - first_regular),
            ContainerKind::Init | ContainerKind::Sidecar => init.index(index),
        };
        visit(&place, kind, container);
    }
}
