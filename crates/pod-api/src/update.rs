//! What a client may change in a pod that exists. Pure.
//!
//! Rule: upstream `pkg/apis/core/validation/validation.go` `ValidatePodUpdate`, and `ValidateObjectMetaUpdate` of
//! `k8s.io/apimachinery/pkg/api/validation`. The rest of both is validation that holds for new pods, too.

use std::collections::BTreeSet;

use kube_model::core::{Container, Pod, PodSpec, Toleration};
use kube_model::quantity::Quantity;
use serde_json::Value;

use super::error::Cause;

/// Upstream's list, in its words.
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Most fields that are named in one message.
const MAX_NAMED: usize = 10;

/// Compares the stored pod with the new version.
///
/// # Errors
/// Every field that must not change so.
pub(crate) fn check(old: &Pod, new: &Pod) -> Result<(), Vec<Cause>> {
    let mut causes = Vec::new();
    finalizers(old, new, &mut causes);
    match (&old.spec, &new.spec) {
        (Some(old), Some(new)) if old != new => spec(old, new, &mut causes),
        (Some(_), None) => causes.push(cause("FieldValueRequired", "spec", "Required value")),
        _ => {}
    }
    if causes.is_empty() { Ok(()) } else { Err(causes) }
}

fn cause(reason: &'static str, field: impl Into<String>, message: impl Into<String>) -> Cause {
    Cause { reason, message: message.into(), field: field.into() }
}

fn invalid(field: &str, value: impl std::fmt::Display, why: &str) -> Cause {
    cause("FieldValueInvalid", field, format!("Invalid value: {value}: {why}"))
}

fn forbidden(field: &str, why: impl std::fmt::Display) -> Cause {
    cause("FieldValueForbidden", field, format!("Forbidden: {why}"))
}

/// While a pod ends nothing may be added that holds it.
fn finalizers(old: &Pod, new: &Pod, causes: &mut Vec<Cause>) {
    if old.metadata.deletion_timestamp.is_none() {
        return;
    }
    let had: BTreeSet<&String> = old.metadata.finalizers.iter().flatten().collect();
    let added = new.metadata.finalizers.iter().flatten().filter(|finalizer| !had.contains(finalizer));
    let added: Vec<_> = added.map(|finalizer| format!("{finalizer:?}")).collect();
    if !added.is_empty() {
        let added = added.join(", ");
        causes.push(forbidden(
            "metadata.finalizers",
            format_args!("no new finalizers can be added if the object is being deleted, found new finalizers [{added}]"),
        ));
    }
}

fn spec(old: &PodSpec, new: &PodSpec, causes: &mut Vec<Cause>) {
    let init = |spec: &PodSpec| spec.init_containers.as_deref().map_or(0, <[Container]>::len);
    for (field, before, after) in [
        ("spec.containers", old.containers.len(), new.containers.len()),
        ("spec.initContainers", init(old), init(new)),
    ] {
        if before != after {
            causes.push(forbidden(field, "pod updates may not add or remove containers"));
            return;
        }
    }
    active_deadline(old, new, causes);
    tolerations(old, new, causes);

    // What may change is made equal; what still differs then may not.
    let mut rest = new.clone();
    let images = |to: &mut [Container], from: &[Container]| {
        to.iter_mut().zip(from).for_each(|(to, from)| to.image.clone_from(&from.image));
    };
    images(&mut rest.containers, &old.containers);
    images(
        rest.init_containers.as_deref_mut().unwrap_or_default(),
        old.init_containers.as_deref().unwrap_or_default(),
    );
    rest.active_deadline_seconds = old.active_deadline_seconds;
    rest.tolerations.clone_from(&old.tolerations);
    if old.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0)
        && rest.termination_grace_period_seconds == Some(1)
    {
        rest.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    let mut changed = Vec::new();
    differences(&json(old), &json(&rest), "spec", &mut changed);
    if changed.is_empty() {
        return;
    }
    let more = changed.len().saturating_sub(MAX_NAMED);
    changed.truncate(MAX_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    causes.push(forbidden(
        "spec",
        format_args!(
            "pod updates may not change fields other than {UPDATABLE}; this would change {}{more}",
            changed.join(", ")
        ),
    ));
}

fn active_deadline(old: &PodSpec, new: &PodSpec, causes: &mut Vec<Cause>) {
    let field = "spec.activeDeadlineSeconds";
    match (old.active_deadline_seconds, new.active_deadline_seconds) {
        (_, Some(seconds)) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            causes.push(invalid(field, seconds, "must be between 0 and 2147483647, inclusive"));
        }
        (Some(before), Some(seconds)) if before < seconds => {
            causes.push(invalid(field, seconds, "must be less than or equal to previous value"));
        }
        (Some(_), None) => {
            causes.push(invalid(field, "null", "must not update from a positive integer to nil value"));
        }
        _ => {}
    }
}

fn tolerations(old: &PodSpec, new: &PodSpec, causes: &mut Vec<Cause>) {
    let plain = |toleration: &Toleration| {
        let Toleration { key, operator, value, effect, .. } = toleration.clone();
        (key, operator, value, effect)
    };
    let kept: BTreeSet<_> = new.tolerations.iter().flatten().map(plain).collect();
    if !old.tolerations.iter().flatten().all(|before| kept.contains(&plain(before))) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        causes.push(forbidden("spec.tolerations", why));
    }
}

fn json(spec: &PodSpec) -> Value {
    // A spec has nothing that JSON can not hold.
    serde_json::to_value(spec).unwrap_or_default()
}

