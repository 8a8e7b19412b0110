//! The agent's own view of itself, as the local socket serves it.

use std::sync::Arc;

use kube_model::labels::CONFIG_MIRROR;
use kube_model::pod::annotation;
use kube_model::view::{RuntimeView, SourceView, SourcesSnapshot, ViewSnapshot};
use kube_model::{Monotonic, PodUid};
use podsource::SourceState;
use server::View;
use tokio::sync::watch;

use crate::AgentWorkers;

/// Puts together what the other parts know, when somebody asks.
pub(crate) struct AgentView {
    pub(crate) node: String,
    pub(crate) workers: AgentWorkers,
    /// As of the last change.
    pub(crate) sources: watch::Receiver<Vec<SourceView>>,
    /// The same sources, for when they were last read, which changes without notice, and for the mirror pods among
    /// theirs.
    pub(crate) states: Vec<watch::Receiver<Arc<SourceState>>>,
    pub(crate) runtime: watch::Receiver<RuntimeView<Monotonic>>,
}

impl View for AgentView {
    fn snapshot(&self) -> ViewSnapshot {
        ViewSnapshot {
            node: self.node.clone(),
            pods: self.workers.views(),
            problems: self.sources.borrow().iter().flat_map(|source| &source.problems).cloned().collect(),
            runtime: self.runtime.borrow().shown(self.workers.clock().now()),
        }
    }

    fn sources(&self) -> SourcesSnapshot {
        let mut sources = self.sources.borrow().clone();
        for (source, state) in sources.iter_mut().zip(&self.states) {
            source.read_at = state.borrow().read_at;
        }
        SourcesSnapshot { node: self.node.clone(), sources }
    }

    fn mirror_uid(&self, namespace: &str, name: &str) -> Option<PodUid> {
        self.states.iter().find_map(|state| {
            let state = state.borrow();
            let mirror = state.pods.iter().find(|pod| {
                let meta = &pod.metadata;
                meta.name.as_deref() == Some(name)
                    && meta.namespace.as_deref() == Some(namespace)
                    && annotation(pod, CONFIG_MIRROR).is_some()
            })?;
            mirror.metadata.uid.as_deref().map(PodUid::from)
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.workers.changes()
    }
}
