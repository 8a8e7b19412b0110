//! Probes of real containers.

use serde_json::json;
use testkit::env::BUSYBOX;

use crate::node::{Log, Node, condition, eventually, id_of, on_both_lines, uid_of, was_restarted};

/// A container of its own in a pod of its own, which ends at once when told to.
fn apply(node: &Node, name: &str, command: &str, probes: &str) {
    let probes: String = probes.trim().lines().map(|line| format!("  {line}\n")).collect();
    let spec = format!(
        "
terminationGracePeriodSeconds: 0
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, '{command}']
  ports: [{{name: web, containerPort: 8080}}]
{probes}"
    );
    node.apply(name, &spec);
}

const SLEEP: &str = "sleep 3600";
const SERVE: &str = "httpd -p 8080 -h /www; sleep 3600";

on_both_lines! {
    fn http_probes_take_the_answers_that_gos_client_takes(node) {
        let many: String = (0..150).map(|i| format!("X-H{i}: v\\r\\n")).collect();
        let ok = r"Content-Length: 2\r\n\r\nok";
        let answers = [
            ("blank", format!(r"HTTP/1.1 200 OK\r\nServer : old\r\n{ok}"), true),
            ("many", format!(r"HTTP/1.1 200 OK\r\n{many}{ok}"), true),
            ("fold", format!(r"HTTP/1.1 200 OK\r\nX-A: b\r\n\tc\r\n{ok}"), true),
            ("version", format!(r"HTTP/1.2 200 OK\r\n{ok}"), true),
            ("icy", format!(r"ICY 200 OK\r\n{ok}"), false),
            ("nameless", format!(r"HTTP/1.1 200 OK\r\n: novalue\r\n{ok}"), false),
        ];
        let container = |(index, (name, answer, _)): (usize, &(&str, String, bool))| {
            let port = 8001 + index;
            let serve = format!("read -r l; while read -r h && [ \"${{#h}}\" -gt 1 ]; do :; done; printf \"{answer}\"");
            let script = format!("while :; do nc -l -p {port} -e /bin/sh -c '{serve}'; done");
            json!({
                "name": name, "image": BUSYBOX, "command": ["sh", "-c", script],
                "readinessProbe": {"httpGet": {"port": port, "path": "/x"}, "periodSeconds": 1, "timeoutSeconds": 10},
            })
        };
        let containers: Vec<_> = answers.iter().enumerate().map(container).collect();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "answers"},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": containers},
        });
        node.agent.write_manifest("answers.json", &pod.to_string()).unwrap();
        for (name, ..) in answers.iter().filter(|(.., taken)| *taken) {
            node.until_container("answers", name, "is ready", |status| status["ready"] == true);
        }
        node.until_event("answers", "Unhealthy", "malformed HTTP version \"ICY\"");
        node.until_event("answers", "Unhealthy", "malformed MIME header line: : novalue");
    }
}

