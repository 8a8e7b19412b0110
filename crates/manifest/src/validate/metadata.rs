//! Name, namespace, labels and annotations, which become folder names, environment and runtime labels; who owns the pod
//! and who holds it.

use std::collections::BTreeMap;

use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

use super::super::invalid::{Field, Report};
use super::syntax;

/// Most bytes that the keys and values of all annotations may have together.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// What file systems take. Upstream lets such a pod in, whose folder can then never be made.
const MAX_FILE_NAME: usize = 255;
/// Longest name of a field manager and of a subresource, in bytes.
const MAX_MANAGER: usize = 128;
const MAX_SUBRESOURCE: usize = 256;

pub(super) fn check(report: &mut Report, field: &Field, meta: &ObjectMeta) {
    check_object(report, field, meta);
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    // One that the store will give it has the length of a UUID.
    let uid = meta.uid.as_ref().map_or("00000000-0000-0000-0000-000000000000".len(), String::len);
    let logs = text(&meta.namespace) + text(&meta.name) + uid + "__".len();
    if logs > MAX_FILE_NAME {
        let why = format!(
            "the folder of its logs, <namespace>_<name>_<uid>, would have a name of {logs} bytes, and a file's has at \
             most {MAX_FILE_NAME}"
        );
        report.invalid(&field.child("name"), meta.name.as_deref().unwrap_or_default(), why);
    }
}

/// What holds for any object of a namespace.
pub(crate) fn check_object(report: &mut Report, field: &Field, meta: &ObjectMeta) {
    if let Some(base) = meta.generate_name.as_deref().filter(|base| !base.is_empty()) {
        // More will follow, so that it may end in a dash.
        let as_name = base
            .strip_suffix('-')
            .filter(|base| !base.is_empty())
            .map_or(base.to_owned(), |base| format!("{base}a"));
        report.check(&field.child("generateName"), base, syntax::dns_subdomain(&as_name));
    }
    let name = meta.name.as_deref().unwrap_or_default();
    report.check(&field.child("name"), name, syntax::dns_subdomain(name));
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    report.check(&field.child("namespace"), namespace, syntax::dns_label(namespace));
    report.not_negative(&field.child("generation"), meta.generation);
    labels(report, &field.child("labels"), meta.labels.as_ref());
    owners(report, &field.child("ownerReferences"), meta);
    finalizers(report, &field.child("finalizers"), meta);
    for (index, entry) in meta.managed_fields.iter().flatten().enumerate() {
        managed(report, &field.child("managedFields").index(index), entry);
    }

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

fn owners(report: &mut Report, field: &Field, meta: &ObjectMeta) {
    let mut controller: Option<&str> = None;
    for (index, owner) in meta.owner_references.iter().flatten().enumerate() {
        let at = field.index(index);
        let version = match owner.api_version.split('/').collect::<Vec<_>>()[..] {
            [version] | [_, version] => version,
            _ => "",
        };
        if version.is_empty() {
            report.invalid(&at.child("apiVersion"), &owner.api_version, "version must not be empty");
        }
        for (name, value) in [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
            if value.is_empty() {
                report.invalid(&at.child(name), value, "must not be empty");
            }
        }
        if (owner.api_version.as_str(), owner.kind.as_str()) == ("v1", "Event") {
            report.invalid(&at, &owner.kind, "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner.controller == Some(true) {
            if let Some(other) = controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {other} \
                     and {}",
                    owner.name
                );
                report.invalid(field, &owner.name, why);
            }
            controller = Some(&owner.name);
        }
    }
}

fn managed(report: &mut Report, field: &Field, entry: &ManagedFieldsEntry) {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (operation, fields, manager) =
        (text(&entry.operation), text(&entry.fields_type), text(&entry.manager));
    if !["Apply", "Update"].contains(&operation.as_str()) {
        report.invalid(&field.child("operation"), operation, "must be `Apply` or `Update`");
    }
    if !["", "FieldsV1"].contains(&fields.as_str()) {
        report.invalid(&field.child("fieldsType"), fields, "must be `FieldsV1`");
    }
    if manager.len() > MAX_MANAGER {
        report.too_long(&field.child("manager"), MAX_MANAGER);
    } else if manager.contains(|c: char| c.is_control() || (c.is_whitespace() && c != ' ')) {
        report.invalid(&field.child("manager"), manager, "must have no characters that can not be printed");
    }
    if text(&entry.subresource).len() > MAX_SUBRESOURCE {
        report.too_long(&field.child("subresource"), MAX_SUBRESOURCE);
    }
}

fn finalizers(report: &mut Report, field: &Field, meta: &ObjectMeta) {
    const ORPHAN: &str = "orphan";
    const FOREGROUND: &str = "foregroundDeletion";
    let all = meta.finalizers.as_deref().unwrap_or_default();
    for (index, name) in all.iter().enumerate() {
        let field = field.index(index);
        let complaint = syntax::qualified_name(name);
        if complaint.is_none()
            && !name.contains('/')
            && !["kubernetes", ORPHAN, FOREGROUND].contains(&&**name)
        {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            report.invalid(&field, name, why);
        }
        report.check(&field, name, complaint);
    }
    let has = |wanted: &str| all.iter().any(|name| name == wanted);
    if has(ORPHAN) && has(FOREGROUND) {
        let why = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        report.invalid(field, all, why);
    }
}

/// Labels, and what looks like them: node selectors.
pub(super) fn labels(report: &mut Report, field: &Field, labels: Option<&BTreeMap<String, String>>) {
    for (key, value) in labels.into_iter().flatten() {
        report.check(&field.key(key), key, syntax::qualified_name(key));
        report.check(&field.key(key), value, syntax::label_value(value));
    }
}
