//! The agent's own view of itself, as the local socket serves it.

use kube_model::view::{Problem, RuntimeView, ViewSnapshot};
use pod_workers::Workers;
use server::View;
use tokio::sync::watch;

use crate::probes::AgentProbes;
use crate::runtime::CriRuntime;

/// Puts together what the other parts know, when somebody asks.
pub(crate) struct AgentView {
    pub(crate) node: String,
    pub(crate) workers: Workers<CriRuntime, AgentProbes>,
    pub(crate) problems: watch::Receiver<Vec<Problem>>,
    pub(crate) runtime: watch::Receiver<RuntimeView>,
}

impl View for AgentView {
    fn snapshot(&self) -> ViewSnapshot {
        ViewSnapshot {
            node: self.node.clone(),
            pods: self.workers.views(),
            problems: self.problems.borrow().clone(),
            runtime: self.runtime.borrow().clone(),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.workers.changes()
    }
}
