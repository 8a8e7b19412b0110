//! The desired pods of a node: what the sources (files, HTTP, API server) say together.
//!
//! Owns the merged set, which pod may have a name, and the mirror pods. A plain data structure: must not know
//! clocks, tasks, the runtime or what becomes of the pods. Rule: upstream `pkg/kubelet/config/config.go`,
//! `pkg/kubelet/pod/pod_manager.go`.

mod compare;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube_model::core::Pod;
use kube_model::labels::CONFIG_MIRROR;
use kube_model::pod::{API_SOURCE, annotation, identity};
use kube_model::{PodKey, PodUid, Timestamp};

use compare::{Difference, came_again, difference};

/// What a new set of a source means for one pod. [`PodManager::apply`] gives them in the order in which they
/// stand here, which is the kubelet's.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Not desired any more.
    Remove(PodUid),
    /// Desired from now on. The oldest comes first: a full node turns away the last ones.
    Add(Arc<Pod>),
    /// Desired differently: spec, labels or annotations.
    Update(Arc<Pod>),
    /// The same of a pod that is being deleted: it has a deletion timestamp, and its source keeps it until it
    /// has ended.
    Delete(Arc<Pod>),
    /// Desired as before, but the source has another status for it.
    Reconcile(Arc<Pod>),
}

/// A pod that is left out because another has its UID or its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who wants the pod.
    pub source: &'static str,
    /// Its UID
    pub uid: PodUid,
    /// Its namespace and name
    pub key: PodKey,
    /// UID of the pod that was there first; may be the same UID.
    pub holder: PodUid,
    /// Who wants that one.
    pub holder_source: &'static str,
}

#[derive(Debug)]
struct Desired {
    source: &'static str,
    key: PodKey,
    pod: Arc<Pod>,
}

/// The merged pods of all sources.
///
/// A name belongs to one pod at a time: who has it keeps it until its source drops it; then the next one
/// comes in by itself. See the README for an example.
#[derive(Debug)]
pub struct PodManager {
    /// Sources that have not delivered yet.
    awaited: BTreeSet<&'static str>,
    /// The last set of each source.
    sets: BTreeMap<&'static str, Vec<Arc<Pod>>>,
    pods: BTreeMap<PodUid, Desired>,
    names: BTreeMap<PodKey, PodUid>,
    conflicts: Vec<Conflict>,
    mirrors: BTreeMap<PodKey, Arc<Pod>>,
}

