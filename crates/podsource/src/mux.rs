//! Several sources as one: follows their states and says what changes over all of them.
//!
//! Owns the merged set of pods (a [`PodManager`]) and how it stands with each source. Must not know what the
//! sources read, nor what becomes of the pods.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube_model::core::Pod;
use kube_model::objects::{Key, Object};
use kube_model::view::{Problem, SourceCondition, SourceView};
use kube_model::{PodUid, Timestamp, pod};
use pod_manager::{Change, Conflict, PodManager};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{StreamExt, StreamMap};

use crate::{Location, Objects, SourceState, same_objects};
use names::Renamed;

mod names;

/// Merges sources by the rules of [`PodManager`] (upstream `pkg/kubelet/config/config.go`).
///
/// ```
/// use std::sync::Arc;
///
/// use podsource::{Mux, SourceState};
/// use tokio::sync::watch;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // What `file::spawn` and the other sources give; anything that publishes whole sets will do.
/// let (file, files) = watch::channel(Arc::new(SourceState { source: "file", seen: true, ..Default::default() }));
/// let (http, documents) = watch::channel(Arc::new(SourceState { source: "http", ..Default::default() }));
/// let mut mux = Mux::new([files, documents]);
///
/// while let Some(changes) = mux.next().await {
///     for change in changes {
///         println!("{change:?}"); // Remove(uid), Add(pod), Update(pod), Delete(pod) or Reconcile(pod)
///     }
///     for problem in mux.problems() {
///         println!("{problem}");
///     }
///     if !mux.pods().sources_ready() {
///         println!("pods that are not here yet may still come: clean nothing up");
///     }
/// #   if mux.pods().awaited().eq(["http"]) { http.send_modify(|s| Arc::make_mut(s).seen = true) }
/// #   else if mux.pods().sources_ready() { break }
/// }
/// # drop(file);
/// # }
/// ```
#[derive(Debug)]
pub struct Mux {
    sources: Vec<Source>,
    states: StreamMap<usize, WatchStream<Arc<SourceState>>>,
    pods: PodManager,
    objects: Arc<Objects>,
    /// Sources whose pods are kept back until it is known which of them run under another UID.
    kept_back: BTreeSet<&'static str>,
    renamed: Renamed,
}

#[derive(Debug)]
struct Source {
    state: watch::Receiver<Arc<SourceState>>,
    condition: SourceCondition,
    /// When that began, by the clock as it went then, and by one that does not jump.
    since: (Timestamp, Instant),
}

impl Mux {
    /// Follows `sources`, each of another name ([`SourceState::source`]).
    pub fn new(sources: impl IntoIterator<Item = watch::Receiver<Arc<SourceState>>>) -> Self {
        let since = (Timestamp::now(), Instant::now());
        let source = |state| Source { state, condition: SourceCondition::Waiting, since };
        let sources: Vec<_> = sources.into_iter().map(source).collect();
        let stream = |source: &Source| WatchStream::new(source.state.clone());
        Self {
            states: sources.iter().map(stream).enumerate().collect(),
            pods: PodManager::new(sources.iter().map(|source| source.state.borrow().source)),
            objects: Arc::default(),
            kept_back: BTreeSet::new(),
            renamed: Renamed::default(),
            sources,
        }
    }

    /// Keeps the pods of these sources back, as if they had not been read, until [`name`](Self::name) was called for each.
    #[must_use]
    pub fn keeping_back(mut self, sources: impl IntoIterator<Item = &'static str>) -> Self {
        self.kept_back = sources.into_iter().collect();
        self
    }

    /// The first source that has been read and whose pods are kept back, with its pods.
    pub fn kept_back(&self) -> Option<(&'static str, Vec<Arc<Pod>>)> {
        let states = self.sources.iter().map(Source::state);
        let state = states.into_iter().find(|s| s.seen && self.kept_back.contains(s.source))?;
        Some((state.source, state.pods.clone()))
    }

    /// Lets the pods of a source go that were kept back. From now on a pod with a UID that `uids` has goes by the one
    /// there, and its annotation `kubernetes.io/config.hash` with it. Answers as [`next`](Self::next).
    pub fn name(
        &mut self,
        source: &'static str,
        uids: impl IntoIterator<Item = (PodUid, PodUid)>,
    ) -> Vec<Change> {
        self.kept_back.remove(source);
        self.renamed.add(uids);
        let states = self.sources.iter().map(Source::state);
        let state = states.into_iter().find(|s| s.source == source);
        state.map(|state| self.apply(&state)).unwrap_or_default()
    }

    /// What each pod of a source goes by whose UID its source made: its own UID, and that.
    pub fn names(&self, source: &str) -> BTreeMap<PodUid, PodUid> {
        let state = self.sources.iter().map(Source::state).find(|s| s.source == source);
        let pods = state.iter().flat_map(|state| &state.pods);
        pods.map(|pod| pod::identity(pod).0).map(|uid| (uid.clone(), self.renamed.of(&uid).clone())).collect()
    }

    fn apply(&mut self, state: &SourceState) -> Vec<Change> {
        if !state.seen || self.kept_back.contains(state.source) {
            return Vec::new();
        }
        let pods = self.renamed.pods(state.source, &state.pods);
        self.pods.apply(state.source, pods)
    }