on_both_lines! {
    fn a_failed_liveness_probe_of_any_kind_restarts_the_container(node) {
        let cases = [
            ("exec", SLEEP, "exec: {command: [sh, -c, '[ ! -e /tmp/sick ] || { echo I am sick; exit 1; }']}", "touch /tmp/sick", "I am sick"),
            ("http", SERVE, "httpGet: {path: /index.html, port: web}", "rm /www/index.html", "HTTP probe failed with statuscode: 404"),
            ("tcp", SERVE, "tcpSocket: {port: 8080}", "kill $(pidof httpd)", "connection refused"),
        ];
        for (name, command, handler, ..) in cases {
            // A server takes a moment until it listens: that is what startup probes are for.
            apply(&node, name, command, &format!("
startupProbe: {{{handler}, periodSeconds: 1, failureThreshold: 60}}
livenessProbe: {{{handler}, periodSeconds: 1, failureThreshold: 1}}
"));
        }
        for (name, _, _, harm, _) in cases {
            node.until_ready(name);
            node.exec(name, "app", harm);
        }
        for (name, .., output) in cases {
            node.until_event(name, "Unhealthy", "Liveness probe failed: ");
            node.until_event(name, "Unhealthy", output);
            node.until_event(name, "Killing", "Container app failed liveness probe, will be restarted");
            let app = node.until_container(name, "app", "runs again", |c| {
                c["restartCount"] == 1 && c["state"]["running"].is_object()
            });
            assert_eq!(app["lastState"]["terminated"]["exitCode"], 137, "{name}");
            node.until_ready(name);
        }
    }

    fn readiness_comes_and_goes_without_a_restart(node) {
        apply(&node, "exec", SLEEP, "
readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1}
");
        apply(&node, "http", SERVE, "
readinessProbe: {httpGet: {path: /ready, port: web}, periodSeconds: 1, failureThreshold: 1}
");
        // The server speaks HTTP/1.1, not gRPC.
        apply(&node, "grpc", SERVE, "
readinessProbe: {grpc: {port: 8080}, periodSeconds: 1, failureThreshold: 1}
");
        let unready = |name: &str| {
            node.until_pod(name, "runs unready", |pod| {
                pod["status"]["phase"] == "Running"
                    && condition(pod, "Ready")["reason"] == "ContainersNotReady"
                    && pod["status"]["containerStatuses"][0]["ready"] == false
            })
        };
        let cases = [("exec", "/tmp/ready"), ("http", "/www/ready")];
        let before = cases.map(|(name, _)| unready(name));
        for (name, _) in cases {
            node.until_event(name, "Unhealthy", "Readiness probe failed: ");
        }
        for (name, file) in cases {
            node.exec(name, "app", &format!("touch {file}"));
        }
        for (name, file) in cases {
            node.until_ready(name);
            node.exec(name, "app", &format!("rm {file}"));
        }
        let id = |pod: &serde_json::Value| id_of(&pod["status"]["containerStatuses"][0]);
        for ((name, _), before) in cases.iter().zip(&before) {
            assert_eq!(id(&unready(name)), id(before), "{name} was restarted");
        }
        node.until_event("grpc", "Unhealthy", "Readiness probe ");
        let grpc = unready("grpc");
        assert_eq!(grpc["status"]["containerStatuses"][0]["restartCount"], 0);
    }

    fn a_startup_probe_holds_the_others_back_and_restarts_what_does_not_start(node) {
        apply(&node, "slow", SLEEP, "
startupProbe: {exec: {command: [sh, -c, 'echo startup > /proc/1/fd/1; test -e /tmp/up']}, periodSeconds: 1, failureThreshold: 60}
livenessProbe: {exec: {command: [sh, -c, 'echo liveness > /proc/1/fd/1; test -e /tmp/up']}, periodSeconds: 1, failureThreshold: 1}
readinessProbe: {exec: {command: ['true']}, periodSeconds: 1}
");
        apply(&node, "never", SLEEP, "
startupProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 1}
");
        let pod = node.until_phase("slow", "Running");
        let mut log = Log::open(&node, "slow", &uid_of(&pod), "app");
        eventually("the startup probe has failed twice", || {
            let lines = log.lines();
            if lines.len() >= 2 { Ok(()) } else { Err(format!("{lines:?}")) }
        });
        let app = node.until_container("slow", "app", "has not started", |c| c["started"] == false);
        assert_eq!(app["ready"], false);
        node.exec("slow", "app", "touch /tmp/up");
        node.until_container("slow", "app", "has started", |c| c["started"] == true && c["ready"] == true);
        eventually("the liveness probe runs", || log.find("liveness"));
        let kinds: Vec<_> = log.lines().into_iter().map(|(_, line)| line).collect();
        let startups = kinds.iter().take_while(|kind| *kind == "startup").count();
        assert!(startups >= 3 && kinds[startups..].iter().all(|kind| kind == "liveness"), "{kinds:?}");

        node.until_event("never", "Unhealthy", "Startup probe failed");
        node.until_event("never", "Killing", "Container app failed startup probe, will be restarted");
        node.until_container("never", "app", "was restarted", was_restarted);
    }

    fn a_probe_may_have_a_grace_period_of_its_own(node) {
        node.apply("stuck", "
terminationGracePeriodSeconds: 600
containers:
- name: app
  image: $BUSYBOX
  command: [sleep, '3600']
  livenessProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 1, terminationGracePeriodSeconds: 1}
");
        // The first process of a container ignores TERM unless it handles it.
        let app = node.until_container("stuck", "app", "was restarted", was_restarted);
        assert_eq!(app["lastState"]["terminated"]["exitCode"], 137);
    }
}
