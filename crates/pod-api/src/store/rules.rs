//! What the API server does to a pod before it stores it: the fields that are the server's own, and the grace period
//! of a deletion. Pure; the time is an argument.
//!
//! Rules: upstream `k8s.io/apiserver/pkg/registry/rest/{create,update,delete}.go`,
//! `pkg/registry/core/pod/strategy.go`.

use kube_model::core::{Pod, PodStatus};
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, Time};
use kube_model::qos::QosClass;
use kube_model::{Timestamp, labels, pod};

use crate::SOURCE;
use crate::error::{ApiError, Cause, Resource};

/// Makes a new pod one of this node and this source.
pub(super) fn before_create(
    pod: &mut Pod,
    uid: String,
    node_name: &str,
    now: Timestamp,
) -> Result<(), ApiError> {
    let meta = &mut pod.metadata;
    if meta.resource_version.as_deref().is_some_and(|version| !version.is_empty()) {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    meta.resource_version = None;
    meta.self_link = None;
    meta.creation_timestamp = Some(Time(whole_seconds(now)));
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.generation = Some(1);
    readable_managers(meta);
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(labels::CONFIG_SOURCE.to_owned(), SOURCE.to_owned());
    annotations.insert(labels::CONFIG_HASH.to_owned(), uid.clone());
    meta.uid = Some(uid);
    manifest::stamp(pod, now);

    let name = pod.metadata.name.clone().unwrap_or_default();
    let spec = pod.spec.get_or_insert_default();
    match spec.node_name.as_deref() {
        None | Some("") => spec.node_name = Some(node_name.to_owned()),
        Some(other) if other != node_name => {
            let message = format!("Invalid value: {other:?}: this is the node {node_name:?}");
            return Err(ApiError::invalid(
                &name,
                vec![Cause { reason: "FieldValueInvalid", message, field: "spec.nodeName".to_owned() }],
            ));
        }
        Some(_) => {}
    }
    pod.status = None;
    Ok(())
}

/// A client may say which fields have which managers, as when it restores a pod. If one of them can not be read, all are
/// forgotten. Rule: upstream `k8s.io/apimachinery/pkg/util/managedfields/internal/fieldmanager.go`.
pub(super) fn readable_managers(meta: &mut ObjectMeta) {
    let readable = |entry: &ManagedFieldsEntry| {
        entry.fields_type.as_deref() == Some("FieldsV1")
            && entry.fields_v1.as_ref().is_some_and(|fields| fields.0.is_object())
            && matches!(entry.operation.as_deref(), Some("Apply" | "Update"))
    };
    if meta.managed_fields.as_ref().is_some_and(|entries| !entries.iter().all(readable)) {
        meta.managed_fields = None;
    }
}

/// The status of a pod of which the agent has not said anything yet.
pub(super) fn initial_status(pod: &Pod) -> PodStatus {
    PodStatus {
        phase: Some("Pending".to_owned()),
        qos_class: Some(QosClass::of(pod).as_str().to_owned()),
        ..PodStatus::default()
    }
}

/// The status of a pod of another source of which the agent has not said anything yet: what its source says, a pod of
/// the API server may have run before.
pub(super) fn first_status(pod: &Pod) -> PodStatus {
    let said = pod.status.as_ref().filter(|status| status.phase.is_some());
    said.cloned().unwrap_or_else(|| initial_status(pod))
}

/// Puts the server's own fields into the new version of a pod, after a look at those that the client assumed.
pub(super) fn before_update(old: &Pod, new: &mut Pod) -> Result<(), ApiError> {
    let name = old.metadata.name.as_deref().unwrap_or_default();
    let wanted = Preconditions {
        uid: new.metadata.uid.take(),
        resource_version: assumed(new.metadata.resource_version.take())?,
    };
    wanted.check(Resource::Pods, &old.metadata, old.metadata.resource_version.as_ref())?;
    let (meta, of_old) = (&mut new.metadata, &old.metadata);
    readable_managers(meta);
    if meta.name != of_old.name
        || meta.namespace.as_ref().is_some_and(|n| Some(n) != of_old.namespace.as_ref())
    {
        return Err(ApiError::bad_request(format!(
            "the pod in the request has another name or namespace than {name:?} of the address"
        )));
    }
    meta.namespace.clone_from(&of_old.namespace);
    meta.uid.clone_from(&of_old.uid);
    meta.self_link = None;
    meta.creation_timestamp.clone_from(&of_old.creation_timestamp);
    meta.deletion_timestamp.clone_from(&of_old.deletion_timestamp);
    meta.deletion_grace_period_seconds = of_old.deletion_grace_period_seconds;
    meta.generate_name.clone_from(&of_old.generate_name);
    meta.generation = of_old.generation;
    for key in [labels::CONFIG_SOURCE, labels::CONFIG_HASH, labels::CONFIG_SEEN] {
        if let Some(value) = pod::annotation(old, key) {
            meta.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        }
    }
    new.status = None;
    if let (Some(spec), Some(of_old)) = (&mut new.spec, &old.spec)
        && spec.node_name.as_deref().is_none_or(str::is_empty)
    {
        spec.node_name.clone_from(&of_old.node_name);
    }
    if new.spec != old.spec {
        new.metadata.generation = Some(old.metadata.generation.unwrap_or(0) + 1);
    }
    Ok(())
}

/// The version that a client assumes. None and 0 are any. What is no version can not be the present one, but it is no
/// conflict either: the client would only try again. Rule: upstream `k8s.io/apiserver/pkg/storage/api_object_versioner.go`.
pub(super) fn assumed(version: Option<String>) -> Result<Option<String>, ApiError> {
    let Some(version) = version.filter(|version| !version.is_empty()) else { return Ok(None) };
    match version.parse::<u64>() {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(version)),
        Err(error) => Err(ApiError::bad_request(format!(
            "metadata.resourceVersion: Invalid value: {version:?}: {error}"
        ))),
    }
}

