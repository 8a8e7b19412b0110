//! The source that reads static pods from a folder, or from one file, and follows its changes.
//!
//! As the kubelet (upstream `pkg/kubelet/config/file.go`): any extension, JSON or YAML, one pod (here also one ConfigMap
//! or Secret) a file, names with a
//! leading dot and sub-folders left out, in the order of the names; a file that is unlinked and made again is a pod
//! that goes and comes, however soon. Better on purpose: a manifest that can not be used, or a
//! folder that can not be read, is a problem beside the pods, while the last good version goes on, also over a
//! restart (see [`Settings::cache_dir`]). Only what is gone from a readable folder stops.
//!
//! Owns the reading and the set of pods. Must not know what becomes of them.

mod read;
mod scan;
#[cfg(test)]
mod tests;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube_model::Timestamp;
use kube_model::view::Problem;
use tokio::sync::watch::{Receiver, Sender, channel};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{SourceState, same_objects};
use scan::{Files, Set};
use watch::Watch;

/// Name of this source, in [`SourceState::source`] and in the annotation of its pods.
pub const SOURCE: &str = "file";

/// Largest manifest, in bytes.
pub const MAX_BYTES: u64 = 10 << 20;

/// How often everything is looked at unless the settings say otherwise.
pub const CHECK_FREQUENCY: Duration = Duration::from_secs(20);

/// What to read, for which node, and how often.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder or file. It may come later, vanish and come back.
    pub path: PathBuf,
    /// Name of this node: part of the pods' names and UIDs.
    pub node_name: String,
    /// How often everything is looked at even if no change was noticed; zero stands for [`CHECK_FREQUENCY`]. May
    /// change at any time.
    pub check_frequency: Receiver<Duration>,
    /// A folder of the source's own, in which it keeps the last good text of each manifest, so that a manifest
    /// that is broken while the agent restarts does not end its pod. `None`: kept in memory only.
    pub cache_dir: Option<PathBuf>,
}

impl Settings {
    /// The defaults of the kubelet.
    pub fn new(path: impl Into<PathBuf>, node_name: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            node_name: node_name.into(),
            check_frequency: channel(CHECK_FREQUENCY).1,
            cache_dir: None,
        }
    }
}

/// Starts reading. The first value is an empty state that is not `seen`; the source publishes when something
/// changed. It ends when `cancel` is cancelled or the last receiver is gone.
///
/// Must be called within a tokio runtime that has its I/O and time drivers on.
pub fn spawn(settings: Settings, cancel: CancellationToken) -> Receiver<Arc<SourceState>> {
    let location = Arc::from(settings.path.to_string_lossy());
    let initial = SourceState { source: SOURCE, location, ..SourceState::default() };
    let (publish, receiver) = channel(Arc::new(initial));
    tokio::spawn(async move {
        cancel.run_until_cancelled(run(settings, publish)).await;
    });
    receiver
}

async fn run(settings: Settings, publish: Sender<Arc<SourceState>>) {
    let mut check_frequency = settings.check_frequency.clone();
    let mut reader = (Watch::new(&settings.path), Files::new(settings));
    // At the start there is nothing that a set could take away.
    let mut settled = true;
    loop {
        let read = with(reader, move |(watch, files)| {
            // Before the reading, so that no change falls between the two.
            let blind = watch.renew();
            files.unlinked(watch.take_unlinked());
            (files.scan(Timestamp::now(), settled), blind)
        });
        let Some((back, (set, blind))) = read.await else { return };
        reader = back;
        let Some(set) = set else {
            reader.0.settled().await;
            settled = true;
            continue;
        };
        settled = false;
        publish_changes(&publish, set, blind.as_ref());
        // Only now, for nobody should wait for the disk. Who is killed in between still has the manifest itself.
        while reader.1.has_to_keep() && !reader.0.has_changed() {
            let Some((back, set)) = with(reader, |(_, files)| files.keep()).await else { return };
            reader = back;
            publish_changes(&publish, set, blind.as_ref());
        }
        let pause = match *check_frequency.borrow_and_update() {
            Duration::ZERO => CHECK_FREQUENCY,
            frequency => frequency,
        };
        tokio::select! {
            () = publish.closed() => return,
            () = sleep(pause) => {}
            Ok(()) = check_frequency.changed() => {}
            // Whichever ends the wait, the next scan sees everything: no branch holds anything to lose.
            () = reader.0.changed() => {}
        }
    }
}

/// Works with the files where it is no harm to wait for a disk. `None` when the runtime shuts down.
async fn with<R: Send + 'static, T: Send + 'static>(
    mut reader: R,
    work: impl FnOnce(&mut R) -> T + Send + 'static,
) -> Option<(R, T)> {
    let done = tokio::task::spawn_blocking(move || {
        let result = work(&mut reader);
        (reader, result)
    });
    done.await.ok()
}

fn publish_changes(publish: &Sender<Arc<SourceState>>, set: Set, blind: Option<&Problem>) {
    let Set { pods, objects, locations, mut problems, seen, read_at, .. } = set;
    problems.extend(blind.cloned());
    publish.send_if_modified(|state| {
        let same_pods =
            state.pods.len() == pods.len() && state.pods.iter().zip(&pods).all(|(a, b)| Arc::ptr_eq(a, b));
        let changed = state.seen != seen
            || !same_pods
            || !same_objects(&state.objects, &objects)
            || state.problems != problems;
        if !changed && state.read_at == read_at && state.locations == locations {
            return false;
        }
        let state = Arc::make_mut(state);
        (state.read_at, state.locations) = (read_at, locations);
        if changed {
            (state.pods, state.objects, state.problems, state.seen) = (pods, objects, problems, seen);
        }
        changed
    });
}
