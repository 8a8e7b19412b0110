//! The node as part of a cluster: kubectl on one side, a real API server in the middle, containerd on the other.

mod admission;
mod basics;
mod certificates;
pub(crate) mod claims;
mod crowds;
mod csi;
mod direct;
mod faults;
mod kind;
mod logins;
mod logs;
mod node_changes;
mod odd_objects;
mod recorded;
mod registered;
mod stats;
mod streams;
mod traffic;
mod volumes;
mod websockets;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::env::{Agent, AgentOptions, BUSYBOX, Cluster, Containerd, Line, Run, binary, pod, until};

/// How long anything that is not a grace period or a back-off may take here.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A cluster with one node.
pub(crate) struct ClusterNode {
    // Dropped in this order: the agent, the runtime, the cluster, then everything of the run.
    pub(crate) agent: Agent,
    pub(crate) containerd: Containerd,
    pub(crate) cluster: Cluster,
    pub(crate) run: Arc<Run>,
}

/// What an agent needs to be a node of `cluster` that the API server can reach.
pub(crate) fn node_args(cluster: &Cluster, node: &str, kubeconfig: &std::path::Path) -> Vec<String> {
    cluster.node_args(node, kubeconfig).unwrap()
}

impl ClusterNode {
    pub(crate) fn start(line: Line) -> Self {
        let node = Self::start_with(line, |cluster| cluster.node_kubeconfig("node1").unwrap());
        node.until_node("is ready", is_ready);
        node
    }

    /// With the kubeconfig that `login` makes, and with the cluster as `login` leaves it.
    pub(crate) fn start_with(line: Line, login: impl FnOnce(&mut Cluster) -> PathBuf) -> Self {
        Self::start_given(line, &[], login)
    }

    /// As [`ClusterNode::start_with`], with these flags, too.
    pub(crate) fn start_given(
        line: Line,
        flags: &[&str],
        login: impl FnOnce(&mut Cluster) -> PathBuf,
    ) -> Self {
        let run = Run::new().unwrap();
        let mut cluster = Cluster::start(&run).unwrap();
        let containerd = Containerd::start(&run, line).unwrap();
        let kubeconfig = login(&mut cluster);
        let mut args = node_args(&cluster, "node1", &kubeconfig);
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let options = AgentOptions::new(binary().unwrap(), &containerd.endpoint()).args(args);
        let agent = Agent::start(&run, options).unwrap();
        Self { agent, containerd, cluster, run }
    }

    pub(crate) fn until_node(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.until(&format!("the node {what}"), "/api/v1/nodes/node1", is)
    }

    /// Waits until the object at `path` is as `is` wants it, and returns it.
    pub(crate) fn until(&self, what: &str, path: &str, is: impl Fn(&Value) -> bool) -> Value {
        let look = |object: &Value| if is(object) { Ok(object.clone()) } else { Err(object.to_string()) };
        let found = self.cluster.wait_for(what, path, SOON, look);
        found.unwrap_or_else(|e| panic!("{e}\n{}", self.log()))
    }

    pub(crate) fn until_pod(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.until(&format!("pod {name} {what}"), &pod_path(name), is)
    }

    pub(crate) fn until_gone(&self, name: &str) {
        let gone = until(&format!("pod {name} is gone"), SOON, || {
            match self.cluster.request("GET", &pod_path(name), None).map_err(|e| e.to_string())? {
                (404, _) => Ok(()),
                (_, object) => Err(object.to_string()),
            }
        });
        gone.unwrap_or_else(|e| panic!("{e}\n{}", self.log()));
    }

    /// Creates a pod that is bound to the node.
    pub(crate) fn create(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = json!("node1");
        if spec["containers"].is_null() {
            spec["containers"] = json!([{"name": "app", "image": BUSYBOX, "command": ["sleep", "3600"]}]);
        }
        if spec["terminationGracePeriodSeconds"].is_null() {
            spec["terminationGracePeriodSeconds"] = json!(1);
        }
        make_patient(&mut spec);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"}, "spec": spec,
        });
        let (code, answer) = self.cluster.request("POST", PODS, Some(&pod)).unwrap();
        assert_eq!(code, 201, "{answer}");
    }

    /// Asks for the deletion of a pod, with its own grace period.
    pub(crate) fn delete(&self, name: &str) {
        let (code, answer) = self.cluster.request("DELETE", &pod_path(name), None).unwrap();
        assert_eq!(code, 200, "{answer}");
    }

    /// Waits until the agent itself sees the pod so, whatever the API server knows.
    pub(crate) fn until_here(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.until_here_within(SOON, name, what, is)
    }

    /// As [`ClusterNode::until_here`], where a back-off may be what takes the time.
    pub(crate) fn until_here_within(
        &self,
        limit: Duration,
        name: &str,
        what: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        let seen =
            self.agent.wait_for(&format!("pod {name} {what} here"), limit, |view| match pod(view, name) {
                Some(pod) if is(pod) => Ok(pod.clone()),
                other => Err(format!("it is {other:?}")),
            });
        seen.unwrap_or_else(|e| panic!("{e}"))
    }

    /// Adds a static pod that sleeps.
    pub(crate) fn write_static(&self, name: &str) {
        write_static(&self.agent, name);
    }

    pub(crate) fn kubectl(&self, args: &[&str]) -> String {
        self.cluster.kubectl(args).unwrap_or_else(|e| panic!("{e}\n{}", self.log()))
    }

    /// Waits until kubectl says what `is` wants, and returns it: logs and events come a moment after what they tell of.
    pub(crate) fn until_kubectl(&self, args: &[&str], is: impl Fn(&str) -> bool) -> String {
        let said = until(&format!("kubectl {args:?} says it"), SOON, || {
            let said = self.cluster.kubectl(args).map_err(|e| e.to_string())?;
            if is(&said) { Ok(said) } else { Err(said) }
        });
        said.unwrap_or_else(|e| panic!("{e}\n{}", self.log()))
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.agent.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// The pods of the namespace that these tests use.
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";

/// The node's lease.
pub(crate) const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node1";

pub(crate) fn pod_path(name: &str) -> String {
    format!("{PODS}/{name}")
}

/// A startup probe, so that a pod is ready only when it listens.
pub(crate) fn listens_on(port: u16) -> Value {
    json!({"tcpSocket": {"port": port}, "periodSeconds": 1, "failureThreshold": 60})
}

/// Lets the probes time out only when something hangs: with the second that is the default a busy machine fails them.
pub(crate) fn make_patient(spec: &mut Value) {
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                if let Some(probe) = container.get_mut(probe) {
                    probe["timeoutSeconds"] = json!(30);
                }
            }
        }
    }
}

pub(crate) fn write_static(agent: &Agent, name: &str) {
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
         containers:\n  - name: app\n    image: {BUSYBOX}\n    command: [sleep, '3600']\n"
    );
    agent.write_manifest(&format!("{name}.yaml"), &manifest).unwrap();
}

pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().find(|c| c["type"] == kind).unwrap_or(&Value::Null)
}

/// Of a pod or a node.
pub(crate) fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready")["status"] == "True"
}
