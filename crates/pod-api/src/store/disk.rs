//! The pods on disk: one file each, replaced as a whole, on disk before anybody is told.
//!
//! ```text
//! DIR/lock            held by the agent that uses the folder; its process id
//! DIR/revision        how often the folder was opened
//! DIR/pods/UID.json   a pod as the API shows it, without status and resource version
//! DIR/pods/UID.deleted.AT.GRACE.json   the same, deleted while the disk was full: see [`name`]
//! DIR/pods/UID.tmp    half written; swept
//! DIR/objects/        ConfigMaps and Secrets: see [`contents`]
//! ```
//!
//! The name of a file is the UID, which the store itself chose: no name that a client chose reaches the file system.

mod contents;
mod name;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kube_model::core::{Pod, PodSpec};
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_model::view::Problem;
use kube_model::{Timestamp, pod};
use serde::Serialize;

use super::fault::{Fault, Step};
use super::rules;
pub(super) use contents::ContentFiles;
use manifest::typed;
use name::Name;

/// Resource versions that one opening of the folder has: 68 thousand million changes. What a status changes is not
/// on disk, so each opening starts above all that the ones before can have given out.
const REVISIONS: u32 = 36;

/// More openings than there are.
const MAX_OPENINGS: u64 = 1 << (u64::BITS - 1 - REVISIONS);

/// Largest file that is read back, in bytes: more than any request may have.
const MAX_BYTES: u64 = 16 << 20;

/// Why the folder can not be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Two agents must not write one folder.
    #[error("the folder {} for pushed pods is in use by another agent, process {pid}", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// The process that has it, or a word for one that is not known.
        pid: String,
    },
    /// The disk says no.
    #[error("can not {what} {} for pushed pods", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The folder.
#[derive(Debug)]
pub(super) struct Disk {
    pods: PathBuf,
    /// `pods`, to bring its entries to the disk.
    folder: File,
    /// The names of files that say of a deletion what their texts do not, by UID.
    renamed: RefCell<BTreeMap<String, PathBuf>>,
    fault: Fault,
    /// Held open for its lock.
    _lock: File,
}

/// What the folder holds.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) pods: Vec<Pod>,
    /// Files that can not be used. They stay where they are.
    pub(super) problems: Vec<Problem>,
    /// No resource version up to this one is free.
    pub(super) revision: u64,
}

