//! Notices changes early. Never needed for correctness: whatever it misses, the poll finds.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};
use kube_model::view::Problem;
use tokio::time::{Instant, timeout_at};

/// How long it must be quiet before the reading, so that files that come together are read together.
const BURST: Duration = Duration::from_millis(2);
/// The same while a file is open for writing: it is seldom written at one go.
const QUIET: Duration = Duration::from_millis(50);
/// How long it must be quiet before something is taken away. An editor renames the old file away and then writes
/// the new one, or the new one under another name first, and what stands between the two is not meant.
const SETTLE: Duration = Duration::from_millis(50);
/// But not later than this, however much goes on.
const LONGEST: Duration = Duration::from_millis(500);

/// Where volumes of Kubernetes swap a whole folder: a symlink with this name is replaced.
const SWAPPED: &str = "..data";

const MOVED: EventMask = EventMask::MOVED_FROM.union(EventMask::MOVED_TO);

/// A watch on the path itself, for changes in it, and on the nearest folder above it that is there, for its coming
/// and going.
pub(super) struct Watch {
    path: PathBuf,
    events: io::Result<EventStream<Vec<u8>>>,
    own: Option<WatchDescriptor>,
    above: Option<WatchDescriptor>,
    /// What stands below `above` on the way to the path, or will.
    below_above: OsString,
    /// Noticed, but not told yet.
    noticed: Option<Noticed>,
    /// Names of files that were unlinked since somebody asked, if nothing was renamed to them after that.
    unlinked: BTreeSet<OsString>,
}

/// Changes that are not at rest yet.
#[derive(Debug, Default)]
struct Noticed {
    /// The files that are being written; `None` is the path itself.
    unfinished: BTreeSet<Option<OsString>>,
}

impl Noticed {
    fn add(&mut self, event: EventOwned) {
        let EventOwned { mask, name, .. } = event;
        if mask.intersects(EventMask::MODIFY | EventMask::CREATE) && !mask.contains(EventMask::ISDIR) {
            self.unfinished.insert(name);
        } else if mask.intersects(EventMask::CLOSE_WRITE | MOVED | EventMask::DELETE) {
            self.unfinished.remove(&name);
        }
    }
}

impl Watch {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.components().collect(),
            events: open(),
            own: None,
            above: None,
            below_above: OsString::new(),
            noticed: None,
            unlinked: BTreeSet::new(),
        }
    }

    /// The names of files that were unlinked since the last call: one that is there all the same was made again. Not
    /// one that something was renamed to after that: so do editors and package managers write.
    pub(super) fn take_unlinked(&mut self) -> BTreeSet<OsString> {
        // What is in the queue is from before the reading that follows.
        while let Some(event) = self.next_event().now_or_never() {
            self.noticed.get_or_insert_default().add(event);
        }
        std::mem::take(&mut self.unlinked)
    }

    /// Watches what the path is now. A problem tells that changes are noticed only by the poll.
    pub(super) fn renew(&mut self) -> Option<Problem> {
        let error = match self.try_renew() {
            Ok(()) => return None,
            // The reading tells what is not there.
            Err(error) if is_absent(&error) => return None,
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
        let coming_and_going = WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        let contents = WatchMask::MODIFY | WatchMask::CLOSE_WRITE | WatchMask::ATTRIB;
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
        let mut below = self.path.as_path();
        while let Some(folder) = below.parent() {
            let folder = if folder == Path::new("") { Path::new(".") } else { folder };
            match add(&mut self.above, folder, coming_and_going) {
                // What came just before the watch was there is not noticed; but of the path itself the next step
                // takes care.
                Ok(()) if below != self.path && below.exists() => below = &self.path,
                Ok(()) => break,
                Err(error) if is_absent(&error) && folder != Path::new(".") => below = folder,
                Err(error) => return Err(error),
            }
        }
        self.below_above = below.file_name().map(OsStr::to_owned).unwrap_or_default();
        add(&mut self.own, &self.path, coming_and_going | contents)
    }

    /// Returns when something changed, and no file is being written any more. Cancel safe: what was noticed is
    /// told by the next call.
    pub(super) async fn changed(&mut self) {
        self.notice().await;
        self.rest(BURST).await;
        self.noticed = None;
    }

    /// Returns when nothing happened for a while.
    pub(super) async fn settled(&mut self) {
        self.rest(SETTLE).await;
        self.noticed = None;
    }

    /// Whether something changed; then [`Watch::changed`] will not wait for anything else.
    pub(super) fn has_changed(&mut self) -> bool {
        self.notice().now_or_never().is_some()
    }

    /// Waits for the first change unless there is one already.
    async fn notice(&mut self) {
        if self.noticed.is_none() {
            let event = self.next_event().await;
            self.noticed.get_or_insert_default().add(event);
        }
    }

    /// Waits until it was quiet for `pause`, or longer while a file is being written.
    async fn rest(&mut self, pause: Duration) {
        let latest = Instant::now() + LONGEST;
        loop {
            let writing = self.noticed.as_ref().is_some_and(|noticed| !noticed.unfinished.is_empty());
            let pause = if writing { QUIET } else { pause };
            let Ok(event) = timeout_at(latest.min(Instant::now() + pause), self.next_event()).await else {
                return;
            };
            self.noticed.get_or_insert_default().add(event);
        }
    }

    /// The next event that concerns us; never comes when there will be no more.
    async fn next_event(&mut self) -> EventOwned {
        while let Ok(events) = &mut self.events {
            match events.next().await {
                Some(Ok(event)) if self.concerns_us(&event) => {
                    self.note_unlinked(&event);
                    return event;
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => self.events = Err(error),
                None => break,
            }
        }
        pending().await
    }

    fn note_unlinked(&mut self, event: &EventOwned) {
        let Some(name) = event.name.as_ref().filter(|_| !event.mask.contains(EventMask::ISDIR)) else {
            return;
        };
        if event.mask.contains(EventMask::DELETE) {
            self.unlinked.insert(name.clone());
        } else if event.mask.contains(EventMask::MOVED_TO) {
            self.unlinked.remove(name);
        }
    }

    fn concerns_us(&self, event: &EventOwned) -> bool {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            // Something was lost, nobody knows what.
            return true;
        }
        let name = event.name.as_deref();
        if Some(&event.wd) == self.own.as_ref() {
            // Editors keep their state in dot-files.
            return name.is_none_or(|name| name == SWAPPED || !name.as_encoded_bytes().starts_with(b"."));
        }
        Some(&event.wd) == self.above.as_ref()
            && name.is_none_or(|name| name == self.below_above || name == SWAPPED)
    }
}