impl PodManager {
    /// Without pods, waiting for these sources.
    pub fn new(sources: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            awaited: sources.into_iter().collect(),
            sets: BTreeMap::new(),
            pods: BTreeMap::new(),
            names: BTreeMap::new(),
            conflicts: Vec::new(),
            mirrors: BTreeMap::new(),
        }
    }

    /// Takes the full set of a source in the place of its previous one. Answers with what changes over all
    /// sources, in the order of [`Change`]. A UID under a new name goes and comes, and so does a static pod that its
    /// source has seen for the first time once more: its manifest was gone in between.
    ///
    /// A pod that did not change keeps its `Arc`, so a pointer comparison tells.
    pub fn apply(&mut self, source: &'static str, mut pods: Vec<Arc<Pod>>) -> Vec<Change> {
        self.awaited.remove(source);
        if source == API_SOURCE {
            // What the API server shows of the static pods is not a second wish for them.
            let mirrors = pods.extract_if(.., |pod| annotation(pod, CONFIG_MIRROR).is_some());
            self.mirrors = mirrors.map(|pod| (identity(&pod).1, pod)).collect();
        }
        self.sets.insert(source, pods);
        let mut old = std::mem::take(&mut self.pods);
        self.merge(&old);

        let (mut changes, mut adds, mut updates) = (Vec::new(), Vec::new(), Vec::new());
        let (mut deletes, mut reconciles) = (Vec::new(), Vec::new());
        for (uid, new) in &mut self.pods {
            let pod = &new.pod;
            match old.remove(uid) {
                None => adds.push(pod.clone()),
                Some(old) if old.key != new.key || (is_static(&old, new) && came_again(&old.pod, pod)) => {
                    changes.push(Change::Remove(uid.clone()));
                    adds.push(pod.clone());
                }
                Some(old) => match difference(&old.pod, pod) {
                    Difference::Desired if pod.metadata.deletion_timestamp.is_some() => {
                        deletes.push(Change::Delete(pod.clone()));
                    }
                    Difference::Desired => updates.push(Change::Update(pod.clone())),
                    Difference::Status => reconciles.push(Change::Reconcile(pod.clone())),
                    Difference::None => new.pod = old.pod,
                },
            }
        }
        changes.extend(old.into_keys().map(Change::Remove));
        adds.sort_by_key(|pod| age(pod));
        changes.extend(adds.into_iter().map(Change::Add));
        for more in [&mut updates, &mut deletes, &mut reconciles] {
            changes.append(more);
        }
        changes
    }

    /// Whether each source has delivered at least once: before that, a pod that is not here may still come,
    /// so nothing may be cleaned up.
    pub fn sources_ready(&self) -> bool {
        self.awaited.is_empty()
    }

    /// The sources that have not delivered yet.
    pub fn awaited(&self) -> impl Iterator<Item = &'static str> {
        self.awaited.iter().copied()
    }

    /// The desired pod with this UID.
    pub fn get(&self, uid: &PodUid) -> Option<&Arc<Pod>> {
        self.pods.get(uid).map(|d| &d.pod)
    }

    /// The desired pod with this name.
    pub fn by_key(&self, key: &PodKey) -> Option<&Arc<Pod>> {
        self.get(self.names.get(key)?)
    }

    /// All desired pods in the order of their UIDs.
    pub fn pods(&self) -> impl ExactSizeIterator<Item = (&PodUid, &Arc<Pod>)> {
        self.pods.iter().map(|(uid, d)| (uid, &d.pod))
    }

    /// The pods that are left out at the moment, for the log and for those who ask where their pod is.
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }

    /// The mirror pods that the API server has, each under the name that it has in common with its static pod.
    /// One whose static pod is not desired (any more) is an orphan.
    pub fn mirrors(&self) -> &BTreeMap<PodKey, Arc<Pod>> {
        &self.mirrors
    }

    /// Fills `pods`, `names` and `conflicts` from the sets: those that were there before come first, then static
    /// pods, then those of the API server.
    fn merge(&mut self, before: &BTreeMap<PodUid, Desired>) {
        self.names.clear();
        self.conflicts.clear();
        let mut all: Vec<_> = self
            .sets
            .iter()
            .flat_map(|(source, set)| set.iter().map(move |pod| (*source, identity(pod), pod)))
            .collect();
        // Stable: otherwise in the order of the sources' names, and within one in that of its set.
        all.sort_by_key(|(source, (uid, key), _)| {
            let newcomer = before.get(uid).is_none_or(|d| d.source != *source || d.key != *key);
            (newcomer, *source == API_SOURCE)
        });
        for (source, (uid, key), pod) in all {
            let holder = self.pods.get_key_value(&uid).or_else(|| {
                let holder = self.names.get(&key)?;
                self.pods.get_key_value(holder)
            });
            if let Some((holder, desired)) = holder {
                let (holder, holder_source) = (holder.clone(), desired.source);
                self.conflicts.push(Conflict { source, uid, key, holder, holder_source });
                continue;
            }
            self.names.insert(key.clone(), uid.clone());
            self.pods.insert(uid, Desired { source, key, pod: pod.clone() });
        }
    }
}

/// Whether both are of one source, and not the API server, where a UID never comes twice.
fn is_static(old: &Desired, new: &Desired) -> bool {
    old.source == new.source && new.source != API_SOURCE
}

/// When a pod was created, static ones first; within a second in the order in which the API server wrote them.
fn age(pod: &Pod) -> (Option<Timestamp>, Option<u64>) {
    let meta = &pod.metadata;
    let version = meta.resource_version.as_ref().and_then(|version| version.parse().ok());
    (meta.creation_timestamp.as_ref().map(|time| time.0), version)
}

#[cfg(test)]
mod tests;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
