//! The recordings of the real kubelet as an oracle: the same mutating CRI calls in the same order, and the same
//! status.
//!
//! Not part of the comparison: when things happen, the order of calls of one kind that follow each other, and
//! repeated stops and removals of the same thing.
//!
//! Better on purpose: a crash back-off shows as `CrashLoopBackOff` at once, with the ended instance as
//! `lastState`; the kubelet shows it first at its next sync, and the ended instance until then. And what keeps
//! the pod as a whole from starting is the message of its waiting containers, where the kubelet has none.

#![expect(clippy::disallowed_methods, reason = "the recordings that it is compared with are files")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use kube_model::core::{ContainerStatus, Pod, PodStatus};
use kube_model::observed::ContainerUser;
use pod_lifecycle::FailureReason;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::later::{LATER, Part};
use crate::sim::{Behaviour, Call, Exit, Sim};

/// Stands for whatever kept the kubelet from asking for a sandbox.
const PREPARE_FAILED: &str = "could not be prepared";

#[derive(Deserialize)]
struct Recording {
    #[serde(default)]
    cri: Vec<RecordedCall>,
    pod_after_100s: Option<Value>,
    refused: Option<String>,
}

#[derive(Deserialize)]
struct RecordedCall {
    call: String,
    phase: String,
    request: Value,
}

fn recordings() -> BTreeMap<String, Recording> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/pods");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let recording = serde_json::from_slice(&std::fs::read(&path).unwrap());
            (name, recording.unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        })
        .collect()
}

/// The mutating calls of a recording.
fn recorded_calls(recording: &Recording) -> Vec<Call> {
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let calls = recording.cri.iter().filter_map(|c| {
        let r = &c.request;
        let attempt =
            |metadata: &Value| metadata["attempt"].as_u64().map_or(0, |n| u32::try_from(n).unwrap());
        Some(match c.call.as_str() {
            "RunPodSandbox" => Call::RunPodSandbox { attempt: attempt(&r["config"]["metadata"]) },
            "CreateContainer" => {
                let config = &r["config"];
                let count = &config["annotations"]["io.kubernetes.container.restartCount"];
                Call::CreateContainer {
                    name: text(&config["metadata"]["name"]),
                    restart_count: text(count).parse().unwrap(),
                    sandbox: text(&r["pod_sandbox_id"]),
                }
            }
            "StartContainer" => Call::StartContainer { id: text(&r["container_id"]) },
            "StopContainer" => Call::StopContainer {
                id: text(&r["container_id"]),
                timeout: text(&r["timeout"]).parse().unwrap(),
            },
            "StopPodSandbox" => Call::StopPodSandbox { id: text(&r["pod_sandbox_id"]) },
            "RemoveContainer" => Call::RemoveContainer { id: text(&r["container_id"]) },
            "RemovePodSandbox" => Call::RemovePodSandbox { id: text(&r["pod_sandbox_id"]) },
            "PullImage" | "ExecSync" => return None,
            other => panic!("unexpected call {other}"),
        })
    });
    calls.collect()
}

/// Leaves out repetitions, and sorts calls of one kind that follow each other.
fn normalised(calls: &[Call]) -> Vec<Call> {
    let mut out: Vec<Call> = Vec::new();
    for call in calls {
        let repeatable = matches!(call, Call::StopPodSandbox { .. } | Call::RemoveContainer { .. });
        if !(repeatable && out.contains(call)) {
            out.push(call.clone());
        }
    }
    for run in out.chunk_by_mut(|a, b| std::mem::discriminant(a) == std::mem::discriminant(b)) {
        run.sort();
    }
    out
}

/// How the container behaved, read from the recording.
fn behaviour(recording: &Recording, status: &ContainerStatus) -> Behaviour {
    let calls = recorded_calls(recording);
    let stopped_while_running =
        recording.cri.iter().any(|c| c.call == "StopContainer" && c.phase == "running");
    let terminated = status.state.as_ref().and_then(|s| s.terminated.as_ref());
    let exit = terminated.filter(|_| !stopped_while_running).map(|t| Exit {
        after_seconds: 1,
        code: t.exit_code,
        reason: t.reason.clone().unwrap_or_default(),
        message: t.message.clone().unwrap_or_default(),
    });
    let created =
        calls.iter().any(|c| matches!(c, Call::CreateContainer { name, .. } if *name == status.name));
    let waiting =
        status.state.as_ref().and_then(|s| s.waiting.as_ref()).filter(|w| !created && w.message.is_some());
    let start_fails = waiting.map(|w| {
        let (mut reason, mut message) = (w.reason.clone().unwrap(), w.message.clone().unwrap());
        let prefix = format!("Back-off pulling image \"{}\": ErrImagePull: ", status.image);
        if let Some(rest) = message.strip_prefix(&prefix) {
            (reason, message) = ("ErrImagePull".to_owned(), rest.to_owned());
        }
        (failure_reason(&reason), message)
    });
    let user = status.user.as_ref().and_then(|u| u.linux.as_ref()).map(|u| ContainerUser {
        uid: u.uid,
        gid: u.gid,
        supplemental_groups: u.supplemental_groups.clone().unwrap_or_default(),
    });
    Behaviour { exit, start_fails, never_ready: !status.ready, image_ref: status.image_id.clone(), user }
}

