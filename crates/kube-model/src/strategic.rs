//! Strategic merge patches of a status: what has to be sent so that the server's copy becomes ours, without
//! touching what others wrote.
//!
//! Rule: upstream `apimachinery/pkg/util/strategicpatch`, `CreateTwoWayMergePatch`.

use serde_json::{Map, Value, json};

/// The key by which the entries of the list in a field of this name are told apart; `None`: the list is replaced
/// as a whole.
pub type MergeKey = fn(field: &str) -> Option<&'static str>;

/// The lists of a pod's status. Rule: the `patchMergeKey` tags of upstream `core/v1/types.go`.
pub fn pod_status_key(field: &str) -> Option<&'static str> {
    match field {
        "conditions" => Some("type"),
        "podIPs" | "hostIPs" => Some("ip"),
        "resourceClaimStatuses" => Some("name"),
        _ => None,
    }
}

/// The lists of a node's status. Addresses have a merge key, too, but several may be of one type, so they are
/// replaced as a whole (upstream `pkg/util/node` does so with a `$patch` directive).
pub fn node_status_key(field: &str) -> Option<&'static str> {
    (field == "conditions").then_some("type")
}

/// The patch that makes `new` of `old`; `None` when there is nothing to change. Both are JSON objects.
pub fn two_way(old: &Value, new: &Value, key: MergeKey) -> Option<Value> {
    let empty = Map::new();
    let patch = objects(old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty), key);
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn objects(old: &Map<String, Value>, new: &Map<String, Value>, key: MergeKey) -> Map<String, Value> {
    let mut patch = Map::new();
    for (name, value) in new {
        match (old.get(name), value) {
            (Some(before), _) if before == value => {}
            (Some(Value::Object(before)), Value::Object(value)) => {
                patch.insert(name.clone(), Value::Object(objects(before, value, key)));
            }
            (Some(Value::Array(before)), Value::Array(entries)) => match key(name) {
                Some(key_field) => keyed(name, before, entries, key_field, key, &mut patch),
                None => {
                    patch.insert(name.clone(), value.clone());
                }
            },
            _ => {
                patch.insert(name.clone(), value.clone());
            }
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    patch
}

/// Only the entries that differ, the keys of those that are gone, and the order of all.
fn keyed(
    name: &str,
    old: &[Value],
    new: &[Value],
    key_field: &str,
    key: MergeKey,
    patch: &mut Map<String, Value>,
) {
    let find = |list: &[Value], wanted: &Value| list.iter().position(|entry| &entry[key_field] == wanted);
    let mut entries = Vec::new();
    for entry in new {
        let id = &entry[key_field];
        let before = find(old, id).and_then(|at| old[at].as_object());
        match (before, entry.as_object()) {
            (Some(before), Some(after)) => {
                let mut changed = objects(before, after, key);
                if !changed.is_empty() {
                    changed.insert(key_field.to_owned(), id.clone());
                    entries.push(Value::Object(changed));
                }
            }
            _ => entries.push(entry.clone()),
        }
    }
    for entry in old {
        let id = &entry[key_field];
        if find(new, id).is_none() {
            entries.push(json!({"$patch": "delete", key_field: id}));
        }
    }
    let order: Vec<Value> = new.iter().map(|entry| json!({key_field: entry[key_field]})).collect();
    patch.insert(format!("$setElementOrder/{name}"), Value::Array(order));
    if !entries.is_empty() {
        patch.insert(name.to_owned(), Value::Array(entries));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_sent() {
        let table = [
            (json!({}), json!({}), json!(null)),
            (json!({"a": 1}), json!({"a": 1}), json!(null)),
            (json!({"a": 1}), json!({"a": 2, "b": 3}), json!({"a": 2, "b": 3})),
            (json!({"a": 1, "b": 1}), json!({"b": 1}), json!({"a": null})),
            (
                json!({"capacity": {"cpu": "2", "x": "1"}}),
                json!({"capacity": {"cpu": "4"}}),
                json!({"capacity": {"cpu": "4", "x": null}}),
            ),
            // Lists without a key go whole, those that were not there, too.
            (json!({"images": [1, 2]}), json!({"images": [2]}), json!({"images": [2]})),
            (
                json!({}),
                json!({"conditions": [{"type": "Ready"}]}),
                json!({"conditions": [{"type": "Ready"}]}),
            ),
            // The recorded patch of a pod whose sandbox came up.
            (
                json!({"conditions": [{"type": "A", "status": "False", "reason": "r"}, {"type": "B", "status": "True"}]}),
                json!({"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]}),
                json!({
                    "$setElementOrder/conditions": [{"type": "A"}, {"type": "B"}],
                    "conditions": [{"type": "A", "status": "True", "reason": null}],
                }),
            ),
            (
                json!({"podIPs": [{"ip": "1"}, {"ip": "2"}]}),
                json!({"podIPs": [{"ip": "2"}]}),
                json!({
                    "$setElementOrder/podIPs": [{"ip": "2"}],
                    "podIPs": [{"$patch": "delete", "ip": "1"}],
                }),
            ),
            (
                json!({"hostIPs": [{"ip": "1"}]}),
                json!({"hostIPs": [{"ip": "2"}]}),
                json!({
                    "$setElementOrder/hostIPs": [{"ip": "2"}],
                    "hostIPs": [{"ip": "2"}, {"$patch": "delete", "ip": "1"}],
                }),
            ),
        ];
        for (old, new, want) in table {
            let patch = two_way(&old, &new, pod_status_key).unwrap_or_default();
            assert_eq!(patch, want, "{old} to {new}");
        }
    }

    #[test]
    fn another_order_alone_is_a_change() {
        let (a, b) = (json!({"type": "A"}), json!({"type": "B"}));
        let patch = two_way(&json!({"conditions": [a, b]}), &json!({"conditions": [b, a]}), node_status_key);
        assert_eq!(patch, Some(json!({"$setElementOrder/conditions": [b, a]})));
    }
}
