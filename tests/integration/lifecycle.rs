//! Hooks, sidecars and ends of pods where the order of things counts, and pods that name what the node cannot give.

use cri_client::v1::ExecSyncRequest;
use serde_json::Value;

use crate::node::{Log, Node, condition, eventually, id_of, manifest, on_both_lines, uid_of};
use crate::survey::prove_alive;

/// Runs a shell line in the container `app` of a pod, whatever its status says.
fn exec_in_app(node: &Node, uid: &str, line: &str) -> Result<String, String> {
    let containers = node.containers(uid);
    let app = containers.iter().find(|c| c.metadata.as_ref().is_some_and(|m| m.name == "app"));
    let container = app.ok_or("there is no container yet")?;
    let request = ExecSyncRequest {
        container_id: container.id.clone(),
        cmd: ["sh", "-c", line].map(str::to_owned).to_vec(),
        timeout: 60,
    };
    let answer = node.cri(async |cri| cri.exec_sync(request).await).map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    if answer.exit_code == 0 { Ok(text) } else { Err(format!("exit {}: {text}", answer.exit_code)) }
}

/// Seconds from the end of one container to that of another, by the runtime.
fn seconds_between(node: &Node, earlier: &Value, later: &Value) -> f64 {
    let end = |status: &Value| node.container_status(&id_of(status)).finished_at;
    (end(later) - end(earlier)) as f64 / 1e9
}

fn status_of<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["initContainerStatuses", "containerStatuses"].map(|list| pod["status"][list].as_array());
    let mut all = lists.into_iter().flatten().flatten();
    all.find(|status| status["name"] == name).unwrap_or_else(|| panic!("no status of {name}: {pod}"))
}