    /// Waits until a source says something and answers with what changes over all of them: nothing if it is
    /// only a problem that came or went, a mirror pod, or the first and empty set of a source. `None` when all
    /// sources have ended.
    ///
    /// Each source speaks once at the start, and from then on with every change. States that came between two
    /// calls are one: the latest. Cancel safe: what was not answered comes with the next call.
    pub async fn next(&mut self) -> Option<Vec<Change>> {
        let (index, state) = self.states.next().await?;
        if let Some(source) = self.sources.get_mut(index) {
            source.note(&state);
        }
        self.merge_objects();
        Some(self.apply(&state))
    }

    /// The merged pods as of the last [`next`](Self::next).
    pub fn pods(&self) -> &PodManager {
        &self.pods
    }

    /// The ConfigMaps and Secrets of all sources as of the last [`next`](Self::next): another `Arc` only if one came, went
    /// or changed. Of two with one name that of the source which [`new`](Self::new) was given first is here.
    pub fn objects(&self) -> &Arc<BTreeMap<Key, Arc<Object>>> {
        &self.objects
    }

    fn merge_objects(&mut self) {
        let mut merged = Objects::new();
        for source in &self.sources {
            let state = source.state.borrow();
            for (key, object) in &state.objects {
                merged.entry(key.clone()).or_insert_with(|| Arc::clone(object));
            }
        }
        if !same_objects(&self.objects, &merged) {
            self.objects = Arc::new(merged);
        }
    }

    /// All that is wrong now: what the sources tell, and pods that stand back for one of another source.
    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        self.sources.iter().flat_map(|source| self.problems_of(&source.state()))
    }

    /// How it stands with each source now, in the order of [`new`](Self::new).
    pub fn views(&self) -> Vec<SourceView> {
        let view = |source: &Source| {
            let state = source.state();
            SourceView {
                name: state.source.to_owned(),
                location: state.location.to_string(),
                condition: source.condition,
                since: shown(source.since.0, source.since.1.elapsed(), Timestamp::now()),
                message: state.failure().map(|problem| problem.message.clone()).unwrap_or_default(),
                read_at: state.read_at,
                pods: state.pods.len(),
                problems: self.problems_of(&state),
            }
        };
        self.sources.iter().map(view).collect()
    }

    fn problems_of(&self, state: &SourceState) -> Vec<Problem> {
        let conflicts = self.pods.conflicts().iter().filter(|conflict| conflict.source == state.source);
        state
            .problems
            .iter()
            .cloned()
            .chain(conflicts.map(|conflict| self.stands_back(conflict, state)))
            .chain(self.unused_objects(state))
            .collect()
    }

    /// The objects that another source has, too.
    fn unused_objects(&self, loser: &SourceState) -> Vec<Problem> {
        let mut unused = Vec::new();
        for (key, object) in &loser.objects {
            if self.objects.get(key).is_none_or(|used| Arc::ptr_eq(used, object)) {
                continue;
            }
            let states = self.sources.iter().map(Source::state);
            let Some(holder) = states.into_iter().find(|state| state.objects.contains_key(key)) else {
                continue;
            };
            // Else it is the same one, a moment later.
            if holder.source != loser.source {
                let message =
                    format!("the {key} is also in the source {:?}; that one is used", holder.source);
                let path = PathBuf::from(&*loser.location);
                let field = Some("metadata.name".to_owned());
                unused.push(Problem { path, field, message, ..Problem::default() });
            }
        }
        unused
    }

    /// A conflict as an error of the source that lost.
    fn stands_back(&self, conflict: &Conflict, loser: &SourceState) -> Problem {
        let Conflict { uid, key, holder, holder_source, .. } = conflict;
        let holder_state = self.sources.iter().map(Source::state).find(|s| s.source == *holder_source);
        let held_at = holder_state
            .map(|state| match state.locations.get(self.renamed.own(holder)) {
                Some(location) => location.path.display().to_string(),
                None => state.location.to_string(),
            })
            .filter(|location| !location.is_empty())
            .map(|location| format!(", {location}"))
            .unwrap_or_default();
        let (field, what) = if uid == holder {
            ("metadata.uid", format!("a pod with UID {uid}"))
        } else {
            ("metadata.name", format!("the pod {key}"))
        };
        let location = loser.locations.get(self.renamed.own(uid)).cloned();
        let Location { path, line, column } = location
            .unwrap_or_else(|| Location { path: PathBuf::from(&*loser.location), ..Location::default() });
        let message = format!(
            "{what} is already wanted by the source {holder_source:?} (UID {holder}{held_at}); that one runs"
        );
        Problem { path, line, column, field: Some(field.to_owned()), message, warning: false }
    }
}

impl Source {
    /// Not kept for long, so that the source can go on in the same allocation.
    fn state(&self) -> Arc<SourceState> {
        Arc::clone(&self.state.borrow())
    }

    fn note(&mut self, state: &SourceState) {
        let condition = match (state.failure(), state.seen) {
            (Some(_), _) => SourceCondition::Failing,
            (None, true) => SourceCondition::Ready,
            (None, false) => SourceCondition::Waiting,
        };
        if self.condition != condition {
            (self.condition, self.since) = (condition, (Timestamp::now(), Instant::now()));
        }
    }
}

/// What the wall clock, as it goes `now`, said when something began, `elapsed` ago, at what was `began` then. The two
/// are one unless somebody set the clock.
fn shown(began: Timestamp, elapsed: Duration, now: Timestamp) -> Timestamp {
    let Ok(moved) = now.checked_sub(elapsed) else { return began };
    // Two readings of two clocks never agree to the last digit.
    if moved.duration_since(began).unsigned_abs() < Duration::from_secs(1) { began } else { moved }
}

#[cfg(test)]
mod tests;
