//! A pod that was sent, instead of read from a manifest: decoded by the same rules, defaulted and validated as static
//! pods are, because there is no API server either that could resolve what it refers to. Its mistakes are told in the
//! words of the API.

use kube_model::core::Pod;
use kube_model::labels;
use kube_model::yaml::{self, Document};
use serde_json::Value;

use super::invalid::{Field, Invalid, Report};
use super::{MAX_PROBLEMS, decode, defaults, shortened, validate};

/// A pod as it was sent.
#[derive(Debug)]
pub struct Submitted {
    /// The pod, without defaults.
    pub pod: Pod,
    /// Unknown and duplicate fields.
    pub odd: Vec<String>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Kubernetes' word: `FieldValueInvalid`, `FieldManagerConflict`.
    pub reason: &'static str,
    /// With the field before it, as it is read in a list of causes.
    pub message: String,
    /// Path of the field: `spec.containers[0].image`.
    pub field: String,
}

/// Reads the pod of a body.
///
/// # Errors
/// What keeps the text from being a pod, with its place.
pub fn decode(text: &[u8]) -> Result<Submitted, String> {
    let (document, value, mut odd) = document(text)?;
    let pod = typed(value, &document, &mut odd).map_err(|invalid| message_of(&invalid, Some(&document)))?;
    Ok(Submitted { pod, odd })
}

/// Reads the object of a body, which says that it is a pod but may be a part of one; with duplicate fields.
///
/// # Errors
/// What keeps the text from being one object of kind Pod.
pub fn document(text: &[u8]) -> Result<(Document, Value, Vec<String>), String> {
    let (document, value) = decode::parse(text).map_err(|error| match error.position() {
        Some(at) => format!("line {}, column {}: {error}", at.line, at.column),
        None => error.to_string(),
    })?;
    // A manifest file may have more. Here the client would take all of it for accepted.
    if let Some(at) = document.next_document {
        return Err(format!("line {}: only one document can be sent at a time", at.line));
    }
    if value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List")) {
        return Err("a list can not be sent as one: send its pods one by one".to_owned());
    }
    let value = decode::one(value).map_err(|invalid| message_of(&invalid, Some(&document)))?;
    let odd = document.duplicates.iter().map(|duplicate| format!("duplicate field {:?}", duplicate.path));
    let odd = odd.collect();
    Ok((document, value, odd))
}

/// Makes a pod of an object that no longer has a text: of one that was patched.
///
/// # Errors
/// Values of the wrong type.
pub fn from_value(value: Value) -> Result<Submitted, String> {
    let no_text = yaml::parse(b"{}").map_err(|error| error.to_string())?;
    let mut odd = Vec::new();
    let value = decode::one(value).map_err(|invalid| message_of(&invalid, None))?;
    let pod = typed(value, &no_text, &mut odd).map_err(|invalid| message_of(&invalid, None))?;
    Ok(Submitted { pod, odd })
}

fn typed(value: Value, document: &Document, odd: &mut Vec<String>) -> Result<Pod, Invalid> {
    let mut unknown = Vec::new();
    let pod = decode::pod(value, &Field::default(), document, &mut unknown);
    odd.extend(
        unknown.into_iter().map(|Invalid { field, .. }| shortened(format!("unknown field {field:?}"))),
    );
    pod
}

fn message_of(invalid: &Invalid, document: Option<&Document>) -> String {
    let Invalid { field, message, .. } = invalid;
    let place = match document.and_then(|document| document.locate(field)) {
        Some(at) => format!("line {}, column {}: ", at.line, at.column),
        None => String::new(),
    };
    shortened(format!("Pod in version \"v1\" cannot be handled as a Pod: {place}{field}: {message}"))
}

/// Gives the pod its defaults and checks it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn complete(pod: &mut Pod) -> Result<(), Vec<Cause>> {
    let mut report = Report::default();
    let (metadata, meta) = (Field::new("metadata"), &pod.metadata);
    if meta.name.as_deref().is_none_or(str::is_empty) {
        report.required(&metadata.child("name"), "name or generateName is required");
    }
    let mirror = labels::CONFIG_MIRROR;
    if meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(mirror)) {
        report.forbidden(&metadata.child("annotations").key(mirror), "only mirror pods have it");
    }
    let mut found = report.into_found();
    if found.is_empty() {
        defaults::apply(pod);
        found = validate::validate(pod);
    }
    if found.is_empty() {
        return Ok(());
    }
    found.truncate(MAX_PROBLEMS);
    Err(found.into_iter().map(cause).collect())
}

/// Kubernetes' word for a mistake stands in front of its text, too.
/// Rule: upstream `k8s.io/apimachinery/pkg/util/validation/field/errors.go`.
pub(super) fn cause(Invalid { field, message, .. }: Invalid) -> Cause {
    const REASONS: [(&str, &str); 7] = [
        ("Required value", "FieldValueRequired"),
        ("Forbidden", "FieldValueForbidden"),
        ("Duplicate value", "FieldValueDuplicate"),
        ("Not found", "FieldValueNotFound"),
        ("Unsupported value", "FieldValueNotSupported"),
        ("Too long", "FieldValueTooLong"),
        ("Too many", "FieldValueTooMany"),
    ];
    let reason = REASONS.iter().find(|(text, _)| message.starts_with(text));
    Cause {
        reason: reason.map_or("FieldValueInvalid", |(_, reason)| reason),
        message: shortened(message),
        field: shortened(field),
    }
}
