//! The agent's own view of itself, as the local socket serves it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube_model::labels::CONFIG_MIRROR;
use kube_model::pod::annotation;
use kube_model::view::{RuntimeView, SourceView, SourcesSnapshot, ViewSnapshot, VolumeState, VolumeView};
use kube_model::{Monotonic, PodUid};
use podsource::SourceState;
use server::View;
use tokio::sync::watch;
use volumes::{Shown, State, Volumes};

use crate::AgentWorkers;

/// Puts together what the other parts know, when somebody asks.
pub(crate) struct AgentView {
    pub(crate) node: String,
    pub(crate) workers: AgentWorkers,
    pub(crate) volumes: Volumes,
    /// As of the last change.
    pub(crate) sources: watch::Receiver<Vec<SourceView>>,
    /// The same sources, for when they were last read, which changes without notice, and for the mirror pods among
    /// theirs.
    pub(crate) states: Vec<watch::Receiver<Arc<SourceState>>>,
    pub(crate) runtime: watch::Receiver<RuntimeView<Monotonic>>,
}

impl AgentView {
    fn volumes(&self) -> BTreeMap<String, Vec<VolumeView>> {
        let now = self.workers.clock().now();
        let all = self.volumes.all_shown().into_iter();
        let view = |volume: Shown| {
            let failure = volume.state.failure();
            let (state, since) = match &volume.state {
                State::Missing { .. } => (VolumeState::Missing, failure.map(|failure| failure.since)),
                State::SettingUp { since, .. } => (VolumeState::SettingUp, Some(*since)),
                State::Mounted { since, .. } => (VolumeState::Mounted, Some(*since)),
            };
            VolumeView {
                kind: volume.kind.to_owned(),
                state,
                since: since.map(|at| now.shown(at)),
                message: failure.map(|failure| failure.message.clone()).unwrap_or_default(),
                until: failure.map(|failure| now.shown(failure.until)),
                name: volume.name,
            }
        };
        all.map(|(uid, volumes)| (uid.as_str().to_owned(), volumes.into_iter().map(view).collect())).collect()
    }
}

impl View for AgentView {
    fn snapshot(&self) -> ViewSnapshot {
        ViewSnapshot {
            node: self.node.clone(),
            pods: self.workers.views(),
            problems: self.sources.borrow().iter().flat_map(|source| &source.problems).cloned().collect(),
            runtime: self.runtime.borrow().shown(self.workers.clock().now()),
            volumes: self.volumes(),
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
