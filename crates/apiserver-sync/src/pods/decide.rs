//! What has to be sent for one pod name. Pure.

use std::sync::Arc;

use kube_model::core::{Node, Pod, PodStatus};
use kube_model::labels::CONFIG_MIRROR;
use kube_model::pod::{annotation, is_static};
use kube_model::strategic::{pod_status_key, two_way};
use kube_model::view::PodState;
use serde_json::{Value, json};

use super::{merge, mirror};

/// What is known under one name.
pub(super) struct Facts<'a> {
    /// Here.
    pub(super) local: Option<&'a PodState>,
    /// At the server, as the watch has it.
    pub(super) server: Option<&'a Pod>,
    /// The status with which the server answered our last patch, if that is newer, and what was sent.
    pub(super) answered: Option<(&'a PodStatus, &'a PodStatus)>,
    /// Whether every source has spoken.
    pub(super) complete: bool,
    /// The Node, if it is there.
    pub(super) node: Option<&'a Node>,
}

/// A request.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// Of the status.
    Patch { patch: Value, sent: Arc<PodStatus> },
    /// At once, if it still is the pod with this UID.
    Delete { uid: String },
    /// Of a mirror pod.
    Create(Box<Pod>),
}

/// Whether this is what the server shows of the pod.
pub(super) fn shows(server: &Pod, local: &PodState) -> bool {
    match annotation(server, CONFIG_MIRROR) {
        Some(_) => is_static(&local.pod) && mirror::is_current(server, &local.pod),
        None => server.metadata.uid.as_deref() == Some(local.uid.as_str()),
    }
}

/// Whether two states say the same to the server.
pub(super) fn same(a: &PodState, b: &PodState) -> bool {
    Arc::ptr_eq(&a.pod, &b.pod)
        && Arc::ptr_eq(&a.status, &b.status)
        && (a.finished, a.removing) == (b.finished, b.removing)
}

pub(super) fn decide(facts: &Facts<'_>) -> Option<Action> {
    let is_mirror = |pod: &Pod| annotation(pod, CONFIG_MIRROR).is_some();
    match (facts.local, facts.server) {
        (Some(local), server) if is_static(&local.pod) => match server {
            None if local.removing || local.finished => None,
            None => Some(Action::Create(Box::new(mirror::of(&local.pod, facts.node?)))),
            // An ordinary pod of that name is in the way; the sources tell of it.
            Some(pod) if !is_mirror(pod) => None,
            // A mirror goes after its static pod, not before: until then it says what still runs.
            Some(pod)
                if local.finished
                    || pod.metadata.deletion_timestamp.is_some()
                    || !mirror::is_current(pod, &local.pod) =>
            {
                delete(pod)
            }
            // Of a pod that only the runtime knows nobody can say how its containers are.
            Some(_) if local.pod.spec.as_ref().is_none_or(|spec| spec.containers.is_empty()) => None,
            Some(pod) => patch(facts, local, pod),
        },
        (None, Some(pod)) if is_mirror(pod) => {
            (facts.complete && pod.metadata.deletion_timestamp.is_none()).then(|| delete(pod)).flatten()
        }
        (Some(local), Some(pod)) if pod.metadata.uid == local.pod.metadata.uid => {
            // The last word on a pod comes before its end.
            patch(facts, local, pod).or_else(|| {
                (local.finished && pod.metadata.deletion_timestamp.is_some() && !is_held(pod))
                    .then(|| delete(pod))
                    .flatten()
            })
        }
        _ => None,
    }
}

/// Whether all that keeps it are finalizers: the server has taken the last delete.
fn is_held(pod: &Pod) -> bool {
    let finalizers = pod.metadata.finalizers.as_ref();
    pod.metadata.deletion_grace_period_seconds == Some(0) && finalizers.is_some_and(|all| !all.is_empty())
}

fn delete(pod: &Pod) -> Option<Action> {
    pod.metadata.uid.clone().map(|uid| Action::Delete { uid })
}

