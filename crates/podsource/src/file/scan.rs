//! From the folder to the set of pods: what is read again, what stays, and which of two wins.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube_model::core::Pod;
use kube_model::hash::Fnv128a;
use kube_model::objects::{Key, Kind, Object};
use kube_model::view::Problem;
use kube_model::yaml::Position;
use kube_model::{PodUid, Timestamp, labels, pod};

use super::Settings;
use super::read::{self, Look, Stamp};
use crate::Location;
use crate::last_good::{Kept, LastGood};
use crate::manifest::{self, AnyManifest, Manifest, ObjectManifest, Origin, Taken};

/// How long last good versions are written to disk before new changes are looked for.
const KEEP_TIME: Duration = Duration::from_millis(20);

/// What the folder comes to.
#[derive(Debug, Default)]
pub(super) struct Set {
    /// By namespace and name.
    pub(super) pods: Vec<Arc<Pod>>,
    /// The ConfigMaps and Secrets.
    pub(super) objects: BTreeMap<Key, Arc<Object>>,
    /// Where the pods are written.
    pub(super) locations: BTreeMap<PodUid, Location>,
    /// By file; those of one file in its order.
    pub(super) problems: Vec<Problem>,
    /// Whether a pod that is not here is not wanted: not while nothing could be read yet, and nothing is known
    /// from earlier either.
    pub(super) seen: bool,
    /// When the source last gave a usable answer.
    pub(super) read_at: Option<Timestamp>,
    /// Whether a file that was not there before is unusable or has the pod of another one.
    odd_newcomer: bool,
}

/// All manifests of the source.
#[derive(Debug, Default)]
pub(super) struct Files {
    path: PathBuf,
    node_name: String,
    /// By path, as text: paths compare part by part, which is most of the work where there are many.
    known: BTreeMap<OsString, Known>,
    last_good: Option<LastGood>,
    loaded: bool,
    seen: bool,
    read_at: Option<Timestamp>,
    /// Whether the path could be read the last time.
    readable: bool,
    /// Whether the path was one file when it was last there.
    is_one_file: bool,
    /// What is wrong with the path itself, or around it.
    problems: Vec<Problem>,
    /// Names of files that were unlinked since the last set.
    unlinked: BTreeSet<OsString>,
    /// The pods of the last set: when they were seen first stays with their UIDs.
    last: Vec<Arc<Pod>>,
}

/// One manifest.
#[derive(Debug, Default)]
struct Known {
    /// The file as it was when it was read; `None`: read it again.
    stamp: Option<Stamp>,
    /// Hash of the text that `problems` are about.
    text: Option<String>,
    /// The last good version.
    good: Option<Good>,
    /// Hash of the text on disk as the last good one.
    kept: Option<String>,
    /// The last good text until it is on disk.
    to_keep: Option<String>,
    /// Whether that is to be tried now.
    keep_now: bool,
    /// What is wrong with the file, or odd.
    problems: Vec<Problem>,
    /// Why the last good version could not be kept on disk.
    not_kept: Option<Problem>,
    /// Who may read a Secret that should not.
    exposed: Option<Problem>,
    /// Whether it was part of a set that was published.
    published: bool,
    /// Whether the file was unlinked and made again: what it says is another pod than the one before, even in the
    /// same words.
    again: bool,
    /// How often a text was parsed.
    #[cfg(test)]
    parsed: usize,
}

#[derive(Debug)]
struct Good {
    what: What,
    name_at: Option<Position>,
    uid_at: Option<Position>,
    /// Hash of its text.
    text: String,
}

/// What a manifest holds.
#[derive(Debug)]
enum What {
    Pod(Arc<Pod>),
    Object(Key, Arc<Object>),
}

impl Files {
    pub(super) fn new(settings: Settings) -> Self {
        // A trailing slash would make other paths, and so other UIDs, of the same files.
        let path = settings.path.components().collect();
        Self {
            path,
            node_name: settings.node_name,
            known: BTreeMap::new(),
            last_good: settings.cache_dir.map(LastGood::new),
            loaded: false,
            seen: false,
            read_at: None,
            readable: false,
            is_one_file: false,
            problems: Vec::new(),
            unlinked: BTreeSet::new(),
            last: Vec::new(),
        }
    }

    /// Takes note of the names of files that were unlinked: one that the next look finds was made again.
    pub(super) fn unlinked(&mut self, names: BTreeSet<OsString>) {
        self.unlinked.extend(names);
    }

