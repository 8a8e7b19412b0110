//! ConfigMaps and Secrets of manifests: for the pods of this node that no API server knows.
//!
//! Decoded by hand and not by the types of the API, whose errors quote the values that they do not like: of a Secret
//! nothing may be told but the names of its keys.

mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;

use kube_model::k8s_openapi::ByteString;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_model::objects::{Key, Kind, Object};
use kube_model::yaml::{self, Document};
use serde_json::{Map, Value, json};

use super::invalid::{Field, Invalid, Report};
use super::submitted::{Cause, cause};
use super::{MAX_PROBLEMS, decode, shortened};
pub(super) use validate::bad_key;
pub use validate::check_update;

/// The type of a Secret that says nothing of it.
const OPAQUE: &str = "Opaque";

/// A ConfigMap or Secret with all that is said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// Which of the two.
    pub kind: Kind,
    /// With name and namespace.
    pub metadata: ObjectMeta,
    /// What it holds.
    pub object: Arc<Object>,
}

impl Described {
    /// What it is known by.
    pub fn key(&self) -> Key {
        let text = |text: &Option<String>| Arc::from(text.as_deref().unwrap_or_default());
        let (namespace, name) = (text(&self.metadata.namespace), text(&self.metadata.name));
        Key { kind: self.kind, namespace, name }
    }

    /// As the API shows it. Of a Secret this has the values: to be shown to who asked for it, and to nobody else.
    pub fn to_value(&self) -> Value {
        let Object { kind, data, binary_data, immutable } = &*self.object;
        let bytes = |data: &BTreeMap<String, Vec<u8>>| {
            // Bytes are text in JSON whatever they are.
            let encoded = data.iter().map(|(key, value)| {
                (key.clone(), serde_json::to_value(ByteString(value.clone())).unwrap_or_default())
            });
            Value::Object(encoded.collect())
        };
        let mut value = json!({
            "apiVersion": "v1", "kind": self.kind.name(), "metadata": self.metadata,
        });
        match self.kind {
            Kind::ConfigMap => {
                let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned().into();
                let data: Map<_, _> = data.iter().map(|(k, v)| (k.clone(), text(v))).collect();
                if !data.is_empty() {
                    value["data"] = Value::Object(data);
                }
                if !binary_data.is_empty() {
                    value["binaryData"] = bytes(binary_data);
                }
            }
            Kind::Secret => {
                if !data.is_empty() {
                    value["data"] = bytes(data);
                }
                value["type"] = kind.as_str().into();
            }
        }
        if *immutable {
            value["immutable"] = true.into();
        }
        value
    }
}

/// The kind that a document names, if it is one of the two.
pub(super) fn kind(value: &Value) -> Option<Kind> {
    let kind = value.get("kind")?.as_str()?;
    [Kind::ConfigMap, Kind::Secret].into_iter().find(|known| known.name() == kind)
}

/// Decodes, defaults and validates the object that stands at `at`; what is odd about it goes to `odd`.
pub(super) fn read(
    value: Value,
    kind: Kind,
    at: &Field,
    document: &Document,
    odd: &mut Vec<Invalid>,
) -> Result<Described, Vec<Invalid>> {
    let within = |found: Vec<Invalid>| found.into_iter().map(|i| i.within(at)).collect::<Vec<_>>();
    let Value::Object(mut fields) = value else {
        return Err(vec![Invalid::new("", "expected an object".into())]);
    };
    let metadata = fields.remove("metadata").unwrap_or_default();
    let mut metadata: ObjectMeta = decode::metadata(metadata, at, document, odd).map_err(|e| vec![e])?;
    if metadata.namespace.as_deref().is_none_or(str::is_empty) {
        metadata.namespace = Some("default".to_owned());
    }
    let mut found = Found::default();
    let object = found.object(kind, &mut fields);
    odd.extend(fields.keys().map(|name| Invalid::new(name, decode::UNKNOWN.to_owned()).within(at)));
    if !found.0.is_empty() {
        return Err(within(found.0));
    }
    let mut report = Report::default();
    validate::check(&mut report, kind, &metadata, &object);
    let invalid = report.into_found();
    if !invalid.is_empty() {
        return Err(within(invalid));
    }
    Ok(Described { kind, metadata, object: Arc::new(object) })
}

/// Reads the text of a body, which may be a part of an object; with duplicate fields.
///
/// # Errors
/// What keeps the text from being one object.
pub fn document(text: &[u8]) -> Result<(Value, Vec<String>), String> {
    let (document, value) = decode::parse(text).map_err(|error| match error.position() {
        Some(at) => format!("line {}, column {}: {error}", at.line, at.column),
        None => error.to_string(),
    })?;
    if let Some(at) = document.next_document {
        return Err(format!("line {}: only one document can be sent at a time", at.line));
    }
    let odd = document.duplicates.iter().map(|duplicate| format!("duplicate field {:?}", duplicate.path));
    Ok((value, odd.collect()))
}

