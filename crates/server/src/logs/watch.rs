//! Changes in folders of log files: one inotify instance for all followers of a server.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// All followers' folders. Nothing is opened before the first follower comes.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogWatch(Arc<Mutex<Option<Arc<Instance>>>>);

struct Instance {
    watches: Watches,
    folders: Arc<Folders>,
    reader: AbortHandle,
}

#[derive(Debug, Default)]
struct Folders(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    folders: HashMap<WatchDescriptor, Folder>,
    /// How many watches were taken away.
    removed: u64,
}

#[derive(Debug)]
struct Folder {
    changes: watch::Sender<()>,
    followers: usize,
}

/// A folder that is watched until this is dropped.
pub(super) struct Watched {
    watches: Watches,
    folders: Arc<Folders>,
    descriptor: WatchDescriptor,
    pub(super) changes: watch::Receiver<()>,
}

impl LogWatch {
    /// Watches `folder`, together with everybody who does so already; blocks while its disk does not answer.
    ///
    /// Must be called within a tokio runtime.
    pub(super) fn folder(&self, folder: &Path) -> io::Result<Watched> {
        let instance = self.instance()?;
        let mask = WatchMask::MODIFY
            | WatchMask::CREATE
            | WatchMask::MOVE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let mut watches = instance.watches.clone();
        loop {
            // Not under the lock, which whoever reads events needs.
            let removed = instance.folders.lock().removed;
            let descriptor = watches.add(folder, mask)?;
            let mut known = instance.folders.lock();
            if known.removed != removed {
                // Perhaps it was this one.
                continue;
            }
            let entry = known
                .folders
                .entry(descriptor.clone())
                .or_insert_with(|| Folder { changes: watch::channel(()).0, followers: 0 });
            entry.followers += 1;
            let changes = entry.changes.subscribe();
            drop(known);
            return Ok(Watched { changes, watches, folders: Arc::clone(&instance.folders), descriptor });
        }
    }

    fn instance(&self) -> io::Result<Arc<Instance>> {
        let mut instance = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(match &mut *instance {
            Some(instance) => instance,
            none => none.insert(Arc::new(Instance::open()?)),
        }))
    }
}

impl Instance {
    fn open() -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let (watches, folders) = (inotify.watches(), Arc::<Folders>::default());
        let events = inotify.into_event_stream(vec![0; 4096])?;
        let reader = tokio::spawn(read(events, Arc::clone(&folders))).abort_handle();
        Ok(Self { watches, folders, reader })
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Instance").field(&self.folders).finish()
    }
}

impl Folders {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut known = self.folders.lock();
        let Some(folder) = known.folders.get_mut(&self.descriptor) else { return };
        folder.followers -= 1;
        if folder.followers == 0 {
            known.folders.remove(&self.descriptor);
            known.removed += 1;
            // The folder may be gone, and the watch with it.
            let _gone = self.watches.remove(self.descriptor.clone());
        }
    }
}

async fn read(mut events: EventStream<Vec<u8>>, folders: Arc<Folders>) {
    while let Some(event) = events.next().await {
        let folders = &mut folders.lock().folders;
        match event {
            Ok(event) if event.mask.contains(EventMask::IGNORED) => {
                // With the sender gone its followers know that nothing will be told any more.
                folders.remove(&event.wd);
            }
            Ok(event) if !event.mask.contains(EventMask::Q_OVERFLOW) => {
                if let Some(folder) = folders.get(&event.wd) {
                    folder.changes.send_replace(());
                }
            }
            // Something was lost: everybody looks.
            overflow => {
                if let Err(error) = overflow {
                    tracing::warn!(error = %util::causes(&error), "Cannot read changes of log folders");
                }
                folders.values().for_each(|folder| {
                    folder.changes.send_replace(());
                });
            }
        }
    }
}
