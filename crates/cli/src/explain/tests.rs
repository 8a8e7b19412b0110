use std::path::PathBuf;

use kube_model::view::Activity;
use serde_json::json;

use super::*;
use server::testing::{container, now, pod, running, snapshot};

fn at(time: &str) -> Timestamp {
    format!("2026-11-23T{time}Z").parse().unwrap()
}

fn crashing() -> PodView {
    let message = "back-off 40s restarting failed container=app";
    let mut app = container(
        "app",
        false,
        3,
        json!({ "waiting": { "reason": "CrashLoopBackOff", "message": message } }),
    );
    app["lastState"] = json!({ "terminated": {
        "exitCode": 1, "reason": "Error", "message": "no such file\n\u{1b}[31mgiving up\n",
        "startedAt": "2026-11-23T11:59:45Z", "finishedAt": "2026-11-23T11:59:48Z"
    }});
    let init = container("setup", true, 0, json!({ "terminated": { "exitCode": 0, "reason": "Completed" } }));
    let mut view = pod(
        "web",
        json!({
            "phase": "Running", "podIP": "10.88.0.5",
            "conditions": [{ "type": "Ready", "status": "False", "lastTransitionTime": "2026-11-23T11:59:48Z" }],
            "initContainerStatuses": [init], "containerStatuses": [app]
        }),
    );
    view.waits = vec![Wait {
        container: Some("app".into()),
        reason: "CrashLoopBackOff".into(),
        message: message.into(),
        since: Some(at("11:59:48")),
        until: Some(at("12:00:28")),
    }];
    view.events = vec![
        Event {
            kind: EventType::Normal,
            reason: "Started".into(),
            message: "Container started".into(),
            container: Some("app".into()),
            first: at("11:58:00"),
            last: at("11:59:45"),
            count: 4,
        },
        Event {
            kind: EventType::Warning,
            reason: "FailedPrepare".into(),
            message: "disk is full".into(),
            container: None,
            first: at("11:59:50"),
            last: at("11:59:50"),
            count: 1,
        },
    ];
    view
}

fn problem(path: &str) -> Problem {
    Problem {
        path: PathBuf::from(path),
        line: Some(3),
        column: Some(5),
        field: Some("spec.containers[0].image".into()),
        message: "is required".into(),
        warning: false,
    }
}

#[test]
fn a_crash_loop_is_explained() {
    let view = crashing();
    let mut snapshot = snapshot(vec![view.clone()]);
    snapshot.problems = vec![problem("/etc/m/other.yaml"), problem("/etc/m/web.yaml")];
    assert_eq!(
        explain(&snapshot, &view, now()),
        "\
Pod        default/web-node1
UID        web-uid
Status     CrashLoopBackOff, phase Running, 0/1 containers ready, not ready for 12s
Node       node1
IP         10.88.0.5
Age        10m
Now        nothing to do

Waiting for
  app: CrashLoopBackOff, for 12s, next attempt in 28s
    back-off 40s restarting failed container=app

Containers
  init setup, image busybox:1
    state     ended: Completed, exit code 0
    ready     yes
    restarts  0
  app, image busybox:1
    state     waiting: CrashLoopBackOff
              back-off 40s restarting failed container=app
    before    ended 12s ago: Error, exit code 1, after 3s
              no such file
              \u{fffd}[31mgiving up
    ready     no
    restarts  3

Events
  15s ago, 4 times in 2m: Started (app): Container started
  10s ago: warning FailedPrepare: disk is full

Manifest problems
  /etc/m/web.yaml:3:5: spec.containers[0].image: is required
"
    );
}

#[test]
fn a_healthy_pod_is_short_and_a_broken_runtime_is_said() {
    let mut view = pod("web", running());
    view.doing = Some(Activity { what: "creating container app".into(), since: at("11:59:57") });
    let mut snapshot = snapshot(vec![view.clone()]);
    snapshot.runtime.ready = false;
    snapshot.runtime.message = "connection refused".into();
    snapshot.runtime.since = at("11:59:00");
    assert_eq!(
        explain(&snapshot, &view, now()),
        "\
Pod        default/web-node1
UID        web-uid
Status     Running, 1/1 containers ready
Node       node1
IP         10.88.0.5
Age        10m
Runtime    unix:///run/containerd/containerd.sock not ready for 60s: connection refused
Now        creating container app, for 3s

Containers
  app, image busybox:1
    state     running for 5m
    ready     yes
    restarts  0
"
    );
}

#[test]
fn a_manifest_is_found_by_stem_file_name_or_path() {
    let mut snapshot = snapshot(vec![]);
    snapshot.problems = vec![problem("/etc/m/web.yaml")];
    for (name, count) in
        [("web", 1), ("web.yaml", 1), ("/etc/m/web.yaml", 1), ("we", 0), ("", 0), ("m/web.yaml", 0)]
    {
        assert_eq!(problems_of_file(&snapshot, name).len(), count, "{name:?}");
    }
}

#[test]
fn each_volume_is_told_with_its_state_and_what_it_waits_for() {
    use kube_model::view::{VolumeState, VolumeView};
    let pod = pod("web", running());
    let uid = pod.pod.metadata.uid.clone().unwrap();
    let mut snapshot = snapshot(vec![pod.clone()]);
    let volume = |name: &str, kind: &str, state, message: &str| VolumeView {
        name: name.into(),
        kind: kind.into(),
        state,
        since: None,
        message: message.into(),
        until: None,
    };
    let volumes = vec![
        volume("data", "emptyDir", VolumeState::Mounted, ""),
        volume("config", "configMap", VolumeState::Missing, "configmap \"c\" not found"),
    ];
    snapshot.volumes.insert(uid, volumes);
    let text = explain(&snapshot, &pod, now());
    let want = "\nVolumes\n  data (emptyDir): mounted\n  config (configMap): not mounted\n    configmap \"c\" not found\n";
    assert!(text.contains(want), "{text}");
}