/// What a request says of the object that it means. `None` is not checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Preconditions {
    /// `metadata.uid`
    pub(crate) uid: Option<String>,
    /// `metadata.resourceVersion`
    pub(crate) resource_version: Option<String>,
}

impl Preconditions {
    /// Compares with an object as the API shows it, at `version`.
    pub(super) fn check(
        &self,
        resource: Resource,
        meta: &ObjectMeta,
        version: Option<&String>,
    ) -> Result<(), ApiError> {
        let name = meta.name.as_deref().unwrap_or_default();
        let differs = |wanted: &Option<String>, is: Option<&String>| {
            wanted.as_ref().filter(|wanted| !wanted.is_empty() && Some(*wanted) != is).cloned()
        };
        if let Some(wanted) = differs(&self.uid, meta.uid.as_ref()) {
            let is = meta.uid.as_deref().unwrap_or_default();
            let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {is}");
            return Err(resource.conflict(name, why));
        }
        if differs(&self.resource_version, version).is_some() {
            let why =
                "the object has been modified; please apply your changes to the latest version and try again";
            return Err(resource.conflict(name, why));
        }
        Ok(())
    }
}

/// What becomes of a pod that is to be deleted.
#[derive(Debug, PartialEq)]
pub(super) enum Deletion {
    /// It goes at once, unless finalizers hold it.
    Now,
    /// It gets this time to end.
    Graceful(Box<Pod>),
    /// It is being deleted already, and no sooner.
    Pending,
}

/// Decides on a deletion with the grace period `grace`, in seconds.
pub(super) fn delete(pod: &Pod, status: &PodStatus, grace: Option<i64>, now: Timestamp) -> Deletion {
    // A negative one means one second, as in the whole of Kubernetes.
    let grace = grace.map(|seconds| if seconds < 0 { 1 } else { seconds });
    let meta = &pod.metadata;
    let (since, grace) = match (&meta.deletion_timestamp, meta.deletion_grace_period_seconds) {
        (Some(Time(at)), Some(before)) => match grace {
            Some(grace) if grace < before => (minus(*at, before), grace),
            _ => return Deletion::Pending,
        },
        _ => (now, grace.unwrap_or_else(|| pod::termination_grace_seconds(pod))),
    };
    match if pod::has_ended(status) { 0 } else { grace } {
        0 => Deletion::Now,
        grace => Deletion::Graceful(Box::new(deleted(pod, since, if grace < 0 { 1 } else { grace }))),
    }
}

/// The pod with a deletion that ends `grace` seconds after `since`.
pub(super) fn deleted(pod: &Pod, since: Timestamp, grace: i64) -> Pod {
    let mut pod = pod.clone();
    let meta = &mut pod.metadata;
    if meta.deletion_timestamp.is_none() {
        meta.generation = meta.generation.map(|generation| generation + 1);
    }
    meta.deletion_timestamp = Some(Time(whole_seconds(minus(since, -grace))));
    meta.deletion_grace_period_seconds = Some(grace);
    pod
}

/// Whether finalizers keep the pod after its end.
pub(super) fn is_held(pod: &Pod) -> bool {
    pod.metadata.finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty())
}

/// `at` less `seconds`, within the times that there are.
fn minus(at: Timestamp, seconds: i64) -> Timestamp {
    let seconds = at.as_second().saturating_sub(seconds);
    Timestamp::from_second(seconds.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second()))
        .unwrap_or(at)
}

