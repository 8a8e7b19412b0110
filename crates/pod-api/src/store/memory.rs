//! What the store knows, and the last changes to it. Plain data: no files, no clock, no tasks.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as PodEntry;
use std::sync::Arc;

use kube_model::core::{Pod, PodStatus};
use kube_model::view::{PodView, Problem};
use kube_model::{PodKey, PodUid, labels, pod};

use super::history::History;
use super::{Change, Event, Object, rules};
use crate::SOURCE;
use crate::error::ApiError;

/// Changes that are kept for watches: this many, and this many for each pod, so that a change of all pods at once
/// throws out no watch that keeps up.
const HISTORY: usize = 512;
const HISTORY_PER_POD: usize = 2;

/// The pods and the history.
#[derive(Debug)]
pub(super) struct Memory {
    pushed: BTreeMap<PodKey, Pushed>,
    /// The pods of the node's other sources. A name that a pushed pod has is not here.
    others: BTreeMap<PodKey, Object>,
    history: History<Object>,
    /// What is wrong with the folder.
    pub(super) problems: Vec<Problem>,
}

/// A pod of this source.
#[derive(Debug)]
struct Pushed {
    object: Object,
    /// The agent has shown that it knows of the deletion: from then on a pod that it does not show is gone.
    ending_seen: bool,
}

impl Memory {
    /// Starts with pods from the disk; all resource versions are above `revision`.
    pub(super) fn new(pods: Vec<Pod>, problems: Vec<Problem>, revision: u64) -> Self {
        let mut memory = Self {
            pushed: BTreeMap::new(),
            others: BTreeMap::new(),
            history: History::new(revision),
            problems,
        };
        for pod in pods {
            memory.put(pod);
        }
        memory.history.forget();
        memory
    }

    /// The resource version of the last change.
    pub(super) fn revision(&self) -> u64 {
        self.history.revision()
    }

    /// How many pods were pushed.
    pub(super) fn len(&self) -> usize {
        self.pushed.len()
    }

    /// The pushed pods, as they should run.
    pub(super) fn desired(&self) -> Vec<Arc<Pod>> {
        self.pushed.values().map(|pushed| Arc::clone(&pushed.object.pod)).collect()
    }

    /// The pods of all sources, by namespace and name.
    pub(super) fn list(&self) -> Vec<Object> {
        let pushed = self.pushed.values().map(|pushed| &pushed.object);
        let mut all: Vec<Object> = pushed.chain(self.others.values()).cloned().collect();
        all.sort_by(|a, b| name(a).cmp(&name(b)));
        all
    }

    /// The pod, of whichever source.
    pub(super) fn get(&self, key: &PodKey) -> Result<Object, ApiError> {
        let pushed = self.pushed.get(key).map(|pushed| &pushed.object);
        pushed.or_else(|| self.others.get(key)).cloned().ok_or_else(|| ApiError::not_found(key))
    }

    /// The pushed pod; those of other sources can not be changed here.
    pub(super) fn get_pushed(&self, key: &PodKey) -> Result<Object, ApiError> {
        let object = self.get(key)?;
        if self.pushed.contains_key(key) {
            return Ok(object);
        }
        let source = pod::annotation(&object.pod, labels::CONFIG_SOURCE).unwrap_or("api");
        Err(ApiError::forbidden(
            &key.name,
            format_args!("it comes from the source {source:?} of this node and can only be changed there"),
        ))
    }

    /// Takes in a new or changed pod of this source; its own status does not count.
    pub(super) fn put(&mut self, pod: Pod) -> Object {
        let (_, key) = pod::identity(&pod);
        let before = self.pushed.get(&key);
        let status = match before {
            Some(before) => Arc::clone(&before.object.status),
            None => Arc::new(rules::initial_status(&pod)),
        };
        let ending_seen = before.is_some_and(|before| before.ending_seen);
        let object =
            Object { pod: Arc::new(Pod { status: None, ..pod }), status, resource_version: self.next() };
        let before = self.pushed.insert(key, Pushed { object: object.clone(), ending_seen });
        self.record(before.map_or(Change::Added, |before| Change::Modified(before.object)), object.clone());
        object
    }

    /// Drops a pod of this source. The answer is the pod with the resource version of the deletion.
    pub(super) fn remove(&mut self, key: &PodKey) -> Option<Object> {
        let Pushed { mut object, .. } = self.pushed.remove(key)?;
        object.resource_version = self.next();
        self.record(Change::Deleted, object.clone());
        Some(object)
    }

