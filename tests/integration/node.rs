//! One private node with an agent on it, as the tests use it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cri_client::v1::{
    Container, ContainerFilter, ContainerStatus, ContainerStatusRequest, ExecSyncRequest,
    ListContainersRequest, ListPodSandboxRequest, PodSandbox, PodSandboxFilter,
};
use cri_client::{Client, Error};
use kube_model::{Timestamp, labels};
use serde_json::Value;
use testkit::env::{
    Agent, AgentOptions, BUSYBOX, Containerd, Line, Run, binary, container_status, pod, until,
};

/// How long anything that is not a grace period or a back-off may take here.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Asks a runtime itself.
pub(crate) fn cri<T>(
    containerd: &Containerd,
    ask: impl AsyncFnOnce(Client) -> Result<T, Error>,
) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { ask(Client::builder(&containerd.endpoint()).unwrap().build()).await })
}

pub(crate) struct Node {
    // Dropped in this order: the agent, the runtime, then everything of the run.
    pub(crate) agent: Agent,
    pub(crate) containerd: Containerd,
    pub(crate) run: Arc<Run>,
}

impl Node {
    /// A node whose agent has these arguments besides those of the harness.
    pub(crate) fn with(line: Line, args: &[&str]) -> Self {
        Self::on(Run::new().unwrap(), line, args)
    }

    /// As [`Node::with`], for arguments that name files of the run.
    pub(crate) fn on(run: Arc<Run>, line: Line, args: &[&str]) -> Self {
        let containerd = Containerd::start(&run, line).unwrap();
        let options = AgentOptions::new(binary().unwrap(), &containerd.endpoint()).args(args.iter().copied());
        let agent = Agent::start(&run, options).unwrap();
        Self { agent, containerd, run }
    }

    pub(crate) fn apply(&self, name: &str, spec: &str) {
        self.agent.write_manifest(&format!("{name}.yaml"), &manifest(name, spec)).unwrap();
    }

    pub(crate) fn delete(&self, name: &str) {
        std::fs::remove_file(self.agent.manifests().join(format!("{name}.yaml"))).unwrap();
    }