fn failure_reason(text: &str) -> FailureReason {
    use FailureReason as R;
    [R::ErrImagePull, R::ErrImageNeverPull, R::InvalidImageName, R::CreateContainerConfigError]
        .into_iter()
        .find(|r| r.as_str() == text)
        .unwrap_or_else(|| panic!("unexpected reason {text}"))
}

/// Replays a recording: the calls made, and the status when all was at rest, before the removal.
fn replay(recording: &Recording, recorded: &Value) -> (Vec<Call>, PodStatus) {
    let pod: Pod = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": recorded["metadata"].as_object().map(|m| {
            let mut m = m.clone();
            m.remove("creationTimestamp");
            m
        }),
        "spec": recorded["spec"],
    }))
    .unwrap();
    let creates = |calls: &[Call]| calls.iter().filter(|c| matches!(c, Call::CreateContainer { .. })).count();
    let wanted = creates(&recorded_calls(recording));
    let status: PodStatus = serde_json::from_value(without_times(recorded["status"].clone())).unwrap();
    let mut sim = Sim::new(pod);
    if let Some(ip) = &status.pod_ip {
        sim.ip = ip.parse().unwrap();
    }
    if status.phase.as_deref() == Some("Pending") && recording.cri.is_empty() {
        sim.sandbox_fails = Some(PREPARE_FAILED.to_owned());
    }
    for container in status.container_statuses.iter().chain(&status.init_container_statuses).flatten() {
        sim.behaviours.insert(container.name.clone(), behaviour(recording, container));
    }
    sim.run(sim.after(100), |sim, plan| {
        creates(&sim.calls) >= wanted && plan.waits.iter().any(|w| w.reason == "CrashLoopBackOff")
    });
    let status = sim.status();
    sim.remove();
    (sim.calls, status)
}

/// Times differ, and so do not count; neither does how an absent one is written.
fn without_times(mut value: Value) -> Value {
    match &mut value {
        Value::Object(map) => {
            map.retain(|key, _| {
                !["lastProbeTime", "lastTransitionTime", "startTime", "startedAt", "finishedAt"]
                    .contains(&key.as_str())
            });
            map.values_mut().for_each(|v| *v = without_times(v.take()));
        }
        Value::Array(list) => list.iter_mut().for_each(|v| *v = without_times(v.take())),
        _ => {}
    }
    value
}

/// Undoes what is better on purpose.
fn as_the_kubelet_shows_it(mut ours: Value, theirs: &Value) -> Value {
    for list in ["containerStatuses", "initContainerStatuses"] {
        let Some(list_of_ours) = ours.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for (i, status) in list_of_ours.iter_mut().enumerate() {
            if status["state"]["waiting"]["message"] == PREPARE_FAILED {
                status["state"]["waiting"].as_object_mut().unwrap().remove("message");
            }
            if status["state"]["waiting"]["reason"] == "CrashLoopBackOff" {
                status["state"] = status["lastState"].take();
                status["lastState"] = theirs[list][i]["lastState"].clone();
            }
        }
    }
    ours
}

/// Each field in which two values differ.
fn differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                differences(&format!("{path}.{key}"), &of(a), &of(b), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{i}]"), a, b, found);
            }
        }
        (a, b) if a != b => found.push(format!("{path}: ours {a}, theirs {b}")),
        _ => {}
    }
}

#[test]
fn the_kubelets_calls_and_statuses_come_out() {
    let recordings = recordings();
    assert_eq!(recordings.len(), 51, "one of the recordings is missing");
    for (name, _, _) in LATER {
        assert!(recordings.contains_key(*name), "{name} is listed and there is no such recording");
    }
    let mut complaints = Vec::new();
    let mut check = |name: &str, part: Part, difference: Option<String>| {
        let listed = LATER.iter().find(|(n, p, _)| *n == name && *p == part);
        match (listed, difference) {
            (None, Some(difference)) => complaints.push(format!("{name}: {part:?}:\n{difference}")),
            (Some(_), None) => complaints.push(format!("{name}: {part:?} agrees: take it off the list")),
            (None, None) | (Some(_), Some(_)) => {}
        }
    };
    for (name, recording) in &recordings {
        let Some(recorded) = &recording.pod_after_100s else {
            assert!(recording.refused.is_some(), "{name} has neither a pod nor an error");
            continue;
        };
        let (calls, status) = replay(recording, recorded);
        let (ours, theirs) = (normalised(&calls), normalised(&recorded_calls(recording)));
        check(name, Part::Calls, (ours != theirs).then(|| format!("ours   {ours:?}\ntheirs {theirs:?}")));
        let theirs = without_times(recorded["status"].clone());
        let ours = as_the_kubelet_shows_it(without_times(serde_json::to_value(&status).unwrap()), &theirs);
        let mut found = Vec::new();
        differences("status", &ours, &theirs, &mut found);
        check(name, Part::Status, (!found.is_empty()).then(|| found.join("\n")));
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
}