    /// Looks at everything, and reads what changed.
    ///
    /// `None`: it looks like the middle of something, for example of an editor's way to replace a file. Nothing was
    /// taken away yet; look again when all is `settled`.
    pub(super) fn scan(&mut self, now: Timestamp, settled: bool) -> Option<Set> {
        let mut problems = Vec::new();
        if !self.loaded {
            self.loaded = true;
            problems.extend(self.load(now));
            self.seen = !self.known.is_empty();
        }
        let listed = self.list(&mut problems);
        let was_readable = std::mem::replace(&mut self.readable, listed.is_ok());
        match listed {
            Ok(present) => {
                self.seen = true;
                let is_gone = |path: &OsStr| present.binary_search_by(|p| p.as_os_str().cmp(path)).is_err();
                let gone = self.known.iter().filter(|(path, _)| is_gone(path));
                let gone: Vec<_> = gone.map(|(path, known)| (PathBuf::from(path), known.published)).collect();
                if !settled && gone.iter().any(|(_, published)| *published) {
                    return None;
                }
                for (path, _) in gone {
                    problems.extend(self.remove(&path).err());
                }
                self.mark_made_again();
                for path in present {
                    problems.extend(self.refresh(&path, now).err());
                }
                if !self.is_one_file || self.known.get(self.path.as_os_str()).is_none_or(Known::is_usable) {
                    self.read_at = Some(now);
                }
            }
            Err(_) if was_readable && !settled => return None,
            Err(error) => {
                let stays = if self.known.is_empty() { "" } else { "; the pods that came from it stay" };
                problems.push(problem(&self.path, format!("can not be read: {error}{stays}")));
            }
        }
        self.problems = problems;
        let set = self.collect();
        if set.odd_newcomer && !settled {
            return None;
        }
        self.unlinked.clear();
        self.last.clone_from(&set.pods);
        for known in self.known.values_mut() {
            known.published = true;
            known.keep_now = known.to_keep.is_some();
        }
        Some(set)
    }

    /// How often a text was parsed.
    #[cfg(test)]
    pub(super) fn parsed(&self) -> usize {
        self.known.values().map(|known| known.parsed).sum()
    }

    /// Whether there are last good versions to be written to disk.
    pub(super) fn has_to_keep(&self) -> bool {
        self.known.values().any(|known| known.keep_now)
    }

    /// Writes some of them. What fails is tried again after the next scan. Returns the set with what is new about
    /// it.
    pub(super) fn keep(&mut self) -> Set {
        let began = Instant::now();
        let to_keep = self.known.iter_mut().filter(|(_, known)| known.keep_now);
        for (path, known) in to_keep.take_while(|_| began.elapsed() < KEEP_TIME) {
            known.keep_now = false;
            known.keep(path.as_ref(), self.last_good.as_ref());
        }
        self.collect()
    }

    /// The manifests that are there, in order. What is no manifest by its name is left out.
    fn list(&mut self, problems: &mut Vec<Problem>) -> io::Result<Vec<PathBuf>> {
        // Of a symlink that leads nowhere nobody can say that it was removed.
        if let Err(error) = self.path.symlink_metadata() {
            let parent_is_there = self.path.parent().is_some_and(Path::is_dir);
            let is_removed = error.kind() == io::ErrorKind::NotFound && self.is_one_file && parent_is_there;
            return if is_removed { Ok(Vec::new()) } else { Err(error) };
        }
        self.is_one_file = !self.path.metadata()?.is_dir();
        if self.is_one_file {
            return Ok(vec![self.path.clone()]);
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            match name.to_str() {
                Some(name) if name.starts_with('.') => {}
                Some(name) => files.push(self.path.join(name)),
                None => {
                    let path = self.path.join(name.to_string_lossy().as_ref());
                    problems
                        .push(problem(&path, "the name of the file is not UTF-8: it is left out".to_owned()));
                }
            }
        }
        files.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
        Ok(files)
    }

    /// Of the files that are there and were unlinked: a link that is set anew is swapped, and no other pod.
    fn mark_made_again(&mut self) {
        for name in std::mem::take(&mut self.unlinked) {
            let path = if self.is_one_file { self.path.clone() } else { self.path.join(&name) };
            let is_it = path.file_name() == Some(&name);
            let is_file = path.symlink_metadata().is_ok_and(|found| found.is_file());
            if let Some(known) = self.known.get_mut(path.as_os_str()).filter(|_| is_it && is_file) {
                (known.again, known.stamp, known.text) = (true, None, None);
            }
        }
    }

    fn remove(&mut self, path: &Path) -> Result<(), Problem> {
        self.known.remove(path.as_os_str());
        let Some(last_good) = &self.last_good else { return Ok(()) };
        last_good.forget(path).map_err(|error| {
            problem(
                last_good.dir(),
                format!("the last good version of {} can not be removed: {error}", path.display()),
            )
        })
    }