/// Paths of what differs. As upstream compares: empty is the same as not there, and `1` the same as `1000m`.
fn differences(old: &Value, new: &Value, path: &str, found: &mut Vec<String>) {
    match (old, new) {
        (old, new) if old == new || (is_empty(old) && is_empty(new)) => {}
        (Value::Object(a), Value::Object(b)) => {
            let added = b.keys().filter(|key| !a.contains_key(*key));
            for key in a.keys().chain(added) {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                differences(&of(a), &of(b), &format!("{path}.{key}"), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{path}[{index}]"), found);
            }
        }
        (Value::String(a), Value::String(b)) if is_quantity(path) && same_amount(a, b) => {}
        _ => found.push(path.to_owned()),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        _ => false,
    }
}

fn is_quantity(path: &str) -> bool {
    [".limits.", ".requests.", ".overhead."].iter().any(|part| path.contains(part))
        || path.ends_with(".sizeLimit")
        || path.ends_with(".divisor")
}

fn same_amount(a: &str, b: &str) -> bool {
    matches!((a.parse::<Quantity>(), b.parse::<Quantity>()), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "containers": [
                    {"name": "app", "image": "a:1", "resources": {"limits": {"cpu": "1"}}},
                    {"name": "side", "image": "s:1"},
                ],
                "initContainers": [{"name": "init", "image": "i:1"}],
                "tolerations": [{"key": "a", "effect": "NoExecute", "operator": "Exists", "tolerationSeconds": 5}],
                "terminationGracePeriodSeconds": 30,
                "activeDeadlineSeconds": 100,
            }
        })
    }

    fn checked(old: &Value, new: Value) -> Vec<String> {
        let old = serde_json::from_value(old.clone()).unwrap();
        let causes = check(&old, &serde_json::from_value(new).unwrap()).err().unwrap_or_default();
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    /// The pod with `value` at `pointer`.
    fn with(mut pod: Value, pointer: &str, value: Value) -> Value {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = pod.pointer_mut(parent).unwrap();
        match parent {
            Value::Array(items) => items.insert(name.parse().unwrap(), value),
            parent => parent[name] = value,
        }
        pod
    }

    #[test]
    fn these_changes_are_allowed() {
        for (pointer, value) in [
            ("/spec/containers/0/image", json!("a:2")),
            ("/spec/initContainers/0/image", json!("i:2")),
            ("/spec/activeDeadlineSeconds", json!(99)),
            ("/spec/tolerations/1", json!({"key": "b", "operator": "Exists"})),
            ("/spec/tolerations/0", json!({"key": "b", "operator": "Exists"})),
            ("/spec/tolerations/0/tolerationSeconds", json!(7)),
            ("/metadata/labels", json!({"x": "y"})),
            ("/metadata/finalizers", json!(["example.com/f"])),
            ("/spec/containers/0/resources/limits/cpu", json!("1000m")),
            ("/spec/containers/0/ports", json!([])),
            ("/spec/securityContext", json!({})),
        ] {
            assert_eq!(checked(&pod(), with(pod(), pointer, value)), Vec::<String>::new(), "{pointer}");
        }
        let negative = with(pod(), "/spec/terminationGracePeriodSeconds", json!(-1));
        assert_eq!(
            checked(&negative, with(pod(), "/spec/terminationGracePeriodSeconds", json!(1))),
            Vec::<String>::new()
        );
    }

    #[test]
    fn all_others_are_refused_in_the_words_of_kubernetes() {
        let spec = |changed: &str| {
            format!(
                "spec: Forbidden: pod updates may not change fields other than {UPDATABLE}; this would change {changed}"
            )
        };
        let toleration = "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds";
        for (pointer, value, expected) in [
            ("/spec/hostNetwork", json!(true), spec("spec.hostNetwork")),
            ("/spec/containers/0/name", json!("other"), spec("spec.containers[0].name")),
            ("/spec/containers/1/ports", json!([{"containerPort": 1}]), spec("spec.containers[1].ports")),
            ("/spec/containers/0/resources/limits/cpu", json!("1001m"), spec("spec.containers[0].resources.limits.cpu")),
            ("/spec/terminationGracePeriodSeconds", json!(1), spec("spec.terminationGracePeriodSeconds")),
            ("/spec/nodeName", json!("other"), spec("spec.nodeName")),
            (
                "/spec/containers/2",
                json!({"name": "third"}),
                "spec.containers: Forbidden: pod updates may not add or remove containers".to_owned(),
            ),
            (
                "/spec/initContainers",
                json!([]),
                "spec.initContainers: Forbidden: pod updates may not add or remove containers".to_owned(),
            ),
            ("/spec/tolerations/0/key", json!("b"), toleration.to_owned()),
            ("/spec/tolerations", json!([]), toleration.to_owned()),
            (
                "/spec/activeDeadlineSeconds",
                json!(101),
                "spec.activeDeadlineSeconds: Invalid value: 101: must be less than or equal to previous value".to_owned(),
            ),
            (
                "/spec/activeDeadlineSeconds",
                Value::Null,
                "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"
                    .to_owned(),
            ),
            (
                "/spec/activeDeadlineSeconds",
                json!(-1),
                "spec.activeDeadlineSeconds: Invalid value: -1: must be between 0 and 2147483647, inclusive".to_owned(),
            ),
        ] {
            assert_eq!(checked(&pod(), with(pod(), pointer, value)), [expected], "{pointer}");
        }
    }

    #[test]
    fn a_pod_that_ends_takes_no_new_finalizers() {
        let mut ending = pod();
        ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        ending["metadata"]["finalizers"] = json!(["example.com/a"]);
        assert_eq!(
            checked(&ending, with(ending.clone(), "/metadata/finalizers", json!([]))),
            Vec::<String>::new()
        );
        assert_eq!(
            checked(
                &ending,
                with(ending.clone(), "/metadata/finalizers", json!(["example.com/a", "example.com/b"]))
            ),
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
              finalizers [\"example.com/b\"]"
            ]
        );
    }
}
