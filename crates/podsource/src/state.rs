//! What a source publishes.

use std::sync::Arc;

use kube_model::Timestamp;
use kube_model::core::Pod;
use kube_model::view::Problem;

/// The whole set of a source. A pod that did not change keeps its `Arc` from one state to the next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceState {
    /// Which source: `file`, `http`, `push` or `api`.
    pub source: &'static str,
    /// Where it reads: a path, or a URL without credentials.
    pub location: Arc<str>,
    /// The pods that should run, sorted by namespace and name; both are unique, and so are the UIDs.
    pub pods: Vec<Arc<Pod>>,
    /// What is wrong with the manifests now, by file and in its order. A problem does not mean that the pod of
    /// that file is gone: its last good version stays in `pods`.
    pub problems: Vec<Problem>,
    /// Whether a pod that is not in `pods` is not wanted: not before the source could be read once, or what was
    /// kept of an earlier run was found. (The kubelet takes a folder that is missing for an empty one.)
    pub seen: bool,
    /// When the source last gave a usable answer: a folder that could be listed, a document, "not modified". It
    /// moves without waking those who follow the state.
    pub read_at: Option<Timestamp>,
}
