//! What a source publishes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube_model::core::Pod;
use kube_model::objects::{Key, Object};
use kube_model::view::Problem;
use kube_model::{PodUid, Timestamp};

/// The whole set of a source. A pod that did not change keeps its `Arc` from one state to the next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceState {
    /// Which source: `file`, `http`, `push` or `api`.
    pub source: &'static str,
    /// Where it reads: a path, or a URL without credentials.
    pub location: Arc<str>,
    /// The pods that should run, sorted by namespace and name; both are unique, and so are the UIDs.
    pub pods: Vec<Arc<Pod>>,
    /// The ConfigMaps and Secrets that are there for pods of this node which the API server does not know. One that did
    /// not change keeps its `Arc`.
    pub objects: BTreeMap<Key, Arc<Object>>,
    /// Where the pods are written, as far as the source knows: for what turns out to be wrong with one later.
    /// Like `read_at` it moves without waking those who follow the state.
    pub locations: BTreeMap<PodUid, Location>,
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

impl SourceState {
    /// Why the source as a whole can not be read now, if it can not: the problem of its location itself.
    pub fn failure(&self) -> Option<&Problem> {
        let location = Path::new(&*self.location);
        self.problems
            .iter()
            .find(|p| !p.warning && p.line.is_none() && p.field.is_none() && p.path == location)
    }
}

/// Where the name of a pod is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Location {
    /// The file or URL.
    pub path: PathBuf,
    /// Counted from 1.
    pub line: Option<u32>,
    /// In characters, counted from 1.
    pub column: Option<u32>,
}
