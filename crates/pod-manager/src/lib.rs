//! The desired pods of a node: what the sources (files, HTTP, API server) say together.
//!
//! Owns the merged set and which pod may have a name. A plain data structure: must not know clocks, tasks, the
//! runtime or what becomes of the pods. Rule: reference 3.5.

mod compare;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube_model::core::Pod;
use kube_model::pod::identity;
use kube_model::{PodKey, PodUid};

use compare::is_changed;

/// What a new set of a source means for one pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Not desired any more.
    Remove(PodUid),
    /// Desired from now on.
    Add(Arc<Pod>),
    /// Desired differently: spec, labels, annotations or deletion time.
    Update(Arc<Pod>),
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
        }
    }

    /// Takes the full set of a source in the place of its previous one. Answers with what changes over all
    /// sources: first what goes, then what comes, then what is updated. A UID under a new name goes and comes.
    ///
    /// A pod that did not change keeps its `Arc`, so a pointer comparison tells.
    pub fn apply(&mut self, source: &'static str, pods: Vec<Arc<Pod>>) -> Vec<Change> {
        self.awaited.remove(source);
        self.sets.insert(source, pods);
        let mut old = std::mem::take(&mut self.pods);
        self.merge(&old);

        let (mut changes, mut adds, mut updates) = (Vec::new(), Vec::new(), Vec::new());
        for (uid, new) in &mut self.pods {
            match old.remove(uid) {
                None => adds.push(Change::Add(new.pod.clone())),
                Some(old) if old.key != new.key => {
                    changes.push(Change::Remove(uid.clone()));
                    adds.push(Change::Add(new.pod.clone()));
                }
                Some(old) if is_changed(&old.pod, &new.pod) => updates.push(Change::Update(new.pod.clone())),
                Some(old) => new.pod = old.pod,
            }
        }
        changes.extend(old.into_keys().map(Change::Remove));
        changes.append(&mut adds);
        changes.append(&mut updates);
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

    /// Fills `pods`, `names` and `conflicts` from the sets: those that were there before come first.
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
            before.get(uid).is_none_or(|d| d.source != *source || d.key != *key)
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

#[cfg(test)]
mod tests;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