/// What the API can write; a time with more would not come back from the disk as it went.
pub(super) fn whole_seconds(at: Timestamp) -> Timestamp {
    minus(at, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec_grace: Option<i64>, deletion: Option<(i64, i64)>) -> Pod {
        let mut pod = Pod::default();
        pod.spec.get_or_insert_default().termination_grace_period_seconds = spec_grace;
        pod.metadata.generation = Some(1);
        if let Some((at, grace)) = deletion {
            pod.metadata.deletion_timestamp = Some(Time(Timestamp::from_second(at).unwrap()));
            pod.metadata.deletion_grace_period_seconds = Some(grace);
        }
        pod
    }

    #[test]
    fn a_deletion_takes_the_shortest_grace_period_asked_for() {
        let gone = |at: i64, grace: i64| Some((at, grace));
        // Spec, deletion before, phase, asked for; when it is over and the grace period, nothing when it goes at once.
        for (spec, before, phase, asked, expected) in [
            (None, None, "Running", None, gone(1030, 30)),
            (Some(5), None, "Running", None, gone(1005, 5)),
            (Some(5), None, "Running", Some(60), gone(1060, 60)),
            (Some(5), None, "Pending", Some(2), gone(1002, 2)),
            (Some(5), None, "Running", Some(-7), gone(1001, 1)),
            (Some(-7), None, "Running", None, gone(1001, 1)),
            (Some(5), None, "Running", Some(0), None),
            (Some(0), None, "Running", None, None),
            (Some(5), None, "Succeeded", None, None),
            (Some(5), None, "Failed", Some(60), None),
            // Being deleted: only sooner, counted from the first time.
            (Some(5), Some((1020, 30)), "Running", None, gone(1020, 30)),
            (Some(5), Some((1020, 30)), "Running", Some(30), gone(1020, 30)),
            (Some(5), Some((1020, 30)), "Running", Some(60), gone(1020, 30)),
            (Some(5), Some((1020, 30)), "Running", Some(20), gone(1010, 20)),
            (Some(5), Some((1020, 30)), "Running", Some(0), None),
        ] {
            let pod = pod(spec, before);
            let status = PodStatus { phase: Some(phase.to_owned()), ..PodStatus::default() };
            let now = Timestamp::from_second(1000).unwrap();
            let found = match delete(&pod, &status, asked, now) {
                Deletion::Now => None,
                Deletion::Pending => before,
                Deletion::Graceful(pod) => {
                    let first = before.is_none();
                    assert_eq!(pod.metadata.generation, Some(if first { 2 } else { 1 }));
                    let at = pod.metadata.deletion_timestamp.unwrap().0.as_second();
                    Some((at, pod.metadata.deletion_grace_period_seconds.unwrap()))
                }
            };
            assert_eq!(found, expected, "{spec:?} {before:?} {phase} {asked:?}");
        }
    }

    #[test]
    fn managers_that_a_client_brings_stay_if_they_can_be_read() {
        let good = serde_json::json!({"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {}}});
        let mut cases = vec![(good.clone(), true)];
        for (field, value) in
            [("operation", "Take".into()), ("fieldsType", "FieldsV2".into()), ("fieldsV1", 7.into())]
        {
            let mut bad = good.clone();
            bad[field] = value;
            cases.push((bad, false));
        }
        for (entry, stays) in cases {
            let mut pod = pod(None, None);
            pod.metadata.managed_fields = Some(vec![
                serde_json::from_value(good.clone()).unwrap(),
                serde_json::from_value(entry.clone()).unwrap(),
            ]);
            let now = Timestamp::from_second(900).unwrap();
            before_create(&mut pod, "uid".to_owned(), "node1", now).unwrap();
            assert_eq!(pod.metadata.managed_fields.is_some(), stays, "{entry}");
        }
    }

    #[test]
    fn no_grace_period_is_too_long() {
        let status = PodStatus::default();
        let now = Timestamp::from_second(1000).unwrap();
        let Deletion::Graceful(deleted) = delete(&pod(None, None), &status, Some(i64::MAX), now) else {
            panic!("it has time")
        };
        assert!(deleted.metadata.deletion_timestamp.is_some());
        let shorter = delete(&deleted, &status, Some(5), now);
        assert!(matches!(shorter, Deletion::Graceful(_)), "{shorter:?}");
    }

    #[test]
    fn what_is_the_servers_is_kept_in_an_update() {
        let mut old = pod(None, Some((1000, 5)));
        let now = Timestamp::from_second(900).unwrap();
        old.metadata.name = Some("web".to_owned());
        before_create(&mut old, "uid".to_owned(), "node1", now).unwrap();
        old.metadata.namespace = Some("default".to_owned());
        old.metadata.resource_version = Some("7".to_owned());
        let mut new = Pod::default();
        new.metadata.name = Some("web".to_owned());
        new.spec.get_or_insert_default();
        before_update(&old, &mut new).unwrap();
        assert_eq!(new.metadata.resource_version, None);
        old.metadata.resource_version = None;
        assert_eq!(new.metadata, old.metadata);
        assert_eq!(new.spec.as_ref().unwrap().node_name.as_deref(), Some("node1"));
        let mut other = Pod {
            spec: Some(kube_model::core::PodSpec { host_pid: Some(true), ..new.spec.clone().unwrap() }),
            ..new
        };
        before_update(&old, &mut other).unwrap();
        assert_eq!(other.metadata.generation, Some(2));
    }
}