    /// Brings what is known of one file up to date.
    fn refresh(&mut self, path: &Path, now: Timestamp) -> Result<(), Problem> {
        let read = match (read::look(path), self.known.get(path.as_os_str())) {
            (Ok(Look::Regular(stamp)), Some(known)) if known.stamp.as_ref() == Some(&stamp) => return Ok(()),
            (Ok(Look::Regular(_)), _) => read::read(path),
            // In the place of a manifest a folder is a mistake, else it is only not read.
            (Ok(Look::Folder), Some(known)) if known.good.is_some() => Err(read::Error::NotAFile("folder")),
            (Ok(Look::Folder | Look::Gone), None) => return Ok(()),
            (Ok(Look::Folder | Look::Gone), Some(_)) => return self.remove(path),
            (Err(error), _) => Err(error),
        };
        let known = self.known.entry(path.as_os_str().to_owned()).or_default();
        match read {
            Ok((stamp, text)) => {
                known.take(path, &text, &self.node_name, &self.last, now);
                if known.is_usable() && self.last_good.is_some() {
                    let is_kept = known.kept == known.text;
                    known.to_keep = (!is_kept).then(|| String::from_utf8_lossy(&text).into_owned());
                    known.not_kept.take_if(|_| is_kept);
                }
                known.exposed = known.exposed_by(path, &stamp);
                known.stamp = Some(stamp).filter(|stamp| stamp.is_settled(now));
            }
            Err(error) => {
                known.stamp = None;
                known.text = None;
                known.refuse(vec![problem(path, error.to_string())]);
            }
        }
        Ok(())
    }

    /// Takes the last good versions from disk, so that they run if the files turn out to be unusable.
    fn load(&mut self, now: Timestamp) -> Option<Problem> {
        let last_good = self.last_good.as_ref()?;
        let (kept, error) = last_good.load();
        for Kept { path, text } in kept {
            if path != self.path && path.parent() != Some(&self.path) {
                // Of another folder, from before the settings were changed. If this fails it is tried again
                // with the next start.
                let _ = last_good.forget(&path);
                continue;
            }
            let mut known = Known { published: true, ..Known::default() };
            known.take(&path, text.as_bytes(), &self.node_name, &self.last, now);
            known.kept.clone_from(&known.text);
            if known.good.is_some() {
                self.is_one_file |= path == self.path;
                self.known.insert(path.into_os_string(), known);
            }
        }
        error.map(|error| {
            problem(last_good.dir(), format!("not all last good versions of manifests can be read: {error}"))
        })
    }

    /// The pods of all good versions. Of two with one name or UID the first file has it.
    fn collect(&self) -> Set {
        let mut problems = self.problems.clone();
        let newcomers = self.known.values().any(|known| !known.published);
        let mut odd_newcomer = false;
        let (mut taken, mut locations) = (Taken::default(), BTreeMap::new());
        let mut objects = BTreeMap::new();
        for (path, known) in &self.known {
            let path = Path::new(path);
            odd_newcomer |= !known.published && known.problems.iter().any(|p| !p.warning);
            problems.extend(known.problems.iter().chain(&known.not_kept).chain(&known.exposed).cloned());
            let Some(good) = &known.good else { continue };
            let position = |at: Option<Position>| (at.map(|at| at.line), at.map(|at| at.column));
            let pod = match &good.what {
                What::Pod(pod) => pod,
                What::Object(key, object) => {
                    match objects.entry(key.clone()) {
                        Entry::Vacant(place) => {
                            place.insert((path, Arc::clone(object)));
                        }
                        Entry::Occupied(first) => {
                            odd_newcomer |= newcomers;
                            let (line, column) = position(good.name_at);
                            let first: &(&Path, _) = first.get();
                            problems.push(Problem {
                                path: path.to_owned(),
                                line,
                                column,
                                field: Some("metadata.name".to_owned()),
                                message: format!(
                                    "the {key} is already in {}; that one is used",
                                    first.0.display()
                                ),
                                warning: false,
                            });
                        }
                    }
                    continue;
                }
            };
            match taken.take(Arc::clone(pod), path.to_string_lossy()) {
                Ok(()) => {
                    let (line, column) = position(good.name_at);
                    locations.insert(pod::identity(pod).0, Location { path: path.to_owned(), line, column });
                }
                Err((field, message)) => {
                    odd_newcomer |= newcomers;
                    let at = if field == "metadata.uid" { good.uid_at } else { good.name_at };
                    let (line, column) = position(at);
                    problems.push(Problem {
                        path: path.to_owned(),
                        line,
                        column,
                        field: Some(field.to_owned()),
                        message,
                        warning: false,
                    });
                }
            }
        }
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        let Self { seen, read_at, .. } = *self;
        let objects = objects.into_iter().map(|(key, (_, object))| (key, object)).collect();
        Set { pods: taken.into_pods(), objects, locations, problems, seen, read_at, odd_newcomer }
    }
}