impl Disk {
    /// Takes the folder, which is made if it is missing, and reads it.
    pub(super) fn open(
        dir: &Path,
        node_name: &str,
        now: Timestamp,
        fault: Fault,
    ) -> Result<(Self, Loaded), OpenError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { what, path, source }
        };
        let pods = dir.join("pods");
        for folder in [dir, &pods] {
            make(folder).map_err(failed("make the folder", folder))?;
            // Manifests hold secrets: nobody else looks into it, whoever made it.
            let private = Permissions::from_mode(0o700);
            fs::set_permissions(folder, private).map_err(failed("make private the folder", folder))?;
        }
        let lock = lock(dir)?;
        let folder = File::open(&pods).map_err(failed("open the folder", &pods))?;
        let disk = Self { pods, folder, renamed: RefCell::default(), fault, _lock: lock };
        let (pods, mut problems) = disk.load(node_name).map_err(failed("read the folder", &disk.pods))?;
        let path = dir.join("revision");
        let opening = next_opening(&path, !pods.is_empty(), now, &mut problems)
            .and_then(|opening| sync_folder(dir).map(|()| opening))
            .map_err(failed("write", &path))?;
        Ok((disk, Loaded { pods, problems, revision: opening << REVISIONS }))
    }

    /// All pods, and the files that hold none. Half-written ones of a killed agent go.
    fn load(&self, node_name: &str) -> io::Result<(Vec<Pod>, Vec<Problem>)> {
        let (mut pods, mut problems, mut names) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut files = fs::read_dir(&self.pods)?.collect::<io::Result<Vec<_>>>()?;
        files.sort_by_key(fs::DirEntry::file_name);
        for path in files.into_iter().map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(&path)?;
                continue;
            }
            let name = Name::of(&path);
            if let Some(Name { uid, deletion: Some(_) }) = &name {
                let written = self.file(uid);
                if written.exists() {
                    // Somebody found room for the text, and died before this one could go.
                    fs::remove_file(&path)?;
                    continue;
                }
                self.renamed.borrow_mut().insert(uid.clone(), path.clone());
            }
            let loaded =
                load_one(&path, name, node_name).and_then(|pod| match names.entry(pod::identity(&pod).1) {
                    Entry::Occupied(first) => {
                        let first: &PathBuf = first.get();
                        Err(format!("its pod is in {}, too; that one is used", first.display()))
                    }
                    Entry::Vacant(place) => {
                        place.insert(path.clone());
                        Ok(pod)
                    }
                });
            match loaded {
                Ok(pod) => pods.push(pod),
                Err(message) => problems.push(Problem {
                    path,
                    message: format!(
                        "{message}; the file stays, and its pod does not run before it is repaired and the agent started again"
                    ),
                    ..Problem::default()
                }),
            }
        }
        Ok((pods, problems))
    }

    /// Writes the pod, in the place of `before`. After an error that one is still there.
    pub(super) fn write(&self, pod: &Pod, before: Option<&Pod>) -> io::Result<()> {
        self.put(pod)?;
        self.sync_folder().inspect_err(|_| {
            // Nobody knows which of the two the disk has. Errors on the way back do not change that.
            let _ = match before {
                Some(before) => self.put(before),
                None => fs::remove_file(self.file(uid(pod))),
            };
        })?;
        // The text says it all. What can not be removed is swept at the next start.
        let _ = self.renamed.borrow_mut().remove(uid(pod)).map(fs::remove_file);
        Ok(())
    }

    /// Writes that the pod is deleted. On a full disk only the name of its file says so, for which there is room.
    pub(super) fn write_deletion(&self, pod: &Pod, before: Option<&Pod>) -> io::Result<()> {
        match self.write(pod, before) {
            Err(error) if is_full(&error) => {}
            written => return written,
        }
        let meta = &pod.metadata;
        let at = meta.deletion_timestamp.as_ref().map(|at| at.0.as_second());
        let deletion = at.map(|at| (at, meta.deletion_grace_period_seconds.unwrap_or(0)));
        let name = Name { uid: uid(pod).to_owned(), deletion };
        let (now, to) = (self.named(uid(pod)), self.pods.join(name.file()));
        self.fault.at(Step::Rename)?;
        fs::rename(&now, &to)?;
        self.renamed.borrow_mut().insert(name.uid, to);
        self.sync_folder()
    }

    /// Removes the pod. After an error it is still there.
    pub(super) fn remove(&self, pod: &Pod) -> io::Result<()> {
        self.fault.at(Step::Unlink)?;
        let renamed = self.renamed.borrow_mut().remove(uid(pod));
        for file in renamed.into_iter().chain([self.file(uid(pod))]) {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.sync_folder().inspect_err(|_| {
            let _ = self.put(pod);
        })
    }

    /// The file of the pod with this UID.
    pub(super) fn file(&self, uid: &str) -> PathBuf {
        self.pods.join(format!("{uid}.json"))
    }

    /// The file of the pod as it is called now.
    fn named(&self, uid: &str) -> PathBuf {
        self.renamed.borrow().get(uid).cloned().unwrap_or_else(|| self.file(uid))
    }

    fn put(&self, pod: &Pod) -> io::Result<()> {
        let text = serde_json::to_vec(&OnDisk {
            api_version: "v1",
            kind: "Pod",
            metadata: &pod.metadata,
            spec: pod.spec.as_ref(),
        })?;
        let path = self.file(uid(pod));
        replace(&path.with_extension("tmp"), &path, &text, &self.fault)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.fault.at(Step::SyncFolder)?;
        self.folder.sync_all()?;
        self.fault.at(Step::Done)
    }
}

/// Whether there is no room for what is to be written.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes a file one that only its owner reads, whatever the umask took away and whoever made it.
fn private(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o600))
}

