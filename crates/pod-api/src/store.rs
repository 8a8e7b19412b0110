//! The pods that were pushed, on disk and in memory, beside those of the node's other sources; and the ConfigMaps and
//! Secrets for them.
//!
//! One thread writes, in the order in which requests come, and does nothing else: a slow disk holds up writers only.
//! Readers and watches see memory alone, and they see a change after it is on disk. The status of a pod is not on
//! disk: the agent tells it anew after a start.
//!
//! Owns the folder, resource versions and the history. Must not know HTTP.

mod content;
mod disk;
mod fault;
mod history;
mod memory;
mod object;
mod rules;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::{fs, io};

use kube_model::core::Pod;
use kube_model::view::{PodView, Problem};
use kube_model::{PodKey, PodUid, Timestamp, pod};
use tokio::sync::{mpsc, oneshot, watch as tokio_watch};

use super::SOURCE;
use super::error::{ApiError, Resource};
use super::update;
use disk::{ContentFiles, Disk, Loaded, uid};
use fault::Fault;
use manifest::SourceState;
use memory::Memory;
use rules::Deletion;
use watch::Changes;

pub(crate) use content::Stored;
pub use disk::OpenError;
pub(crate) use history::Versioned;
pub(crate) use object::{Change, Event, Object};
pub(crate) use rules::Preconditions;
pub(crate) use watch::Watch;

/// Writes that wait for the disk. Further ones wait before the queue.
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce(&Writer) + Send>;

/// The store. Dropping it waits for the write that is under way and frees the folder.
#[derive(Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// What readers see.
#[derive(Debug)]
struct Shared {
    memory: Mutex<Memory>,
    /// The last change.
    changed: tokio_watch::Sender<u64>,
    contents: Mutex<content::Memory>,
    /// The last change of those.
    contents_changed: tokio_watch::Sender<u64>,
    state: tokio_watch::Sender<Arc<SourceState>>,
}

/// What the thread has that writes.
#[derive(Debug)]
struct Writer {
    shared: Arc<Shared>,
    disk: Disk,
    contents: ContentFiles,
    node_name: String,
    max_pods: usize,
}

impl Store {
    /// Takes the folder `dir`, made if it is missing, for the pods of the node `node_name`, at most `max_pods`.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// Another agent has the folder, or the disk does not give it. A file in it that can not be used is a problem
    /// of the state, not an error.
    pub(crate) fn open(dir: &Path, node_name: &str, max_pods: usize) -> Result<Self, OpenError> {
        Self::open_with(dir, node_name, max_pods, Fault::default())
    }

