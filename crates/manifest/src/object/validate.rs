//! What a ConfigMap or Secret may be. Rules: upstream `pkg/apis/core/validation/validation.go` `ValidateConfigMap`,
//! `ValidateSecret` and the same of updates; `k8s.io/apimachinery/pkg/util/validation` `IsConfigMapKey`.

use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_model::objects::{Kind, Object};

use crate::invalid::{Field, Report};
use crate::submitted::Cause;
use crate::validate::metadata;

/// Most bytes of all values together.
const MAX_SIZE: usize = 1 << 20;

/// Most characters of a key.
const MAX_KEY: usize = 253;

/// Stands for a value of a Secret.
const REDACTED: &str = "<secret contents redacted>";

pub(super) fn check(report: &mut Report, kind: Kind, meta: &ObjectMeta, object: &Object) {
    let field = Field::new("metadata");
    if meta.name.as_deref().is_none_or(str::is_empty) {
        report.required(&field.child("name"), "name or generateName is required");
    }
    metadata::check_object(report, &field, meta);
    if meta.deletion_timestamp.is_some() {
        report.forbidden(&field.child("deletionTimestamp"), "remove the manifest to remove the object");
    }
    let data = Field::new("data");
    for (name, keys) in [(&data, &object.data), (&Field::new("binaryData"), &object.binary_data)] {
        for key in keys.keys() {
            report.check(&name.key(key), key, bad_key(key));
        }
    }
    for key in object.data.keys().filter(|key| object.binary_data.contains_key(*key)) {
        report.invalid(&data.key(key), key, "duplicate of key present in binaryData");
    }
    let size: usize = object.data.values().chain(object.binary_data.values()).map(Vec::len).sum();
    if size > MAX_SIZE {
        report.too_long(if kind == Kind::Secret { &data } else { const { &Field::root() } }, MAX_SIZE);
    }
    if kind == Kind::Secret {
        of_type(report, &data, meta, object);
    }
}

/// What is wrong with a key, which names a file or a variable.
pub(crate) fn bad_key(key: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if key.len() > MAX_KEY {
        return Some(format!("must be no more than {MAX_KEY} characters"));
    }
    if key.is_empty() || !key.chars().all(plain) {
        return Some(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name', or \
             'KEY_NAME', or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    }
    match key {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if key.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// What the well-known types must have.
fn of_type(report: &mut Report, data: &Field, meta: &ObjectMeta, secret: &Object) {
    let has = |key: &str| secret.data.contains_key(key);
    match secret.kind.as_str() {
        "kubernetes.io/service-account-token" => {
            let name = "kubernetes.io/service-account.name";
            if meta.annotations.as_ref().and_then(|all| all.get(name)).is_none_or(String::is_empty) {
                report.required(&Field::new("metadata").child("annotations").key(name), "");
            }
        }
        "kubernetes.io/dockerconfigjson" => docker(report, data, ".dockerconfigjson", secret),
        "kubernetes.io/dockercfg" => docker(report, data, ".dockercfg", secret),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            report.required(&data.key("username"), "");
            report.required(&data.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if secret.data.get("ssh-privatekey").is_none_or(Vec::is_empty) => {
            report.required(&data.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"].into_iter().filter(|key| !has(key)) {
                report.required(&data.key(key), "");
            }
        }
        _ => {}
    }
}

fn docker(report: &mut Report, data: &Field, key: &str, secret: &Object) {
    match secret.data.get(key) {
        None => report.required(&data.key(key), ""),
        Some(text) if serde_json::from_slice::<serde_json::Map<_, _>>(text).is_err() => {
            report.invalid(&data.key(key), REDACTED, "it is no JSON object");
        }
        Some(_) => {}
    }
}

/// What a client may not change in an object that exists.
///
/// # Errors
/// Every field that must not change so.
pub fn check_update(kind: Kind, old: &Object, new: &Object) -> Result<(), Vec<Cause>> {
    let mut causes = Vec::new();
    let mut add = |reason, field: &str, message: &str| {
        causes.push(Cause { reason, message: message.to_owned(), field: field.to_owned() });
    };
    if kind == Kind::Secret && old.kind != new.kind {
        add("FieldValueInvalid", "type", &format!("Invalid value: {:?}: field is immutable", new.kind));
    }
    if old.immutable {
        let why = "Forbidden: field is immutable when `immutable` is set";
        for (changed, field) in [
            (!new.immutable, "immutable"),
            (old.data != new.data, "data"),
            (old.binary_data != new.binary_data, "binaryData"),
        ] {
            if changed {
                add("FieldValueForbidden", field, why);
            }
        }
    }
    if causes.is_empty() { Ok(()) } else { Err(causes) }
}
