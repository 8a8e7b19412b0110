//! Files, an HTTP URL and the pod API together on one node.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::env::{Agent, AgentOptions, BUSYBOX, Containerd, Line, Run, binary, pod};

use crate::node::{Node, eventually, id_of, manifest, uid_of};

const PODS: &str = "/api/v1/namespaces/default/pods";

/// What the URL has: each pod as JSON by its name; `None`: the server is broken.
type Document = Arc<Mutex<Option<BTreeMap<&'static str, Value>>>>;

/// A node with all three sources.
struct Three {
    node: Node,
    document: Document,
    socket: PathBuf,
}

/// Writes each test twice, once for each line of containerd.
macro_rules! with_three_sources {
    ($($(#[$doc:meta])* fn $name:ident($three:ident) $body:block)*) => {$(
        mod $name {
            use super::*;
            #[test]
            fn containerd_1_6() { test(Line::V1_6); }
            #[test]
            fn containerd_2_1() { test(Line::V2_1); }
            $(#[$doc])*
            fn test(line: Line) {
                #[allow(unused_mut, reason = "only tests that restart the agent change the node")]
                let mut $three = Three::new(line);
                $body
            }
        }
    )*};
}

with_three_sources! {
    fn pods_of_three_sources_run_side_by_side_and_each_goes_with_its_own(three) {
        let Three { node, .. } = &three;
        node.agent.write_manifest("file.yaml", &sleeper("file")).unwrap();
        three.serve("http");
        three.push(&pushed("push")).unwrap();
        let before = ["file-node1", "http-node1", "push"].map(|name| three.until_ready(name));
        for (pod, source) in before.iter().zip(["file", "http", "push"]) {
            assert_eq!(pod["metadata"]["annotations"]["kubernetes.io/config.source"], source);
        }
        for source in three.sources().unwrap() {
            assert_eq!((&source["condition"], &source["pods"]), (&json!("Ready"), &json!(1)), "{source}");
            assert!(source["readAt"].is_string() && source.get("problems").is_none(), "{source}");
        }
        let shown = eventually("the pod API shows it running", || {
            let (_, pod) = three.api("GET", &format!("{PODS}/push"), None);
            if pod["status"]["phase"] == "Running" { Ok(pod) } else { Err(pod["status"].to_string()) }
        });
        assert_eq!(shown["status"]["podIP"], before[2]["status"]["podIP"]);

        three.stop_serving("http");
        three.until_gone("http-node1");
        three.assert_same("file-node1", &before[0]);
        three.assert_same("push", &before[2]);
        assert_eq!(three.api("DELETE", &format!("{PODS}/push"), None).0, 200);
        three.until_gone("push");
        eventually("the pod API has let it go", || match three.api("GET", &format!("{PODS}/push"), None) {
            (404, _) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        three.assert_same("file-node1", &before[0]);
        fs::remove_file(node.agent.manifests().join("file.yaml")).unwrap();
        three.until_gone("file-node1");
    }

    fn of_two_sources_with_one_name_the_first_runs_and_the_other_has_the_error_with_its_place(three) {
        let Three { node, .. } = &three;
        three.serve("web");
        let first = three.until_ready("web-node1");
        node.agent.write_manifest("web.yaml", &sleeper("web")).unwrap();
        let problem = format!(
            "web.yaml:4:3: metadata.name: the pod default/web-node1 is already wanted by the source \"http\" (UID {}",
            uid_of(&first)
        );
        let shown = three.until_told(&problem);
        let of_file = shown.split("\nfile:\n").nth(1).unwrap_or_default();
        assert!(of_file.contains(&problem), "it stands with the source that lost: {shown}");
        eventually("`pods` tells it, too", || {
            let shown = node.agent.table().map_err(|e| e.to_string())?;
            if shown.contains(&problem) { Ok(()) } else { Err(shown) }
        });
        three.assert_same("web-node1", &first);

        three.stop_serving("web");
        node.until("the pod of the file comes in", |view| match pod(view, "web") {
            Some(pod) if uid_of(pod) != uid_of(&first) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        three.until_ready("web-node1");
        assert!(!three.table().unwrap().contains("already wanted"), "the error is gone");
        let log = fs::read_to_string(node.agent.log()).unwrap();
        assert_eq!(log.matches("already wanted").count(), 2, "once when it came, once when it went: {log}");
    }

    fn pods_of_all_sources_outlive_a_killed_agent_and_a_broken_server(three) {
        three.node.agent.write_manifest("file.yaml", &sleeper("file")).unwrap();
        three.serve("http");
        three.push(&pushed("push")).unwrap();
        let names = ["file-node1", "http-node1", "push"];
        let before = names.map(|name| three.until_ready(name));

        let document = three.document.lock().unwrap().take();
        let failing = three.until_source("http", "is failing", |source| source["condition"] == "Failing");
        assert!(failing["message"].as_str().unwrap().contains("503"), "{failing}");
        assert_eq!(failing["pods"], 1, "the last good document stays");
        let log = fs::read_to_string(three.node.agent.log()).unwrap();
        assert_eq!(log.matches("503 Service Unavailable").count(), 1, "it is logged once, not at each try: {log}");
        three.node.agent.kill9();
        three.node.agent.start_again().unwrap();
        for (name, before) in names.iter().zip(&before) {
            three.until_ready(name);
            three.assert_same(name, before);
        }
        three.until_source("http", "is failing again", |source| source["condition"] == "Failing");
        *three.document.lock().unwrap() = document;
        three.until_source("http", "is ready", |source| source["condition"] == "Ready");
        for (name, before) in names.iter().zip(&before) {
            three.assert_same(name, before);
        }
        let (code, pushed) = three.api("GET", &format!("{PODS}/push"), None);
        assert_eq!((code, uid_of(&pushed)), (200, uid_of(&before[2])), "the pushed pod is the same one");
    }

    /// With a container that does not listen to SIGTERM.
    fn a_pushed_pod_ends_within_its_grace_also_when_that_is_shortened_and_the_agent_dies(three) {
        let mut deaf = pushed("deaf");
        deaf["spec"]["terminationGracePeriodSeconds"] = json!(600);
        deaf["spec"]["containers"][0]["command"] = json!(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]);
        three.push(&deaf).unwrap();
        three.until_ready("deaf");
        let (code, deleted) = three.api("DELETE", &format!("{PODS}/deaf"), None);
        assert_eq!((code, &deleted["metadata"]["deletionGracePeriodSeconds"]), (200, &json!(600)));
        three.node.until_event("deaf", "Killing", "Stopping container app");

        three.node.agent.kill9();
        three.node.agent.start_again().unwrap();
        let (_, running) = three.api("GET", &format!("{PODS}/deaf"), None);
        assert!(running["metadata"]["deletionTimestamp"].is_string(), "{running}");
        three.node.until_event("deaf", "Killing", "Stopping container app");

        // The pod may go before the last look at it; what was seen must be right.
        let mut last = Value::Null;
        let path = format!("{PODS}/deaf?gracePeriodSeconds=1");
        let (code, shortened) = three.api("DELETE", &path, None);
        assert_eq!((code, &shortened["metadata"]["deletionGracePeriodSeconds"]), (200, &json!(1)));
        eventually("it has ended", || match three.api("GET", &format!("{PODS}/deaf"), None) {
            (404, _) => Ok(()),
            (_, pod) => {
                last = pod;
                Err(last["status"].to_string())
            }
        });
        if last["status"]["phase"] != "Running" {
            let state = &last["status"]["containerStatuses"][0]["state"];
            assert_eq!((&last["status"]["phase"], &state["terminated"]["exitCode"]), (&json!("Failed"), &json!(137)));
        }
        three.until_gone("deaf");
        assert!(three.node.all_containers().is_empty());

        // The name is free for another pod.
        three.push(&pushed("deaf")).unwrap();
        three.until_ready("deaf");
    }
}

impl Three {
    fn new(line: Line) -> Self {
        let run = Run::new().unwrap();
        let containerd = Containerd::start(&run, line).unwrap();
        let document: Document = Arc::new(Mutex::new(Some(BTreeMap::new())));
        let address = serve(Arc::clone(&document));
        let socket = run.dir().join("pods.sock");
        let args = [
            format!("--manifest-url=http://{address}/pods"),
            "--http-check-frequency=500ms".to_owned(),
            format!("--manifest-server-address=unix:{}", socket.display()),
        ];
        let options = AgentOptions::new(binary().unwrap(), &containerd.endpoint()).args(args);
        let agent = Agent::start(&run, options).unwrap();
        Self { node: Node { agent, containerd, run }, document, socket }
    }

    fn serve(&self, name: &'static str) {
        let mut pod = pushed(name);
        pod["metadata"].as_object_mut().unwrap().remove("namespace");
        self.document.lock().unwrap().as_mut().unwrap().insert(name, pod);
    }

    fn stop_serving(&self, name: &str) {
        self.document.lock().unwrap().as_mut().unwrap().remove(name);
    }

    fn push(&self, pod: &Value) -> Result<(), String> {
        match self.api("POST", PODS, Some(pod)) {
            (201, _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    /// Code and body of one request to the pod API.
    fn api(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        // The agent is healthy a moment before it listens here.
        let connect = || UnixStream::connect(&self.socket).map_err(|e| e.to_string());
        let mut stream = eventually("the pod API is served", connect);
        let body = body.map(Value::to_string).unwrap_or_default();
        let kind = "application/json";
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: {kind}\r\n");
        let entity = format!("Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(format!("{head}{entity}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        (code, serde_json::from_str(body).unwrap_or_else(|e| panic!("{method} {path}: {e}: {answer}")))
    }

    /// The sources as `node-agent sources -o json` has them.
    fn sources(&self) -> Result<Vec<Value>, String> {
        let text = self.node.agent.ask(&["sources", "-o", "json"]).map_err(|e| e.to_string())?;
        let snapshot: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(snapshot["node"], "node1");
        Ok(snapshot["sources"].as_array().unwrap().clone())
    }

    fn table(&self) -> Result<String, String> {
        self.node.agent.ask(&["sources"]).map_err(|e| e.to_string())
    }

    fn until_told(&self, text: &str) -> String {
        eventually(&format!("`sources` tells {text:?}"), || {
            let shown = self.table()?;
            if shown.contains(text) { Ok(shown) } else { Err(shown) }
        })
    }

    fn until_source(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("the source {name} {what}"), || {
            let sources = self.sources()?;
            let source = sources.iter().find(|source| source["name"] == name);
            source.filter(|source| is(source)).cloned().ok_or_else(|| format!("{sources:?}"))
        })
    }

    /// Waits until the pod of this whole name is ready.
    fn until_ready(&self, name: &str) -> Value {
        self.node.until(&format!("pod {name} is ready"), |view| {
            let pod = named(view, name).ok_or("there is no such pod")?;
            let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            let ready = conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
            if ready { Ok(pod.clone()) } else { Err(format!("it is {}", pod["status"])) }
        })
    }

    fn until_gone(&self, name: &str) {
        self.node.until(&format!("pod {name} is gone"), |view| match named(view, name) {
            None => Ok(()),
            Some(pod) => Err(pod["status"].to_string()),
        });
    }

    fn assert_same(&self, name: &str, before: &Value) {
        let view = self.node.agent.pods().unwrap();
        let status = |pod: &Value| pod["status"]["containerStatuses"][0].clone();
        let now = status(named(&view, name).unwrap());
        assert_eq!(id_of(&now), id_of(&status(before)), "{name} was restarted");
        assert!(now["state"]["running"].is_object(), "{now}");
    }
}

fn named<'a>(view: &'a Value, name: &str) -> Option<&'a Value> {
    view["items"].as_array()?.iter().find(|pod| pod["metadata"]["name"] == name)
}

/// A manifest of a pod that sleeps.
fn sleeper(name: &str) -> String {
    let spec = "terminationGracePeriodSeconds: 0
containers:
- name: app
  image: $BUSYBOX
  command: [sleep, '3600']
";
    manifest(name, spec)
}

/// The same as an object of the API.
fn pushed(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "app", "image": BUSYBOX, "command": ["sleep", "3600"]}],
        },
    })
}

/// Serves the document at an address of its own, as long as the test runs.
fn serve(document: Document) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let limit = Some(Duration::from_secs(10));
            stream.set_read_timeout(limit).unwrap();
            // One read has the whole of a short request; a client that goes away is no matter.
            let _ = stream.read(&mut [0; 4096]);
            let (status, body) = match &*document.lock().unwrap() {
                Some(pods) => {
                    let items: Vec<_> = pods.values().collect();
                    ("200 OK", json!({"apiVersion": "v1", "kind": "PodList", "items": items}).to_string())
                }
                None => ("503 Service Unavailable", String::new()),
            };
            let head =
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/json\r\n");
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    address
}
