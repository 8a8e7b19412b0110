//! Volumes that a pod can have without an API server.

use std::collections::BTreeSet;

use kube_model::core::{
    DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, ObjectFieldSelector, PodSpec, Volume,
};
use serde_json::Value;

use super::super::invalid::{Field, Report};
use super::{remote, resources, syntax};

pub(super) fn check_all(report: &mut Report, field: &Field, spec: &PodSpec) {
    let mut names = BTreeSet::new();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let field = field.index(index);
        let name = field.child("name");
        if volume.name.is_empty() {
            report.required(&name, "");
        } else {
            report.check(&name, &volume.name, syntax::dns_label(&volume.name));
            if !names.insert(&volume.name) {
                report.duplicate(&name, &volume.name);
            }
        }
        check(report, &field, volume);
    }
}

fn check(report: &mut Report, field: &Field, volume: &Volume) {
    let kinds = kinds(volume);
    for kind in kinds.iter().skip(1) {
        report.forbidden(&field.child(kind), "may not specify more than 1 volume type");
    }
    if let Some(empty_dir) = &volume.empty_dir {
        let field = field.child("emptyDir");
        if let Some(limit) = &empty_dir.size_limit {
            resources::quantity(report, &field.child("sizeLimit"), &limit.0);
        }
    }
    if let Some(host_path) = &volume.host_path {
        check_host_path(report, &field.child("hostPath"), host_path);
    }
    if let Some(image) = &volume.image {
        let field = field.child("image");
        if image.reference.as_deref().is_none_or(str::is_empty) {
            report.required(&field.child("reference"), "");
        }
        let policies = ["Always", "IfNotPresent", "Never"];
        report.one_of(&field.child("pullPolicy"), image.pull_policy.as_deref(), &policies);
    }
    remote::check(report, field, volume);
    if let Some(map) = &volume.config_map {
        let field = field.child("configMap");
        required(report, &field.child("name"), &map.name);
        mode(report, &field.child("defaultMode"), map.default_mode);
        items(report, &field.child("items"), map.items.as_deref());
    }
    if let Some(secret) = &volume.secret {
        let field = field.child("secret");
        required(report, &field.child("secretName"), secret.secret_name.as_deref().unwrap_or_default());
        mode(report, &field.child("defaultMode"), secret.default_mode);
        items(report, &field.child("items"), secret.items.as_deref());
    }
    if let Some(downward) = &volume.downward_api {
        let field = field.child("downwardAPI");
        mode(report, &field.child("defaultMode"), downward.default_mode);
        files(report, &field.child("items"), downward.items.as_deref());
    }
    if let Some(projected) = &volume.projected {
        let field = field.child("projected");
        mode(report, &field.child("defaultMode"), projected.default_mode);
        let mut paths = BTreeSet::new();
        for (index, source) in projected.sources.iter().flatten().enumerate() {
            let at = field.child("sources").index(index);
            let objects = [
                ("configMap", source.config_map.as_ref().map(|map| (&map.name, &map.items))),
                ("secret", source.secret.as_ref().map(|secret| (&secret.name, &secret.items))),
            ];
            for (kind, object) in objects {
                let Some((name, of_object)) = object else { continue };
                required(report, &at.child(kind).child("name"), name);
                items(report, &at.child(kind).child("items"), of_object.as_deref());
                for item in of_object.iter().flatten().filter(|item| !item.path.is_empty()) {
                    if !paths.insert(&item.path) {
                        report.invalid(&field, &item.path, "conflicting duplicate paths");
                    }
                }
            }
            if let Some(downward) = &source.downward_api {
                let field = field.child("sources").index(index).child("downwardAPI");
                files(report, &field.child("items"), downward.items.as_deref());
                for (item, file) in downward.items.iter().flatten().enumerate() {
                    if !file.path.is_empty() && !paths.insert(&file.path) {
                        let field = field.child("items").index(item).child("path");
                        report.invalid(&field, &file.path, "conflicting duplicate paths");
                    }
                }
            }
        }
    }
}

