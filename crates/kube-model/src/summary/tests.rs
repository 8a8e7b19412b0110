use serde_json::{Value, json};

use super::*;

/// A pod and its status.
type Seen = (Pod, PodStatus);

fn shown(seen: &Seen) -> (String, String, i32) {
    shown_while(seen, false)
}

fn shown_while((pod, status): &Seen, removed: bool) -> (String, String, i32) {
    let digest = digest(pod, status, removed);
    (format!("{}/{}", digest.ready, digest.total), digest.status, digest.restarts)
}

/// A pod with the init containers `i1` (plain), `side` (sidecar) and `i2` (plain), and the containers `a` and `b`.
fn many(phase: &str, init: Vec<Value>, regular: Vec<Value>, conditions: Value) -> Seen {
    seen(
        json!({ "metadata": { "name": "p" }, "spec": {
            "initContainers": [{ "name": "i1" }, { "name": "side", "restartPolicy": "Always" }, { "name": "i2" }],
            "containers": [{ "name": "a" }, { "name": "b" }]
        }}),
        json!({
            "phase": phase, "initContainerStatuses": init, "containerStatuses": regular, "conditions": conditions
        }),
    )
}

fn seen(pod: Value, status: Value) -> Seen {
    (serde_json::from_value(pod).unwrap(), serde_json::from_value(status).unwrap())
}

/// A pod with the container `app`.
fn pod(status: Value) -> Seen {
    seen(json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "app" }] } }), status)
}

fn container(name: &str, ready: bool, restarts: i32, state: Value) -> Value {
    json!({ "name": name, "ready": ready, "restartCount": restarts, "image": "", "imageID": "", "state": state })
}

fn running() -> Value {
    json!({ "phase": "Running", "containerStatuses": [container("app", true, 0, is_running())] })
}

fn is_running() -> Value {
    json!({ "running": {} })
}

fn ended(code: i32, reason: &str) -> Value {
    json!({ "terminated": { "exitCode": code, "reason": reason } })
}

fn waiting(reason: &str) -> Value {
    json!({ "waiting": { "reason": reason } })
}

fn sidecar(ready: bool, restarts: i32) -> Value {
    let mut status = container("side", ready, restarts, is_running());
    status["started"] = json!(true);
    status
}

#[test]
fn one_container_pods_show_the_reason_that_matters() {
    let status = |phase: &str, state: Value, ready| json!({ "phase": phase, "containerStatuses": [container("app", ready, 0, state)] });
    for (status, ready, word) in [
        (running(), "1/1", "Running"),
        (status("Running", is_running(), false), "0/1", "Running"),
        (status("Pending", waiting("ContainerCreating"), false), "0/1", "ContainerCreating"),
        (status("Pending", waiting("ImagePullBackOff"), false), "0/1", "ImagePullBackOff"),
        (status("Running", waiting("CrashLoopBackOff"), false), "0/1", "CrashLoopBackOff"),
        (status("Running", ended(1, "Error"), false), "0/1", "Error"),
        (status("Succeeded", ended(0, "Completed"), false), "0/1", "Completed"),
        (status("Running", ended(137, "OOMKilled"), false), "0/1", "OOMKilled"),
        (status("Running", ended(3, ""), false), "0/1", "ExitCode:3"),
        (
            status("Running", json!({ "terminated": { "exitCode": 0, "signal": 9 } }), false),
            "0/1",
            "Signal:9",
        ),
        (json!({ "phase": "Failed", "reason": "DeadlineExceeded" }), "0/1", "DeadlineExceeded"),
        (json!({ "phase": "Pending" }), "0/1", "Pending"),
        (json!({}), "0/1", "Pending"),
    ] {
        let (found_ready, found_word, _) = shown(&pod(status.clone()));
        assert_eq!((found_ready.as_str(), found_word.as_str()), (ready, word), "{status}");
    }
}

#[test]
fn init_containers_speak_until_they_are_done() {
    let done = || container("i1", true, 0, ended(0, "Completed"));
    let wait = || vec![container("a", false, 0, waiting("PodInitializing"))];
    for (init, ready, word) in [
        (vec![container("i1", false, 0, waiting("PodInitializing"))], "0/3", "Init:0/3"),
        (vec![container("i1", false, 0, is_running())], "0/3", "Init:0/3"),
        (vec![container("i1", false, 2, ended(1, "Error"))], "0/3", "Init:Error"),
        (vec![container("i1", false, 2, ended(7, ""))], "0/3", "Init:ExitCode:7"),
        (vec![container("i1", false, 2, waiting("CrashLoopBackOff"))], "0/3", "Init:CrashLoopBackOff"),
        (vec![done(), container("side", false, 0, is_running())], "0/3", "Init:1/3"),
        (vec![done(), sidecar(true, 0), container("i2", false, 0, is_running())], "1/3", "Init:2/3"),
    ] {
        let (found_ready, found_word, _) = shown(&many("Pending", init.clone(), wait(), json!([])));
        assert_eq!((found_ready.as_str(), found_word.as_str()), (ready, word), "{init:?}");
    }
}

#[test]
fn sidecars_count_as_containers_and_plain_init_restarts_are_forgotten() {
    let init = vec![
        container("i1", true, 5, ended(0, "Completed")),
        sidecar(true, 2),
        container("i2", true, 1, ended(0, "Completed")),
    ];
    let regular = vec![container("a", true, 1, is_running()), container("b", true, 0, is_running())];
    assert_eq!(shown(&many("Running", init, regular, json!([]))), ("3/3".into(), "Running".into(), 3));
}

#[test]
fn a_completed_container_does_not_hide_one_that_runs() {
    let init = || vec![container("i1", true, 0, ended(0, "Completed")), sidecar(true, 0)];
    let regular =
        || vec![container("a", false, 0, ended(0, "Completed")), container("b", true, 0, is_running())];
    let ready = json!([{ "type": "Ready", "status": "True" }]);
    assert_eq!(shown(&many("Running", init(), regular(), ready)).1, "Running");
    assert_eq!(shown(&many("Running", init(), regular(), json!([]))).1, "NotReady");
}

#[test]
fn an_initialized_pod_shows_its_containers_though_an_init_container_runs_again() {
    let init = vec![container("i1", false, 0, is_running())];
    let regular = vec![container("a", true, 0, is_running()), container("b", false, 0, waiting("X"))];
    let initialized = json!([{ "type": "Initialized", "status": "True" }]);
    assert_eq!(shown(&many("Running", init, regular, initialized)), ("1/3".into(), "X".into(), 0));
}

#[test]
fn a_pod_being_removed_is_terminating_unless_it_ended() {
    assert_eq!(shown_while(&pod(running()), true).1, "Terminating");
    assert_eq!(shown_while(&pod(json!({ "phase": "Failed" })), true).1, "Failed");
}

#[test]
fn restarts_say_how_long_ago_the_last_one_was() {
    let now = "2026-11-23T12:00:00Z".parse().unwrap();
    let mut crashed = container("app", true, 3, is_running());
    crashed["lastState"] = json!({ "terminated": { "exitCode": 1, "finishedAt": "2026-11-23T11:55:00Z" } });
    for (status, text) in
        [(running(), "0"), (json!({ "phase": "Running", "containerStatuses": [crashed] }), "3 (5m ago)")]
    {
        let (pod, status) = pod(status);
        assert_eq!(digest(&pod, &status, false).restarts_text(now), text);
    }
}
