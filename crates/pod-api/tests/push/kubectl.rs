//! kubectl and curl against a node whose pods run as soon as they are there and end as soon as they are deleted.

use std::ffi::OsStr;
use std::fs;
use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::node::{Node, PODS, SOON, manifest};

/// A node, an agent that pretends, and a folder for the clients.
struct Lone {
    node: Node,
    agent: JoinHandle<()>,
    home: tempfile::TempDir,
}

impl Lone {
    async fn new() -> Self {
        let node = Node::new().await;
        let mut state = node.push.state.clone();
        let handle = node.push.handle.clone();
        let agent = tokio::spawn(async move {
            loop {
                handle.observe(&crate::node::views(&state.borrow_and_update().clone()));
                if state.changed().await.is_err() {
                    return;
                }
            }
        });
        Self { node, agent, home: tempfile::tempdir().unwrap() }
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env("HOME", self.home.path()).env("KUBECONFIG", "/dev/null").kill_on_drop(true);
        command
    }

    fn kubectl_command(&self, args: &[&str]) -> Command {
        let server = format!("--server=http://{}", self.node.address());
        let mut command = self.command("kubectl", &[&server]);
        command.args(args);
        command
    }

    async fn kubectl(&self, args: &[&str]) -> Output {
        self.kubectl_with(args, "").await
    }

    async fn kubectl_with(&self, args: &[&str], input: &str) -> Output {
        run(self.kubectl_command(args), input).await
    }

    /// What kubectl prints when all is well.
    async fn said(&self, args: &[&str]) -> String {
        succeeded(&self.kubectl(args).await)
    }

    async fn said_with(&self, args: &[&str], input: &str) -> String {
        succeeded(&self.kubectl_with(args, input).await)
    }

