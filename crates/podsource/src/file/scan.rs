//! From the folder to the set of pods: what is read again, what stays, and which of two wins.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube_model::core::Pod;
use kube_model::hash::Fnv128a;
use kube_model::view::Problem;
use kube_model::yaml::Position;
use kube_model::{PodUid, Timestamp, pod};

use super::Settings;
use super::read::{self, Look, Stamp};
use crate::last_good::{Kept, LastGood};
use crate::manifest::{self, Manifest, Origin};

/// What the folder comes to.
#[derive(Debug, Default)]
pub(super) struct Set {
    /// By namespace and name.
    pub(super) pods: Vec<Arc<Pod>>,
    /// By file; those of one file in its order.
    pub(super) problems: Vec<Problem>,
    /// Whether a pod that is not here is not wanted: not while nothing could be read yet, and nothing is known
    /// from earlier either.
    pub(super) seen: bool,
}

/// All manifests of the source.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    node_name: String,
    known: BTreeMap<PathBuf, Known>,
    last_good: Option<LastGood>,
    loaded: bool,
    seen: bool,
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
    /// What is wrong with the file, or odd.
    problems: Vec<Problem>,
    /// Why the last good version could not be kept on disk.
    not_kept: Option<Problem>,
}

#[derive(Debug)]
struct Good {
    pod: Arc<Pod>,
    name_at: Option<Position>,
    uid_at: Option<Position>,
    /// Hash of its text.
    text: String,
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
        }
    }

    /// Looks at everything, and reads what changed.
    pub(super) fn scan(&mut self, now: Timestamp) -> Set {
        let mut problems = Vec::new();
        if !self.loaded {
            self.loaded = true;
            problems.extend(self.load(now));
            self.seen = !self.known.is_empty();
        }
        match self.list(&mut problems) {
            Ok(present) => {
                self.seen = true;
                let known = self.known.keys();
                let gone: Vec<_> =
                    known.filter(|path| present.binary_search(path).is_err()).cloned().collect();
                for path in gone {
                    problems.extend(self.remove(&path).err());
                }
                for path in present {
                    problems.extend(self.refresh(&path, now).err());
                }
            }
            Err(error) => {
                let stays = if self.known.is_empty() { "" } else { "; the pods that came from it stay" };
                problems.push(problem(&self.path, format!("can not be read: {error}{stays}")));
            }
        }
        self.collect(problems)
    }

    /// The manifests that are there, in order. What is no manifest by its name is left out.
    fn list(&self, problems: &mut Vec<Problem>) -> io::Result<Vec<PathBuf>> {
        let missing_file = |error: io::Error| {
            let was_a_file = self.known.contains_key(&self.path);
            let parent_is_there = self.path.parent().is_some_and(Path::is_dir);
            if error.kind() == io::ErrorKind::NotFound && was_a_file && parent_is_there {
                Ok(())
            } else {
                Err(error)
            }
        };
        // Of a symlink that leads nowhere nobody can say that it was removed.
        match self.path.symlink_metadata() {
            Ok(_) => {}
            Err(error) => return missing_file(error).map(|()| Vec::new()),
        }
        if !self.path.metadata()?.is_dir() {
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
        files.sort();
        Ok(files)
    }

    fn remove(&mut self, path: &Path) -> Result<(), Problem> {
        self.known.remove(path);
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
        let read = match (read::look(path), self.known.get(path)) {
            (Ok(Look::Regular(stamp)), Some(known)) if known.stamp.as_ref() == Some(&stamp) => return Ok(()),
            (Ok(Look::Regular(_)), _) => read::read(path),
            // In the place of a manifest a folder is a mistake, else it is only not read.
            (Ok(Look::Folder), Some(known)) if known.good.is_some() => Err(read::Error::NotAFile("folder")),
            (Ok(Look::Folder | Look::Gone), None) => return Ok(()),
            (Ok(Look::Folder | Look::Gone), Some(_)) => return self.remove(path),
            (Err(error), _) => Err(error),
        };
        let known = self.known.entry(path.to_owned()).or_default();
        match read {
            Ok((stamp, text)) => {
                known.take(path, &text, &self.node_name, now);
                known.keep(path, &text, self.last_good.as_ref());
                known.stamp = Some(stamp).filter(|stamp| stamp.is_settled(now) && known.not_kept.is_none());
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
            let mut known = Known::default();
            known.take(&path, text.as_bytes(), &self.node_name, now);
            known.kept = known.text.take();
            known.problems.clear();
            if known.good.is_some() {
                self.known.insert(path, known);
            }
        }
        error.map(|error| {
            problem(last_good.dir(), format!("not all last good versions of manifests can be read: {error}"))
        })
    }

    /// The pods of all good versions. Of two with one name or UID the first file has it.
    fn collect(&self, mut problems: Vec<Problem>) -> Set {
        let mut names = BTreeMap::new();
        let mut uids: BTreeMap<PodUid, &Path> = BTreeMap::new();
        for (path, known) in &self.known {
            problems.extend(known.problems.iter().chain(&known.not_kept).cloned());
            let Some(good) = &known.good else { continue };
            let (uid, key) = pod::identity(&good.pod);
            let name_owner = names.get(&key).map(|(owner, _): &(&Path, _)| *owner);
            let clash = match (name_owner, uids.get(&uid)) {
                (Some(owner), _) => Some((owner, "metadata.name", good.name_at, format!("the pod {key}"))),
                (None, Some(owner)) => {
                    Some((*owner, "metadata.uid", good.uid_at, format!("a pod with UID {uid}")))
                }
                (None, None) => None,
            };
            match clash {
                Some((owner, field, at, what)) => problems.push(Problem {
                    path: path.clone(),
                    line: at.map(|at| at.line),
                    column: at.map(|at| at.column),
                    field: Some(field.to_owned()),
                    message: format!("{what} is already in {}; that one runs", owner.display()),
                    warning: false,
                }),
                None => {
                    names.insert(key, (path.as_path(), Arc::clone(&good.pod)));
                    uids.insert(uid, path);
                }
            }
        }
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        Set { pods: names.into_values().map(|(_, pod)| pod).collect(), problems, seen: self.seen }
    }
}

impl Known {
    /// Takes in the text of the file.
    fn take(&mut self, path: &Path, text: &[u8], node_name: &str, now: Timestamp) {
        let hash = hash_of(text);
        if self.text.as_ref() == Some(&hash) {
            return;
        }
        self.text = Some(hash.clone());
        // Whatever a manifest does to the reader, the other pods must not suffer.
        let read = catch_unwind(AssertUnwindSafe(|| manifest::read(text, Origin::file(path, node_name))));
        match read {
            Ok(Ok(Manifest { pod, warnings, name_at, uid_at })) => {
                let pod = match self.good.take() {
                    Some(good) if manifest::same(&good.pod, &pod) => good.pod,
                    _ => {
                        let mut pod = pod;
                        manifest::stamp(&mut pod, now);
                        Arc::new(pod)
                    }
                };
                self.good = Some(Good { pod, name_at, uid_at, text: hash });
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

    /// Keeps the text on disk if it is the good one and not there yet.
    fn keep(&mut self, path: &Path, text: &[u8], last_good: Option<&LastGood>) {
        let (Some(last_good), Some(good)) = (last_good, &self.good) else { return };
        if self.text.as_ref() != Some(&good.text) || self.kept == self.text {
            return;
        }
        self.not_kept = match last_good.keep(path, &String::from_utf8_lossy(text)) {
            Ok(()) => {
                self.kept.clone_from(&self.text);
                None
            }
            Err(error) => Some(problem(
                path,
                format!(
                    "this version can not be kept in {} for a restart: {error}",
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
