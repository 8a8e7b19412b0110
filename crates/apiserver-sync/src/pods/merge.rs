//! What the server's status of a pod becomes. Rule: upstream
//! `pkg/kubelet/status/status_manager.go` `mergePodStatus`, `pkg/kubelet/types/pod_status.go`.

use kube_model::core::{ContainerStatus, PodCondition, PodStatus};
use kube_model::pod::{KUBELET_CONDITIONS, has_ended};

/// Owned by others as well: written only together with a terminal phase.
const SHARED: &str = "DisruptionTarget";

/// The server's status with what this node knows in it. What others own stays as it is.
pub(super) fn merged(server: &PodStatus, ours: &PodStatus) -> PodStatus {
    let mut merged = server.clone();
    let ended = has_ended(ours);
    let runs = all_containers(ours).any(|c| c.state.as_ref().is_some_and(|s| s.running.is_some()));
    let had_ended = has_ended(server);
    // Once it has ended it stays so.
    if !had_ended {
        merged.phase.clone_from(&ours.phase);
    }
    merged.message.clone_from(&ours.message);
    merged.reason.clone_from(&ours.reason);
    // What runs may still write and serve: nobody may take its place yet, nor read why it ended.
    if ended && runs && !had_ended {
        merged.phase.clone_from(&server.phase);
        merged.message.clone_from(&server.message);
        merged.reason.clone_from(&server.reason);
    }
    let ended = has_ended(&merged);
    merged.host_ip.clone_from(&ours.host_ip);
    merged.host_ips.clone_from(&ours.host_ips);
    // The addresses of a pod that ended are known no longer, but were its own.
    if ours.pod_ip.is_some() || !ended {
        merged.pod_ip.clone_from(&ours.pod_ip);
        merged.pod_ips.clone_from(&ours.pod_ips);
    }
    if merged.start_time.is_none() {
        merged.start_time.clone_from(&ours.start_time);
    }
    merged.init_container_statuses =
        containers(&server.init_container_statuses, &ours.init_container_statuses);
    merged.container_statuses = containers(&server.container_statuses, &ours.container_statuses);
    merged.ephemeral_container_statuses =
        containers(&server.ephemeral_container_statuses, &ours.ephemeral_container_statuses);
    merged.allocated_resources.clone_from(&ours.allocated_resources);
    merged.resources.clone_from(&ours.resources);
    merged.observed_generation = ours.observed_generation;
    let conditions = conditions(
        server.conditions.as_deref().unwrap_or_default(),
        ours.conditions.as_deref().unwrap_or_default(),
        ended,
    );
    // A pod that was rejected has none.
    if server.conditions.is_some() || !conditions.is_empty() {
        merged.conditions = Some(conditions);
    }
    merged
}

/// Ours; but that a container which still waits has been created is told together with its start. The kubelet
/// does not look between the two.
fn containers(
    server: &Option<Vec<ContainerStatus>>,
    ours: &Option<Vec<ContainerStatus>>,
) -> Option<Vec<ContainerStatus>> {
    let server = server.as_deref().unwrap_or_default();
    let waits = |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.waiting.is_some());
    let mut ours = ours.clone()?;
    for status in ours.iter_mut().filter(|status| waits(status)) {
        let same = |before: &&ContainerStatus| {
            before.name == status.name
                && before.container_id != status.container_id
                && (&before.state, &before.last_state, before.restart_count)
                    == (&status.state, &status.last_state, status.restart_count)
        };
        if let Some(before) = server.iter().find(same) {
            status.clone_from(before);
        }
    }
    Some(ours)
}

fn conditions(server: &[PodCondition], ours: &[PodCondition], ended: bool) -> Vec<PodCondition> {
    let find = |list: &[PodCondition], kind: &str| list.iter().find(|c| c.type_ == kind).cloned();
    let mut merged = Vec::new();
    for condition in ours {
        let kind = condition.type_.as_str();
        let ours_to_write = KUBELET_CONDITIONS.contains(&kind) || (kind == SHARED && ended);
        if !ours_to_write {
            continue;
        }
        let mut condition = condition.clone();
        match find(server, kind) {
            // It became so when the server heard of it, also after a restart of the agent.
            Some(before) if before.status == condition.status => {
                condition.last_transition_time =
                    before.last_transition_time.or(condition.last_transition_time);
                condition.last_probe_time = before.last_probe_time.or(condition.last_probe_time);
            }
            _ => {}
        }
        merged.push(condition);
    }
    let kept = server.iter().filter(|c| {
        let mine = KUBELET_CONDITIONS.contains(&c.type_.as_str());
        !mine && !merged.iter().any(|m: &PodCondition| m.type_ == c.type_)
    });
    let kept: Vec<PodCondition> = kept.cloned().collect();
    merged.extend(kept);
    merged
}