    /// What kubectl complains about.
    async fn complaint(&self, args: &[&str], input: &str) -> String {
        let output = self.kubectl_with(args, input).await;
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    async fn pod(&self, name: &str) -> Value {
        serde_json::from_str(&self.said(&["get", "pod", name, "-o", "json"]).await).unwrap()
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        self.agent.abort();
    }
}

async fn run(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = command.as_std().get_program().to_owned();
    let mut child = command.spawn().unwrap_or_else(|error| missing(&program, &error));
    // A program that reads nothing closes its end.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
    timeout(SOON, child.wait_with_output())
        .await
        .unwrap_or_else(|_| panic!("{command:?} does not end"))
        .unwrap()
}

fn missing<T>(program: &OsStr, error: &std::io::Error) -> T {
    panic!("these tests need {program:?} in the PATH: {error}")
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_applies_changes_shows_and_deletes_a_pod() {
    let lone = Lone::new().await;
    let (web, newer) = (manifest("web"), manifest("web").replace("busybox:1", "busybox:2"));
    let apply = ["apply", "-f", "-"];
    assert_eq!(lone.said_with(&apply, &web).await, "pod/web created\n");
    assert_eq!(lone.said_with(&apply, &web).await, "pod/web unchanged\n");
    assert_eq!(lone.said_with(&apply, &newer).await, "pod/web configured\n");
    assert_eq!(lone.pod("web").await["spec"]["containers"][0]["image"], "busybox:2");
    assert_eq!(
        lone.said(&["wait", "--for=condition=Ready", "pod/web", "--timeout=10s"]).await,
        "pod/web condition met\n"
    );
    assert_eq!(lone.said(&["label", "pod", "web", "tier=x"]).await, "pod/web labeled\n");
    assert_eq!(lone.said(&["annotate", "pod", "web", "a=b"]).await, "pod/web annotated\n");
    let merge = r#"{"metadata":{"labels":{"tier":null}}}"#;
    assert_eq!(lone.said(&["patch", "pod", "web", "--type=merge", "-p", merge]).await, "pod/web patched\n");
    assert_eq!(lone.said(&["set", "image", "pod/web", "app=busybox:3"]).await, "pod/web image updated\n");
    let pod = lone.pod("web").await;
    assert_eq!(pod["metadata"]["labels"], serde_json::json!({ "app": "web" }));
    assert_eq!(pod["metadata"]["annotations"]["a"], "b");
    assert_eq!(pod["spec"]["containers"][0]["image"], "busybox:3");
    assert_eq!(lone.said_with(&["replace", "-f", "-"], &web).await, "pod/web replaced\n");
    let mut edit = lone.kubectl_command(&["edit", "pod", "web"]);
    edit.env("EDITOR", "sed -i s/busybox:1/busybox:4/");
    assert_eq!(succeeded(&run(edit, "").await), "pod/web edited\n");
    assert_eq!(lone.pod("web").await["spec"]["containers"][0]["image"], "busybox:4");

    let table = lone.said(&["get", "pods", "-o", "wide"]).await;
    let cells: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells[0][..5], ["NAME", "READY", "STATUS", "RESTARTS", "AGE"], "{table}");
    assert_eq!(cells[1][..4], ["web", "1/1", "Running", "0"], "{table}");
    assert_eq!(cells[1][5..7], ["10.88.0.5", "node1"], "{table}");
    let yaml = lone.said(&["get", "pod", "web", "-o", "yaml"]).await;
    assert!(yaml.contains("\n  nodeName: node1\n"), "{yaml}");
    let described = lone.said(&["describe", "pod", "web"]).await;
    for part in ["Image:", "busybox:4", "Unhealthy it", "IP:", "10.88.0.5"] {
        assert!(described.contains(part), "{part}: {described}");
    }
    let events = lone.said(&["get", "events"]).await;
    assert!(events.contains("Warning") && events.contains("pod/web"), "{events}");

    assert_eq!(lone.said(&["delete", "pod", "web"]).await, "pod \"web\" deleted\n");
    let none = lone.complaint(&["get", "pod", "web"], "").await;
    assert_eq!(none, "Error from server (NotFound): pods \"web\" not found\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_applies_on_the_server() {
    let lone = Lone::new().await;
    let apply = ["apply", "--server-side", "-f", "-"];
    assert_eq!(lone.said_with(&apply, &manifest("web")).await, "pod/web serverside-applied\n");
    assert_eq!(lone.said_with(&apply, &manifest("web")).await, "pod/web serverside-applied\n");
    assert_eq!(lone.said(&["set", "image", "pod/web", "app=busybox:2"]).await, "pod/web image updated\n");
    let conflict = lone.complaint(&apply, &manifest("web")).await;
    assert!(conflict.contains("conflict with \"kubectl-set\""), "{conflict}");
    let force = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    assert_eq!(lone.said_with(&force, &manifest("web")).await, "pod/web serverside-applied\n");
    assert_eq!(lone.pod("web").await["spec"]["containers"][0]["image"], "busybox:1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_tells_what_is_wrong() {
    let lone = Lone::new().await;
    let web = manifest("web");
    lone.said_with(&["create", "-f", "-"], &web).await;
    for (args, input, words) in [
        (&["create", "-f", "-"][..], web.clone(), "(AlreadyExists)"),
        (
            &["create", "-f", "-"],
            web.replace("image:", "imagee:"),
            "unknown field \"spec.containers[0].imagee\"",
        ),
        (&["create", "-f", "-"], manifest("Web_1"), "metadata.name: Invalid value: \"Web_1\""),
        (
            &["apply", "-f", "-"],
            web.replace("name: app", "name: renamed"),
            "pod updates may not add or remove containers",
        ),
        (
            &["replace", "-f", "-"],
            web.replace("name: app", "name: renamed"),
            "pod updates may not change fields",
        ),
        (
            &["patch", "pod", "web", "--type=json", "-p", r#"[{"op":"remove","path":"/spec/none"}]"#],
            String::new(),
            "The request is invalid: the server rejected our request",
        ),
        (&["get", "deployments"], String::new(), "the server doesn't have a resource type \"deployments\""),
    ] {
        let complaint = lone.complaint(args, &input).await;
        assert!(complaint.contains(words), "{args:?}: {complaint}");
    }
    let dry = lone.said_with(&["apply", "--dry-run=server", "-f", "-"], &manifest("dry")).await;
    assert_eq!(dry, "pod/dry created (server dry run)\n");
    assert!(lone.complaint(&["get", "pod", "dry"], "").await.contains("(NotFound)"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_watches() {
    let lone = Lone::new().await;
    lone.said(&["get", "pods"]).await;
    let mut watch = lone.kubectl_command(&["get", "pods", "--watch"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    lone.said(&["run", "web", "--image=busybox:1"]).await;
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = timeout(SOON, lines.next_line()).await.expect("a line in time").unwrap();
        line.expect("it goes on").split_whitespace().take(3).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(next().await, ["NAME", "READY", "STATUS"]);
    let mut row = next().await;
    while row[2] != "Running" {
        assert_eq!(row[2], "Pending");
        row = next().await;
    }
    assert_eq!(row, ["web", "1/1", "Running"]);
    assert_eq!(lone.said(&["delete", "pods", "--all"]).await, "pod \"web\" deleted\n");
    while row[2] != "Terminating" {
        row = next().await;
    }
    watch.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_debug_is_refused_and_does_not_fall_over() {
    let lone = Lone::new().await;
    lone.said(&["run", "web", "--image=busybox:1"]).await;
    let complaint = lone.complaint(&["debug", "web", "--image=busybox:1"], "").await;
    assert!(complaint.contains("ephemeral containers are disabled"), "{complaint}");
    assert!(!complaint.contains("panic"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_needs_no_more_than_the_manifest() {
    let lone = Lone::new().await;
    let file = lone.home.path().join("pod.yaml");
    fs::write(&file, manifest("web")).unwrap();
    let url = format!("http://{}{PODS}", lone.node.address());
    let data = format!("@{}", file.display());
    let kind = "Content-Type: application/yaml";
    let create = ["-sS", "--fail", "-H", kind, "--data-binary", &data, &url];
    let created = succeeded(&run(lone.command("curl", &create), "").await);
    assert!(created.starts_with("{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"Pod\","), "{created}");
    let deleted =
        run(lone.command("curl", &["-sS", "--fail", "-X", "DELETE", &format!("{url}/web")]), "").await;
    let deleted: Value = serde_json::from_str(&succeeded(&deleted)).unwrap();
    assert!(deleted["metadata"]["deletionTimestamp"].is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_applies_changes_shows_and_deletes_config_maps_and_secrets() {
    let lone = Lone::new().await;
    let apply = ["apply", "-f", "-"];
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: pass}\nstringData: {key: very-secret}\n";
    assert_eq!(lone.said_with(&apply, secret).await, "secret/pass created\n");
    // Of stringData kubectl never knows that it is there already, also in a cluster.
    assert_eq!(lone.said_with(&apply, secret).await, "secret/pass configured\n");
    let set = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: set}\ndata: {key: plain}\n";
    assert_eq!(lone.said_with(&apply, set).await, "configmap/set created\n");
    assert_eq!(lone.said_with(&apply, set).await, "configmap/set unchanged\n");
    let state = lone.node.push.state.borrow().clone();
    let values: Vec<_> = state.objects.values().map(|object| object.data["key"].as_slice()).collect();
    assert_eq!(values, [&b"plain"[..], b"very-secret"]);

    let table = lone.said(&["get", "secrets,cm"]).await;
    let cells: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells[0], ["NAME", "TYPE", "DATA", "AGE"], "{table}");
    assert_eq!(cells[1][..3], ["secret/pass", "Opaque", "1"], "{table}");
    assert_eq!(cells[4][..2], ["configmap/set", "1"], "{table}");
    assert_eq!(lone.said(&["get", "cm", "set", "-o", "jsonpath={.data.key}"]).await, "plain");
    let mut edit = lone.kubectl_command(&["edit", "cm", "set"]);
    edit.env("EDITOR", "sed -i s/plain/edited/");
    assert_eq!(succeeded(&run(edit, "").await), "configmap/set edited\n");
    let merge = r#"{"data":{"more":"x"}}"#;
    assert_eq!(lone.said(&["patch", "cm", "set", "-p", merge]).await, "configmap/set patched\n");
    assert_eq!(lone.said(&["label", "cm", "set", "a=b"]).await, "configmap/set labeled\n");
    let server_side = ["apply", "--server-side", "-f", "-"];
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ssa}\ndata: {k: v}\n";
    assert_eq!(lone.said_with(&server_side, map).await, "configmap/ssa serverside-applied\n");
    let set = lone.said(&["get", "cm", "-l", "a=b", "-o", "jsonpath={.items[*].data}"]).await;
    assert_eq!(
        serde_json::from_str::<Value>(&set).unwrap(),
        serde_json::json!({"key": "edited", "more": "x"})
    );

    // What is refused, and that nothing of a Secret is in it.
    let bad = "apiVersion: v1\nkind: Secret\nmetadata: {name: bad}\ndata: {key: very-secret}\n";
    let refused = lone.kubectl_with(&apply, bad).await;
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("Secret \"bad\" is invalid: data.key: is not base64"), "{error}");
    let fixed = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fixed}\ndata: {k: v}\nimmutable: true\n";
    lone.said_with(&apply, fixed).await;
    let refused = lone.kubectl_with(&apply, &fixed.replace("k: v", "k: w")).await;
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("data: Forbidden: field is immutable when `immutable` is set"), "{error}");

    // On disk, and its owner's alone.
    let dir = lone.node.dir.path().join("push/objects");
    let files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(files.len(), 4);
    for file in files {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    // Newer ones name the namespace, too.
    assert!(lone.said(&["delete", "secret", "pass"]).await.starts_with("secret \"pass\" deleted"));
    let gone = lone.kubectl(&["get", "secret", "pass"]).await;
    let error = String::from_utf8(gone.stderr).unwrap();
    assert_eq!(error, "Error from server (NotFound): secrets \"pass\" not found\n");
    lone.said(&["delete", "cm", "--all"]).await;
    assert!(lone.node.push.state.borrow().objects.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_map_is_watched_and_a_stale_change_refused() {
    let lone = Lone::new().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let body = |value: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata: {{k: {value}}}\n")
    };
    let post = crate::node::ask("POST", maps).body(body("one"));
    let made = lone.node.send(post).await.expect(201);
    let version = made["metadata"]["resourceVersion"].as_str().unwrap();
    let watch = format!("{maps}?watch=1&resourceVersion={version}&timeoutSeconds=1");
    let item = format!("{maps}/m");
    let (lines, changed) = futures::join!(
        lone.node.send(crate::node::ask("GET", &watch)),
        lone.node.send(crate::node::ask("PUT", &item).body(body("two"))),
    );
    let changed = changed.expect(200);
    assert!(changed["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]);
    assert_eq!(changed["metadata"]["uid"], made["metadata"]["uid"]);
    let line: Value = serde_json::from_str(lines.text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&line["type"], &line["object"]["data"]["k"]),
        (&Value::from("MODIFIED"), &Value::from("two"))
    );
    let stale = body("three").replace("name: m", &format!("name: m, resourceVersion: \"{version}\""));
    let conflict = lone.node.send(crate::node::ask("PUT", &item).body(stale)).await.expect(409);
    assert!(
        conflict["message"]
            .as_str()
            .unwrap()
            .starts_with("Operation cannot be fulfilled on configmaps \"m\"")
    );
}
