//! kubectl against a node by itself: its pods come over the pod API and run on a real runtime.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::Value;
use testkit::env::{BUSYBOX, Ca, Line, Run};

use crate::node::{Node, eventually, id_of};

/// A node that serves the pod API over TLS to those who know its token. (kubectl sends a token over TLS only.)
struct Lone {
    node: Node,
    run: Arc<Run>,
    ca: Ca,
}

impl Lone {
    fn new(line: Line) -> Self {
        let run = Run::new().unwrap();
        let tokens = run.dir().join("tokens");
        fs::write(&tokens, "secret\n").unwrap();
        let ca = Ca::new(run.dir(), "lone").unwrap();
        let server = ca.server("node1", &["127.0.0.1"]).unwrap();
        let file = |flag: &str, path: &Path| format!("--manifest-server-{flag}={}", path.display());
        let args = [
            "--manifest-server-address=127.0.0.1:0".to_owned(),
            file("token-file", &tokens),
            file("tls-cert-file", &server.certificate),
            file("tls-private-key-file", &server.key),
        ];
        Self { node: Node::with(line, &args.each_ref().map(String::as_str)), run, ca }
    }

    /// Where the API is, as the agent that was started last logged it.
    fn address(&self) -> SocketAddr {
        eventually("the agent says where it serves the pod API", || {
            let log = fs::read_to_string(self.node.agent.log()).map_err(|error| error.to_string())?;
            let text = log.rsplit("the pod API is served at ").next().filter(|text| text.len() < log.len());
            let end = |c: char| !(c.is_ascii_digit() || matches!(c, '.' | ':'));
            text.and_then(|text| text.split(end).next()?.parse().ok()).ok_or(log)
        })
    }

    fn kubectl_as(&self, token: &str, args: &[&str]) -> Output {
        let mut command = Command::new("kubectl");
        command
            .arg(format!("--server=https://{}", self.address()))
            .arg(format!("--token={token}"))
            .args(args);
        command.arg(format!("--certificate-authority={}", self.ca.certificate().display()));
        command.env("HOME", self.run.dir()).env("KUBECONFIG", "/dev/null");
        command.output().unwrap_or_else(|error| panic!("this test needs kubectl in the PATH: {error}"))
    }