    pub(crate) fn until<T>(&self, what: &str, look: impl FnMut(&Value) -> Result<T, String>) -> T {
        self.agent.wait_for(what, SOON, look).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Waits until the pod is as `is` wants it, and returns it.
    pub(crate) fn until_pod(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.until(&format!("pod {name} {what}"), |view| match pod(view, name) {
            Some(pod) if is(pod) => Ok(pod.clone()),
            Some(pod) => Err(format!("it is {}", pod["status"])),
            None => Err("there is no such pod".to_owned()),
        })
    }

    /// Waits until the status of a container is as `is` wants it, and returns it.
    pub(crate) fn until_container(
        &self,
        name: &str,
        container: &str,
        what: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        self.until(&format!("container {container} of pod {name} {what}"), |view| {
            match container_status(view, name, container) {
                Some(status) if is(status) => Ok(status.clone()),
                Some(status) => Err(format!("it is {status}")),
                None => Err(format!("no status of it: {view}")),
            }
        })
    }

    pub(crate) fn until_phase(&self, name: &str, phase: &str) -> Value {
        self.until_pod(name, &format!("is {phase}"), |pod| pod["status"]["phase"] == phase)
    }

    pub(crate) fn until_ready(&self, name: &str) -> Value {
        self.until_pod(name, "is ready", |pod| condition(pod, "Ready")["status"] == "True")
    }

    pub(crate) fn until_gone(&self, name: &str) {
        self.until(&format!("pod {name} is gone"), |view| match pod(view, name) {
            None => Ok(()),
            Some(pod) => Err(format!("it is there: {}", pod["status"]["phase"])),
        });
    }

    /// Waits until the table shows this word for the pod.
    pub(crate) fn until_shown(&self, name: &str, status: &str) {
        let what = format!("the table shows {status} for pod {name}");
        let shown = until(&what, SOON, || {
            let rows = self.try_table(&[])?;
            match rows.iter().find(|row| row[1] == format!("{name}-node1")) {
                Some(row) if row[3] == status => Ok(()),
                row => Err(format!("{row:?}")),
            }
        });
        shown.unwrap_or_else(|e| panic!("{e}"));
    }

    /// The cells of `node-agent pods`, without its header.
    pub(crate) fn table(&self, args: &[&str]) -> Vec<Vec<String>> {
        self.try_table(args).unwrap_or_else(|e| panic!("{e}"))
    }

    /// As [`Node::table`], for waits: a busy agent may be late with one answer.
    fn try_table(&self, args: &[&str]) -> Result<Vec<Vec<String>>, String> {
        let text = self.agent.ask(&[&["pods"], args].concat()).map_err(|e| e.to_string())?;
        let cells = |line: &str| {
            line.split("   ").map(str::trim).filter(|c| !c.is_empty()).map(str::to_owned).collect()
        };
        Ok(text.lines().skip(1).map(cells).collect())
    }

    /// What `node-agent explain` says, as data; of a pod that need not be there yet.
    pub(crate) fn try_explain(&self, name: &str) -> Result<Value, String> {
        let text = self.agent.ask(&["explain", name, "-o", "json"]).map_err(|e| e.to_string())?;
        serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))
    }

    /// Waits until the pod has an event of this reason whose message contains `text`.
    pub(crate) fn until_event(&self, name: &str, reason: &str, text: &str) {
        eventually(&format!("pod {name} has an event {reason} with {text:?}"), || {
            let events = self.try_explain(name)?["events"].take();
            let is = |e: &Value| e["reason"] == reason && e["message"].as_str().unwrap().contains(text);
            if events.as_array().into_iter().flatten().any(is) { Ok(()) } else { Err(events.to_string()) }
        });
    }

    /// The folder of the pods' logs; the links to them are in its neighbour `containers`.
    pub(crate) fn pod_logs(&self) -> PathBuf {
        self.agent.root().with_file_name("pod-logs")
    }

    /// The log of a container, by how often it was restarted before.
    pub(crate) fn log_path(&self, name: &str, uid: &str, container: &str, restarts: u32) -> PathBuf {
        self.pod_logs().join(format!("default_{name}-node1_{uid}/{container}/{restarts}.log"))
    }

    /// Asks the runtime itself.
    pub(crate) fn cri<T>(&self, ask: impl AsyncFnOnce(Client) -> Result<T, Error>) -> Result<T, Error> {
        cri(&self.containerd, ask)
    }

    /// All sandboxes that the runtime has of a pod.
    pub(crate) fn sandboxes(&self, uid: &str) -> Vec<PodSandbox> {
        let filter = PodSandboxFilter { label_selector: of_pod(uid), ..Default::default() };
        let request = ListPodSandboxRequest { filter: Some(filter) };
        self.cri(async |cri| cri.list_pod_sandbox(request).await).unwrap().items
    }

    /// All containers that the runtime has of a pod, dead ones too.
    pub(crate) fn containers(&self, uid: &str) -> Vec<Container> {
        let filter = ContainerFilter { label_selector: of_pod(uid), ..Default::default() };
        let request = ListContainersRequest { filter: Some(filter) };
        self.cri(async |cri| cri.list_containers(request).await).unwrap().containers
    }

    /// The runtime's status of a container.
    pub(crate) fn container_status(&self, id: &str) -> ContainerStatus {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        self.cri(async |cri| cri.container_status(request).await).unwrap().status.unwrap()
    }

    /// Runs a shell line in a running container and returns what it printed.
    pub(crate) fn exec(&self, name: &str, container: &str, line: &str) -> String {
        let status = self.until_container(name, container, "runs", |c| c["state"]["running"].is_object());
        let request = ExecSyncRequest {
            container_id: id_of(&status),
            cmd: ["sh", "-c", line].map(str::to_owned).to_vec(),
            timeout: 60,
        };
        let answer = self.cri(async |cri| cri.exec_sync(request).await).unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(answer.exit_code, 0, "{line}: {}{}", text(&answer.stdout), text(&answer.stderr));
        text(&answer.stdout)
    }
}

