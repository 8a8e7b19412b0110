//! Server-side apply: a manager says what it wants of the pod, and `metadata.managedFields` remembers whose each field
//! is. What a manager no longer asks for and nobody else has goes.
//!
//! Rule: upstream `sigs.k8s.io/structured-merge-diff/merge/update.go` and
//! `k8s.io/apimachinery/pkg/util/managedfields`.

use std::collections::BTreeSet;

use kube_model::Timestamp;
use serde_json::{Map, Value};

use super::PatchError;
use super::fields::{Fields, identity};
use super::lists::{bounded, is_atomic, ordered, places};
use crate::error::Cause;

/// Longest name of a manager, in bytes.
const MAX_MANAGER: usize = 128;

/// Who has the fields of a pod that nobody applied before. Rule: upstream `managedfields/internal/skipnonapplied.go`.
const BEFORE_FIRST: &str = "before-first-apply";

/// Fields of the server's own, which nobody owns. Rule: upstream `managedfields/internal/stripmeta.go`,
/// `pkg/registry/core/pod/strategy.go` `GetResetFields`.
const OF_THE_SERVER: [&str; 12] = [
    "name",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "clusterName",
    "generateName",
];

/// One manager and its fields.
struct Owner {
    /// The entry of the list, but for its fields.
    entry: Map<String, Value>,
    fields: Fields,
}

impl Owner {
    fn new(manager: &str, operation: &str) -> Self {
        let entry = [
            ("manager", manager),
            ("operation", operation),
            ("apiVersion", "v1"),
            ("fieldsType", "FieldsV1"),
        ];
        let entry = entry.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        Self { entry, fields: Fields::default() }
    }

    fn text(&self, name: &str) -> &str {
        self.entry.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn is(&self, manager: &str, operation: &str) -> bool {
        self.text("manager") == manager
            && self.text("operation") == operation
            && self.text("subresource").is_empty()
    }

    fn touch(&mut self, now: Timestamp) {
        self.entry.insert("time".to_owned(), format!("{now:.0}").into());
    }
}

pub(super) fn apply(
    live: Value,
    config: Value,
    manager: &str,
    force: bool,
    now: Timestamp,
) -> Result<Value, PatchError> {
    let malformed = |what: String| Err(PatchError::Malformed(what));
    if manager.is_empty() || manager.len() > MAX_MANAGER {
        return malformed(format!("fieldManager: must have 1 to {MAX_MANAGER} bytes for an apply patch"));
    }
    if config.pointer("/metadata/managedFields").is_some_and(|managed| !managed.is_null()) {
        return malformed("metadata.managedFields must be nil".to_owned());
    }
    if !config.is_object() {
        return malformed("an apply patch is an object".to_owned());
    }
    let config = without_nulls(config);
    unique_items("", &config, "")?;

    let mut owners = owners(&live);
    if owners.is_empty() && live.is_object() {
        let mut before = Owner::new(BEFORE_FIRST, "Update");
        before.fields = Fields::of_pod(&owned_part(&live));
        before.touch(now);
        owners.push(before);
    }
    let (place, mut ours) = take(&mut owners, manager, "Apply");

    let applied = Fields::of_pod(&owned_part(&config));
    let changed = applied.changed(Some(&live), Some(&config));
    let mut conflicts = Vec::new();
    for owner in &mut owners {
        let disputed = owner.fields.common(&changed);
        if force {
            owner.fields.remove(&disputed);
        } else {
            let mut paths = Vec::new();
            disputed.paths("", &mut paths);
            conflicts.extend(paths.into_iter().map(|field| conflict(owner, field)));
        }
    }
    if !conflicts.is_empty() {
        return Err(PatchError::Conflict(conflicts));
    }

    let before = live.clone();
    let mut merged = merge("", live, &config);
    let mut kept = applied.clone();
    owners.iter().for_each(|owner| kept.add(&owner.fields));
    ours.fields.prune(&mut merged, &kept);

    let same_fields = ours.fields == applied;
    ours.fields = applied;
    // An apply that changes nothing must not make a new version for its time.
    if !same_fields || owned_part(&merged) != owned_part(&before) {
        ours.touch(now);
    }
    owners.insert(place, ours);
    set_owners(&mut merged, owners);
    Ok(merged)
}

/// See [`super::track`].
pub(super) fn track(old: &Value, new: &mut Value, manager: &str, now: Timestamp) {
    let reset = new
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .is_some_and(|list| list.iter().all(|entry| entry.as_object().is_some_and(Map::is_empty)));
    let mut owners = if reset { Vec::new() } else { owners(old) };
    if owners.is_empty() {
        set_owners(new, owners);
        return;
    }
    let (before, after) = (owned_part(old), owned_part(new));
    let now_there = Fields::of_pod(&after);
    let mut removed = Fields::of_pod(&before);
    removed.remove(&now_there);
    let changed = now_there.changed(Some(&before), Some(&after));
    for owner in &mut owners {
        owner.fields.remove(&removed);
        if !owner.is(manager, "Update") {
            owner.fields.remove(&changed);
        }
    }
    if !changed.is_empty() {
        let (place, mut ours) = take(&mut owners, manager, "Update");
        ours.fields.add(&changed);
        ours.touch(now);
        owners.insert(place, ours);
    }
    set_owners(new, owners);
}

/// Takes the manager out of the list, or makes it, and says where it belongs: a new order would be a new version.
fn take(owners: &mut Vec<Owner>, manager: &str, operation: &str) -> (usize, Owner) {
    match owners.iter().position(|owner| owner.is(manager, operation)) {
        Some(place) => (place, owners.remove(place)),
        None => (owners.len(), Owner::new(manager, operation)),
    }
}

fn conflict(owner: &Owner, field: String) -> Cause {
    let using = match owner.text("operation") {
        "Update" => format!(" using {} at {}", owner.text("apiVersion"), owner.text("time")),
        _ => String::new(),
    };
    let message = format!("conflict with {:?}{using}", owner.text("manager"));
    Cause { reason: "FieldManagerConflict", message, field }
}

fn owners(pod: &Value) -> Vec<Owner> {
    let entries = pod.pointer("/metadata/managedFields").and_then(Value::as_array);
    let owner = |entry: &Value| {
        let mut entry = entry.as_object()?.clone();
        let fields = Fields::of_manager(&entry.remove("fieldsV1")?);
        Some(Owner { entry, fields })
    };
    entries.into_iter().flatten().filter_map(owner).collect()
}

fn set_owners(pod: &mut Value, owners: Vec<Owner>) {
    let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let entries: Vec<Value> = owners
        .into_iter()
        .filter(|owner| !owner.fields.is_empty())
        .map(|Owner { mut entry, fields }| {
            entry.insert("fieldsV1".to_owned(), fields.to_json());
            entry.into()
        })
        .collect();
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), entries.into());
    }
}