/// Makes the folder, and brings to the disk that it is there.
fn make(folder: &Path) -> io::Result<()> {
    let missing: Vec<_> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    missing.into_iter().filter_map(Path::parent).try_for_each(sync_folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

/// A pod without its status: a manifest that any tool reads.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OnDisk<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: &'a ObjectMeta,
    spec: Option<&'a PodSpec>,
}

pub(super) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// Puts `text` into `path` as a whole, and on the disk but for the entry in the folder.
fn replace(temporary: &Path, path: &Path, text: &[u8], fault: &Fault) -> io::Result<()> {
    let written = || {
        fault.at(Step::Create)?;
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
        private(&file)?;
        fault.at(Step::Write)?;
        file.write_all(text)?;
        fault.at(Step::SyncFile)?;
        file.sync_all()?;
        fault.at(Step::Rename)?;
        fs::rename(temporary, path)
    };
    written().inspect_err(|_| {
        // It would hold space on a full disk. What can not be removed is swept at the next start.
        let _ = fs::remove_file(temporary);
    })
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let failed = |what| {
        let path = path.clone();
        move |source| OpenError::Io { what, path, source }
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed("open"))?;
    private(&file).map_err(failed("make private"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // The text is only for people.
            let _ = file.read_to_string(&mut pid);
            let pid = Some(pid.trim()).filter(|pid| !pid.is_empty()).unwrap_or("unknown").to_owned();
            return Err(OpenError::InUse { dir: dir.to_owned(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
    }
    let pid = format!("{}\n", std::process::id());
    // In place, so that it fits on a full disk.
    let written = file.write_all_at(pid.as_bytes(), 0).and_then(|()| file.set_len(pid.len() as u64));
    written.map_err(failed("write"))?;
    Ok(file)
}

/// Counts this opening of the folder. A count that is lost starts again above any that openings can have reached: at
/// the minutes since 1970. It is written in place: that works on a full disk, and so few bytes are written whole.
fn next_opening(path: &Path, in_use: bool, now: Timestamp, problems: &mut Vec<Problem>) -> io::Result<u64> {
    let lost = || u64::try_from(now.as_second() / 60).unwrap_or(0);
    let count = |text: &str| text.trim().parse().ok().filter(|count| *count < MAX_OPENINGS);
    let before = match fs::read_to_string(path) {
        Ok(text) => count(&text).unwrap_or_else(|| {
            problems.push(Problem {
                path: path.to_owned(),
                message: format!(
                    "is no count but {text:?}: resource versions start anew, and watches list again"
                ),
                warning: true,
                ..Problem::default()
            });
            lost()
        }),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) if in_use => lost(),
        Err(_) => 0,
    };
    let opening = before + 1;
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    private(&file)?;
    file.write_all_at(format!("{opening:09}\n").as_bytes(), 0)?;
    file.set_len(10)?;
    file.sync_all()?;
    Ok(opening)
}

fn load_one(path: &Path, name: Option<Name>, node_name: &str) -> Result<Pod, String> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text));
    read.map_err(|error| format!("can not be read: {error}"))?;
    let value = serde_json::from_slice(&text).map_err(|error| format!("is damaged: {error}"))?;
    let mut pod: Pod = typed(value, &mut |_| {}).map_err(|error| format!("is damaged: {error}"))?;
    let (uid, key) = pod::identity(&pod);
    let name =
        name.filter(|name| name.uid == uid.as_str() && !key.name.is_empty() && !key.namespace.is_empty());
    let Some(name) = name else {
        return Err(
            "is damaged: the name of the file is not the UID of a pod with name and namespace".to_owned()
        );
    };
    if let Some((at, grace)) = name.deletion {
        let since =
            Timestamp::from_second(at.saturating_sub(grace)).map_err(|error| format!("its name: {error}"))?;
        pod = rules::deleted(&pod, since, grace);
    }
    match pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) {
        Some(name) if name == node_name => Ok(pod),
        other => {
            let other = other.unwrap_or_default();
            Err(format!("the pod {key} is one of the node {other:?}, and this is the node {node_name:?}"))
        }
    }
}
