//! From text to `Pod`s, with what was odd about the text.
//!
//! As the kubelet: unknown fields, keys that stand twice and further documents do not keep a pod from running.
//! Here they are told.

use kube_model::core::Pod;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_model::yaml::{self, Document, Position};
use serde_json::{Value, json};

use super::as_go;
use super::invalid::{Field, Invalid};
use crate::typed::typed;

pub(super) const UNKNOWN: &str = "unknown field, ignored";

/// Why a text is no object of Kubernetes.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Yaml(#[from] yaml::Error),
    #[error("the manifest is empty: it should hold one Pod (apiVersion: v1, kind: Pod)")]
    Empty,
    #[error("expected one Pod (apiVersion: v1, kind: Pod), found {0}")]
    NotAnObject(&'static str),
}

impl Error {
    pub(super) fn position(&self) -> Option<Position> {
        match self {
            Self::Yaml(error) => error.position(),
            Self::Empty | Self::NotAnObject(_) => None,
        }
    }
}

/// Reads the text: an object, and where its fields stand.
pub(super) fn parse(text: &[u8]) -> Result<(Document, Value), Error> {
    object(yaml::parse(text)?)
}

/// The object that a document holds, and where its fields stand.
pub(super) fn object(mut document: Document) -> Result<(Document, Value), Error> {
    match document.value.take() {
        value @ Value::Object(_) => Ok((document, value)),
        Value::Null => Err(Error::Empty),
        Value::Array(_) => Err(Error::NotAnObject("a list")),
        _ => Err(Error::NotAnObject("plain text")),
    }
}

/// The kinds that a manifest may hold one of.
const KINDS: [&str; 3] = ["Pod", "ConfigMap", "Secret"];

/// The document as one pod, ConfigMap or Secret.
pub(super) fn one_of_any(document: Value) -> Result<Value, Invalid> {
    if let Some(kind @ ("PodList" | "List")) = kind(&document) {
        let message = format!("{kind:?} is a list: a file holds one object, put each in its own file");
        return Err(Invalid::new("kind", message));
    }
    must_be(&KINDS, &document)?;
    Ok(document)
}

/// The document as one pod.
pub(super) fn one(document: Value) -> Result<Value, Invalid> {
    if let Some(kind @ ("PodList" | "List")) = kind(&document) {
        let message = format!("{kind:?} is a list: a file holds one Pod, put each in its own file");
        return Err(Invalid::new("kind", message));
    }
    must_be(&["Pod"], &document)?;
    Ok(document)
}

/// What should be a pod, ConfigMap or Secret, and its place.
pub(super) type Item = (Field, Result<Value, Invalid>);

/// What the document holds: it is one itself, or a list of them.
pub(super) fn one_or_many(mut document: Value, odd: &mut Vec<Invalid>) -> Result<Vec<Item>, Invalid> {
    must_be(&["Pod", "ConfigMap", "Secret", "PodList", "List"], &document)?;
    let items_have_a_kind = match kind(&document) {
        Some("PodList") => false,
        Some("List") => true,
        _ => return Ok(vec![(Field::default(), Ok(document))]),
    };
    let field = Field::new("items");
    let items = match document.get_mut("items").map(Value::take) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(Invalid::new("items", "expected a list of Pods".to_owned())),
    };
    let names = document.as_object().into_iter().flat_map(|fields| fields.keys());
    let unknown = names.filter(|name| !["apiVersion", "kind", "metadata", "items"].contains(&name.as_str()));
    odd.extend(unknown.map(|name| Invalid::new(name, UNKNOWN.to_owned())));
    let items = items.into_iter().enumerate().map(|(index, item)| {
        let at = field.index(index);
        let item = one_of_a_list(item, items_have_a_kind).map_err(|invalid| invalid.within(&at));
        (at, item)
    });
    Ok(items.collect())
}

fn one_of_a_list(mut item: Value, has_a_kind: bool) -> Result<Value, Invalid> {
    let Some(fields) = item.as_object_mut() else {
        return Err(Invalid::new("", "expected a Pod".to_owned()));
    };
    if has_a_kind {
        must_be(&KINDS, &item)?;
        return Ok(item);
    }
    // The list says it for them.
    fields.entry("kind").or_insert_with(|| "Pod".into());
    fields.entry("apiVersion").or_insert_with(|| "v1".into());
    must_be(&["Pod"], &item)?;
    Ok(item)
}