fn patch(facts: &Facts<'_>, local: &PodState, pod: &Pod) -> Option<Action> {
    // Nothing has been decided about it yet: what the server has from before a restart must stay.
    local.status.phase.as_ref()?;
    let none = PodStatus::default();
    let server = match facts.answered {
        Some((answer, _)) => answer,
        None => pod.status.as_ref().unwrap_or(&none),
    };
    let wanted = merge::merged(server, &local.status);
    // The server has this already, as far as it knows the fields.
    if facts.answered.is_some_and(|(answer, sent)| merge::merged(answer, sent) == wanted) {
        return None;
    }
    let json = |status: &PodStatus| serde_json::to_value(status).unwrap_or(Value::Null);
    let status = two_way(&json(server), &json(&wanted), pod_status_key)?;
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
    Some(Action::Patch { patch, sent: Arc::clone(&local.status) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    fn local(value: Value, finished: bool) -> PodState {
        let status = json!({"phase": "Running", "hostIP": "192.0.2.2", "conditions": []});
        super::super::tests::state(pod(value), serde_json::from_value(status).unwrap(), finished)
    }

    fn node() -> Node {
        serde_json::from_value(json!({"metadata": {"name": "node1", "uid": "n"}})).unwrap()
    }

    fn show(local: Option<&PodState>, server: Option<&Pod>, complete: bool) -> String {
        let node = node();
        match decide(&Facts { local, server, answered: None, complete, node: Some(&node) }) {
            None => "nothing".to_owned(),
            Some(Action::Patch { patch, .. }) => {
                format!("patch {}", patch["metadata"]["uid"].as_str().unwrap())
            }
            Some(Action::Delete { uid }) => format!("delete {uid}"),
            Some(Action::Create(pod)) => format!("create {}", pod.metadata.name.unwrap()),
        }
    }

    #[test]
    fn a_pod_of_the_server_is_patched_and_at_its_end_deleted() {
        let meta = json!({"name": "p", "namespace": "d", "uid": "1",
            "annotations": {"kubernetes.io/config.source": "api"}});
        let mine = json!({"metadata": meta});
        let said = json!({"phase": "Running", "hostIP": "192.0.2.2", "conditions": []});
        let same = pod(json!({"metadata": meta, "status": said}));
        let other = pod(json!({"metadata": {"name": "p", "namespace": "d", "uid": "2"}}));
        let mut leaving = same.clone();
        leaving.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        let mut held = leaving.clone();
        held.metadata.finalizers = Some(vec!["example.com/hold".to_owned()]);
        let still_to_delete = held.clone();
        held.metadata.deletion_grace_period_seconds = Some(0);
        let (runs, ended) = (local(mine.clone(), false), local(mine.clone(), true));
        assert_eq!(show(Some(&runs), Some(&pod(mine)), true), "patch 1");
        assert_eq!(show(Some(&runs), Some(&same), true), "nothing");
        assert_eq!(show(Some(&runs), Some(&other), true), "nothing");
        assert_eq!(show(Some(&runs), None, true), "nothing");
        assert_eq!(show(Some(&runs), Some(&leaving), true), "nothing");
        assert_eq!(show(Some(&ended), Some(&leaving), true), "delete 1");
        assert_eq!(show(Some(&ended), Some(&still_to_delete), true), "delete 1");
        assert_eq!(show(Some(&ended), Some(&held), true), "nothing");
        assert_eq!(show(None, Some(&same), true), "nothing");
    }

    #[test]
    fn a_static_pod_gets_a_mirror_that_follows_it() {
        let fixed = |hash: &str| {
            json!({"metadata": {"name": "s", "namespace": "d", "uid": hash, "annotations": {
                "kubernetes.io/config.source": "file", "kubernetes.io/config.hash": hash}},
                "spec": {"containers": [{"name": "c"}]}})
        };
        let mirror = |hash: &str| {
            let mut mirror = mirror::of(&pod(fixed(hash)), &node());
            mirror.metadata.uid = Some("m".to_owned());
            mirror
        };
        let mut leaving = mirror("a");
        leaving.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        let other = pod(json!({"metadata": {"name": "s", "namespace": "d", "uid": "x"}}));
        let (runs, removed) = (local(fixed("a"), false), local(fixed("a"), true));
        assert_eq!(show(Some(&runs), None, false), "create s");
        assert_eq!(show(Some(&runs), Some(&mirror("a")), false), "patch m");
        assert_eq!(show(Some(&runs), Some(&mirror("b")), false), "delete m");
        assert_eq!(show(Some(&runs), Some(&leaving), false), "delete m");
        assert_eq!(show(Some(&runs), Some(&other), true), "nothing");
        let removing = PodState { removing: true, ..runs.clone() };
        assert_eq!(show(Some(&removing), Some(&mirror("a")), true), "patch m", "it still runs");
        assert_eq!(show(Some(&removing), Some(&mirror("b")), true), "delete m");
        let mut unwanted = fixed("a");
        unwanted["spec"]["containers"] = json!([]);
        let unwanted = PodState { removing: true, ..local(unwanted, false) };
        assert_eq!(show(Some(&unwanted), Some(&mirror("a")), true), "nothing", "only the runtime knows it");
        assert_eq!(show(Some(&removed), Some(&mirror("a")), false), "delete m");
        assert_eq!(show(Some(&removed), None, true), "nothing");
        assert_eq!(show(None, Some(&mirror("a")), false), "nothing");
        assert_eq!(show(None, Some(&mirror("a")), true), "delete m");
        assert_eq!(show(None, Some(&leaving), true), "nothing");
    }

    #[test]
    fn a_mirror_is_the_recorded_one() {
        let recorded: Value =
            serde_json::from_str(include_str!("../../../../tests/fixtures/api/static-node1.json")).unwrap();
        let create = recorded["requests"].as_array().unwrap().iter().find(|r| r["verb"] == "create").unwrap();
        let mut static_pod = pod(create["body"].clone());
        let meta = &mut static_pod.metadata;
        meta.annotations.as_mut().unwrap().remove(CONFIG_MIRROR);
        meta.owner_references = None;
        meta.annotations.as_mut().unwrap().insert("kubernetes.io/config.seen".to_owned(), "$TIME".to_owned());
        let mut node = node();
        node.metadata.uid = Some("$UUID".to_owned());
        let mut want = pod(create["body"].clone());
        want.metadata.uid = None;
        assert_eq!(mirror::of(&static_pod, &node), want);
    }

    #[test]
    fn of_a_pod_of_which_nothing_is_known_yet_the_server_is_told_nothing() {
        let meta = json!({"name": "p", "namespace": "d", "uid": "1",
            "annotations": {"kubernetes.io/config.source": "api"}});
        let server = pod(json!({"metadata": meta, "status": {"phase": "Running", "qosClass": "Burstable"}}));
        for status in [json!({}), json!({"qosClass": "BestEffort"})] {
            let status = serde_json::from_value(status).unwrap();
            let local = super::super::tests::state(server.clone(), status, false);
            assert_eq!(show(Some(&local), Some(&server), true), "nothing");
        }
    }

    #[test]
    fn what_the_server_dropped_is_not_sent_again() {
        let meta = json!({"name": "p", "namespace": "d", "uid": "1",
            "annotations": {"kubernetes.io/config.source": "api"}});
        let local = local(json!({"metadata": meta}), false);
        let server = pod(json!({"metadata": meta}));
        // An old server that keeps nothing of it.
        let answer = PodStatus::default();
        let facts = Facts {
            local: Some(&local),
            server: Some(&server),
            answered: Some((&answer, &local.status)),
            complete: true,
            node: None,
        };
        assert_eq!(decide(&facts), None);
    }
}
