//! From text to a `Pod`, with what was odd about the text.
//!
//! As the kubelet: unknown fields, keys that stand twice and further documents do not keep a pod from running.
//! Here they are told.

use std::path::Path;

use kube_model::core::Pod;
use kube_model::view::Problem;
use kube_model::yaml::{self, Document, Position};
use serde_json::Value;

use super::invalid::Invalid;
use super::problem;

/// What came out of a text.
pub(super) struct Decoded {
    pub(super) pod: Pod,
    /// Knows where each field stands.
    pub(super) document: Document,
    /// Odd, but no reason to refuse it.
    pub(super) warnings: Vec<Invalid>,
}

/// Why a text is no pod.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Yaml(#[from] yaml::Error),
    #[error("the file is empty: it should hold one Pod (apiVersion: v1, kind: Pod)")]
    Empty,
    #[error("expected one Pod (apiVersion: v1, kind: Pod), found {0}")]
    NotAnObject(&'static str),
    #[error("{message}")]
    Field { at: Option<Position>, field: String, message: String },
}

impl Error {
    pub(super) fn into_problem(self, path: &Path) -> Problem {
        let message = self.to_string();
        match self {
            Self::Yaml(error) => problem(path, error.position(), None, message),
            Self::Empty | Self::NotAnObject(_) => problem(path, None, None, message),
            Self::Field { at, field, .. } => problem(path, at, Some(field), message),
        }
    }
}

pub(super) fn decode(text: &[u8]) -> Result<Decoded, Error> {
    let mut document = yaml::parse(text)?;
    let mut value = document.value.take();
    match &value {
        Value::Object(_) => {}
        Value::Null => return Err(Error::Empty),
        Value::Array(_) => return Err(Error::NotAnObject("a list")),
        _ => return Err(Error::NotAnObject("plain text")),
    }
    must_be_a_pod(&value, &document)?;
    as_go_reads_it(&mut value);

    let mut warnings = odd_text(&document);
    let mut unknown = |path: serde_ignored::Path<'_>| {
        warnings.push(Invalid {
            field: ignored_field(&path),
            at: None,
            message: "unknown field, ignored".to_owned(),
        });
    };
    let reader = serde_ignored::Deserializer::new(value, &mut unknown);
    let pod = serde_path_to_error::deserialize(reader).map_err(|error| wrong_type(&error, &document))?;
    Ok(Decoded { pod, document, warnings })
}

fn odd_text(document: &Document) -> Vec<Invalid> {
    let twice = document.duplicates.iter().map(|duplicate| Invalid {
        field: duplicate.path.clone(),
        at: Some(duplicate.position),
        message: "set twice in the same place; the last one is used".to_owned(),
    });
    let next = document.next_document.map(|position| Invalid {
        field: String::new(),
        at: Some(position),
        message: "only the first document of a file is read; this one is ignored".to_owned(),
    });
    twice.chain(next).collect()
}

/// The types of Kubernetes take any `kind` and `apiVersion` that is missing; a manifest must name both.
fn must_be_a_pod(value: &Value, document: &Document) -> Result<(), Error> {
    let wrong = |field: &str, message: String| {
        Err(Error::Field { at: document.locate(field), field: field.to_owned(), message })
    };
    match value.get("kind") {
        Some(Value::String(kind)) if kind == "Pod" => {}
        Some(Value::String(kind)) if kind.ends_with("List") => {
            return wrong(
                "kind",
                format!("{kind:?} is a list: a file holds one Pod, put each in its own file"),
            );
        }
        Some(Value::String(kind)) => {
            return wrong("kind", format!("{kind:?} can not be run: expected \"Pod\""));
        }
        None | Some(Value::Null) => return wrong("kind", "Required value: expected \"Pod\"".to_owned()),
        Some(_) => return wrong("kind", "expected \"Pod\"".to_owned()),
    }
    match value.get("apiVersion") {
        Some(Value::String(version)) if version == "v1" => Ok(()),
        None | Some(Value::Null) => wrong("apiVersion", "Required value: expected \"v1\"".to_owned()),
        Some(other) => wrong("apiVersion", format!("{other} is not the version of a Pod: expected \"v1\"")),
    }
}

/// What Go's decoder takes and the Rust types do not: numbers as quantities, and null as the empty string
/// where a map has strings.
fn as_go_reads_it(pod: &mut Value) {
    for path in ["/metadata/labels", "/metadata/annotations", "/spec/nodeSelector"] {
        for value in
            pod.pointer_mut(path).and_then(Value::as_object_mut).into_iter().flat_map(|m| m.values_mut())
        {
            if value.is_null() {
                *value = "".into();
            }
        }
    }
    if let Some(spec) = pod.get_mut("spec") {
        quantities(spec);
    }
}

/// Makes a text of each number that stands where a quantity belongs; the names are used for nothing else in a
/// pod's spec.
fn quantities(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(quantities),
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), &mut *value) {
                    ("limits" | "requests" | "overhead", Value::Object(amounts)) => {
                        amounts.values_mut().for_each(text_of_number);
                    }
                    ("sizeLimit" | "divisor", value) => text_of_number(value),
                    (_, value) => quantities(value),
                }
            }
        }
        _ => {}
    }
}

fn text_of_number(value: &mut Value) {
    if let Value::Number(number) = value {
        *value = Value::String(number.to_string());
    }
}

fn wrong_type(error: &serde_path_to_error::Error<serde_json::Error>, document: &Document) -> Error {
    use serde_path_to_error::Segment;
    let mut field = String::new();
    for segment in error.path() {
        match segment {
            Segment::Seq { index } => push_index(&mut field, *index),
            Segment::Map { key } => push_key(&mut field, key),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    let mut message = error.inner().to_string();
    if message.ends_with("a string")
        && let Some(text) = document.unquoted(&field)
    {
        message +=
            &format!("; without quotes YAML takes {text} for another type: write \"{text}\" in quotes");
    }
    Error::Field { at: document.locate(&field), field, message }
}

fn ignored_field(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => {
            let mut field = ignored_field(parent);
            push_index(&mut field, *index);
            field
        }
        Path::Map { parent, key } => {
            let mut field = ignored_field(parent);
            push_key(&mut field, key);
            field
        }
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            ignored_field(parent)
        }
    }
}

fn push_index(field: &mut String, index: usize) {
    field.push_str(&format!("[{index}]"));
}

fn push_key(field: &mut String, key: &str) {
    if key.contains(['.', '[', ']']) || key.is_empty() {
        field.push_str(&format!("[{key}]"));
        return;
    }
    if !field.is_empty() {
        field.push('.');
    }
    field.push_str(key);
}
