//! The steps of the cluster demo: each verb of kubectl on the agent's node, and what must come of it.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::env::BUSYBOX;

use super::cluster::ClusterStage;
use super::play::Step;

/// Pods of the "deployment".
const REPLICAS: usize = 3;

const PODS: &str = "/api/v1/namespaces/default/pods";

/// In this order; later ones need the pods of the second.
pub(super) const STEPS: &[Step<ClusterStage>] = &[
    Step {
        title: "get nodes: the node is Ready",
        tells: "the agent has registered it and keeps its lease",
        act: node,
    },
    Step {
        title: "three web pods and one that listens, bound by hand, run",
        tells: "nobody schedules here: the pods wait until they are bound, then the agent starts them",
        act: pods_run,
    },
    Step { title: "describe", tells: "spec, status and the events that the agent has sent", act: describe },
    Step { title: "logs", tells: "the API server asks the agent for them", act: logs },
    Step { title: "exec", tells: "a command in a container, with its input and its exit code", act: exec },
    Step {
        title: "attach",
        tells: "the input and output of the process that the container was started with",
        act: attach,
    },
    Step {
        title: "port-forward",
        tells: "a port of this machine leads to the web server in a pod",
        act: port_forward,
    },
    Step { title: "cp", tells: "a file into a container and back again", act: cp },
    Step { title: "get events", tells: "what happened to one pod, as the agent told it", act: events },
    Step {
        title: "stats: what each pod uses",
        tells: "the agent's /stats/summary, through the API server",
        act: stats,
    },
    Step { title: "delete", tells: "the pods end, and only then do their objects go", act: delete },
];

fn node(stage: &mut ClusterStage) -> Result<String> {
    let is_ready = |node: &Value| {
        let conditions = node["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let node = stage.wait_for("node1 is Ready", "/api/v1/nodes/node1", is_ready)?;
    stage.kubectl("get nodes -o wide")?;
    let info = &node["status"]["nodeInfo"];
    Ok(format!("{} with {}", text(&info["kubeletVersion"]), text(&info["containerRuntimeVersion"])))
}

fn pod(name: &str, app: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["terminationGracePeriodSeconds"] = json!(1);
    // Nobody makes service account tokens here.
    spec["automountServiceAccountToken"] = json!(false);
    spec["containers"][0]["image"] = json!(BUSYBOX);
    spec["containers"][0]["imagePullPolicy"] = json!("IfNotPresent");
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}}, "spec": spec})
}

fn pods_run(stage: &mut ClusterStage) -> Result<String> {
    let serve = "mkdir -p /www; echo \"page of $HOSTNAME\" > /www/index.html; echo ready; exec httpd -f -p 8080 -h /www";
    let web = json!({"containers": [{
        "name": "web",
        "command": ["sh", "-c", serve],
        "readinessProbe": {"httpGet": {"path": "/index.html", "port": 8080}, "periodSeconds": 1},
    }]});
    let listen = "while read line; do echo \"you said: $line\"; done";
    let listener = json!({"restartPolicy": "Never", "containers": [
        {"name": "listener", "command": ["sh", "-c", listen], "stdin": true, "stdinOnce": true}]});
    let mut items: Vec<Value> = (0..REPLICAS).map(|i| pod(&format!("web-{i}"), "web", web.clone())).collect();
    items.push(pod("listener", "listener", listener));
    let names: Vec<String> = items.iter().map(|item| text(&item["metadata"]["name"]).to_owned()).collect();
    let path = stage.dir().join("pods.json");
    fs::write(&path, format!("{:#}\n", json!({"apiVersion": "v1", "kind": "List", "items": items})))
        .with_context(|| format!("cannot write {}", path.display()))?;
    stage.kubectl_words(&["apply", "-f", &path.display().to_string()], "")?;
    for name in &names {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "node1"},
        });
        let (code, answer) =
            stage.cluster.request("POST", &format!("{PODS}/{name}/binding"), Some(&binding))?;
        ensure!(code == 201, "binding {name} to node1: {code} {}", answer["message"]);
    }
    stage.kubectl("wait pods --all --for=condition=Ready --timeout=60s")?;
    stage.kubectl("get pods -o wide")?;
    Ok(format!("{} pods are Ready", names.len()))
}

fn describe(stage: &mut ClusterStage) -> Result<String> {
    let described = stage.kubectl("describe pod web-0")?;
    has(&described, &["Ready", "Started", "node1/127.0.0.1"])?;
    Ok("its events end with Started".to_owned())
}

fn logs(stage: &mut ClusterStage) -> Result<String> {
    has(&stage.kubectl("logs web-0 --timestamps")?, &["ready"])?;
    let all = stage.kubectl("logs -l app=web --prefix")?;
    ensure!(all.lines().count() == REPLICAS, "not one line of each pod: {all}");
    Ok(format!("one pod's, and those of all {REPLICAS} by label"))
}

