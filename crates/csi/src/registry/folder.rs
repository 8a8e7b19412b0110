//! The folder of sockets: what is in it, and when that changes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use inotify::{EventStream, Inotify, WatchMask, Watches};

/// How long it is to be quiet, so that a socket that is made has somebody who listens.
const QUIET: Duration = Duration::from_millis(10);

/// How often one looks where changes are not told.
const POLL: Duration = Duration::from_secs(1);

/// When a socket was made, and which it is: one that is made anew at the same place is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Made {
    inode: u64,
    at: (i64, i64),
}

pub(super) struct Folder {
    path: PathBuf,
    events: io::Result<EventStream<Vec<u8>>>,
    /// Something has happened since one looked.
    noticed: bool,
    complaint: String,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        let events = Inotify::init().and_then(|inotify| inotify.into_event_stream(vec![0; 4096]));
        if let Err(error) = &events {
            tracing::warn!(
                "plugins are looked for from time to time, not at once: inotify: {}",
                util::causes(error)
            );
        }
        Self { path: path.to_owned(), events, noticed: false, complaint: String::new() }
    }

    /// The sockets that are there; `None` if one cannot look: what was there may be there still.
    pub(super) async fn look(&mut self) -> Option<BTreeMap<PathBuf, Made>> {
        self.noticed = false;
        let (path, watches) = (self.path.clone(), self.events.as_ref().ok().map(EventStream::watches));
        let looked = tokio::task::spawn_blocking(move || {
            let told =
                |folder: &Path| watches.clone().map_or(Ok(()), |mut watches| watch(&mut watches, folder));
            sockets(&path, told)
        })
        .await;
        let Found { sockets, incomplete } = match looked.map_err(io::Error::other).flatten() {
            Ok(found) => found,
            Err(error) => {
                let what = format!("no plugins can be looked for in {}", self.path.display());
                self.complain(format!("{what}: {}", util::causes(&error)));
                return None;
            }
        };
        self.complain(incomplete);
        Some(sockets)
    }

    /// Says what is wrong, once; nothing, if it is empty.
    fn complain(&mut self, what: String) {
        if !what.is_empty() && what != self.complaint {
            tracing::warn!("{what}");
        }
        self.complaint = what;
    }

    /// Returns when something may have changed. Cancel safe: what was noticed is told by the next call.
    pub(super) async fn changed(&mut self) {
        let events = match &mut self.events {
            Ok(events) if self.complaint.is_empty() => events,
            _ => return tokio::time::sleep(POLL).await,
        };
        if !self.noticed {
            if events.next().await.is_none() {
                // The kernel does not end it.
                return tokio::time::sleep(POLL).await;
            }
            self.noticed = true;
        }
        tokio::time::sleep(QUIET).await;
        while events.next().now_or_never().flatten().is_some() {}
    }
}

/// What there is, and what keeps one from seeing all of it or from being told of its changes: one then looks again.
#[derive(Debug, Default)]
struct Found {
    sockets: BTreeMap<PathBuf, Made>,
    incomplete: String,
}

impl Found {
    /// The first is told.
    fn lacks(&mut self, what: &str, folder: &Path, error: &io::Error) {
        if self.incomplete.is_empty() {
            self.incomplete = format!("{what} {}: {}", folder.display(), util::causes(error));
        }
    }
}

/// All sockets below the folder, at any depth; names that begin with a dot are none of ours.
/// `watch` has changes told from now on.
fn sockets(path: &Path, watch: impl Fn(&Path) -> io::Result<()>) -> io::Result<Found> {
    // Upstream `pkg/kubelet/kubelet.go` `setupDataDirs`.
    fs::DirBuilder::new().recursive(true).mode(0o750).create(path)?;
    let mut found = Found::default();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        // Watched before it is read: what comes in between is noticed.
        match watch(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                found.lacks("plugins are looked for from time to time, not at once, in", &folder, &error);
            }
            _ => {}
        }
        match fs::read_dir(&folder) {
            Ok(entries) => {
                for entry in entries.flatten() {
                    look_at(&entry, &mut folders, &mut found.sockets);
                }
            }
            // It went away meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder != path => {}
            Err(error) if folder == path => return Err(error),
            Err(error) => found.lacks("no plugins can be looked for in", &folder, &error),
        }
    }
    Ok(found)
}

fn look_at(entry: &fs::DirEntry, folders: &mut Vec<PathBuf>, found: &mut BTreeMap<PathBuf, Made>) {
    if entry.file_name().as_encoded_bytes().starts_with(b".") {
        return;
    }
    // What cannot be looked at has gone again.
    let Ok(metadata) = entry.metadata() else { return };
    if metadata.is_dir() {
        folders.push(entry.path());
    } else if metadata.file_type().is_socket() {
        // Unlike the time of a change it stays when the owner changes the mode.
        let made = Made { inode: metadata.ino(), at: (metadata.mtime(), metadata.mtime_nsec()) };
        found.insert(entry.path(), made);
    }
}

fn watch(watches: &mut Watches, folder: &Path) -> io::Result<()> {
    // Of a folder that is watched already this is the same watch again.
    let coming_and_going = WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MOVE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF;
    watches.add(folder, coming_and_going | WatchMask::ONLYDIR).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn sockets_are_found_at_any_depth_and_told_apart_by_their_making() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("registry");
        assert!(sockets(&root, |_| Ok(())).unwrap().sockets.is_empty(), "the folder is made");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(root.join(".hidden")).unwrap();
        fs::write(root.join("file.sock"), "").unwrap();
        let bind = |name: &str| UnixListener::bind(root.join(name)).unwrap();
        let _kept = [bind("one.sock"), bind("a/b/two.sock"), bind(".three.sock"), bind(".hidden/four.sock")];
        let found = sockets(&root, |_| Ok(())).unwrap().sockets;
        let names: Vec<_> =
            found.keys().map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a/b/two.sock", "one.sock"]);

        let (first, one) = (found[&root.join("one.sock")], root.join("one.sock"));
        fs::remove_file(&one).unwrap();
        // The kernel's clock for files moves once in some milliseconds.
        let _again = loop {
            let listener = bind("one.sock");
            if sockets(&root, |_| Ok(())).unwrap().sockets[&one] != first {
                break listener;
            }
            fs::remove_file(&one).unwrap();
        };
    }

    #[test]
    fn sockets_are_found_also_where_changes_are_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("one.sock");
        let _listens = UnixListener::bind(&socket).unwrap();
        let found = sockets(dir.path(), |_| Err(io::ErrorKind::StorageFull.into())).unwrap();
        assert_eq!(found.sockets.into_keys().collect::<Vec<_>>(), [socket]);
        assert!(
            found.incomplete.starts_with("plugins are looked for from time to time"),
            "{}",
            found.incomplete
        );
    }
}
