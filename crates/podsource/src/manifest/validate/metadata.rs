//! Name, namespace, labels and annotations. They become folder names, environment and runtime labels.

use std::collections::BTreeMap;

use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::invalid::{Field, Report};
use super::syntax;

/// Most bytes that the keys and values of all annotations may have together.
const MAX_ANNOTATIONS: usize = 256 << 10;

pub(super) fn check(report: &mut Report, field: &Field, meta: &ObjectMeta) {
    let name = meta.name.as_deref().unwrap_or_default();
    report.check(&field.child("name"), name, syntax::dns_subdomain(name));
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    report.check(&field.child("namespace"), namespace, syntax::dns_label(namespace));
    labels(report, &field.child("labels"), meta.labels.as_ref());

    let field = field.child("annotations");
    let annotations = || meta.annotations.iter().flatten();
    for (key, _) in annotations() {
        // The prefix may have upper case letters in annotations.
        report.check(&field.key(key), key, syntax::qualified_name(&key.to_lowercase()));
    }
    if annotations().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MAX_ANNOTATIONS {
        report.too_long(&field, MAX_ANNOTATIONS);
    }
}

/// Labels, and what looks like them: node selectors.
pub(super) fn labels(report: &mut Report, field: &Field, labels: Option<&BTreeMap<String, String>>) {
    for (key, value) in labels.into_iter().flatten() {
        report.check(&field.key(key), key, syntax::qualified_name(key));
        report.check(&field.key(key), value, syntax::label_value(value));
    }
}
