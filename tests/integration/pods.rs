//! What people do with pods: run them, look at them, change them, take them away.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use kube_model::Timestamp;
use kube_model::k8s_openapi::jiff::SignedDuration;
use kube_model::labels::CONTAINER_HASH;
use serde_json::{Value, json};
use testkit::env::{BUSYBOX, pod};

use crate::node::{Log, Node, condition, eventually, id_of, manifest, on_both_lines, uid_of, was_restarted};

const SLEEPER: &str = "
terminationGracePeriodSeconds: 0
containers:
- name: app
  image: $BUSYBOX
  command: [sleep, '3600']
";

on_both_lines! {
    fn references_that_stand_for_more_than_any_memory_holds_are_refused_and_hold_up_nobody(node) {
        let variable = |i: usize| match i {
            0 => "  - {name: V0, value: xxxxxxxxxxxxxxxx}\n".to_owned(),
            i => format!("  - {{name: V{i}, value: \"{}\"}}\n", format!("$(V{})", i - 1).repeat(4)),
        };
        let env: String = (0..20).map(variable).collect();
        node.apply("bomb", &format!("{SLEEPER}  env:\n{env}"));
        let waiting = node.until_container("bomb", "app", "waits for its configuration", |status| {
            status["state"]["waiting"]["reason"] == "CreateContainerConfigError"
        });
        let message = waiting["state"]["waiting"]["message"].as_str().unwrap();
        assert!(message.contains("env[V10].value: ") && message.contains("6291456 bytes"), "{message}");
        node.apply("other", SLEEPER);
        node.until_ready("other");
    }

    fn command_arguments_and_environment_reach_the_process(node) {
        node.apply("env", r#"
restartPolicy: Never
containers:
- name: app
  image: $BUSYBOX
  workingDir: /www
  command: [sh, -c, 'printf "%s\n" "$0" "$1" "$PWD" "$LATE" "$POD" "$UID_" "$IP" "$HOST" "$NODE" "$SOURCE" "$CPU" "$MEM" > /dev/termination-log']
  args: ['$(GREETING)', '$$(GREETING)']
  resources: {limits: {cpu: 250m}, requests: {memory: 8Mi}}
  env:
  - {name: WHO, value: world}
  - {name: GREETING, value: 'hello $(WHO)'}
  - {name: LATE, value: '$(LATER)'}
  - {name: LATER, value: x}
  - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  - {name: UID_, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
  - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
  - {name: HOST, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
  - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
  - {name: SOURCE, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['kubernetes.io/config.source']"}}}
  - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
  - {name: MEM, valueFrom: {resourceFieldRef: {resource: requests.memory}}}
"#);
        node.apply("host", r#"
hostNetwork: true
restartPolicy: Never
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, '{ hostname; head -n 1 /etc/hosts; ip -o link | wc -l; } > /dev/termination-log']
  ports: [{containerPort: 47113}]
"#);
        let pod = node.until_phase("env", "Succeeded");
        let meta = |of: &str| pod["metadata"][of].as_str().unwrap().to_owned();
        let status = |of: &str| pod["status"][of].as_str().unwrap().to_owned();
        let expected = [
            "hello world", "$(GREETING)", "/www", "$(LATER)", &meta("name"), &meta("uid"),
            &status("podIP"), &status("hostIP"), "node1", "file", "250", "8388608",
        ];
        let message = termination_message(&pod);
        assert_eq!(message.lines().collect::<Vec<_>>(), expected);

        let pod = node.until_phase("host", "Succeeded");
        assert_eq!(pod["status"]["podIP"], pod["status"]["hostIP"]);
        let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let links = fs::read_dir("/sys/class/net").unwrap().count();
        let message = termination_message(&pod);
        let lines: Vec<_> = message.lines().collect();
        assert_eq!(lines[..2], [hostname.trim_end(), "# Kubernetes-managed hosts file (host network)."]);
        // Other runs come and go: at least the pod sees more than the two links of a pod network.
        assert!(lines[2].trim().parse::<usize>().unwrap() > 2 || links <= 2, "{lines:?}");
    }

    fn init_containers_run_in_order_and_a_sidecar_starts_before_and_ends_after_the_app(node) {
        node.apply("job", "
restartPolicy: Never
terminationGracePeriodSeconds: 3
initContainers:
- {name: first, image: $BUSYBOX, command: ['true']}
- {name: second, image: $BUSYBOX, command: ['true']}
- {name: side, image: $BUSYBOX, restartPolicy: Always, command: [sh, -c, 'trap \"exit 0\" TERM; sleep 3600 & wait']}
- {name: third, image: $BUSYBOX, command: ['true']}
containers:
- {name: app, image: $BUSYBOX, command: ['true']}
");
        node.apply("server", "
terminationGracePeriodSeconds: 30
initContainers:
- name: side
  image: $BUSYBOX
  restartPolicy: Always
  command: [sh, -c, 'trap \"echo side ends; exit 0\" TERM; echo up; sleep 3600 & wait']
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, 'trap \"sleep 1; echo app ends; exit 0\" TERM; echo up; sleep 3600 & wait']
");
        let job = node.until_phase("job", "Succeeded");
        let times = |list: &str, name: &str| {
            let statuses = job["status"][list].as_array().unwrap();
            let status = node.container_status(&id_of(statuses.iter().find(|c| c["name"] == name).unwrap()));
            (status.started_at, status.finished_at)
        };
        let [first, second, side, third] =
            ["first", "second", "side", "third"].map(|name| times("initContainerStatuses", name));
        let app = times("containerStatuses", "app");
        for (earlier, later, what) in [
            (first.1, second.0, "the second init container starts after the first one ended"),
            (second.1, side.0, "the sidecar has its place among the init containers"),
            (side.0, third.0, "the third init container starts after the sidecar"),
            (third.1, app.0, "the app starts after the last init container ended"),
            (app.1, side.1, "the sidecar ends after the app"),
        ] {
            assert!(0 < earlier && earlier < later, "{what}: {earlier} {later}");
        }

        let uid = uid_of(&node.until_ready("server"));
        let [mut app, mut side] = ["app", "side"].map(|name| {
            let mut log = Log::open(&node, "server", &uid, name);
            eventually(&format!("{name} has set its trap"), || log.find("up"));
            log
        });
        node.delete("server");
        node.until_gone("server");
        let (app, side) = (app.time_of("app ends"), side.time_of("side ends"));
        assert!(app < side, "the app ended at {app}, its sidecar at {side}");
    }

    fn a_failing_init_container_holds_or_fails_the_pod(node) {
        let spec = |policy: &str| format!("
restartPolicy: {policy}
initContainers:
- {{name: setup, image: $BUSYBOX, command: [sh, -c, 'exit 4']}}
containers:
- {{name: app, image: $BUSYBOX, command: [sleep, '3600']}}
");
        node.apply("never", &spec("Never"));
        node.apply("always", &spec("Always"));

        let pod = node.until_phase("never", "Failed");
        let setup = &pod["status"]["initContainerStatuses"][0]["state"]["terminated"];
        assert_eq!((&setup["exitCode"], &setup["reason"]), (&json!(4), &json!("Error")));
        assert_eq!(pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
        node.until_shown("never", "Init:Error");

        node.until_shown("always", "Init:CrashLoopBackOff");
        let setup = node.until_container("always", "setup", "was restarted", was_restarted);
        assert_eq!(setup["lastState"]["terminated"]["exitCode"], 4);
        assert_back_off(&node, "always", "setup");
        let pod = node.until_phase("always", "Pending");
        assert_eq!(condition(&pod, "Initialized")["reason"], "ContainersNotInitialized");
    }

    fn restart_policies_decide_what_follows_the_end_of_a_container(node) {
        let ending = |policy: &str, code: u8| format!("
restartPolicy: {policy}
containers:
- {{name: app, image: $BUSYBOX, command: [sh, -c, 'exit {code}']}}
");
        node.apply("never-well", &ending("Never", 0));
        node.apply("never-badly", &ending("Never", 3));
        node.apply("on-failure-well", &ending("OnFailure", 0));
        node.apply("always", &ending("Always", 7));
        // Its first question to the sidecar is answered with nothing, the next ones with `ok`.
        node.apply("on-failure-badly", r#"
restartPolicy: OnFailure
terminationGracePeriodSeconds: 0
initContainers:
- name: memory
  image: $BUSYBOX
  restartPolicy: Always
  command:
  - sh
  - -c
  - |
    mkdir /www/cgi-bin
    printf '#!/bin/sh\necho\n[ -e /tmp/asked ] && echo ok\ntouch /tmp/asked\n' > /www/cgi-bin/ask
    chmod +x /www/cgi-bin/ask
    exec httpd -f -p 8080 -h /www
containers:
- name: app
  image: $BUSYBOX
  command:
  - sh
  - -c
  - until answer=$(wget -q -O - http://127.0.0.1:8080/cgi-bin/ask); do sleep 0.1; done; [ "$answer" = ok ]
"#);
        let app = |pod: &Value| pod["status"]["containerStatuses"][0].clone();
        for (name, phase, code, reason, restarts, shown) in [
            ("never-well", "Succeeded", 0, "Completed", 0, "Completed"),
            ("never-badly", "Failed", 3, "Error", 0, "Error"),
            ("on-failure-well", "Succeeded", 0, "Completed", 0, "Completed"),
            ("on-failure-badly", "Succeeded", 0, "Completed", 1, "Completed"),
        ] {
            let pod = node.until_phase(name, phase);
            let app = app(&pod);
            let ended = &app["state"]["terminated"];
            let found = (&ended["exitCode"], &ended["reason"], &app["restartCount"]);
            assert_eq!(found, (&json!(code), &json!(reason), &json!(restarts)), "{name}");
            let ready = condition(&pod, "Ready");
            let why = if phase == "Succeeded" { "PodCompleted" } else { "PodFailed" };
            assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!(why)), "{name}");
            node.until_shown(name, shown);
        }

        node.until_shown("always", "CrashLoopBackOff");
        let app = node.until_container("always", "app", "was restarted", was_restarted);
        let ended = &app["lastState"]["terminated"];
        assert_eq!((&ended["exitCode"], &ended["reason"]), (&json!(7), &json!("Error")));
        assert_back_off(&node, "always", "app");
        node.until_event("always", "BackOff", "Back-off restarting failed container app in pod always-node1_default(");
        node.until_phase("always", "Running");
    }

    fn a_container_over_its_memory_limit_is_killed(node) {
        node.apply("greedy", "
restartPolicy: Never
containers:
- name: app
  image: $BUSYBOX
  command: [dd, if=/dev/zero, of=/dev/null, bs=256M]
  resources: {limits: {memory: 16Mi}}
");
        let pod = node.until_phase("greedy", "Failed");
        let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(ended["exitCode"], 137);
        // containerd hears of the kernel's kill apart from the end of the process, and not always before it.
        assert!(["OOMKilled", "Error"].contains(&ended["reason"].as_str().unwrap()), "{ended}");
    }

    fn a_changed_manifest_replaces_the_pod_after_the_old_one_is_gone(node) {
        let spec = |word: &str| format!("
terminationGracePeriodSeconds: 30
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, 'trap \"sleep 1; echo ends; exit 0\" TERM; echo {word}; sleep 3600 & wait']
");
        node.apply("web", &spec("one"));
        let old = uid_of(&node.until_ready("web"));
        let mut log = Log::open(&node, "web", &old, "app");
        eventually("it has set its trap", || log.find("one"));
        node.apply("web", &spec("two"));
        let new = node.until_pod("web", "has a new UID and is ready", |pod| {
            uid_of(pod) != old && condition(pod, "Ready")["status"] == "True"
        });
        let ended = log.time_of("ends");
        let [sandbox] = node.sandboxes(&uid_of(&new)).try_into().unwrap();
        let began = Timestamp::from_nanosecond(sandbox.created_at.into()).unwrap();
        assert!(ended < began, "the old one ended at {ended}, the new one began at {began}");
        assert!(node.sandboxes(&old).is_empty());
        assert_eq!(new["status"]["containerStatuses"][0]["restartCount"], 0);
        let shown = node.table(&[]);
        assert_eq!(shown.len(), 1, "{shown:?}");
    }

    fn with_an_explicit_uid_a_new_image_replaces_the_container_in_place(node) {
        const OTHER: &str = "localhost/busybox:2";
        node.containerd.ctr(&["images", "tag", BUSYBOX, OTHER]).unwrap();
        let apply = |image: &str| {
            let text = manifest("web", SLEEPER).replace(BUSYBOX, image).replace("  name: web\n", "  name: web\n  uid: mine\n");
            node.agent.write_manifest("web.yaml", &text).unwrap();
        };
        apply(BUSYBOX);
        let old = node.until_ready("web");
        assert_eq!(uid_of(&old), "mine");
        let hash = |status: &Value| node.container_status(&id_of(status)).annotations[CONTAINER_HASH].clone();
        let before = hash(&old["status"]["containerStatuses"][0]);
        let [sandbox] = node.sandboxes("mine").try_into().unwrap();
        apply(OTHER);
        let new = node.until_container("web", "app", "runs the other image", |c| {
            c["restartCount"] == 1 && c["state"]["running"].is_object()
        });
        assert_ne!(hash(&new), before);
        node.until_event("web", "Pulled", OTHER);
        let [same] = node.sandboxes("mine").try_into().unwrap();
        assert_eq!(same.id, sandbox.id);
        node.until_event("web", "Killing", "Container app definition changed, will be restarted");
    }

    fn a_stop_gives_the_grace_period_and_no_more(node) {
        // Each writes down what happens to it; a tick every 50 ms shows how long it lived.
        let app = |grace: u32, trap: &str, more: &str| format!("
terminationGracePeriodSeconds: {grace}
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, 'trap \"{trap}\" TERM; echo up; while true; do sleep 0.05; echo tick; done']
{more}");
        node.apply("polite", &app(30, "echo term; sleep 1; echo bye; exit 0", ""));
        node.apply("stubborn", &app(8, "echo term", ""));
        node.apply("hooked", &app(30, "echo term; exit 0", "
  lifecycle: {preStop: {exec: {command: [sh, -c, 'echo hook begins > /proc/1/fd/1; sleep 1; echo hook ends > /proc/1/fd/1']}}}
"));
        let [mut polite, mut stubborn, mut hooked] = ["polite", "stubborn", "hooked"].map(|name| {
            let uid = uid_of(&node.until_ready(name));
            let mut log = Log::open(&node, name, &uid, "app");
            eventually(&format!("{name} has set its trap"), || log.find("up"));
            log
        });
        for name in ["polite", "stubborn", "hooked"] {
            node.delete(name);
        }
        node.until_shown("stubborn", "Terminating");
        for name in ["polite", "stubborn", "hooked"] {
            node.until_gone(name);
        }
        polite.time_of("bye");
        // The grace period as a whole, from when the runtime sent TERM; scheduling is no exact science.
        let lived = stubborn.last().duration_since(stubborn.time_of("term")).as_secs_f64();
        assert!((6.0..20.0).contains(&lived), "killed {lived} s after TERM with a grace period of 8 s");
        let (begins, ends, term) =
            (hooked.time_of("hook begins"), hooked.time_of("hook ends"), hooked.time_of("term"));
        assert!(begins < ends && ends < term, "hook from {begins} to {ends}, TERM at {term}");
    }

    fn a_failed_post_start_hook_restarts_the_container(node) {
        node.apply("hooked", "
terminationGracePeriodSeconds: 0
containers:
- name: app
  image: $BUSYBOX
  command: [sleep, '3600']
  lifecycle: {postStart: {exec: {command: [sh, -c, 'echo no luck; exit 9']}}}
");
        node.until_event("hooked", "FailedPostStartHook", "PostStartHook failed");
        let app = node.until_container("hooked", "app", "waits because of its hook", |c| {
            c["state"]["waiting"]["reason"] == "PostStartHookError"
        });
        let message = app["state"]["waiting"]["message"].as_str().unwrap();
        assert!(message.contains("no luck") && message.contains('9'), "{message}");
        node.until_container("hooked", "app", "was restarted", was_restarted);
    }

    /// The stages that the phase and the conditions go through, each held until the test lets it go on. The `touch` that
    /// does so has a second to end by itself: with the container's first process it would be killed.
    fn phase_and_conditions_follow_the_pod(node) {
        node.apply("stages", "
restartPolicy: Never
initContainers:
- {name: setup, image: $BUSYBOX, command: [sh, -c, 'until [ -e /tmp/go ]; do sleep 0.05; done; sleep 1']}
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, 'until [ -e /tmp/go ]; do sleep 0.05; done; sleep 1']
  readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1}
");
        let stage = |what: &str, phase: &str, expected: [(&str, &str); 5]| {
            const KINDS: [&str; 5] =
                ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
            node.until_pod("stages", what, |pod| {
                pod["status"]["phase"] == phase
                    && KINDS.iter().zip(expected).all(|(kind, (status, reason))| {
                        let condition = condition(pod, kind);
                        condition["status"] == status && condition["reason"].as_str().unwrap_or_default() == reason
                    })
            });
        };
        let (yes, unready) = (("True", ""), ("False", "ContainersNotReady"));
        node.until_shown("stages", "Init:0/1");
        stage("initialises", "Pending", [yes, ("False", "ContainersNotInitialized"), unready, unready, yes]);
        eventually("explain says what the pod waits for", || {
            let explained = node.agent.ask(&["explain", "stages"]).map_err(|e| e.to_string())?;
            explained.contains("the init container has not ended").then_some(()).ok_or(explained)
        });
        node.exec("stages", "setup", "touch /tmp/go");
        stage("runs unready", "Running", [yes, yes, unready, unready, yes]);
        node.until_shown("stages", "Running");
        node.exec("stages", "app", "touch /tmp/ready");
        stage("is ready", "Running", [yes, yes, yes, yes, yes]);
        node.exec("stages", "app", "touch /tmp/go");
        let done = ("False", "PodCompleted");
        stage("has completed", "Succeeded", [("False", ""), ("True", "PodCompleted"), done, done, yes]);
        node.until_shown("stages", "Completed");
    }

    fn an_image_that_cannot_be_had_is_a_waiting_reason(node) {
        let spec = |image: &str, policy: &str| format!("
containers:
- {{name: app, image: '{image}', imagePullPolicy: {policy}}}
");
        // Nobody listens there.
        node.apply("no-registry", &spec("127.0.0.1:9/none:1", "IfNotPresent"));
        node.apply("never-pull", &spec("localhost/none:1", "Never"));
        node.apply("bad-name", &spec("localhost/NONE:1", "IfNotPresent"));
        node.apply("always-pull", &spec("localhost/busybox:1", "Always"));
        for (name, reason) in [
            ("no-registry", "ErrImagePull"),
            ("never-pull", "ErrImageNeverPull"),
            ("bad-name", "InvalidImageName"),
            ("always-pull", "ErrImagePull"),
        ] {
            node.until_shown(name, reason);
        }
        let app = node.until_container("no-registry", "app", "has a message", |c| {
            c["state"]["waiting"]["message"].is_string()
        });
        let message = app["state"]["waiting"]["message"].as_str().unwrap();
        assert!(message.contains("127.0.0.1:9"), "the runtime's own message is not in {message:?}");
        let explained = node.agent.ask(&["explain", "never-pull"]).unwrap();
        assert!(explained.contains("app: ErrImageNeverPull"), "{explained}");
        node.until_shown("no-registry", "ImagePullBackOff");
    }

    fn people_see_their_pods_as_a_table_as_objects_and_as_they_change(node) {
        node.apply("web", SLEEPER);
        let pod = node.until_ready("web");
        let (uid, ip) = (uid_of(&pod), pod["status"]["podIP"].as_str().unwrap().to_owned());

        let [row] = node.table(&[]).try_into().unwrap();
        let (age, row) = (row[5].clone(), [&row[..5], &row[6..]].concat());
        assert_eq!(row, ["default", "web-node1", "1/1", "Running", "0", &ip]);
        assert!(age.ends_with('s'), "{age}");
        let [row] = node.table(&["-o", "wide"]).try_into().unwrap();
        assert_eq!(row[7..], ["node1", &uid, BUSYBOX]);
        let yaml = node.agent.ask(&["pods", "web", "-o", "yaml"]).unwrap();
        for line in ["kind: Pod", &format!("  uid: {uid}"), "  phase: Running"] {
            assert!(yaml.lines().any(|l| l == line), "no {line:?} in {yaml}");
        }
        let unknown = node.agent.ask(&["pods", "wep"]).unwrap_err().to_string();
        assert!(unknown.contains("no pod \"wep\" here; did you mean"), "{unknown}");

        let mut watch = Command::new(node.agent.binary())
            .args(["pods", "-w", "--root-dir"])
            .arg(node.agent.root())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.next().unwrap().starts_with("NAMESPACE"));
        assert!(lines.next().unwrap().contains("Running"));
        node.delete("web");
        // The stream blocks until there is news, and ends when the agent does.
        let removed = lines.find(|line| line.contains("Removed"));
        watch.kill().unwrap();
        watch.wait().unwrap();
        assert!(removed.unwrap().contains("web-node1"));
        node.until_gone("web");
        assert!(pod_is_absent(&node, "web"));
    }
}

fn pod_is_absent(node: &Node, name: &str) -> bool {
    pod(&node.agent.pods().unwrap(), name).is_none()
}

/// The termination message of a pod's only container.
fn termination_message(pod: &Value) -> String {
    pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"].as_str().unwrap().to_owned()
}

/// Checks how long a container in a crash loop has to wait, from its end on: it is restarted at once the first time,
/// then after ten seconds, and after twice as long each time.
fn assert_back_off(node: &Node, name: &str, container: &str) {
    let (restarts, wait) = eventually(&format!("{container} of {name} waits in a crash loop"), || {
        let explained = node.try_explain(name)?;
        let statuses = ["initContainerStatuses", "containerStatuses"].map(|list| &explained["status"][list]);
        let mut statuses = statuses.into_iter().filter_map(Value::as_array).flatten();
        let status = statuses.find(|status| status["name"] == container);
        let restarts = status.and_then(|status| status["restartCount"].as_u64());
        let waits = explained["waits"].as_array().cloned().unwrap_or_default();
        let wait = waits.iter().find(|w| w["container"] == container && w["reason"] == "CrashLoopBackOff");
        let time = |of: &str| wait?[of].as_str()?.parse::<Timestamp>().ok();
        match (restarts, time("since"), time("until")) {
            (Some(restarts @ 1..), Some(since), Some(until)) => Ok((restarts, until.duration_since(since))),
            _ => Err(format!("{restarts:?} {waits:?}")),
        }
    });
    assert_eq!(wait, SignedDuration::from_secs(10 << (restarts - 1)), "after {restarts} restarts");
}
