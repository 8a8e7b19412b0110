//! Strategic merge patch: objects are merged, and lists whose items have a key are merged by it. Directives in the
//! patch say otherwise.
//!
//! Rule: upstream `k8s.io/apimachinery/pkg/util/strategicpatch/patch.go`; the kinds of lists in [`super::lists`].

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::PatchError;
use super::lists::{List, bounded, list, ordered, places};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_ITEMS: &str = "$deleteFromPrimitiveList/";

type Object = Map<String, Value>;

/// Merges `patch` into `current`.
pub(super) fn merge(current: &mut Value, patch: Value) -> Result<(), PatchError> {
    let Value::Object(patch) = patch else {
        return Err(malformed("a strategic merge patch is an object"));
    };
    let merged = merge_object(std::mem::take(current), patch)?;
    *current = Value::Object(merged);
    Ok(())
}

fn malformed(what: impl Into<String>) -> PatchError {
    PatchError::Malformed(what.into())
}

fn merge_object(current: Value, mut patch: Object) -> Result<Object, PatchError> {
    match patch.remove(DIRECTIVE) {
        None => {}
        Some(Value::String(directive)) if directive == "replace" => return Ok(clean_object(patch)),
        Some(Value::String(directive)) if directive == "delete" => return Ok(Object::new()),
        Some(other) => return Err(unknown_directive(&other)),
    }
    let mut current = match current {
        Value::Object(current) => current,
        _ => Object::new(),
    };
    if let Some(retained) = patch.remove(RETAIN_KEYS) {
        retain_keys(&mut current, &patch, &retained)?;
    }
    // The order is set when the lists are merged.
    let (mut orders, mut deleted) = (Object::new(), Object::new());
    let mut fields = Object::new();
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix(SET_ORDER) {
            orders.insert(list.to_owned(), value);
        } else if let Some(list) = name.strip_prefix(DELETE_ITEMS) {
            deleted.insert(list.to_owned(), value);
        } else {
            fields.insert(name, value);
        }
    }
    for (name, value) in deleted {
        let Value::Array(gone) = value else { return Err(not_a_list(DELETE_ITEMS, &name)) };
        if let Some(Value::Array(items)) = current.get_mut(&name) {
            let gone: HashSet<String> = gone.iter().map(Value::to_string).collect();
            items.retain(|item| !gone.contains(&item.to_string()));
        }
    }
    for (name, value) in fields {
        if value.is_null() {
            current.remove(&name);
            continue;
        }
        let merged = match (current.remove(&name), value) {
            (Some(before @ Value::Object(_)), Value::Object(patch)) => {
                Some(merge_object(before, patch)?.into())
            }
            (Some(Value::Array(before)), Value::Array(patch)) => {
                Some(merge_list(&name, before, patch, orders.remove(&name))?.into())
            }
            // Not there yet, or of another type: as it stands in the patch.
            (_, value) => clean(value),
        };
        if let Some(merged) = merged {
            current.insert(name, merged);
        }
    }
    for (name, order) in orders {
        if let Some(Value::Array(items)) = current.get_mut(&name) {
            let Value::Array(order) = order else { return Err(not_a_list(SET_ORDER, &name)) };
            let before = items.clone();
            *items = ordered(std::mem::take(items), &order, &before, identity(merge_key(&name)));
        }
    }
    Ok(current)
}

fn unknown_directive(directive: &Value) -> PatchError {
    malformed(format!("{DIRECTIVE}: {directive} is not known: expected \"replace\" or \"delete\""))
}

fn not_a_list(prefix: &str, name: &str) -> PatchError {
    malformed(format!("{prefix}{name} must be a list"))
}

/// Of the fields that exist only those that are named stay; the patch must not set others.
fn retain_keys(current: &mut Object, patch: &Object, retained: &Value) -> Result<(), PatchError> {
    let Value::Array(retained) = retained else {
        return Err(malformed(format!("{RETAIN_KEYS} must be a list")));
    };
    let retained: HashSet<&str> = retained.iter().filter_map(Value::as_str).collect();
    let named = |name: &str| retained.contains(name);
    let stray = |(name, value): &(&String, &Value)| {
        let directive = name.starts_with(SET_ORDER) || name.starts_with(DELETE_ITEMS);
        !value.is_null() && !directive && !named(name)
    };
    if let Some((name, _)) = patch.iter().find(stray) {
        return Err(malformed(format!(
            "{RETAIN_KEYS} must name all fields of the patch, and {name:?} is missing"
        )));
    }
    current.retain(|name, _| named(name));
    Ok(())
}