fn all_containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .chain(&status.ephemeral_container_statuses)
        .flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn merge(server: Value, ours: Value) -> Value {
        let status = |value| serde_json::from_value(value).unwrap();
        serde_json::to_value(merged(&status(server), &status(ours))).unwrap()
    }

    #[test]
    fn what_others_own_stays() {
        let merged = merge(
            json!({
                "phase": "Pending", "qosClass": "Burstable", "startTime": "2026-01-01T00:00:00Z",
                "nominatedNodeName": "x",
                "conditions": [
                    {"type": "example.com/gate", "status": "True"},
                    {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                    {"type": "DisruptionTarget", "status": "True"},
                ],
            }),
            json!({
                "phase": "Running", "startTime": "2026-02-02T00:00:00Z", "hostIP": "192.0.2.2",
                "conditions": [
                    {"type": "Ready", "status": "False", "lastTransitionTime": "2026-03-03T00:00:00Z", "reason": "r"},
                    {"type": "Initialized", "status": "True", "lastTransitionTime": "2026-03-03T00:00:00Z"},
                ],
            }),
        );
        assert_eq!(
            merged,
            json!({
                "phase": "Running", "qosClass": "Burstable", "startTime": "2026-01-01T00:00:00Z",
                "nominatedNodeName": "x", "hostIP": "192.0.2.2",
                "conditions": [
                    {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "r"},
                    {"type": "Initialized", "status": "True", "lastTransitionTime": "2026-03-03T00:00:00Z"},
                    {"type": "example.com/gate", "status": "True"},
                    {"type": "DisruptionTarget", "status": "True"},
                ],
            })
        );
    }

    #[test]
    fn a_terminal_phase_waits_for_the_containers_and_then_stays() {
        let running = json!([{"name": "c", "state": {"running": {}}, "image": "", "imageID": "", "ready": false,
            "restartCount": 0}]);
        let table = [
            ("Running", json!({"phase": "Failed", "containerStatuses": running}), "Running"),
            ("Running", json!({"phase": "Failed", "containerStatuses": []}), "Failed"),
            ("Succeeded", json!({"phase": "Running"}), "Succeeded"),
            ("Failed", json!({"phase": "Succeeded"}), "Failed"),
        ];
        for (server, ours, want) in table {
            assert_eq!(merge(json!({"phase": server}), ours.clone())["phase"], want, "{server} and {ours}");
        }
    }

    #[test]
    fn why_a_pod_ended_is_told_with_its_end() {
        let running = json!([{"name": "c", "state": {"running": {}}, "image": "", "imageID": "", "ready": false,
            "restartCount": 0}]);
        let server = |phase| json!({"phase": phase, "reason": "Before", "message": "before"});
        let ours = |containers: &Value| {
            json!({"phase": "Failed", "reason": "DeadlineExceeded", "message": "too long",
                "containerStatuses": containers})
        };
        let table = [
            ("Running", ours(&running), ["Running", "Before", "before"]),
            ("Running", ours(&json!([])), ["Failed", "DeadlineExceeded", "too long"]),
            // Somebody else ended it: nothing is held back.
            ("Failed", ours(&running), ["Failed", "DeadlineExceeded", "too long"]),
        ];
        for (phase, ours, want) in table {
            let merged = merge(server(phase), ours.clone());
            let got = ["phase", "reason", "message"].map(|field| merged[field].as_str().unwrap());
            assert_eq!(got, want, "{phase} and {ours}");
        }
        let merged = merge(json!({"phase": "Running"}), ours(&running));
        assert!(merged["reason"].is_null() && merged["message"].is_null(), "{merged}");
    }

    #[test]
    fn that_a_container_was_created_is_told_with_its_start() {
        let status = |id: &str, state: Value, restarts: u32| {
            let mut status = json!({"name": "c", "state": state, "image": "i", "imageID": id, "ready": false,
                "restartCount": restarts});
            if !id.is_empty() {
                status["containerID"] = json!(id);
            }
            json!({"containerStatuses": [status]})
        };
        let creating = || json!({"waiting": {"reason": "ContainerCreating"}});
        let before = || status("", creating(), 0);
        let mut with_resources = status("a", creating(), 0);
        with_resources["containerStatuses"][0]["resources"] = json!({"limits": {"cpu": "1"}});
        let table = [
            (with_resources, before()),
            (status("a", json!({"running": {}}), 0), status("a", json!({"running": {}}), 0)),
            (
                status("a", json!({"waiting": {"reason": "E"}}), 0),
                status("a", json!({"waiting": {"reason": "E"}}), 0),
            ),
            (status("a", creating(), 1), status("a", creating(), 1)),
        ];
        for (ours, want) in table {
            assert_eq!(
                merge(before(), ours.clone())["containerStatuses"],
                want["containerStatuses"],
                "{ours}"
            );
        }
        let new = status("a", creating(), 0);
        assert_eq!(merge(json!({}), new.clone())["containerStatuses"], new["containerStatuses"]);
    }

    #[test]
    fn a_disruption_is_told_of_with_the_end_only() {
        let ours =
            |phase| json!({"phase": phase, "conditions": [{"type": "DisruptionTarget", "status": "True"}]});
        let kinds = |merged: Value| merged["conditions"].as_array().map_or(0, Vec::len);
        assert_eq!(kinds(merge(json!({}), ours("Running"))), 0);
        assert_eq!(kinds(merge(json!({}), ours("Failed"))), 1);
    }
}
