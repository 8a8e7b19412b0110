//! Sets of fields, as `metadata.managedFields` has them: a tree of path elements.
//!
//! Rule: upstream `sigs.k8s.io/structured-merge-diff/fieldpath`.

use std::collections::{BTreeMap, HashMap};

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
            .map(|(name, json)| (canonical(name), Self::from_json(json)))
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

    /// Those of these fields that `new` has and that are not the same in `old`, of two pods.
    pub(super) fn changed(&self, old: Option<&Value>, new: Option<&Value>) -> Self {
        self.changed_in("", old, new)
    }

    /// The same of two values of the field `name`.
    fn changed_in(&self, name: &str, old: Option<&Value>, new: Option<&Value>) -> Self {
        let mut changed = Self::default();
        let added = old.is_none() && new.is_some();
        // The fields of an item speak for themselves.
        changed.here = self.here && (added || (self.below.is_empty() && !same(old, new)));
        if self.below.is_empty() {
            return changed;
        }
        let (old, new) = (Below::of(name, old), Below::of(name, new));
        for (element, fields) in &self.below {
            let name = field_name(element);
            let fields = fields.changed_in(name.unwrap_or_default(), old.at(element), new.at(element));
            if !fields.is_empty() {
                changed.below.insert(element.clone(), fields);
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

    /// Takes these fields out of a pod, but for those in `kept` and what these stand in.
    pub(super) fn prune(&self, pod: &mut Value, kept: &Self) {
        self.prune_in("", pod, kept);
    }

    /// The same of a value of the field `name`.
    fn prune_in(&self, name: &str, value: &mut Value, kept: &Self) {
        if self.below.is_empty() {
            return;
        }
        let nothing = Self::default();
        let kept_below = |element: &str| kept.below.get(element).unwrap_or(&nothing);
        match value {
            Value::Object(object) => {
                for (element, fields) in &self.below {
                    let Some(name) = field_name(element) else { continue };
                    let Some(inner) = object.get_mut(name) else { continue };
                    if fields.take_from(name, inner, kept_below(element)) {
                        object.remove(name);
                    }
                }
            }
            Value::Array(items) => {
                let Some(identity) = identity(name) else { return };
                let elements: Vec<String> = items.iter().map(identity).collect();
                let mut seen = HashMap::new();
                for (element, item) in elements.iter().zip(items.iter_mut()) {
                    let Some(fields) = self.below.get(element) else { continue };
                    // Of items with one key the first tells, and they go together.
                    seen.entry(element).or_insert_with(|| fields.take_from("", item, kept_below(element)));
                }
                let mut gone = elements.iter().map(|element| seen.get(element) == Some(&true));
                items.retain(|_| !gone.next().unwrap_or_default());
            }
            _ => {}
        }
    }

    /// Takes these fields out of `inner`, the value of the field `name`; true when it has to go as a whole.
    fn take_from(&self, name: &str, inner: &mut Value, kept: &Self) -> bool {
        if self.here && kept.is_empty() {
            return true;
        }
        let was_empty = is_empty(inner);
        self.prune_in(name, inner, kept);
        is_empty(inner) && !was_empty && kept.is_empty()
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

/// The name in a path element of a field.
fn field_name(element: &str) -> Option<&str> {
    element.strip_prefix("f:")
}

/// A path element as [`element`] writes it: clients may write the same keys in another way.
fn canonical(element: &str) -> String {
    let read = match element.split_once(':') {
        Some(("k", keys)) => serde_json::from_str::<Map<String, Value>>(keys).map(|keys| ("k", keys.into())),
        Some(("v", value)) => serde_json::from_str::<Value>(value).map(|value| ("v", value)),
        _ => return element.to_owned(),
    };
    read.map_or_else(|_| element.to_owned(), |(kind, value)| format!("{kind}:{value}"))
}

/// What stands below a place, by path elements. Lists are looked through once, not for each of their items.
enum Below<'a> {
    Object(&'a Map<String, Value>),
    Items(HashMap<String, &'a Value>),
    Nothing,
}

impl<'a> Below<'a> {
    /// Of a value of the field `name`.
    fn of(name: &str, value: Option<&'a Value>) -> Self {
        match (value, identity(name)) {
            (Some(Value::Object(object)), _) => Self::Object(object),
            (Some(Value::Array(items)), Some(identity)) => {
                let mut by_identity = HashMap::with_capacity(items.len());
                for item in items {
                    by_identity.entry(identity(item)).or_insert(item);
                }
                Self::Items(by_identity)
            }
            _ => Self::Nothing,
        }
    }

    fn at(&self, element: &str) -> Option<&'a Value> {
        match self {
            Self::Object(object) => object.get(field_name(element)?),
            Self::Items(items) => items.get(element).copied(),
            Self::Nothing => None,
        }
    }
}