fn exec(stage: &mut ClusterStage) -> Result<String> {
    has(&stage.kubectl("exec web-1 -- hostname")?, &["web-1"])?;
    let upper = stage.kubectl_with("exec -i web-1 -- tr a-z A-Z", "hello\n")?;
    ensure!(upper == "HELLO\n", "it answers {upper:?}");
    let (code, _) = stage.kubectl_any(&["exec", "web-1", "--", "sh", "-c", "exit 7"], "")?;
    // Old kubectls end with 1 and only say the command's own.
    ensure!(code != 0, "a command that failed is no success");
    Ok("hostname, input through tr, exit code 7".to_owned())
}

fn attach(stage: &mut ClusterStage) -> Result<String> {
    let said = stage.kubectl_with("attach -i listener", "hello\n")?;
    has(&said, &["you said: hello"])?;
    let done = |pod: &Value| pod["status"]["phase"] == "Succeeded";
    stage.wait_for("the listener ends with its input", &format!("{PODS}/listener"), done)?;
    Ok("it answers, and ends with its input".to_owned())
}

fn port_forward(stage: &mut ClusterStage) -> Result<String> {
    let (_forwarding, port) = stage.port_forward("web-2", 8080)?;
    let page = get(port).with_context(|| format!("cannot get http://127.0.0.1:{port}/index.html"))?;
    ensure!(page == "page of web-2", "the pod answers {page:?}");
    Ok(format!("http://127.0.0.1:{port}/index.html is {page:?}"))
}

fn cp(stage: &mut ClusterStage) -> Result<String> {
    let (there, back) = (stage.dir().join("there"), stage.dir().join("back"));
    let contents: String = (0..1000).map(|i| format!("line {i}\n")).collect();
    fs::write(&there, &contents).with_context(|| format!("cannot write {}", there.display()))?;
    stage.kubectl_words(&["cp", &there.display().to_string(), "web-0:/tmp/file"], "")?;
    stage.kubectl_words(&["cp", "web-0:/tmp/file", &back.display().to_string()], "")?;
    let returned = fs::read_to_string(&back).with_context(|| format!("cannot read {}", back.display()))?;
    ensure!(returned == contents, "{} bytes went there and {} came back", contents.len(), returned.len());
    Ok(format!("{} bytes went there and came back", contents.len()))
}

fn events(stage: &mut ClusterStage) -> Result<String> {
    let events = stage.kubectl("get events --field-selector involvedObject.name=web-0")?;
    has(&events, &["Pulled", "Created", "Started"])?;
    Ok("Pulled, Created, Started".to_owned())
}

fn stats(stage: &mut ClusterStage) -> Result<String> {
    let path = "/api/v1/nodes/node1/proxy/stats/summary";
    // What a pod uses of a CPU is known after its second measurement.
    let summary = stage.wait_for("all web pods are measured", path, |summary| {
        let pods = summary["pods"].as_array();
        let measured = |pod: &&Value| {
            text(&pod["podRef"]["name"]).starts_with("web-") && pod["cpu"]["usageNanoCores"].is_u64()
        };
        pods.into_iter().flatten().filter(measured).count() == REPLICAS
    })?;
    crate::ui::say(format!("    $ kubectl get --raw {path}"));
    let mut table = format!("{:<12}{:>12}{:>12}", "POD", "CPU", "MEMORY");
    for pod in summary["pods"].as_array().into_iter().flatten() {
        let cpu = pod["cpu"]["usageNanoCores"].as_f64().unwrap_or(0.0) / 1e6;
        let memory = pod["memory"]["workingSetBytes"].as_u64().unwrap_or(0) / 1024;
        let _infallible = write!(table, "\n{:<12}{cpu:>11.2}m{memory:>10}Ki", text(&pod["podRef"]["name"]));
    }
    for line in table.lines() {
        crate::ui::say(format!("      {line}"));
    }
    Ok(format!("{REPLICAS} web pods are measured"))
}

fn delete(stage: &mut ClusterStage) -> Result<String> {
    stage.kubectl("delete pods --all --timeout=60s")?;
    let left = stage.kubectl("get pods -o name")?;
    ensure!(!left.contains("pod/"), "still there: {left}");
    Ok("no pod is left".to_owned())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn has(output: &str, words: &[&str]) -> Result<()> {
    let missing: Vec<&&str> = words.iter().filter(|word| !output.contains(**word)).collect();
    ensure!(missing.is_empty(), "{missing:?} is not in: {output}");
    Ok(())
}

fn get(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.lines().last().unwrap_or_default().trim().to_owned())
}