/// The volume types that are set, by the names of their fields.
fn kinds(volume: &Volume) -> Vec<String> {
    match serde_json::to_value(volume) {
        Ok(Value::Object(fields)) => {
            fields.into_iter().map(|(name, _)| name).filter(|name| name != "name").collect()
        }
        _ => Vec::new(),
    }
}

fn check_host_path(report: &mut Report, field: &Field, host_path: &HostPathVolumeSource) {
    if host_path.path.is_empty() {
        report.required(&field.child("path"), "");
    } else {
        report.check(&field.child("path"), &host_path.path, syntax::no_dot_dot(&host_path.path));
    }
    let types =
        ["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];
    report.one_of(&field.child("type"), host_path.type_.as_deref(), &types);
}

fn files(report: &mut Report, field: &Field, files: Option<&[DownwardAPIVolumeFile]>) {
    for (index, file) in files.into_iter().flatten().enumerate() {
        let field = field.index(index);
        if file.path.is_empty() {
            report.required(&field.child("path"), "");
        } else {
            report.check(&field.child("path"), &file.path, syntax::inner_path(&file.path));
        }
        mode(report, &field.child("mode"), file.mode);
        match (&file.field_ref, &file.resource_field_ref) {
            (Some(reference), None) => {
                let fields = [
                    "metadata.annotations",
                    "metadata.labels",
                    "metadata.name",
                    "metadata.namespace",
                    "metadata.uid",
                ];
                field_ref(report, &field.child("fieldRef"), reference, &fields);
            }
            (None, Some(reference)) => {
                let field = field.child("resourceFieldRef");
                if reference.container_name.as_deref().is_none_or(str::is_empty) {
                    report.required(&field.child("containerName"), "");
                }
                resources::field_ref(report, &field, reference);
            }
            (Some(_), Some(_)) => {
                report.invalid(
                    &field,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
            }
            (None, None) => report.required(&field, "one of fieldRef and resourceFieldRef is required"),
        }
    }
}

/// A reference to a field of the pod itself: one of `fields`, or one label or annotation.
pub(super) fn field_ref(
    report: &mut Report,
    field: &Field,
    reference: &ObjectFieldSelector,
    fields: &[&str],
) {
    report.one_of(&field.child("apiVersion"), reference.api_version.as_deref(), &["v1"]);
    let path = reference.field_path.as_str();
    let field = field.child("fieldPath");
    if path.is_empty() {
        return report.required(&field, "");
    }
    let subscript = |map: &str| path.strip_prefix(map)?.strip_prefix("['")?.strip_suffix("']");
    if let Some(key) = subscript("metadata.labels") {
        report.check(&field, path, syntax::qualified_name(key));
    } else if let Some(key) = subscript("metadata.annotations") {
        report.check(&field, path, syntax::qualified_name(&key.to_lowercase()));
    } else {
        // What old manifests say for the name of the node.
        let path = if path == "spec.host" { "spec.nodeName" } else { path };
        report.one_of(&field, Some(path), fields);
    }
}

fn required(report: &mut Report, field: &Field, value: &str) {
    if value.is_empty() {
        report.required(field, "");
    }
}

/// The name of a ConfigMap or Secret that has to be given.
pub(super) fn object_name(report: &mut Report, field: &Field, name: &str) {
    if name.is_empty() {
        report.required(field, "");
    } else {
        report.check(field, name, syntax::dns_subdomain(name));
    }
}

/// Which keys of an object become which files.
fn items(report: &mut Report, field: &Field, items: Option<&[KeyToPath]>) {
    for (index, item) in items.into_iter().flatten().enumerate() {
        let field = field.index(index);
        required(report, &field.child("key"), &item.key);
        required(report, &field.child("path"), &item.path);
        if !item.path.is_empty() {
            let bad = syntax::inner_path(&item.path).or_else(|| {
                // Such names are the writer's own.
                item.path.starts_with("..").then(|| "must not start with '..'".to_owned())
            });
            report.check(&field.child("path"), &item.path, bad);
        }
        mode(report, &field.child("mode"), item.mode);
    }
}

fn mode(report: &mut Report, field: &Field, mode: Option<i32>) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        report.invalid(field, mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}