on_both_lines! {
    /// The hook prepares what the liveness probe looks at, and is held up until the test lets it go on.
    fn until_its_post_start_hook_has_ended_a_container_is_neither_running_nor_probed(node) {
        let hook = "echo begins >> /tmp/hooks; until [ -e /tmp/go ]; do sleep 0.1; done; touch /tmp/ok";
        node.apply("hooked", &format!("
terminationGracePeriodSeconds: 1
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.2; done']
  lifecycle: {{postStart: {{exec: {{command: [sh, -c, '{hook}']}}}}}}
  livenessProbe: {{exec: {{command: [cat, /tmp/ok]}}, periodSeconds: 1, failureThreshold: 1}}
- name: second
  image: $BUSYBOX
  command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.2; done']
"));
        let uid = uid_of(&node.until_phase("hooked", "Pending"));
        let begins = |node: &Node, times: usize| eventually(&format!("the hook began {times} times"), || {
            let text = exec_in_app(node, &uid, "cat /tmp/hooks")?;
            if text.lines().count() == times { Ok(()) } else { Err(text) }
        });
        let waits = |node: &Node| node.until_pod("hooked", "waits for the hook", |pod| {
            let app = status_of(pod, "app");
            pod["status"]["phase"] == "Pending"
                && condition(pod, "Ready")["status"] == "False"
                && app["state"]["waiting"]["reason"] == "ContainerCreating"
                && app["ready"] == false
                && app["started"] == false
                && app["containerID"].is_null()
        });
        begins(&node, 1);
        // Longer than it takes the probe to fail.
        prove_alive(&node);
        waits(&node);
        assert_eq!(node.containers(&uid).len(), 1, "the second container waits for the first one's hook");

        // A hook that is cut off runs again, and is waited for from the first answer on.
        node.agent.kill9();
        node.agent.start_again().unwrap();
        begins(&node, 2);
        prove_alive(&node);
        waits(&node);

        exec_in_app(&node, &uid, "touch /tmp/go").unwrap();
        node.until_ready("hooked");
        prove_alive(&node);
        let pod = node.until_ready("hooked");
        assert_eq!(status_of(&pod, "app")["restartCount"], 0, "{pod}");
        assert_eq!(exec_in_app(&node, &uid, "cat /tmp/hooks").unwrap().lines().count(), 2);
    }

    /// None of them heeds SIGTERM: they are killed, all within the one grace period and the least that each is given.
    fn the_sidecars_of_a_job_share_one_grace_period(node) {
        let side = |name: &str| format!("
- {{name: {name}, image: $BUSYBOX, restartPolicy: Always, command: [sh, -c, 'trap \"\" TERM; while :; do sleep 1; done']}}");
        node.apply("job", &format!("
restartPolicy: Never
terminationGracePeriodSeconds: 6
initContainers:{}{}{}
containers:
- {{name: main, image: $BUSYBOX, command: [sh, -c, 'echo done']}}
", side("s1"), side("s2"), side("s3")));
        let job = node.until_pod("job", "has ended", |pod| {
            let sides = pod["status"]["initContainerStatuses"].as_array();
            let ended = |s: &Value| s["state"]["terminated"].is_object();
            pod["status"]["phase"] == "Succeeded" && sides.is_some_and(|all| all.iter().all(ended))
        });
        let [main, s1, s2, s3] = ["main", "s1", "s2", "s3"].map(|name| status_of(&job, name));
        let first = seconds_between(&node, main, s3);
        assert!(first >= 5.0, "the last sidecar had {first} s of the grace period");
        // A grace period each would be 12 s more.
        for earlier in [s1, s2] {
            let late = seconds_between(&node, s3, earlier);
            assert!((0.0..9.0).contains(&late), "killed {late} s after the last sidecar");
        }
    }

    fn pre_stop_hooks_run_at_once_and_the_signal_of_a_sidecar_waits_for_its_turn(node) {
        node.apply("hooked", "
terminationGracePeriodSeconds: 30
initContainers:
- name: side
  image: $BUSYBOX
  restartPolicy: Always
  command: [sh, -c, 'trap \"echo side TERM; exit 0\" TERM; echo up; while :; do sleep 0.1; done']
  lifecycle: {preStop: {exec: {command: [sh, -c, 'echo side hook > /proc/1/fd/1; sleep 1']}}}
containers:
- name: main
  image: $BUSYBOX
  command: [sh, -c, 'trap \"echo main TERM; sleep 5; echo main ends; exit 0\" TERM; echo up; while :; do sleep 0.1; done']
  lifecycle: {preStop: {exec: {command: [sh, -c, 'echo main hook > /proc/1/fd/1']}}}
");
        let uid = uid_of(&node.until_ready("hooked"));
        let [mut main, mut side] = ["main", "side"].map(|name| {
            let mut log = Log::open(&node, "hooked", &uid, name);
            eventually(&format!("{name} has set its trap"), || log.find("up"));
            log
        });
        node.delete("hooked");
        node.until_gone("hooked");
        let (hook, term) = (side.time_of("side hook"), side.time_of("side TERM"));
        let (main_term, main_ends) = (main.time_of("main TERM"), main.time_of("main ends"));
        assert!(main.time_of("main hook") < main_term, "{main_term}");
        assert!(hook < main_ends && main_ends < term, "hook {hook}, TERM {term}, the main container ended at {main_ends}");
    }

    /// The first instance of the sidecar ends by itself, the second one with the pod.
    fn an_ended_pod_has_no_waiting_container_and_last_states_are_the_instances_before(node) {
        node.apply("job", "
restartPolicy: Never
terminationGracePeriodSeconds: 1
initContainers:
- name: side
  image: $BUSYBOX
  restartPolicy: Always
  command: [sh, -c, 'sleep 3; exit 1']
containers:
- {name: main, image: $BUSYBOX, command: [sleep, '12']}
");
        // After two ends in a row it waits for longer than `main` lives.
        let side = node.until_container("job", "side", "waits", |c| c["state"]["waiting"]["reason"] == "CrashLoopBackOff");
        assert_eq!(side["lastState"]["terminated"]["exitCode"], 1, "{side}");
        node.until_phase("job", "Succeeded");
        let job = node.until_pod("job", "has ended", |pod| status_of(pod, "side")["state"]["terminated"].is_object());
        let side = status_of(&job, "side");
        let (now, last) = (&side["state"]["terminated"], &side["lastState"]["terminated"]);
        assert_eq!((&now["containerID"], &side["restartCount"]), (&side["containerID"], &1.into()), "{side}");
        assert!(last["exitCode"] == 1 && last["containerID"] != now["containerID"], "{side}");
    }

    fn a_pod_that_reaches_its_deadline_fails_and_says_so(node) {
        node.apply("late", "
restartPolicy: OnFailure
activeDeadlineSeconds: 8
terminationGracePeriodSeconds: 2
initContainers:
- {name: side, image: $BUSYBOX, restartPolicy: Always, command: [sleep, '100000']}
containers:
- {name: app, image: $BUSYBOX, command: [sleep, '100000']}
");
        let text = "Pod was active on the node longer than the specified deadline";
        let pod = node.until_phase("late", "Failed");
        assert_eq!((&pod["status"]["reason"], &pod["status"]["message"]), (&"DeadlineExceeded".into(), &text.into()));
        node.until_event("late", "DeadlineExceeded", text);
        node.until_pod("late", "has ended", |pod| {
            ["side", "app"].iter().all(|name| status_of(pod, name)["state"]["terminated"].is_object())
        });
    }

    /// As another kubelet leaves it: the pod runs, and its spec names a volume.
    fn a_pod_that_is_adopted_keeps_what_runs_and_is_never_started_without_its_volumes(node) {
        let spec = "
terminationGracePeriodSeconds: 1
containers:
- name: app
  image: $BUSYBOX
  command: [sleep, '3600']
- name: other
  image: $BUSYBOX
  command: [sleep, '3600']
";
        let plain = manifest("web", spec).replace("  name: web\n", "  name: web\n  uid: mine\n");
        let mounts = "  volumes:\n  - {name: data, nfs: {server: s, path: /}}\n";
        let named = format!("{plain}{mounts}").replacen("  - name: other", "    volumeMounts: [{name: data, mountPath: /data}]\n  - name: other", 1);
        let write = |node: &Node, text: &str| node.agent.write_manifest("web.yaml", text).unwrap();
        write(&node, &plain);
        let before = node.until_ready("web");
        let ids = ["app", "other"].map(|name| id_of(status_of(&before, name)));
        node.agent.kill9();
        write(&node, &named);
        node.agent.start_again().unwrap();
        let why = "mount failed: exit status";
        node.until_event("web", "FailedMount", why);
        let pod = node.until_ready("web");
        assert_eq!(["app", "other"].map(|name| id_of(status_of(&pod, name))), ids);

        node.containerd.ctr(&["tasks", "kill", "--signal", "SIGKILL", &ids[0]]).unwrap();
        let app = node.until_container("web", "app", "has ended", |c| !c["state"]["terminated"].is_null());
        assert_eq!(app["state"]["terminated"]["exitCode"], 137, "{app}");
        prove_alive(&node);
        let pod = node.until_pod("web", "is not ready", |pod| condition(pod, "Ready")["status"] == "False");
        assert!(status_of(&pod, "app")["state"]["running"].is_null(), "{pod}");
        assert_eq!(id_of(status_of(&pod, "other")), ids[1]);
        assert!(status_of(&pod, "other")["state"]["running"].is_object(), "{pod}");
        assert_eq!(node.containers("mine").len(), 2, "nothing was started");

        // Without the volume it goes on.
        write(&node, &plain);
        node.until_container("web", "app", "runs again", |c| {
            c["restartCount"] == 1 && c["state"]["running"].is_object()
        });
        node.until_ready("web");
    }
}
