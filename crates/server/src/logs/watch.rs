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
#[derive(Debug, Default)]
pub(crate) struct LogWatch(Mutex<Option<Instance>>);

struct Instance {
    watches: Watches,
    folders: Arc<Folders>,
    reader: AbortHandle,
}

#[derive(Debug, Default)]
struct Folders(Mutex<HashMap<WatchDescriptor, Folder>>);

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
    /// Watches `folder`, together with everybody who does so already.
    pub(super) fn folder(&self, folder: &Path) -> io::Result<Watched> {
        let mut instance = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let instance = match &mut *instance {
            Some(instance) => instance,
            none => none.insert(Instance::open()?),
        };
        let mask = WatchMask::MODIFY
            | WatchMask::CREATE
            | WatchMask::MOVE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        // Under the lock, so that nobody takes the watch away in between.
        let mut folders = instance.folders.lock();
        let descriptor = instance.watches.add(folder, mask)?;
        let entry = folders
            .entry(descriptor.clone())
            .or_insert_with(|| Folder { changes: watch::channel(()).0, followers: 0 });
        entry.followers += 1;
        Ok(Watched {
            changes: entry.changes.subscribe(),
            watches: instance.watches.clone(),
            folders: Arc::clone(&instance.folders),
            descriptor,
        })
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
    fn lock(&self) -> MutexGuard<'_, HashMap<WatchDescriptor, Folder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut folders = self.folders.lock();
        let Some(folder) = folders.get_mut(&self.descriptor) else { return };
        folder.followers -= 1;
        if folder.followers == 0 {
            folders.remove(&self.descriptor);
            // The folder may be gone, and the watch with it.
            let _gone = self.watches.remove(self.descriptor.clone());
        }
    }
}

async fn read(mut events: EventStream<Vec<u8>>, folders: Arc<Folders>) {
    while let Some(event) = events.next().await {
        let mut folders = folders.lock();
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
