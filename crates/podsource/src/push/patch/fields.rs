//! Sets of fields, as `metadata.managedFields` has them: a tree of path elements.
//!
//! Rule: upstream `sigs.k8s.io/structured-merge-diff/fieldpath`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::lists::{List, default_key, is_atomic, list};

/// Fields below one place, and whether the place itself is one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields {
    here: bool,
    /// `f:name`, `k:{"name":"app"}` for an item with keys, `v:"text"` for an item of a set.
    below: BTreeMap<String, Fields>,
}

impl Fields {
    /// All that the pod has. What can only be replaced as a whole is one field.
    pub(super) fn of_pod(pod: &Value) -> Self {
        // The pod itself is nobody's.
        Self { here: false, ..Self::of("", pod) }
    }

    /// All that `value` has, which stands in the field `name`.
    fn of(name: &str, value: &Value) -> Self {
        let mut fields = Self::default();
        match (value, list(name)) {
            (Value::Object(object), _) if !object.is_empty() && !is_atomic(name) => {
                for (name, value) in object {
                    fields.below.insert(field(name), Self::of(name, value));
                }
            }
            (Value::Array(items), Some(kind)) if !items.is_empty() && is_merged(kind) => {
                for item in items {
                    let below = match kind {
                        List::Map { .. } => Self { here: true, ..Self::of("", item) },
                        List::Set => Self { here: true, ..Self::default() },
                    };
                    fields.below.insert(element(kind, item), below);
                }
            }
            _ => fields.here = true,
        }
        fields
    }

    /// Reads `fieldsV1`.
    pub(super) fn of_manager(json: &Value) -> Self {
        Self { here: false, ..Self::from_json(json) }
    }

    fn from_json(json: &Value) -> Self {
        let object = json.as_object().map(Map::iter).into_iter().flatten();
        let below: BTreeMap<_, _> = object
            .filter(|(name, _)| *name != ".")
            .map(|(name, json)| (name.clone(), Self::from_json(json)))
            .collect();
        Self { here: below.is_empty() || json.get(".").is_some(), below }
    }

    /// Writes `fieldsV1`.
    pub(super) fn to_json(&self) -> Value {
        let below = self.below.iter().map(|(name, fields)| (name.clone(), fields.to_json()));
        let here = (self.here && !self.below.is_empty()).then(|| (".".to_owned(), Value::Object(Map::new())));
        Value::Object(here.into_iter().chain(below).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.here && self.below.is_empty()
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.here |= other.here;
        for (name, fields) in &other.below {
            self.below.entry(name.clone()).or_default().add(fields);
        }
    }

    pub(super) fn remove(&mut self, other: &Self) {
        self.here &= !other.here;
        for (name, fields) in &other.below {
            if let Some(ours) = self.below.get_mut(name) {
                ours.remove(fields);
                if ours.is_empty() {
                    self.below.remove(name);
                }
            }
        }
    }

    /// Those of these fields that `new` has and that are not the same in `old`.
    pub(super) fn changed(&self, old: Option<&Value>, new: Option<&Value>) -> Self {
        let mut changed = Self::default();
        let added = old.is_none() && new.is_some();
        // The fields of an item speak for themselves.
        changed.here = self.here && (added || (self.below.is_empty() && !same(old, new)));
        for (name, fields) in &self.below {
            let below = |value| at(value, name);
            let fields = fields.changed(old.and_then(below), new.and_then(below));
            if !fields.is_empty() {
                changed.below.insert(name.clone(), fields);
            }
        }
        changed
    }

    /// Those that are in both.
    pub(super) fn common(&self, other: &Self) -> Self {
        let below = self.below.iter().filter_map(|(name, fields)| {
            let common = fields.common(other.below.get(name)?);
            (!common.is_empty()).then(|| (name.clone(), common))
        });
        Self { here: self.here && other.here, below: below.collect() }
    }

    /// The paths as Kubernetes prints them: `.spec.containers[name="app"].image`.
    pub(super) fn paths(&self, prefix: &str, found: &mut Vec<String>) {
        if self.here {
            found.push(prefix.to_owned());
        }
        for (element, fields) in &self.below {
            let path = match element.split_once(':') {
                Some(("k", keys)) => {
                    let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                    let keys: Vec<_> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                    format!("{prefix}[{}]", keys.join(","))
                }
                Some(("v", value)) => format!("{prefix}[={value}]"),
                Some((_, name)) => format!("{prefix}.{name}"),
                None => format!("{prefix}.{element}"),
            };
            fields.paths(&path, found);
        }
    }

    /// Takes these fields out of `value`, but for those in `kept` and what these stand in.
    pub(super) fn prune(&self, value: &mut Value, kept: &Self) {
        let nothing = Self::default();
        for (element, fields) in &self.below {
            let kept = kept.below.get(element).unwrap_or(&nothing);
            let Some(inner) = at_mut(value, element) else { continue };
            if fields.here && kept.is_empty() {
                remove(value, element);
                continue;
            }
            let was_empty = is_empty(inner);
            fields.prune(inner, kept);
            if is_empty(inner) && !was_empty && kept.is_empty() {
                remove(value, element);
            }
        }
    }
}

fn same(old: Option<&Value>, new: Option<&Value>) -> bool {
    // To apply an empty object only says that it is there.
    old == new || matches!((old, new), (Some(Value::Object(_)), Some(Value::Object(new))) if new.is_empty())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn is_merged(kind: List) -> bool {
    !matches!(kind, List::Map { keys: [], .. })
}

fn field(name: &str) -> String {
    format!("f:{name}")
}

/// The path element of an item.
fn element(kind: List, item: &Value) -> String {
    match kind {
        List::Map { keys, .. } => {
            let of = |key: &&str| item.get(key).cloned().unwrap_or_else(|| default_key(key).into());
            let keys: Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), of(key))).collect();
            format!("k:{}", Value::Object(keys))
        }
        List::Set => format!("v:{item}"),
    }
}

/// How the items of the list `name` are told apart; `None` if the list is replaced as a whole.
pub(super) fn identity(name: &str) -> Option<impl Fn(&Value) -> String> {
    let kind = list(name).filter(|kind| is_merged(*kind))?;
    Some(move |item: &Value| element(kind, item))
}

fn at<'a>(value: &'a Value, element: &str) -> Option<&'a Value> {
    match element.split_once(':')? {
        ("f", name) => value.get(name),
        _ => value.as_array()?.iter().find(|item| is_item(item, element)),
    }
}

fn at_mut<'a>(value: &'a mut Value, element: &str) -> Option<&'a mut Value> {
    match element.split_once(':')? {
        ("f", name) => value.get_mut(name),
        _ => value.as_array_mut()?.iter_mut().find(|item| is_item(item, element)),
    }
}

fn remove(value: &mut Value, element: &str) {
    match (value, element.split_once(':')) {
        (Value::Object(fields), Some((_, name))) => {
            fields.remove(name);
        }
        (Value::Array(items), _) => items.retain(|item| !is_item(item, element)),
        _ => {}
    }
}

fn is_item(item: &Value, element: &str) -> bool {
    match element.split_once(':') {
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            !keys.is_empty()
                && keys.iter().all(|(name, value)| match item.get(name) {
                    Some(is) => is == value,
                    None => default_key(name).is_some_and(|default| value == default),
                })
        }
        Some(("v", value)) => serde_json::from_str::<Value>(value).is_ok_and(|value| *item == value),
        _ => false,
    }
}