/// What of a pod somebody can own.
fn owned_part(pod: &Value) -> Value {
    let mut pod = pod.clone();
    if let Some(fields) = pod.as_object_mut() {
        for name in ["apiVersion", "kind", "status"] {
            fields.remove(name);
        }
        let metadata = fields.get_mut("metadata").and_then(Value::as_object_mut);
        if let Some(metadata) = metadata {
            OF_THE_SERVER.iter().for_each(|name| drop(metadata.remove(*name)));
            if metadata.is_empty() {
                fields.remove("metadata");
            }
        }
    }
    pod
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            fields.map(|(name, value)| (name, without_nulls(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// Items that can not be told apart can not be owned apart.
fn unique_items(name: &str, value: &Value, path: &str) -> Result<(), PatchError> {
    match value {
        Value::Object(fields) => {
            fields.iter().try_for_each(|(name, value)| unique_items(name, value, &format!("{path}.{name}")))
        }
        Value::Array(items) => {
            let Some(identity) = identity(name) else { return Ok(()) };
            bounded(name, items)?;
            let mut before = BTreeSet::new();
            for (index, item) in items.iter().enumerate() {
                if !before.insert(identity(item)) {
                    return Err(PatchError::Malformed(format!(
                        "{path}[{index}]: an item before has the same key"
                    )));
                }
                unique_items("", item, &format!("{path}[{index}]"))?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn merge(name: &str, live: Value, config: &Value) -> Value {
    match (live, config) {
        (Value::Object(mut live), Value::Object(config)) if !is_atomic(name) => {
            for (name, value) in config {
                let before = live.remove(name).unwrap_or_default();
                live.insert(name.clone(), merge(name, before, value));
            }
            live.into()
        }
        (Value::Array(live), Value::Array(config)) => {
            let Some(identity) = identity(name) else { return config.clone().into() };
            let identity = |item: &Value| Some(identity(item));
            let places = places(&live, identity);
            let mut items = live.clone();
            for item in config {
                let place = identity(item).and_then(|identity| places.get(&identity));
                match place.and_then(|place| items.get_mut(*place)) {
                    Some(before) => *before = merge("", before.take(), item),
                    None => items.push(item.clone()),
                }
            }
            ordered(items, config, &live, identity).into()
        }
        (_, config) => config.clone(),
    }
}
