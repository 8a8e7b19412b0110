//! From the documents that come to the set of pods: what is new, and what stays when one can not be used.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube_model::core::Pod;
use kube_model::hash::Fnv128a;
use kube_model::view::Problem;
use kube_model::{PodUid, Timestamp, labels, pod};

use crate::last_good::LastGood;
use crate::manifest::{self, Origin, Placed, Pods};
use crate::{Location, Objects, SourceState, same_objects};

/// What came of the URL so far.
#[derive(Debug)]
pub(super) struct Documents {
    /// The URL without credentials, which names the pods' origin.
    url: String,
    /// The same for people, in problems.
    shown: PathBuf,
    node_name: String,
    last_good: Option<LastGood>,
    /// Hash of the text that `problems` are about.
    text: Option<String>,
    /// Hash of the text on disk.
    kept: Option<String>,
    /// The last good document.
    good: Option<Good>,
    /// What is wrong with the document, or odd.
    problems: Vec<Problem>,
    /// Whether the document that came last is the good one.
    current: bool,
    /// Why nothing came.
    unreachable: Option<Problem>,
    /// Why the last good document could not be kept on disk, or not be read.
    not_kept: Option<Problem>,
}

#[derive(Debug, Default)]
struct Good {
    pods: Vec<Arc<Pod>>,
    objects: Objects,
    locations: BTreeMap<PodUid, Location>,
}

impl Documents {
    pub(super) fn new(url: String, shown: &str, node_name: String, cache_dir: Option<PathBuf>) -> Self {
        Self {
            url,
            shown: shown.into(),
            node_name,
            last_good: cache_dir.map(LastGood::new),
            text: None,
            kept: None,
            good: None,
            problems: Vec::new(),
            current: false,
            unreachable: None,
            not_kept: None,
        }
    }

