//! One configuration file: from its bytes to a JSON value of which every part has a place.

use std::sync::Arc;

use kube_model::yaml::{self, Document, Position};
use serde_json::{Map, Value};

use crate::config::{API_VERSION, KIND, TypeError, join};
use crate::error::{LoadError, WrongType};
use crate::origin::{Location, Origin, Origins};
use crate::warning::Warning;

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// That of `--config`.
    Main,
    /// One of `--config-dir`.
    DropIn,
}

/// A file that holds a `KubeletConfiguration`.
pub(crate) struct Source {
    role: Role,
    name: Arc<str>,
    document: Document,
}

impl Role {
    pub(crate) fn origin(self, name: &Arc<str>, position: Option<Position>) -> Origin {
        let location = Location { file: Arc::clone(name), position };
        match self {
            Self::Main => Origin::File(location),
            Self::DropIn => Origin::DropIn(location),
        }
    }
}

impl Source {
    /// Reads `text`, which must be an object of the right kind.
    pub(crate) fn parse(role: Role, name: &str, text: &[u8]) -> Result<Self, LoadError> {
        let name: Arc<str> = name.into();
        if text.is_empty() {
            return Err(LoadError::Empty { origin: role.origin(&name, None) });
        }
        let document = yaml::parse(text)
            .map_err(|source| LoadError::Syntax { origin: role.origin(&name, source.position()), source })?;
        let source = Self { role, name, document };
        source.check_kind()?;
        Ok(source)
    }

    fn check_kind(&self) -> Result<(), LoadError> {
        let wrong = |path: &str, expected: String, got: String| {
            Err(LoadError::Kind { origin: self.origin(path), expected, got })
        };
        let object = match &self.document.value {
            Value::Null => return Err(LoadError::Empty { origin: self.role.origin(&self.name, None) }),
            Value::Object(object) => object,
            Value::Array(_) => return wrong("", "an object".to_owned(), "a list".to_owned()),
            scalar => return wrong("", "an object".to_owned(), scalar.to_string()),
        };
        for (key, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            match object.get(key) {
                Some(Value::String(text)) if text == expected => {}
                Some(value) => return wrong(key, format!("{key} {expected:?}"), value.to_string()),
                None => return wrong("", format!("{key} {expected:?}"), "none".to_owned()),
            }
        }
        Ok(())
    }

    pub(crate) fn value(&self) -> &Value {
        &self.document.value
    }

    /// Where `path` stands.
    pub(crate) fn origin(&self, path: &str) -> Origin {
        self.role.origin(&self.name, self.document.locate(path))
    }

    /// What Go passes over in silence, or with a line in the log.
    pub(crate) fn warnings(&self) -> Vec<Warning> {
        let at = |position| self.role.origin(&self.name, Some(position));
        let duplicates = self.document.duplicates.iter().map(|duplicate| Warning::Duplicate {
            field: duplicate.path.clone(),
            origin: at(duplicate.position),
        });
        let more =
            self.document.next_document.map(|position| Warning::SecondDocument { origin: at(position) });
        duplicates.chain(more).collect()
    }

    /// The fields `unknown` with their places.
    pub(crate) fn unknown(&self, unknown: Vec<String>) -> impl Iterator<Item = Warning> {
        unknown.into_iter().map(|field| {
            let origin = self.origin(&field);
            Warning::UnknownField { field, origin }
        })
    }

    /// `errors` with their places, and with a hint where YAML 1.1 makes something else of a word without quotes.
    pub(crate) fn wrong_types(&self, errors: Vec<TypeError>) -> Vec<WrongType> {
        errors
            .into_iter()
            .map(|TypeError { path: field, mut reason }| {
                if let Some(word) = self.document.unquoted(&field).filter(|_| reason.ends_with("a string")) {
                    reason.push_str(&format!(": put {word} in quotes"));
                }
                let origin = self.origin(&field);
                WrongType { field, reason, origin }
            })
            .collect()
    }

    /// Notes where each part of `value`, which stands at `path`, came from.
    pub(crate) fn note(&self, path: &str, value: &Value, origins: &mut Origins) {
        match value {
            Value::Null => {}
            Value::Object(map) => {
                for (key, value) in map {
                    self.note(&join(path, key), value, origins);
                }
            }
            Value::Array(items) => {
                origins.add(path, self.origin(path));
                for (index, item) in items.iter().enumerate() {
                    self.note(&format!("{path}[{index}]"), item, origins);
                }
            }
            // What every file must have says nothing about this one.
            Value::String(_) if matches!(path, "apiVersion" | "kind") => {}
            Value::Bool(_) | Value::Number(_) | Value::String(_) => origins.add(path, self.origin(path)),
        }
    }

    /// Merges this into `base` by RFC 7386: objects merge, null deletes, all else replaces.
    pub(crate) fn merge_into(&self, base: &mut Value, origins: &mut Origins) {
        self.merge(base, &self.document.value, "", origins);
    }

    fn merge(&self, base: &mut Value, patch: &Value, path: &str, origins: &mut Origins) {
        let Value::Object(patch) = patch else {
            base.clone_from(patch);
            origins.unset(path);
            self.note(path, patch, origins);
            return;
        };
        if !base.is_object() {
            *base = Value::Object(Map::new());
            origins.unset(path);
        }
        let Value::Object(base) = base else { return };
        for (key, value) in patch {
            let path = join(path, key);
            if value.is_null() {
                base.remove(key);
                origins.unset(&path);
            } else {
                self.merge(base.entry(key.clone()).or_insert(Value::Null), value, &path, origins);
            }
        }
    }
}
