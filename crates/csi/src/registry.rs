//! How drivers make themselves known (upstream `pkg/kubelet/pluginmanager`): each socket below the folder is asked who it
//! is. One that comes again, as after a restart of the driver, is asked again.
//!
//! What is there is found by looking, not by what was told of changes: a lost notice costs time only. At rest there is one
//! task, which waits for the folder to change.

pub(crate) mod attempt;
mod folder;
pub(crate) mod version;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use util::Backoff;

use crate::drivers::Drivers;
use crate::metrics::Counted;
use attempt::{Learned, learn, notify};
use folder::{Folder, Made};

/// The pauses between attempts at one socket: short at first, as a socket is there a moment before anybody listens.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(122));

/// Has drivers make themselves known.
#[derive(Debug)]
pub struct Registrar {
    folder: PathBuf,
    drivers: Drivers,
}

/// A socket that was found.
struct Socket {
    /// Which of all that were found: what comes late of an earlier one at the same path is told from it.
    number: u64,
    made: Made,
    state: State,
    pauses: Backoff,
    /// What was said last of why it cannot be a driver.
    complaint: String,
}

enum State {
    /// It is being asked.
    Asking(AbortHandle),
    /// It is this driver.
    Registered(String),
    /// It is asked again then.
    Waiting(Instant),
}

/// What came of something.
enum Done {
    Learned(Result<Learned, String>),
    /// It was told that it is registered, or could not be.
    Notified(Result<(), String>),
    /// It was told that it is not.
    Refused,
}

type Tasks = JoinSet<(PathBuf, u64, Done)>;

impl Registrar {
    /// Of the sockets below `folder`, which is made if it is not there: `<root>/plugins_registry`.
    pub fn new(folder: impl Into<PathBuf>, drivers: Drivers) -> Self {
        Self { folder: folder.into(), drivers }
    }

    /// Never ends; dropped, it leaves the drivers as they are.
    pub async fn run(self) {
        let mut folder = Folder::new(&self.folder);
        let (mut sockets, mut tasks, mut number) = (BTreeMap::<PathBuf, Socket>::new(), Tasks::new(), 0u64);
        loop {
            if let Some(found) = folder.look().await {
                let gone = |path: &PathBuf, socket: &Socket| found.get(path) != Some(&socket.made);
                sockets.retain(|path, socket| {
                    let gone = gone(path, socket);
                    if gone {
                        self.forget(path, socket);
                    }
                    !gone
                });
                for (path, made) in found {
                    sockets.entry(path).or_insert_with(|| {
                        number += 1;
                        let state = State::Waiting(Instant::now());
                        Socket { number, made, state, pauses: PAUSES, complaint: String::new() }
                    });
                }
            }
            loop {
                let due = begin(&mut sockets, &mut tasks, &self.drivers.counted);
                let timer = async {
                    match due {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                // All arms are cancel safe: notices of changes stay in the queue, ended tasks in their set.
                tokio::select! {
                    () = folder.changed() => break,
                    Some(ended) = tasks.join_next() => {
                        // One that was aborted, or panicked, is asked again when its socket is made anew.
                        if let Ok((path, number, done)) = ended {
                            self.ended(&mut sockets, &mut tasks, &path, number, done);
                        }
                    }
                    () = timer => {}
                }
            }
        }
    }

    fn ended(
        &self,
        sockets: &mut BTreeMap<PathBuf, Socket>,
        tasks: &mut Tasks,
        path: &Path,
        number: u64,
        done: Done,
    ) {
        let Some(socket) = sockets.get_mut(path).filter(|socket| socket.number == number) else { return };
        match done {
            Done::Learned(Ok(learned)) => {
                let Learned { name, endpoint, version, node } = learned;
                if let Err(why) = self.drivers.check(&name, path, version) {
                    let (to, text) = (path.to_owned(), why.clone());
                    tasks.spawn(async move {
                        // It is told again with the next attempt.
                        let _ = notify(&to, Err(text)).await;
                        (to, number, Done::Refused)
                    });
                    return socket.failed(path, why);
                }
                tracing::info!(driver = name, socket = %path.display(), node_id = node.node_id, "CSI driver registered");
                self.drivers.set(&name, &endpoint, version, path, node);
                socket.state = State::Registered(name);
                let to = path.to_owned();
                tasks.spawn(async move {
                    let told = notify(&to, Ok(())).await;
                    (to, number, Done::Notified(told))
                });
            }
            Done::Learned(Err(why)) => socket.failed(path, why),
            // One that does not hear that it is registered may take itself for not being so.
            Done::Notified(Err(why)) => {
                self.forget(path, socket);
                socket.failed(path, why);
            }
            Done::Notified(Ok(())) => {
                socket.pauses.succeeded();
                socket.complaint.clear();
            }
            Done::Refused => {}
        }
    }

    fn forget(&self, path: &Path, socket: &Socket) {
        match &socket.state {
            State::Asking(task) => task.abort(),
            State::Registered(name) => {
                tracing::info!(driver = name, socket = %path.display(), "CSI driver gone");
                self.drivers.remove(name, path);
            }
            State::Waiting(_) => {}
        }
    }
}

impl Socket {
    fn failed(&mut self, path: &Path, why: String) {
        self.state = State::Waiting(Instant::now() + self.pauses.failed());
        if self.complaint != why {
            tracing::warn!(socket = %path.display(), "plugin not registered: {why}");
            self.complaint = why;
        }
    }
}

/// Asks those whose time has come. Answers when the next one's has.
fn begin(
    sockets: &mut BTreeMap<PathBuf, Socket>,
    tasks: &mut Tasks,
    counted: &Arc<Counted>,
) -> Option<Instant> {
    let now = Instant::now();
    let mut due: Option<Instant> = None;
    for (path, socket) in sockets {
        match &socket.state {
            State::Waiting(at) if *at <= now => {
                let (path, number, counted) = (path.clone(), socket.number, Arc::clone(counted));
                socket.state = State::Asking(tasks.spawn(async move {
                    let learned = learn(&path, counted).await;
                    (path, number, Done::Learned(learned))
                }));
            }
            State::Waiting(at) => due = Some(due.map_or(*at, |due| due.min(*at))),
            State::Asking(_) | State::Registered(_) => {}
        }
    }
    due
}