/// The field that tells the items of a list apart; `None`: the items themselves do.
fn merge_key(name: &str) -> Option<&'static str> {
    match list(name) {
        Some(List::Map { merge_key, .. }) => merge_key,
        _ => None,
    }
}

fn merge_list(
    name: &str,
    before: Vec<Value>,
    patch: Vec<Value>,
    order: Option<Value>,
) -> Result<Vec<Value>, PatchError> {
    let order = match order {
        None => None,
        Some(Value::Array(order)) => Some(order),
        Some(_) => return Err(not_a_list(SET_ORDER, name)),
    };
    bounded(name, &patch)?;
    let identity = identity(merge_key(name));
    let patched: Vec<Value> = patch.iter().filter(|item| item.get(DIRECTIVE).is_none()).cloned().collect();
    let merged = match list(name) {
        Some(List::Set) => {
            let mut items = before.clone();
            let mut known: HashSet<String> = items.iter().map(Value::to_string).collect();
            items.extend(patch.into_iter().filter(|item| known.insert(item.to_string())));
            items
        }
        Some(List::Map { merge_key: Some(key), .. }) => merge_items(name, key, before.clone(), patch)?,
        _ => {
            let items = patch.into_iter().filter_map(clean).collect();
            return Ok(items);
        }
    };
    if let Some(order) = &order {
        let in_order: HashSet<String> = order.iter().filter_map(&identity).collect();
        let stray = |item: &&Value| identity(item).is_none_or(|identity| !in_order.contains(&identity));
        if let Some(stray) = patched.iter().find(stray) {
            return Err(malformed(format!(
                "{SET_ORDER}{name} must have all items of the patch, and {stray} is missing"
            )));
        }
    }
    Ok(ordered(merged, order.as_ref().unwrap_or(&patched), &before, identity))
}

fn merge_items(
    name: &str,
    key: &str,
    mut items: Vec<Value>,
    patch: Vec<Value>,
) -> Result<Vec<Value>, PatchError> {
    let key_of = |item: &Value| {
        let value = item.get(key).filter(|value| !value.is_null()).cloned();
        value.ok_or_else(|| {
            malformed(format!("map: {item} in {name} does not contain declared merge key: {key}"))
        })
    };
    let (mut replaced, mut merged, mut gone) = (false, Vec::new(), HashSet::new());
    for item in patch {
        match item.get(DIRECTIVE) {
            None => merged.push(item),
            Some(Value::String(directive)) if directive == "delete" => {
                gone.insert(key_of(&item)?.to_string());
            }
            Some(Value::String(directive)) if directive == "replace" => replaced = true,
            Some(other) => return Err(unknown_directive(other)),
        }
    }
    let identity = identity(Some(key));
    if replaced {
        items.clear();
    }
    items.retain(|item| identity(item).is_none_or(|identity| !gone.contains(&identity)));
    let mut places = places(&items, identity);
    for item in merged {
        let value = key_of(&item)?.to_string();
        let before = places.get(&value).and_then(|place| items.get_mut(*place));
        match (before, item) {
            (Some(before), Value::Object(item)) => *before = merge_object(before.take(), item)?.into(),
            (_, item) => {
                if let Some(item) = clean(item) {
                    places.entry(value).or_insert(items.len());
                    items.push(item);
                }
            }
        }
    }
    Ok(items)
}

/// What tells an item apart from others.
fn identity(key: Option<&str>) -> impl Fn(&Value) -> Option<String> {
    move |item| match key {
        None => Some(item.to_string()),
        Some(key) => item.get(key).map(Value::to_string),
    }
}

/// What is taken from a patch as it is, without directives and nulls. `None`: it is a directive itself.
fn clean(value: Value) -> Option<Value> {
    Some(match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => return None,
        Value::Object(fields) => Value::Object(clean_object(fields)),
        Value::Array(items) => items.into_iter().filter_map(clean).collect(),
        other => other,
    })
}

fn clean_object(fields: Object) -> Object {
    let plain =
        |name: &str| name != RETAIN_KEYS && !name.starts_with(SET_ORDER) && !name.starts_with(DELETE_ITEMS);
    let kept = fields.into_iter().filter(|(name, value)| plain(name) && !value.is_null());
    kept.filter_map(|(name, value)| Some((name, clean(value)?))).collect()
}