    /// Takes in how the node's pods are. The answer is which pushed pods have ended since they were deleted.
    pub(super) fn observe(&mut self, views: &[Arc<PodView>]) -> Vec<(PodKey, PodUid)> {
        let mut ended = Vec::new();
        let mut others: BTreeMap<PodKey, &PodView> = BTreeMap::new();
        let mut ending: BTreeMap<PodUid, PodKey> = self
            .pushed
            .iter()
            .filter(|(_, pushed)| pushed.ending_seen)
            .map(|(key, pushed)| (uid(&pushed.object), key.clone()))
            .collect();
        for view in views {
            let (uid, key) = pod::identity(&view.pod);
            match self.pushed.get_mut(&key) {
                Some(pushed) if pushed.object.pod.metadata.uid.as_deref() == Some(uid.as_str()) => {
                    let asked = pushed.object.pod.metadata.deletion_timestamp.is_some();
                    pushed.ending_seen |= view.pod.metadata.deletion_timestamp.is_some();
                    self.set_status(&key, &view.status);
                    ending.remove(&uid);
                    if asked && view.finished {
                        ended.push((key, uid));
                    }
                }
                // A pod of this source that was deleted at once and still ends, or one that has the name of a
                // pushed pod.
                _ if is_pushed(&view.pod) => {}
                Some(_) => {}
                None => match others.entry(key) {
                    PodEntry::Vacant(entry) => {
                        entry.insert(view);
                    }
                    // The name is used again while the pod before it still ends.
                    PodEntry::Occupied(mut entry) if entry.get().removing => {
                        entry.insert(view);
                    }
                    PodEntry::Occupied(_) => {}
                },
            }
        }
        ended.extend(ending.into_iter().map(|(uid, key)| (key, uid)));
        self.set_others(&others);
        ended
    }

    fn set_status(&mut self, key: &PodKey, status: &Arc<PodStatus>) {
        if is_unknown(status) {
            return;
        }
        let Some(pushed) = self.pushed.get(key) else { return };
        if same(&pushed.object.status, status) {
            return;
        }
        let resource_version = self.next();
        let Some(pushed) = self.pushed.get_mut(key) else { return };
        let before = pushed.object.clone();
        pushed.object = Object { status: Arc::clone(status), resource_version, ..before.clone() };
        let after = pushed.object.clone();
        self.record(Change::Modified(before), after);
    }

    fn set_others(&mut self, now: &BTreeMap<PodKey, &PodView>) {
        let replaced = |key: &PodKey, object: &Object| {
            now.get(key).is_none_or(|view| view.pod.metadata.uid != object.pod.metadata.uid)
        };
        let gone = self.others.extract_if(.., |key, object| replaced(key, object)).collect::<Vec<_>>();
        for (_, mut object) in gone {
            object.resource_version = self.next();
            self.record(Change::Deleted, object);
        }
        for (key, view) in now {
            let before = self.others.get(key);
            let status = match before {
                _ if !is_unknown(&view.status) => Arc::clone(&view.status),
                Some(before) => Arc::clone(&before.status),
                None => Arc::new(rules::first_status(&view.pod)),
            };
            if before.is_some_and(|old| same(&old.pod, &view.pod) && same(&old.status, &status)) {
                continue;
            }
            let object = Object { pod: Arc::clone(&view.pod), status, resource_version: self.next() };
            let before = self.others.insert(key.clone(), object.clone());
            self.record(before.map_or(Change::Added, Change::Modified), object);
        }
    }

    /// The changes after `since`, at most `limit`.
    pub(super) fn since(&self, since: u64, limit: usize) -> Result<Vec<Event<Object>>, ApiError> {
        self.history.since(since, limit)
    }

    fn next(&mut self) -> u64 {
        self.history.next()
    }

    fn record(&mut self, change: Change<Object>, object: Object) {
        let most = HISTORY + HISTORY_PER_POD * (self.pushed.len() + self.others.len());
        self.history.record(change, object, most);
    }
}

/// Whether the agent has not decided anything about the pod yet, for example because the runtime does not answer. Then
/// what was known of it stays.
fn is_unknown(status: &PodStatus) -> bool {
    status.phase.is_none()
}

/// Whether two are the same; those that share their memory are known to be.
fn same<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

fn is_pushed(pod: &Pod) -> bool {
    pod::annotation(pod, labels::CONFIG_SOURCE) == Some(SOURCE)
}

fn uid(object: &Object) -> PodUid {
    PodUid::new(object.pod.metadata.uid.as_deref().unwrap_or_default())
}

fn name(object: &Object) -> (&Option<String>, &Option<String>) {
    (&object.pod.metadata.namespace, &object.pod.metadata.name)
}
