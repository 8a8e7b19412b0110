//! How the lists of a pod are merged, by the name of the field. A name is never used for two kinds of lists in a pod.
//!
//! Rule: the tags `patchMergeKey`, `listType` and `listMapKey` of upstream's `k8s.io/api/core/v1/types.go` and
//! `k8s.io/apimachinery/pkg/apis/meta/v1/types.go`. All other lists are replaced as a whole.

use std::collections::HashMap;

use serde_json::Value;

use super::PatchError;

/// A list whose items are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// Of objects.
    Map {
        /// The field that tells them apart in a strategic merge patch; `None` if that replaces the list.
        merge_key: Option<&'static str>,
        /// The fields that do so in server-side apply, sorted; none if that replaces the list.
        keys: &'static [&'static str],
    },
    /// Of texts.
    Set,
}

/// The list with this name.
pub(super) fn list(name: &str) -> Option<List> {
    let map = |merge_key, keys| Some(List::Map { merge_key: Some(merge_key), keys });
    match name {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "env"
        | "imagePullSecrets"
        | "schedulingGates"
        | "resourceClaims"
        | "resourceClaimStatuses"
        | "allocatedResourcesStatus"
        | "evictionResponders" => map("name", &["name"]),
        "ports" => map("containerPort", &["containerPort", "protocol"]),
        "volumeMounts" => map("mountPath", &["mountPath"]),
        "volumeDevices" => map("devicePath", &["devicePath"]),
        "hostAliases" | "podIPs" => map("ip", &["ip"]),
        "hostIPs" => map("ip", &[]),
        "topologySpreadConstraints" => map("topologyKey", &["topologyKey", "whenUnsatisfiable"]),
        "conditions" => map("type", &["type"]),
        "ownerReferences" => map("uid", &["uid"]),
        "nodeAllocatableResourceClaimStatuses" => map("resourceClaimName", &["resourceClaimName"]),
        "claims" => Some(List::Map { merge_key: None, keys: &["name"] }),
        "finalizers" => Some(List::Set),
        _ => None,
    }
}

/// What server-side apply takes for a field that an item leaves out and that tells it apart.
pub(super) fn default_key(key: &str) -> Option<&'static str> {
    (key == "protocol").then_some("TCP")
}

/// Objects that server-side apply replaces as a whole. Rule: the tags `structType=atomic` and `mapType=atomic`.
pub(super) fn is_atomic(name: &str) -> bool {
    matches!(
        name,
        "nodeSelector"
            | "labelSelector"
            | "namespaceSelector"
            | "selector"
            | "configMapKeyRef"
            | "secretKeyRef"
            | "fileKeyRef"
            | "fieldRef"
            | "resourceFieldRef"
            | "secretRef"
            | "nodePublishSecretRef"
            | "dataSource"
            | "requiredDuringSchedulingIgnoredDuringExecution"
    )
}

/// A longer list in a patch is refused: no pod has one.
const MOST_ITEMS: usize = 10_000;

/// Refuses a list of a patch that is too long.
pub(super) fn bounded(name: &str, items: &[Value]) -> Result<(), PatchError> {
    if items.len() <= MOST_ITEMS {
        return Ok(());
    }
    Err(PatchError::TooLarge(format!(
        "the list {name} of the patch has {} items, and {MOST_ITEMS} are the most that are merged",
        items.len()
    )))
}

/// Where the items of a list stand, by what tells them apart; of two of one name the first.
pub(super) fn places(items: &[Value], identity: impl Fn(&Value) -> Option<String>) -> HashMap<String, usize> {
    let mut places = HashMap::with_capacity(items.len());
    for (place, item) in items.iter().enumerate() {
        if let Some(identity) = identity(item) {
            places.entry(identity).or_insert(place);
        }
    }
    places
}

/// The items that stand in `order`, in that order, and between them the others, as near as can be to where they stood
/// `before`. Rule: upstream `mergeSortedSlice` of `strategicpatch`, and the same in `structured-merge-diff`.
pub(super) fn ordered(
    items: Vec<Value>,
    order: &[Value],
    before: &[Value],
    identity: impl Fn(&Value) -> Option<String>,
) -> Vec<Value> {
    let (in_order, in_before) = (places(order, &identity), places(before, &identity));
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for item in items {
        let identity = identity(&item);
        let place = |list: &HashMap<String, usize>| identity.as_ref().and_then(|is| list.get(is).copied());
        match place(&in_order) {
            Some(at) => named.push((at, place(&in_before), item)),
            None => others.push((place(&in_before), item)),
        }
    }
    named.sort_by_key(|(at, ..)| *at);
    others.sort_by_key(|(before, _)| before.unwrap_or(usize::MAX));
    let mut all = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, before, item) in named {
        if let Some(at) = before {
            while let Some((_, other)) = others.next_if(|(before, _)| before.is_some_and(|o| o < at)) {
                all.push(other);
            }
        }
        all.push(item);
    }
    all.extend(others.map(|(_, item)| item));
    all
}
