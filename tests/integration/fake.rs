//! An agent on a runtime that is not real, for what a real one does not do on demand.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use testkit::env::{Agent, AgentOptions, Run, binary, pod};
use testkit::fake_cri::FakeCri;

use crate::node::{SOON, eventually, manifest};

/// An agent on a fake runtime.
pub(crate) struct FakeNode {
    // Dropped in this order.
    pub(crate) agent: Agent,
    pub(crate) runtime: FakeCri,
    pub(crate) tokio: tokio::runtime::Runtime,
}

impl FakeNode {
    pub(crate) fn new(args: &[&str]) -> Self {
        Self::of(&Run::new().unwrap(), &binary().unwrap(), args)
    }

    /// As [`FakeNode::new`], with a program that starts the agent.
    pub(crate) fn of(run: &Arc<Run>, program: &Path, args: &[&str]) -> Self {
        let tokio =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let runtime = tokio.block_on(FakeCri::start()).unwrap();
        let options = AgentOptions::new(program, &runtime.endpoint()).args(args.iter().copied());
        let agent = Agent::start(run, options).unwrap();
        Self { agent, runtime, tokio }
    }

    /// A cgroup below the agent's `kubepods`, in one hierarchy, which may not be there yet.
    pub(crate) fn cgroup(&self, path: &str) -> PathBuf {
        let root = self.agent.root();
        let run = root.ancestors().nth(2).and_then(Path::file_name).unwrap();
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let mount = Path::new("/sys/fs/cgroup").join(if unified { "" } else { "pids" });
        mount.join(run).join("kubepods").join(path)
    }

    pub(crate) fn apply(&self, name: &str, spec: &str) {
        self.agent.write_manifest(&format!("{name}.yaml"), &manifest(name, spec)).unwrap();
    }

    pub(crate) fn delete(&self, name: &str) {
        std::fs::remove_file(self.agent.manifests().join(format!("{name}.yaml"))).unwrap();
    }

    pub(crate) fn until_running(&self, name: &str) -> Value {
        self.until(name, |pod| pod.is_some_and(|p| p["status"]["phase"] == "Running")).unwrap()
    }

    pub(crate) fn until_gone(&self, name: &str) {
        self.until(name, |pod| pod.is_none());
    }

    pub(crate) fn until(&self, name: &str, is: impl Fn(Option<&Value>) -> bool) -> Option<Value> {
        let found = self.agent.wait_for(&format!("pod {name}"), SOON, |view| {
            let pod = pod(view, name);
            if is(pod) { Ok(pod.cloned()) } else { Err(format!("{pod:?}")) }
        });
        found.unwrap_or_else(|e| panic!("{e}"))
    }

    /// Waits until `explain` says this.
    pub(crate) fn until_told(&self, name: &str, text: &str) {
        eventually(&format!("`explain {name}` says {text:?}"), || {
            let explained = self.agent.ask(&["explain", name]).map_err(|e| e.to_string())?;
            if explained.contains(text) { Ok(()) } else { Err(explained) }
        });
    }
}