    /// Takes the last good document from disk, so that it runs until the server answers.
    pub(super) fn load(&mut self, now: Timestamp) {
        let Some(last_good) = &self.last_good else { return };
        let (kept, error) = last_good.load();
        self.not_kept = error.map(|error| {
            let message = format!("the last good document can not be read: {error}");
            Problem { path: last_good.dir().to_owned(), message, ..Problem::default() }
        });
        let (ours, others): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|kept| kept.path == Path::new(&self.url));
        for other in others {
            // Of another URL, from before the settings were changed. If this fails it is tried again with the
            // next start.
            let _ = last_good.forget(&other.path);
        }
        for kept in ours {
            self.read(kept.text.as_bytes(), None, now);
            self.kept = self.text.take().filter(|_| self.current);
            self.current = false;
            self.problems.clear();
        }
    }

    /// The server did not give a document.
    pub(super) fn fail(&mut self, error: &str) {
        let stays = if self.good.is_some() { "; the pods that came from it stay" } else { "" };
        self.unreachable = Some(self.problem(format!("can not be read: {error}{stays}")));
    }

    /// The server gave what can not be unpacked.
    pub(super) fn spoil(&mut self, error: &str) {
        self.unreachable = None;
        // Not one to ask for changes of.
        self.text = None;
        self.refuse(vec![self.problem(format!("can not be read: {error}"))]);
    }

    /// The server says that the document is the one that came last.
    pub(super) fn confirm(&mut self) {
        self.unreachable = None;
    }

    /// The server gave this document.
    pub(super) fn take(&mut self, text: &[u8], content_type: Option<&str>, now: Timestamp) {
        self.unreachable = None;
        self.read(text, content_type, now);
        self.keep(text);
    }

    /// Whether the URL gives a document that can be used, at this moment.
    pub(super) fn are_good(&self) -> bool {
        self.current && self.unreachable.is_none()
    }

    /// Whether the document must come again though it did not change.
    pub(super) fn want_it_again(&self) -> bool {
        self.text.is_none() || self.not_kept.is_some()
    }

    /// Puts what there is into the state; whether anything changed but for when it was read.
    pub(super) fn publish(&self, state: &mut SourceState, now: Timestamp) -> bool {
        let problems = self.unreachable.iter().chain(&self.problems).chain(&self.not_kept);
        let (pods, locations) = match &self.good {
            Some(good) => (good.pods.as_slice(), Some(&good.locations)),
            None => (&[][..], None),
        };
        let none = Objects::new();
        let objects = self.good.as_ref().map_or(&none, |good| &good.objects);
        let same_pods =
            state.pods.len() == pods.len() && state.pods.iter().zip(pods).all(|(a, b)| Arc::ptr_eq(a, b));
        let changed = !same_pods
            || !same_objects(&state.objects, objects)
            || state.seen != self.good.is_some()
            || !state.problems.iter().eq(problems.clone());
        if self.are_good() {
            state.read_at = Some(now);
        }
        if changed {
            state.pods = pods.to_vec();
            state.objects.clone_from(objects);
            state.problems = problems.cloned().collect();
            state.seen = self.good.is_some();
        }
        if locations != Some(&state.locations) {
            state.locations = locations.cloned().unwrap_or_default();
        }
        changed
    }

    fn read(&mut self, text: &[u8], content_type: Option<&str>, now: Timestamp) {
        let hash = hash_of(text);
        if self.text.as_ref() == Some(&hash) {
            return;
        }
        self.text = Some(hash);
        if text.is_empty() {
            // As in the kubelet.
            let message = "the document is empty: no pods are wanted from here".to_owned();
            self.problems = vec![Problem { warning: true, ..self.problem(message) }];
            (self.good, self.current) = (Some(Good::default()), true);
            return;
        }
        let origin = Origin::url(&self.url, &self.node_name);
        // Whatever a document does to the reader, the pods of the others must not suffer.
        match catch_unwind(AssertUnwindSafe(|| manifest::read_all(text, origin))) {
            Ok(Ok(Pods { pods, objects, problems })) => {
                self.problems = self.as_shown(problems);
                (self.good, self.current) = (Some(self.renewed(pods, objects, now)), true);
            }
            Ok(Err(_)) if text.trim_ascii_start().starts_with(b"<") => {
                let kind = content_type.map(|kind| format!(" ({kind})")).unwrap_or_default();
                self.refuse(vec![self.problem(format!("is a web page or XML{kind}, no manifest"))]);
            }
            Ok(Err(problems)) => self.refuse(self.as_shown(problems)),
            Err(_) => {
                self.refuse(vec![self.problem("the reader failed on this document: a bug".to_owned())]);
            }
        }
    }

    /// The document can not be used as it is now.
    fn refuse(&mut self, mut problems: Vec<Problem>) {
        if self.good.is_some()
            && let Some(first) = problems.first_mut()
        {
            first.message += "; the last good version of the whole document keeps running";
        }
        (self.problems, self.current) = (problems, false);
    }

    /// The pods of a new document; those that did not change are the same as before.
    fn renewed(&self, pods: Vec<Placed>, objects: Objects, now: Timestamp) -> Good {
        let old = self.good.as_ref().map(|good| &good.objects);
        let objects = objects.into_iter().map(|(key, object)| {
            let same = old.and_then(|old| old.get(&key)).filter(|old| ***old == *object);
            let object = same.cloned().unwrap_or(object);
            (key, object)
        });
        let objects = objects.collect();
        let before = self.good.iter().flat_map(|good| &good.pods);
        let before: BTreeMap<_, _> = before.map(|pod| (pod::identity(pod), pod)).collect();
        let mut good = Good { objects, ..Good::default() };
        for Placed { mut pod, name_at } in pods {
            let identity = pod::identity(&pod);
            good.pods.push(match before.get(&identity) {
                Some(old) if manifest::same(old, &pod) => Arc::clone(old),
                old => {
                    // A UID is seen for the first time once, whatever is said of it later.
                    match old.and_then(|old| pod::annotation(old, labels::CONFIG_SEEN)) {
                        Some(seen) => manifest::mark_seen(&mut pod, seen.to_owned()),
                        None => manifest::stamp(&mut pod, now),
                    }
                    Arc::new(pod)
                }
            });
            let (line, column) = (name_at.map(|at| at.line), name_at.map(|at| at.column));
            good.locations.insert(identity.0, Location { path: self.shown.clone(), line, column });
        }
        good
    }

    /// Keeps the text on disk if it is the good one and not there yet.
    fn keep(&mut self, text: &[u8]) {
        let Some(last_good) = &self.last_good else { return };
        if !self.current || (self.kept == self.text && self.not_kept.is_none()) {
            return;
        }
        self.not_kept = match last_good.keep(Path::new(&self.url), &String::from_utf8_lossy(text)) {
            Ok(()) => {
                self.kept.clone_from(&self.text);
                None
            }
            Err(error) => Some(self.problem(format!(
                "this version can not be kept in {} for a restart: {error}",
                last_good.dir().display()
            ))),
        };
    }

    fn problem(&self, message: String) -> Problem {
        Problem { path: self.shown.clone(), message, ..Problem::default() }
    }

    fn as_shown(&self, problems: Vec<Problem>) -> Vec<Problem> {
        problems.into_iter().map(|problem| Problem { path: self.shown.clone(), ..problem }).collect()
    }
}

fn hash_of(text: &[u8]) -> String {
    let mut hash = Fnv128a::default();
    hash.write(text);
    hash.hex()
}