/// Decodes, defaults and validates an object that was sent or patched; with the fields that nobody knows.
///
/// # Errors
/// Everything that is wrong with it.
pub fn submitted(value: Value) -> Result<(Described, Vec<String>), Vec<Cause>> {
    let no_text = yaml::parse(b"{}").map_err(|error| vec![cause(Invalid::new("", error.to_string()))])?;
    let Some(kind) = kind(&value) else {
        return Err(vec![cause(Invalid::new("kind", "expected ConfigMap or Secret".to_owned()))]);
    };
    let mut odd = Vec::new();
    let found = read(value, kind, &Field::default(), &no_text, &mut odd);
    let unknown = odd.into_iter().map(|Invalid { field, .. }| shortened(format!("unknown field {field:?}")));
    match found {
        Ok(found) => Ok((found, unknown.collect())),
        Err(found) => Err(found.into_iter().take(MAX_PROBLEMS).map(cause).collect()),
    }
}

/// Values of the wrong type, told without them.
#[derive(Default)]
struct Found(Vec<Invalid>);

impl Found {
    fn wrong(&mut self, field: impl Into<String>, message: &str) {
        self.0.push(Invalid::new(field, message.to_owned()));
    }

    /// Takes the fields that the kind has out of `fields`.
    fn object(&mut self, kind: Kind, fields: &mut Map<String, Value>) -> Object {
        fields.remove("apiVersion");
        fields.remove("kind");
        let immutable = match fields.remove("immutable") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(immutable)) => immutable,
            Some(_) => {
                self.wrong("immutable", "expected true or false");
                false
            }
        };
        let mut object = Object { immutable, ..Object::default() };
        match kind {
            Kind::ConfigMap => {
                object.data = self.texts("data", fields.remove("data"));
                object.binary_data = self.bytes("binaryData", fields.remove("binaryData"));
            }
            Kind::Secret => {
                object.data = self.bytes("data", fields.remove("data"));
                // What stands there in plain text is stronger.
                object.data.extend(self.texts("stringData", fields.remove("stringData")));
                object.kind = match fields.remove("type") {
                    None | Some(Value::Null) => OPAQUE.to_owned(),
                    Some(Value::String(kind)) if kind.is_empty() => OPAQUE.to_owned(),
                    Some(Value::String(kind)) => kind,
                    Some(_) => {
                        self.wrong("type", "expected a string");
                        String::new()
                    }
                };
            }
        }
        object
    }

    fn texts(&mut self, field: &str, value: Option<Value>) -> BTreeMap<String, Vec<u8>> {
        let hint = "expected a string: what YAML takes for another type has to stand in quotes";
        self.map(field, value, |value| match value {
            Value::String(text) => Ok(text.into_bytes()),
            // As Go decodes it.
            Value::Null => Ok(Vec::new()),
            _ => Err(hint),
        })
    }

    fn bytes(&mut self, field: &str, value: Option<Value>) -> BTreeMap<String, Vec<u8>> {
        self.map(field, value, |value| match value {
            Value::Null => Ok(Vec::new()),
            // Its own error would quote the value.
            value @ Value::String(_) => match serde_json::from_value::<ByteString>(value) {
                Ok(bytes) => Ok(bytes.0),
                Err(_) => Err("is not base64: in a Secret plain text stands in stringData"),
            },
            _ => Err("expected base64 in quotes"),
        })
    }

    fn map(
        &mut self,
        field: &str,
        value: Option<Value>,
        decode: impl Fn(Value) -> Result<Vec<u8>, &'static str>,
    ) -> BTreeMap<String, Vec<u8>> {
        let mut map = BTreeMap::new();
        match value {
            None | Some(Value::Null) => {}
            Some(Value::Object(entries)) => {
                for (key, value) in entries {
                    match decode(value) {
                        Ok(value) => {
                            map.insert(key, value);
                        }
                        // As the paths of fields that are looked up in the text.
                        Err(why) if key.contains(['.', '[', ']']) || key.is_empty() => {
                            self.wrong(Field::new(field).key(&key).as_str(), why);
                        }
                        Err(why) => self.wrong(Field::new(field).child(&key).as_str(), why),
                    }
                }
            }
            Some(_) => self.wrong(field, "expected keys with their values"),
        }
        map
    }
}

#[cfg(test)]
mod tests;
