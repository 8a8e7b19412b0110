//! Notices changes early. Never needed for correctness: whatever it misses, the poll finds.

use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};
use kube_model::view::Problem;
use tokio::time::{Instant, timeout_at};

/// A file that is being written is read when nothing further came for this long: it is seldom written at one go.
const QUIET: Duration = Duration::from_millis(50);
/// The same after a file was closed, renamed or removed. Still some time, for an editor renames the old file away
/// and then writes the new one, and what stands between the two is not meant.
const QUIET_WHOLE: Duration = Duration::from_millis(10);
/// But not later than this, however much goes on.
const LONGEST: Duration = Duration::from_millis(500);

/// Where volumes of Kubernetes swap a whole folder: a symlink with this name is replaced.
const SWAPPED: &str = "..data";

/// A watch on the path itself, for changes in it, and on the folder it stands in, for its coming and going.
pub(super) struct Watch {
    path: PathBuf,
    events: io::Result<EventStream<Vec<u8>>>,
    own: Option<WatchDescriptor>,
    above: Option<WatchDescriptor>,
}

impl Watch {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.components().collect(), events: open(), own: None, above: None }
    }

    /// Watches what the path is now. A problem tells that changes are noticed only by the poll.
    pub(super) fn renew(&mut self) -> Option<Problem> {
        let error = match self.try_renew() {
            Ok(()) => return None,
            // The reading tells what is not there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => error,
        };
        let message = format!("changes are noticed only by the regular check, not at once: inotify: {error}");
        Some(Problem { path: self.path.clone(), message, warning: true, ..Problem::default() })
    }

    fn try_renew(&mut self) -> io::Result<()> {
        if self.events.is_err() {
            // The node may have been short of them for a while.
            (self.events, self.own, self.above) = (open(), None, None);
        }
        let events = match &self.events {
            Ok(events) => events,
            Err(error) => return Err(io::Error::new(error.kind(), error.to_string())),
        };
        let mut watches = events.watches();
        let coming_and_going = WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVE;
        let contents = WatchMask::MODIFY
            | WatchMask::CLOSE_WRITE
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        let mut add = |known: &mut Option<WatchDescriptor>, path: &Path, mask| {
            // Of an unchanged file this gives the same watch again.
            let added = watches.add(path, mask);
            let current = added.as_ref().ok().cloned();
            if let Some(old) = known.take().filter(|old| Some(old) != current.as_ref()) {
                // An error means that it went away with its file.
                let _ = watches.remove(old);
            }
            *known = current;
            added.map(|_| ())
        };
        let above = match self.path.parent() {
            Some(parent) => add(
                &mut self.above,
                if parent == Path::new("") { Path::new(".") } else { parent },
                coming_and_going,
            ),
            None => Ok(()),
        };
        add(&mut self.own, &self.path, coming_and_going | contents)?;
        above
    }

    /// Returns when something changed and came to rest. Cancel safe: what was noticed is lost with the future,
    /// so the caller reads everything after it.
    pub(super) async fn changed(&mut self) {
        let mut last = loop {
            match self.next_event().await {
                Some(event) if self.concerns_us(&event) => break event,
                Some(_) => {}
                None => pending().await,
            }
        };
        let latest = Instant::now() + LONGEST;
        while Instant::now() < latest {
            let pause = if is_whole(&last) { QUIET_WHOLE } else { QUIET };
            match timeout_at(latest.min(Instant::now() + pause), self.next_event()).await {
                Ok(Some(event)) => last = event,
                Ok(None) | Err(_) => break,
            }
        }
    }

    /// `None` when there will be no more events.
    async fn next_event(&mut self) -> Option<EventOwned> {
        let event = self.events.as_mut().ok()?.next().await?;
        match event {
            Ok(event) => Some(event),
            Err(error) => {
                self.events = Err(error);
                None
            }
        }
    }

    fn concerns_us(&self, event: &EventOwned) -> bool {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            return true;
        }
        let name = event.name.as_deref();
        if Some(&event.wd) == self.own.as_ref() {
            // Editors keep their state in dot-files.
            return name.is_none_or(|name| name == SWAPPED || !name.as_encoded_bytes().starts_with(b"."));
        }
        Some(&event.wd) == self.above.as_ref()
            && (name == self.path.file_name() || name == Some(SWAPPED.as_ref()))
    }
}

/// Whether the file that the event is about is as its writer wants it.
fn is_whole(event: &EventOwned) -> bool {
    event.mask.intersects(EventMask::CLOSE_WRITE | EventMask::MOVED_TO | EventMask::DELETE)
}

fn open() -> io::Result<EventStream<Vec<u8>>> {
    Inotify::init()?.into_event_stream(vec![0; 4096])
}