    fn open_with(dir: &Path, node_name: &str, max_pods: usize, fault: Fault) -> Result<Self, OpenError> {
        let now = Timestamp::now();
        let (disk, Loaded { pods, mut problems, revision }) = Disk::open(dir, node_name, now, fault.clone())?;
        let (contents, objects, damaged) = ContentFiles::open(dir, fault)?;
        problems.extend(damaged);
        let state = SourceState {
            source: SOURCE,
            location: dir.to_string_lossy().into(),
            seen: true,
            ..SourceState::default()
        };
        let shared = Arc::new(Shared {
            memory: Mutex::new(Memory::new(pods, problems, revision)),
            changed: tokio_watch::Sender::new(revision),
            contents_changed: tokio_watch::Sender::new(revision),
            contents: Mutex::new(content::Memory::new(objects, revision)),
            state: tokio_watch::Sender::new(Arc::new(state)),
        });
        shared.publish_contents(&shared.contents());
        shared.publish_desired(&shared.memory());
        let writer =
            Writer { shared: Arc::clone(&shared), disk, contents, node_name: node_name.to_owned(), max_pods };
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let work = move || {
            while let Some(job) = queue.blocking_recv() {
                // Whatever one request does to us, the others must not suffer. Its sender is told by the channel
                // that closes; memory is only changed in steps that can not panic half-way.
                let _panicked = catch_unwind(AssertUnwindSafe(|| job(&writer)));
            }
        };
        let thread = thread::Builder::new().name("push-store".to_owned()).spawn(work).map_err(|source| {
            OpenError::Io { what: "start a thread that writes", path: dir.to_owned(), source }
        })?;
        Ok(Self { shared, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Stores a new pod, which is validated and has name and namespace. With `dry_run` only says what would come
    /// of it, here and in the other calls.
    ///
    /// # Errors
    /// 409 the name is taken, 403 there are too many pods, 422 it names another node, 507 the disk is full.
    pub(crate) async fn create(&self, pod: Pod, dry_run: bool) -> Result<Object, ApiError> {
        self.run(move |writer| writer.create(pod, dry_run)).await
    }

    /// Changes a pod. `change` gets the whole pod as the API shows it, status and resource version with it, and
    /// gives the new one, validated; it runs on the thread that writes, and no other write comes between. The UID
    /// and the resource version that the new one has, if any, must be those of the pod. Its status is ignored. A
    /// change that changes nothing keeps the resource version.
    ///
    /// # Errors
    /// Those of `change`; 404, 403 for a pod of another source, 409 for another UID or resource version, 422 for
    /// fields that must not change, 507 when the disk is full.
    pub(crate) async fn update<F>(&self, key: PodKey, dry_run: bool, change: F) -> Result<Object, ApiError>
    where
        F: FnOnce(&Pod) -> Result<Pod, ApiError> + Send + 'static,
    {
        self.run(move |writer| writer.update(&key, dry_run, change)).await
    }

    /// Asks a pod to end within `grace` seconds; without it within those of its spec. With 0, and when it has ended
    /// already, it goes at once. A later call may only shorten the time.
    ///
    /// # Errors
    /// 404, 403 for a pod of another source, 409 when the preconditions do not hold. A full disk is none.
    pub(crate) async fn delete(
        &self,
        key: PodKey,
        preconditions: Preconditions,
        grace: Option<i64>,
        dry_run: bool,
    ) -> Result<Object, ApiError> {
        self.run(move |writer| writer.delete(&key, &preconditions, grace, dry_run)).await
    }

    /// Takes in how the node's pods are now, of all sources. Does not wait for the disk. A pushed pod that was
    /// deleted goes when its view is `finished`, or when it is no longer shown after a view had its deletion.
    pub(crate) fn observe(&self, views: &[Arc<PodView>]) {
        let ended = {
            let mut memory = self.shared.memory();
            let ended = memory.observe(views);
            self.shared.publish_changes(&memory);
            ended
        };
        let Some(jobs) = &self.jobs else { return };
        for (key, uid) in ended {
            // When the queue is full the next call finds the same pod.
            let _ = jobs.try_send(Box::new(move |writer| writer.ended(&key, &uid)));
        }
    }

    /// One pod, of whichever source.
    ///
    /// # Errors
    /// 404
    pub(crate) fn get(&self, key: &PodKey) -> Result<Object, ApiError> {
        self.shared.memory().get(key)
    }

    /// The pods of all sources by namespace and name, and the resource version to watch from.
    pub(crate) fn list(&self) -> (Vec<Object>, u64) {
        let memory = self.shared.memory();
        (memory.list(), memory.revision())
    }

    /// Follows the changes after the resource version `since`.
    ///
    /// # Errors
    /// 410 when they are no longer known: list, and watch from there.
    pub(crate) fn watch(&self, since: u64) -> Result<Watch<Object>, ApiError> {
        Watch::new(Arc::clone(&self.shared) as _, self.shared.changed.subscribe(), since)
    }

    /// The pushed pods as they should run; does not change with their statuses.
    pub(crate) fn state(&self) -> tokio_watch::Receiver<Arc<SourceState>> {
        self.shared.state.subscribe()
    }

    /// Names the address that the pods come in by, which tells a reader more than the folder does.
    pub(crate) fn served_at(&self, address: &str) {
        self.shared.state.send_modify(|state| Arc::make_mut(state).location = address.into());
    }

    async fn run<T, F>(&self, work: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&Writer) -> Result<T, ApiError> + Send + 'static,
    {
        let failed = || ApiError::internal("the writer of the store failed on this request: a bug");
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |writer| {
            // Nobody waits any more when the client has gone; what is stored stays stored.
            let _ = answer.send(work(writer));
        });
        let jobs = self.jobs.as_ref().ok_or_else(failed)?;
        jobs.send(job).await.map_err(|_| failed())?;
        answered.await.map_err(|_| failed())?
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it was caught and told.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn contents(&self) -> MutexGuard<'_, content::Memory> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the watches and the agent of the objects for pods. Their memory is locked, so that states come in order.
    fn publish_contents(&self, memory: &content::Memory) {
        self.contents_changed.send_replace(memory.revision());
        self.state.send_modify(|state| Arc::make_mut(state).objects = memory.contents());
    }

    /// Wakes the watches if there is something new.
    fn publish_changes(&self, memory: &Memory) {
        let now = memory.revision();
        self.changed.send_if_modified(|last| std::mem::replace(last, now) != now);
    }

    /// Tells the agent what should run. The memory is locked, so that states come in order.
    fn publish_desired(&self, memory: &Memory) {
        self.publish_changes(memory);
        self.state.send_modify(|state| {
            let state = Arc::make_mut(state);
            state.pods = memory.desired();
            state.problems.clone_from(&memory.problems);
            state.read_at = Some(Timestamp::now());
        });
    }
}

impl Changes<Object> for Shared {
    fn since(&self, since: u64, limit: usize) -> Result<Vec<Event<Object>>, ApiError> {
        self.memory().since(since, limit)
    }
}

impl Writer {
    fn create(&self, mut pod: Pod, dry_run: bool) -> Result<Object, ApiError> {
        let key = pod::identity(&pod).1;
        rules::before_create(&mut pod, random_uid()?, &self.node_name, Timestamp::now())?;
        {
            let memory = self.shared.memory();
            if memory.get(&key).is_ok() {
                return Err(ApiError::already_exists(&key));
            }
            if memory.len() >= self.max_pods {
                let why = format!("exceeded quota: {} pods are the most that may be pushed", self.max_pods);
                return Err(ApiError::forbidden(&key.name, why));
            }
        }
        self.store(pod, dry_run)
    }

    fn update(
        &self,
        key: &PodKey,
        dry_run: bool,
        change: impl FnOnce(&Pod) -> Result<Pod, ApiError>,
    ) -> Result<Object, ApiError> {
        let current = self.shared.memory().get_pushed(key)?;
        let old = current.to_pod();
        let mut new = change(&old)?;
        rules::before_update(&old, &mut new)?;
        if new == *current.pod {
            return Ok(current);
        }
        update::check(&old, &new).map_err(|causes| ApiError::invalid(&key.name, causes))?;
        if new.metadata.deletion_grace_period_seconds == Some(0) && !rules::is_held(&new) {
            return self.remove(key, current, dry_run);
        }
        self.store(new, dry_run)
    }

    fn delete(
        &self,
        key: &PodKey,
        preconditions: &Preconditions,
        grace: Option<i64>,
        dry_run: bool,
    ) -> Result<Object, ApiError> {
        let current = self.shared.memory().get_pushed(key)?;
        let meta = current.metadata();
        preconditions.check(Resource::Pods, &meta, meta.resource_version.as_ref())?;
        let now = Timestamp::now();
        match rules::delete(&current.pod, &current.status, grace, now) {
            Deletion::Pending => Ok(current),
            Deletion::Graceful(pod) => self.store_deleted(*pod, dry_run),
            Deletion::Now if rules::is_held(&current.pod) => {
                self.store_deleted(rules::deleted(&current.pod, now, 0), dry_run)
            }
            Deletion::Now => self.remove(key, current, dry_run),
        }
    }

    /// A deleted pod of which nothing is left.
    fn ended(&self, key: &PodKey, uid: &PodUid) {
        let Ok(current) = self.shared.memory().get_pushed(key) else { return };
        let meta = &current.pod.metadata;
        if meta.uid.as_deref() != Some(uid.as_str()) || meta.deletion_timestamp.is_none() {
            return;
        }
        let done = if !rules::is_held(&current.pod) {
            self.remove(key, current, false)
        } else if meta.deletion_grace_period_seconds != Some(0) {
            self.store_deleted(rules::deleted(&current.pod, Timestamp::now(), 0), false)
        } else {
            return;
        };
        // Without a request there is nobody to tell but those who look at the source.
        if let Err(error) = done {
            let path = self.disk.file(uid.as_str());
            let message = format!("the pod {key} has ended and stays on the list: {error}");
            let mut memory = self.shared.memory();
            memory.problems.retain(|problem| problem.path != path);
            memory.problems.push(Problem { path, message, ..Problem::default() });
            self.shared.publish_desired(&memory);
        }
    }

    fn store(&self, pod: Pod, dry_run: bool) -> Result<Object, ApiError> {
        self.store_by(pod, dry_run, Disk::write)
    }

    /// A pod that is deleted: that needs no room on the disk. Where there is none at all, not even for another name, it
    /// is deleted in memory, with a problem that says so until it has gone.
    fn store_deleted(&self, pod: Pod, dry_run: bool) -> Result<Object, ApiError> {
        let not_kept = std::cell::RefCell::new(None);
        let stored = self.store_by(pod, dry_run, |disk, pod, before| match disk.write_deletion(pod, before) {
            Err(error) if disk::is_full(&error) => {
                let message = format!(
                    "the pod {} is deleted, which is not on the disk: if the agent starts again before the pod has ended, \
                     the pod comes back: {error}",
                    pod::identity(pod).1
                );
                not_kept.replace(Some(Problem { path: disk.file(uid(pod)), message, ..Problem::default() }));
                Ok(())
            }
            written => written,
        });
        if let Some(problem) = not_kept.into_inner() {
            let mut memory = self.shared.memory();
            memory.problems.retain(|old| old.path != problem.path);
            memory.problems.push(problem);
            self.shared.publish_desired(&memory);
        }
        stored
    }

    /// On disk first, then in memory.
    fn store_by(
        &self,
        pod: Pod,
        dry_run: bool,
        write: impl FnOnce(&Disk, &Pod, Option<&Pod>) -> io::Result<()>,
    ) -> Result<Object, ApiError> {
        let key = pod::identity(&pod).1;
        let before = self.shared.memory().get(&key).ok();
        if dry_run {
            let (status, resource_version) = match before {
                Some(before) => (before.status, before.resource_version),
                None => (Arc::new(rules::initial_status(&pod)), 0),
            };
            return Ok(Object { pod: Arc::new(pod), status, resource_version });
        }
        let before = before.map(|before| before.pod);
        write(&self.disk, &pod, before.as_deref())
            .map_err(|error| refused("write", &format_args!("pod {key}"), &error))?;
        let mut memory = self.shared.memory();
        let object = memory.put(pod);
        self.shared.publish_desired(&memory);
        Ok(object)
    }

    fn remove(&self, key: &PodKey, current: Object, dry_run: bool) -> Result<Object, ApiError> {
        if dry_run {
            return Ok(current);
        }
        self.disk
            .remove(&current.pod)
            .map_err(|error| refused("remove", &format_args!("pod {key}"), &error))?;
        let mut memory = self.shared.memory();
        let object = memory.remove(key);
        let path = self.disk.file(uid(&current.pod));
        memory.problems.retain(|problem| problem.path != path);
        self.shared.publish_desired(&memory);
        Ok(object.unwrap_or(current))
    }
}

/// The disk did not do it.
fn refused(what: &str, key: &impl Display, error: &io::Error) -> ApiError {
    let message = format!("can not {what} the {key} on the disk of the node: {error}");
    if disk::is_full(error) { ApiError::no_space(message) } else { ApiError::internal(message) }
}

/// A UID as the API server makes them: RFC 4122, version 4.
fn random_uid() -> Result<String, ApiError> {
    let path = "/proc/sys/kernel/random/uuid";
    let uid = fs::read_to_string(path);
    uid.map(|uid| uid.trim().to_owned())
        .map_err(|error| ApiError::internal(format_args!("can not read {path}: {error}")))
}