impl Known {
    /// Takes in the text of the file.
    fn take(&mut self, path: &Path, text: &[u8], node_name: &str, last: &[Arc<Pod>], now: Timestamp) {
        let hash = hash_of(text);
        if self.text.as_ref() == Some(&hash) {
            return;
        }
        self.text = Some(hash.clone());
        #[cfg(test)]
        {
            self.parsed += 1;
        }
        // Whatever a manifest does to the reader, the other pods must not suffer.
        let read = catch_unwind(AssertUnwindSafe(|| manifest::read_any(text, Origin::file(path, node_name))));
        match read {
            Ok(Ok(AnyManifest::Pod(manifest))) => {
                let Manifest { pod, warnings, name_at, uid_at } = *manifest;
                let again = std::mem::take(&mut self.again);
                let pod = match self.good.take().map(|good| good.what) {
                    Some(What::Pod(old)) if !again && manifest::same(&old, &pod) => old,
                    _ => {
                        let mut pod = pod;
                        // A UID is seen for the first time once, whichever file has it and whatever it says, unless
                        // its pod had gone.
                        let same = last.iter().find(|last| last.metadata.uid == pod.metadata.uid);
                        let seen = same.and_then(|last| pod::annotation(last, labels::CONFIG_SEEN));
                        match seen.filter(|_| !again) {
                            Some(seen) => manifest::mark_seen(&mut pod, seen.to_owned()),
                            None => manifest::stamp(&mut pod, now),
                        }
                        Arc::new(pod)
                    }
                };
                self.good = Some(Good { what: What::Pod(pod), name_at, uid_at, text: hash });
                self.problems = warnings;
            }
            Ok(Ok(AnyManifest::Object(manifest))) => {
                let ObjectManifest { object, warnings, name_at } = *manifest;
                self.again = false;
                let key = object.key();
                let object = match self.good.take().map(|good| good.what) {
                    Some(What::Object(of, old)) if of == key && old == object.object => old,
                    _ => object.object,
                };
                let what = What::Object(key, object);
                self.good = Some(Good { what, name_at, uid_at: None, text: hash });
                self.problems = warnings;
            }
            Ok(Err(problems)) => self.refuse(problems),
            Err(_) => {
                self.refuse(vec![problem(path, "the reader failed on this manifest: a bug".to_owned())]);
            }
        }
    }

    /// The file can not be used as it is now.
    fn refuse(&mut self, mut problems: Vec<Problem>) {
        if self.good.is_some()
            && let Some(first) = problems.first_mut()
        {
            first.message += "; the last good version of this file keeps running";
        }
        self.problems = problems;
    }

    /// Says so of a Secret that others may read.
    fn exposed_by(&self, path: &Path, stamp: &Stamp) -> Option<Problem> {
        let Some(What::Object(Key { kind: Kind::Secret, .. }, _)) = self.good.as_ref().map(|good| &good.what)
        else {
            return None;
        };
        let mode = stamp.open_to_others()?;
        let message = format!("holds a Secret, and its mode {mode:04o} lets others read it: chmod 600");
        Some(Problem { warning: true, ..problem(path, message) })
    }

    /// Whether the file as it is now is what runs.
    fn is_usable(&self) -> bool {
        self.good.as_ref().is_some_and(|good| Some(&good.text) == self.text.as_ref())
    }

    /// Writes the last good text to disk.
    fn keep(&mut self, path: &Path, last_good: Option<&LastGood>) {
        let (Some(last_good), Some(good), Some(text)) = (last_good, &self.good, &self.to_keep) else {
            return;
        };
        self.not_kept = match last_good.keep(path, text) {
            Ok(()) => {
                (self.kept, self.to_keep) = (Some(good.text.clone()), None);
                None
            }
            Err(error) => Some(problem(
                path,
                format!(
                    "its last good version can not be kept in {} for a restart: {error}",
                    last_good.dir().display()
                ),
            )),
        };
    }
}

fn hash_of(text: &[u8]) -> String {
    let mut hash = Fnv128a::default();
    hash.write(text);
    hash.hex()
}

fn problem(path: &Path, message: String) -> Problem {
    Problem { path: path.to_owned(), message, ..Problem::default() }
}