    fn kubectl(&self, args: &[&str]) -> String {
        let output = self.kubectl_as("secret", args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Writes a manifest for `kubectl -f`.
    fn manifest(&self, name: &str, command: &str) -> String {
        let path = self.run.dir().join(format!("{name}.yaml"));
        let text = format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: {BUSYBOX}
    imagePullPolicy: IfNotPresent
    command: [sh, -c, {command:?}]
"
        );
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn pod(&self, name: &str) -> Value {
        self.try_pod(name).unwrap_or_else(|text| panic!("{text}"))
    }

    /// The pod, or what kubectl says instead.
    fn try_pod(&self, name: &str) -> Result<Value, String> {
        let output = self.kubectl_as("secret", &["get", "pod", name, "-o", "json"]);
        serde_json::from_slice(&output.stdout).map_err(|_| format!("{output:?}"))
    }
}

#[test]
fn kubectl_runs_a_pod_on_a_lone_node() {
    for line in [Line::V1_6, Line::V2_1] {
        let mut lone = Lone::new(line);
        let stranger = lone.kubectl_as("guess", &["get", "pods"]);
        assert!(!stranger.status.success());
        let text = String::from_utf8(stranger.stderr).unwrap();
        assert!(text.contains("You must be logged in to the server"), "{text}");

        let web = lone.manifest("web", "sleep 3600");
        assert_eq!(lone.kubectl(&["apply", "-f", &web]), "pod/web created\n");
        lone.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
        assert_eq!(lone.kubectl(&["apply", "-f", &web]), "pod/web unchanged\n");
        let table = lone.kubectl(&["get", "pods", "-o", "wide"]);
        let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
        let before = lone.pod("web");
        let address = before["status"]["podIP"].as_str().unwrap();
        assert_eq!(
            [row[0], row[1], row[2], row[5], row[6]],
            ["web", "1/1", "Running", address, "node1"],
            "{table}"
        );
        let described = lone.kubectl(&["describe", "pod", "web"]);
        assert!(described.contains("Started") && described.contains(BUSYBOX), "{described}");

        // It is on disk: a new agent has it, with the container that runs.
        let container = id_of(&before["status"]["containerStatuses"][0]);
        lone.kubectl(&["label", "pod", "web", "tier=x"]);
        lone.node.agent.kill9();
        lone.node.agent.start_again().unwrap();
        eventually("the pod is shown as before", || {
            // Until the new one says where it serves, the address is the old one's.
            let pod = lone.try_pod("web")?;
            // The status is told anew after a start.
            let status = &pod["status"]["containerStatuses"][0];
            if status.is_object() && id_of(status) == container { Ok(()) } else { Err(pod.to_string()) }
        });
        assert_eq!(lone.pod("web")["metadata"]["labels"]["tier"], "x");
        assert_eq!(lone.pod("web")["metadata"]["uid"], before["metadata"]["uid"]);

        let job = lone.manifest("job", "echo done");
        lone.kubectl(&["apply", "--server-side", "-f", &job]);
        lone.kubectl(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/job", "--timeout=60s"]);

        // kubectl waits until the pods are gone.
        lone.kubectl(&["delete", "pods", "--all", "--timeout=60s"]);
        assert_eq!(lone.kubectl(&["get", "pods", "-o", "name"]), "");
        lone.node.until_gone("web");
    }
}

/// The pod that waits names what it lacks, and starts when that comes.
#[test]
fn a_lone_node_has_config_maps_and_secrets_of_its_own() {
    let mut lone = Lone::new(Line::V2_1);
    let pod = lone.manifest("web", "echo $COLOR $KEY; sleep 3600");
    let text = fs::read_to_string(&pod).unwrap()
        + "    envFrom:\n    - configMapRef: {name: colors}\n    - secretRef: {name: keys}\n";
    fs::write(&pod, text).unwrap();
    lone.kubectl(&["apply", "-f", &pod]);
    let waits = |lone: &Lone, name: &str| {
        eventually(&format!("the pod waits for {name}"), || {
            let state = lone.try_pod("web")?["status"]["containerStatuses"][0]["state"]["waiting"].take();
            let message = state["message"].as_str().unwrap_or_default();
            let waits =
                state["reason"] == "CreateContainerConfigError" && message == format!("{name} not found");
            if waits { Ok(()) } else { Err(state.to_string()) }
        });
    };
    waits(&lone, "configmap \"colors\"");
    let colors = lone.run.dir().join("colors.yaml");
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: colors}\ndata: {COLOR: blue}\n";
    fs::write(&colors, map).unwrap();
    lone.kubectl(&["apply", "-f", &colors.display().to_string()]);
    waits(&lone, "secret \"keys\"");
    let manifests = lone.run.dir().join("keys.yaml");
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {KEY: very-secret}\n";
    fs::write(&manifests, secret).unwrap();
    lone.kubectl(&["apply", "-f", &manifests.display().to_string()]);
    lone.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    eventually("the log", || {
        let log = lone.kubectl(&["logs", "web"]);
        if log == "blue very-secret\n" { Ok(()) } else { Err(log) }
    });
    // These are sent as protobuf.
    lone.kubectl(&["create", "configmap", "made", "--from-literal=SIZE=small"]);
    assert_eq!(lone.kubectl(&["get", "configmap", "made", "-o", "jsonpath={.data.SIZE}"]), "small");
    lone.kubectl(&["create", "secret", "generic", "hidden", "--from-literal=KEY=value"]);
    assert_eq!(lone.kubectl(&["get", "secret", "hidden", "-o", "jsonpath={.data.KEY}"]), "dmFsdWU=");
    // They are there again after a restart, and a pod of a file has them, too.
    lone.node.agent.kill9();
    lone.node.agent.start_again().unwrap();
    lone.node.apply(
        "filed",
        &format!(
            "  containers:\n  - name: app\n    image: {BUSYBOX}\n    imagePullPolicy: IfNotPresent\n    \
             command: [sh, -c, 'echo $COLOR; sleep 3600']\n    envFrom:\n    - configMapRef: {{name: colors}}\n"
        ),
    );
    lone.node.until_ready("filed");
    let log = fs::read_to_string(lone.node.agent.log()).unwrap();
    assert!(!log.contains("very-secret"), "nothing of a Secret is logged");
}

#[test]
fn kubectl_shows_the_logs_of_a_lone_node() {
    let lone = Lone::new(Line::V2_1);
    let job = lone.manifest("job", "echo first; echo second; sleep 1; echo third");
    lone.kubectl(&["apply", "-f", &job]);
    // It says why there is nothing yet, and then follows to the end.
    let started = |pod: &Value| !pod["status"]["containerStatuses"][0]["state"]["waiting"].is_object();
    eventually("the job is started", || {
        let output = lone.kubectl_as("secret", &["logs", "job"]);
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let pod = lone.try_pod("job")?;
        assert!(
            started(&pod) || text.starts_with("Error from server (BadRequest): container \"app\""),
            "{text}"
        );
        Err(text)
    });
    assert_eq!(lone.kubectl(&["logs", "-f", "job"]), "first\nsecond\nthird\n");
    assert_eq!(lone.kubectl(&["logs", "job", "--tail=1"]), "third\n");
    assert_eq!(lone.kubectl(&["logs", "job", "-c", "app", "--limit-bytes=3"]), "fir");
    assert_eq!(lone.kubectl(&["logs", "job", "--since-time=2100-01-01T00:00:00Z"]), "");
    let timed = lone.kubectl(&["logs", "job", "--timestamps", "--since=1h"]);
    assert!(timed.lines().count() == 3 && timed.lines().all(|line| line.starts_with("20")), "{timed}");

    // Those of a static pod of this node, too.
    lone.node.apply("fixed", crate::survey::SLEEPER);
    lone.node.until_phase("fixed", "Running");
    eventually("the static pod is shown", || lone.try_pod("fixed-node1"));
    assert_eq!(lone.kubectl(&["logs", "fixed-node1"]), "");

    let crash = lone.manifest("crash", "echo $((++n)) of many; exit 1");
    lone.kubectl(&["apply", "-f", &crash]);
    eventually("it has crashed and was started again", || {
        let pod = lone.try_pod("crash")?;
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_i64();
        if restarts > Some(0) { Ok(()) } else { Err(pod["status"].to_string()) }
    });
    assert_eq!(lone.kubectl(&["logs", "crash", "--previous"]), "1 of many\n");

    for (args, text) in [
        (&["logs", "job", "-p"][..], "previous terminated container \"app\" in pod \"job\" not found"),
        (&["logs", "nope"], "pods \"nope\" not found"),
        (&["logs", "job", "-c", "nope"], "container nope is not valid for pod job"),
    ] {
        let output = lone.kubectl_as("secret", args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(text), "{args:?}: {error}");
    }
    let stranger = lone.kubectl_as("guess", &["logs", "job"]);
    assert!(!stranger.status.success() && stranger.stdout.is_empty(), "{stranger:?}");
}