/// Whether the path, or something on the way to it, is not there.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn open() -> io::Result<EventStream<Vec<u8>>> {
    Inotify::init()?.into_event_stream(vec![0; 4096])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn watched() -> (TempDir, PathBuf, Watch) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("m");
        fs::create_dir(&path).unwrap();
        let mut watch = Watch::new(&path);
        assert_eq!(watch.renew(), None);
        (root, path, watch)
    }

    #[tokio::test]
    async fn what_is_no_manifest_by_its_name_is_not_noticed() {
        let (root, path, mut watch) = watched();
        fs::write(path.join(".web.yaml.swp"), "x").unwrap();
        fs::write(root.path().join("beside"), "x").unwrap();
        fs::write(path.join("web.yaml"), "x").unwrap();
        assert_eq!(watch.next_event().await.name.unwrap(), "web.yaml");
    }

    #[tokio::test]
    async fn files_that_were_unlinked_are_told_once_unless_something_was_renamed_to_them() {
        let (_root, path, mut watch) = watched();
        let file = |name: &str| path.join(name);
        for name in ["again", "gone", "renamed", "over", "kept"] {
            fs::write(file(name), "x").unwrap();
        }
        fs::write(file(".new"), "x").unwrap();
        fs::create_dir(file("folder")).unwrap();
        watch.changed().await;
        assert!(watch.take_unlinked().is_empty());
        fs::remove_file(file("again")).unwrap();
        fs::write(file("again"), "x").unwrap();
        fs::remove_file(file("gone")).unwrap();
        fs::rename(file("renamed"), file("renamed~")).unwrap();
        fs::write(file("renamed"), "x").unwrap();
        fs::rename(file(".new"), file("over")).unwrap();
        fs::remove_file(file("kept")).unwrap();
        fs::rename(file("renamed~"), file("kept")).unwrap();
        fs::remove_dir(file("folder")).unwrap();
        watch.changed().await;
        assert_eq!(watch.take_unlinked(), ["again", "gone"].map(OsString::from).into());
        assert!(watch.take_unlinked().is_empty());
    }

    #[tokio::test]
    async fn a_queue_that_overflowed_is_a_change() {
        let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let most: usize = most.trim().parse().unwrap();
        let (_root, path, mut watch) = watched();
        // None of these is of interest, and equal ones in a row would be made one.
        let files = [".a", ".b"].map(|name| fs::File::create(path.join(name)).unwrap());
        for number in 0..=most {
            files[number % 2].set_len(number as u64).unwrap();
        }
        watch.changed().await;
    }

    #[tokio::test]
    async fn a_change_is_told_once_and_not_lost_with_a_wait_that_was_given_up() {
        let (_root, path, mut watch) = watched();
        fs::write(path.join("web.yaml"), "x").unwrap();
        watch.notice().await;
        assert!(watch.changed().now_or_never().is_none(), "there may be more to come");
        assert!(watch.has_changed());
        watch.changed().await;
        assert!(!watch.has_changed());
    }

    #[tokio::test]
    async fn a_file_that_is_being_written_is_waited_for() {
        let (_root, path, mut watch) = watched();
        let writer = fs::File::create(path.join("web.yaml")).unwrap();
        fs::write(path.join("other.yaml"), "x").unwrap();
        let began = Instant::now();
        watch.changed().await;
        assert!(began.elapsed() >= QUIET);
        writer.set_len(1).unwrap();
        drop(writer);
        watch.notice().await;
        watch.rest(BURST).await;
        assert!(watch.noticed.unwrap().unfinished.is_empty());
    }

    #[tokio::test]
    async fn each_folder_on_the_way_to_the_path_is_waited_for_in_turn() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/m");
        let mut watch = Watch::new(&path);
        for folder in ["a", "a/b", "a/b/m", "a/b/m/web.yaml"] {
            assert_eq!(watch.renew(), None);
            assert!(!watch.has_changed());
            fs::create_dir(root.path().join(folder)).unwrap();
            watch.changed().await;
        }
        assert_eq!(watch.renew(), None);
        fs::rename(root.path().join("a/b"), root.path().join("a/c")).unwrap();
        watch.changed().await;
        assert_eq!(watch.renew(), None);
        fs::rename(root.path().join("a/c"), root.path().join("a/b")).unwrap();
        watch.changed().await;
    }

    #[tokio::test]
    async fn without_notifications_there_is_a_problem_until_they_are_back() {
        let (_root, path, mut watch) = watched();
        watch.events = Err(io::Error::from_raw_os_error(24));
        assert!(!watch.has_changed());
        // As long as the node has none to give, there is the problem; now it has.
        assert_eq!(watch.renew(), None);
        fs::write(path.join("web.yaml"), "x").unwrap();
        watch.changed().await;
    }
}
