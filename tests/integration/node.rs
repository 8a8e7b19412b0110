//! One private node with an agent on it, as the tests use it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use testkit::env::{Agent, AgentOptions, BUSYBOX, Containerd, Line, Run, binary, pod};

/// How long anything that is not a grace period or a back-off may take here.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    // Dropped in this order: the agent, the runtime, then everything of the run.
    pub(crate) agent: Agent,
    pub(crate) containerd: Containerd,
    pub(crate) run: Arc<Run>,
}

impl Node {
    pub(crate) fn new(line: Line) -> Self {
        let run = Run::new().unwrap();
        let containerd = Containerd::start(&run, line).unwrap();
        let options = AgentOptions::new(binary().unwrap(), &containerd.endpoint());
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

    pub(crate) fn until_phase(&self, name: &str, phase: &str) {
        self.until(&format!("pod {name} is {phase}"), |view| {
            match pod(view, name).and_then(|p| p["status"]["phase"].as_str()) {
                Some(found) if found == phase => Ok(()),
                other => Err(format!("it is {other:?}")),
            }
        });
    }

    pub(crate) fn until_gone(&self, name: &str) {
        self.until(&format!("pod {name} is gone"), |view| match pod(view, name) {
            None => Ok(()),
            Some(pod) => Err(format!("it is there: {}", pod["status"]["phase"])),
        });
    }
}

/// A pod manifest with the spec's lines as given.
pub(crate) fn manifest(name: &str, spec: &str) -> String {
    let spec = spec.replace("$BUSYBOX", BUSYBOX);
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n{spec}")
}

/// Writes each test twice, once for each line of containerd.
macro_rules! on_both_lines {
    ($($(#[$doc:meta])* fn $name:ident($node:ident) $body:block)*) => {$(
        mod $name {
            use super::*;
            #[test]
            fn containerd_1_6() { test(testkit::env::Line::V1_6); }
            #[test]
            fn containerd_2_1() { test(testkit::env::Line::V2_1); }
            $(#[$doc])*
            fn test(line: testkit::env::Line) {
                #[allow(unused_mut, reason = "only tests that restart something change the node")]
                let mut $node = $crate::node::Node::new(line);
                $body
            }
        }
    )*};
}
pub(crate) use on_both_lines;