/// The log of a container, opened while it is there: what is written later can be read after its removal.
pub(crate) struct Log(File);

impl Log {
    pub(crate) fn open(node: &Node, name: &str, uid: &str, container: &str) -> Self {
        let path = node.log_path(name, uid, container, 0);
        Self(eventually(&format!("{} is there", path.display()), || {
            File::open(&path).map_err(|e| e.to_string())
        }))
    }

    /// All lines and when they were written.
    pub(crate) fn lines(&mut self) -> Vec<(Timestamp, String)> {
        let mut text = String::new();
        self.0.rewind().unwrap();
        self.0.read_to_string(&mut text).unwrap();
        let parse = |line: &str| {
            let mut parts = line.splitn(4, ' ');
            let time = parts.next()?.parse().ok()?;
            Some((time, parts.nth(2)?.to_owned()))
        };
        text.lines().filter_map(parse).collect()
    }

    pub(crate) fn find(&mut self, line: &str) -> Result<Timestamp, String> {
        let lines = self.lines();
        lines
            .iter()
            .find(|(_, l)| l == line)
            .map(|(t, _)| *t)
            .ok_or_else(|| format!("no {line:?} in {lines:?}"))
    }

    pub(crate) fn time_of(&mut self, line: &str) -> Timestamp {
        self.find(line).unwrap_or_else(|e| panic!("{e}"))
    }

    pub(crate) fn last(&mut self) -> Timestamp {
        self.lines().last().unwrap().0
    }
}

fn of_pod(uid: &str) -> BTreeMap<String, String> {
    [(labels::POD_UID.to_owned(), uid.to_owned())].into()
}

/// The UID of a pod that the view shows.
pub(crate) fn uid_of(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// The runtime's ID of a container, from its status.
pub(crate) fn id_of(status: &Value) -> String {
    status["containerID"].as_str().unwrap().strip_prefix("containerd://").unwrap().to_owned()
}

/// Whether the container of this status was restarted at least once: who looks late may find more.
pub(crate) fn was_restarted(status: &Value) -> bool {
    status["restartCount"].as_u64() >= Some(1)
}

/// A condition of a pod; null if it has none of this type.
pub(crate) fn condition(pod: &Value, kind: &str) -> Value {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.and_then(|all| all.iter().find(|c| c["type"] == kind)).cloned().unwrap_or_default()
}

/// Waits for something that the agent's view does not show.
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    until(what, SOON, look).unwrap_or_else(|e| panic!("{e}"))
}

/// A pod manifest with the spec's lines as given, but probes that time out only when something hangs: with the second
/// that is the default a busy machine fails them.
pub(crate) fn manifest(name: &str, spec: &str) -> String {
    let spec = spec.replace("$BUSYBOX", BUSYBOX).replace("Probe: {", "Probe: {timeoutSeconds: 30, ");
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n{spec}")
}

/// Writes each test twice, once for each line of containerd; `node with "--flag", ...` gives the agent flags.
macro_rules! on_both_lines {
    ($($(#[$doc:meta])* fn $name:ident($node:ident $(with $($arg:literal),+)?) $body:block)*) => {$(
        pub(crate) mod $name {
            #[allow(unused_imports, reason = "a test that needs only its node")]
            use super::*;
            #[test]
            fn containerd_1_6() { test(testkit::env::Line::V1_6); }
            #[test]
            fn containerd_2_1() { test(testkit::env::Line::V2_1); }
            $(#[$doc])*
            pub(crate) fn test(line: testkit::env::Line) {
                #[allow(unused_mut, reason = "only tests that restart something change the node")]
                let mut $node = $crate::node::Node::with(line, &[$($($arg),+)?]);
                $body
            }
        }
    )*};
}
pub(crate) use on_both_lines;