/// The value at `at` as a pod; what is odd about it goes to `odd`.
pub(super) fn pod(
    mut value: Value,
    at: &Field,
    document: &Document,
    odd: &mut Vec<Invalid>,
) -> Result<Pod, Invalid> {
    as_go::prepare(&mut value).map_err(|invalid| invalid.within(at))?;
    let mut unknown = |path: serde_ignored::Path<'_>| {
        odd.push(Invalid::new(ignored_field(&path), UNKNOWN.to_owned()).within(at));
    };
    typed(value, &mut unknown).map_err(|error| wrong_type(&error, at, document))
}

/// The metadata of something else than a pod, which stands at `at`.
pub(super) fn metadata(
    value: Value,
    at: &Field,
    document: &Document,
    odd: &mut Vec<Invalid>,
) -> Result<ObjectMeta, Invalid> {
    let mut object = json!({ "metadata": value });
    as_go::prepare(&mut object).map_err(|invalid| invalid.within(at))?;
    let at = at.child("metadata");
    let mut unknown = |path: serde_ignored::Path<'_>| {
        odd.push(Invalid::new(ignored_field(&path), UNKNOWN.to_owned()).within(&at));
    };
    match object["metadata"].take() {
        Value::Null => Ok(ObjectMeta::default()),
        value => typed(value, &mut unknown).map_err(|error| wrong_type(&error, &at, document)),
    }
}

pub(super) fn odd_text(document: &Document) -> Vec<Invalid> {
    let twice = document.duplicates.iter().map(|duplicate| Invalid {
        field: duplicate.path.clone(),
        at: Some(duplicate.position),
        message: "set twice in the same place; the last one is used".to_owned(),
    });
    let next = document.next_document.map(|position| Invalid {
        field: String::new(),
        at: Some(position),
        message: "only the first document is read; this one is ignored".to_owned(),
    });
    twice.chain(next).collect()
}

fn kind(value: &Value) -> Option<&str> {
    value.get("kind")?.as_str()
}

/// The types of Kubernetes take any `kind` and `apiVersion` that is missing; a manifest must name both.
fn must_be(kinds: &[&str], value: &Value) -> Result<(), Invalid> {
    let expected = || kinds.iter().map(|kind| format!("{kind:?}")).collect::<Vec<_>>().join(" or ");
    let wrong = |field: &str, message: String| Err(Invalid::new(field, message));
    match value.get("kind") {
        Some(Value::String(kind)) if kinds.contains(&kind.as_str()) => {}
        Some(Value::String(kind)) => {
            return wrong("kind", format!("{kind:?} can not be run: expected {}", expected()));
        }
        None | Some(Value::Null) => {
            return wrong("kind", format!("Required value: expected {}", expected()));
        }
        Some(_) => return wrong("kind", format!("expected {}", expected())),
    }
    match value.get("apiVersion") {
        Some(Value::String(version)) if version == "v1" || version == "/v1" => Ok(()),
        None | Some(Value::Null) => wrong("apiVersion", "Required value: expected \"v1\"".to_owned()),
        Some(other) => {
            wrong("apiVersion", format!("{other} is not the version of a {}: expected \"v1\"", kinds[0]))
        }
    }
}

fn wrong_type(
    error: &serde_path_to_error::Error<serde_json::Error>,
    at: &Field,
    document: &Document,
) -> Invalid {
    use serde_path_to_error::Segment;
    let mut field = String::new();
    for segment in error.path() {
        match segment {
            Segment::Seq { index } => push_index(&mut field, *index),
            Segment::Map { key } => push_key(&mut field, key),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    let mut invalid = Invalid::new(field, error.inner().to_string()).within(at);
    if invalid.message.ends_with("a string")
        && let Some(text) = document.unquoted(&invalid.field)
    {
        invalid.message +=
            &format!("; without quotes YAML takes {text} for another type: write \"{text}\" in quotes");
    } else if let Some(text) = needlessly_quoted(&invalid.message) {
        invalid.message += &format!(": write {text} without quotes");
    }
    invalid
}

/// The text of which `message` says that it is a string, if it would be right without its quotes.
fn needlessly_quoted(message: &str) -> Option<String> {
    let (text, expected) = message.strip_prefix("invalid type: string \"")?.split_once("\", expected ")?;
    let is_right = match expected {
        "i32" | "i64" => text.parse::<i64>().is_ok(),
        "a boolean" => matches!(text, "true" | "false"),
        _ => false,
    };
    is_right.then(|| text.to_owned())
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
