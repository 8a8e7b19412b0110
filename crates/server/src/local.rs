//! The local view: HTTP/1 over the unix socket `agent.sock` in the root folder, for root only.
//!
//! `GET /v1/pods` answers a [`ViewSnapshot`](kube_model::view::ViewSnapshot) as JSON; with `?watch=true` one at
//! once and one after each change, a line each, at most a few a second. `GET /v1/sources` answers a
//! [`SourcesSnapshot`](kube_model::view::SourcesSnapshot). `/containerLogs`, `/exec`, `/attach`, `/portForward` and
//! `/run` are those of the server on 10250; here nobody is asked for a name, as who can open the socket is root.
//!
//! The folder belongs to one agent at a time: a lock on `agent.lock` says so, and goes with the process however that
//! ends.

use std::convert::Infallible;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use serving::Slot;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::UnixListenerStream;

use crate::View;
use crate::http1::{self, Body};
use crate::kubelet::{Answered, Handlers, Path as UrlPath, Route, in_pod, read_path, route};
use crate::pod_streams::PodStreams;
use crate::unsent::Budget;

/// Connections that the kernel holds until they are taken.
const BACKLOG: i32 = 64;

/// Connections at once; a new one may have the place of one that has not sent its request.
const MOST_CONNECTIONS: usize = 512;

/// Watches, logs and streams among them; more are refused, so that clients that never read cannot keep all others
/// out.
const MOST_LONG: usize = 480;

/// Longest time for any other connection.
const CONNECTION_LIMIT: Duration = Duration::from_secs(30);

/// Shortest time between two snapshots of one watch.
const WATCH_PAUSE: Duration = Duration::from_millis(250);

/// The socket in `root_dir` that an agent listens on.
pub fn socket_path(root_dir: &Path) -> PathBuf {
    root_dir.join("agent.sock")
}

/// Why the local view cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The root folder is in use.
    #[error("another agent{} already runs with --root-dir {}", pid.as_ref().map(|pid| format!(" (pid {pid})")).unwrap_or_default(), root_dir.display())]
    AnotherAgent {
        /// The folder.
        root_dir: PathBuf,
        /// The other agent's process, if it could be read.
        pid: Option<String>,
    },
    /// Something that is no socket stands at the socket's path; it is left alone.
    #[error("{} is not a socket: remove it", .0.display())]
    InTheWay(PathBuf),
    /// A file operation failed.
    #[error("{what} {}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The socket, listening. Dropping it removes the socket file and lets another agent have the folder.
#[derive(Debug)]
pub struct LocalSocket {
    listener: UnixListener,
    path: PathBuf,
    _lock: File,
}

impl LocalSocket {
    /// Takes `root_dir`, which must exist, for this process and listens on its socket. The socket of an agent
    /// that died is replaced.
    ///
    /// # Errors
    /// When another agent has the folder, or a file operation fails.
    pub fn bind(root_dir: &Path) -> Result<Self, LocalError> {
        let lock = lock(root_dir)?;
        let path = socket_path(root_dir);
        let io = |what| {
            let path = path.clone();
            move |source| LocalError::Io { what, path, source }
        };
        match fs::symlink_metadata(&path) {
            Ok(found) if !found.file_type().is_socket() => return Err(LocalError::InTheWay(path)),
            // With the lock in hand, whoever made it is dead.
            Ok(_) => fs::remove_file(&path).map_err(io("removing the old socket"))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io("looking for")(error)),
        }
        let listener = serving::listen_unix(&path, BACKLOG).map_err(io("listening on"))?;
        Ok(Self { listener: listener.into(), path, _lock: lock })
    }

    /// Serves what the agent sees of its pods, and what goes on in them, until the future is dropped.
    ///
    /// # Errors
    /// When the runtime does not take the socket.
    pub async fn serve(self, pod_streams: Arc<PodStreams>) -> Result<(), LocalError> {
        let listener = self
            .listener
            .try_clone()
            .and_then(tokio::net::UnixListener::from_std)
            .map_err(|source| LocalError::Io { what: "serving", path: self.path.clone(), source })?;
        let (long, unsent) = (Arc::new(Semaphore::new(MOST_LONG)), Budget::default());
        let incoming =
            UnixListenerStream::new(listener).map(|accepted| accepted.map(|stream| (stream, None)));
        let mut connections = JoinSet::new();
        serving::serve_all(incoming, MOST_CONNECTIONS, &mut connections, |stream, slot| {
            connection(stream, slot, Arc::clone(&pod_streams), Arc::clone(&long), unsent.clone())
        })
        .await;
        Ok(())
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        // The lock is still held, so the file is ours. If it stays, the next agent replaces it.
        let _leftover = fs::remove_file(&self.path);
    }
}

/// The file stays when the agent goes: removing it would let two agents lock two different files.
fn lock(root_dir: &Path) -> Result<File, LocalError> {
    let path = root_dir.join("agent.lock");
    let io = |what, source| LocalError::Io { what, path: path.clone(), source };
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|source| io("opening", source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let read = file.read_to_string(&mut pid);
            let pid = Some(pid.trim().to_owned()).filter(|pid| read.is_ok() && !pid.is_empty());
            return Err(LocalError::AnotherAgent { root_dir: root_dir.to_owned(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(io("locking", source)),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|source| io("writing", source))?;
    Ok(file)
}

async fn connection(
    stream: tokio::net::UnixStream,
    slot: Arc<Slot>,
    pod_streams: Arc<PodStreams>,
    most_long: Arc<Semaphore>,
    unsent: Budget,
) {
    // From the request on until the connection ends.
    let busy = OnceLock::new();
    // What makes this connection a long one, and what goes on in it after an upgrade.
    let long = Arc::new(OnceLock::<OwnedSemaphorePermit>::new());
    let tunnel = Arc::new(Mutex::new(None));
    let served = http1::serve_one(stream, |request| {
        let (pod_streams, most_long) = (Arc::clone(&pod_streams), Arc::clone(&most_long));
        let (long, tunnel, unsent) = (Arc::clone(&long), Arc::clone(&tunnel), unsent.clone());
        let has_slot = busy.get_or_init(|| slot.busy()).is_some();
        async move {
            if !has_slot {
                return http1::plain(StatusCode::SERVICE_UNAVAILABLE, "too many connections\n");
            }
            let enter = || match most_long.try_acquire_owned() {
                // There is one request a connection, so nothing is there yet.
                Ok(permit) => long.set(permit).is_ok(),
                Err(_) => false,
            };
            let Answered { response, tunnel: begun, .. } = answer(&pod_streams, request, enter).await;
            *tunnel.lock().unwrap_or_else(PoisonError::into_inner) = begun;
            unsent.send(response)
        }
    });
    let limit = async {
        tokio::time::sleep(CONNECTION_LIMIT).await;
        if long.get().is_some() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = served => {}
        () = limit => {}
    }
    let tunnel = tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(tunnel) = tunnel {
        tunnel.await;
    }
}

/// Answers a request. One that may take long must be let in by `enter`.
async fn answer(
    pod_streams: &PodStreams,
    request: Request<Incoming>,
    enter: impl FnOnce() -> bool,
) -> Answered {
    let view = &pod_streams.view;
    let path = match read_path(request.uri().path()) {
        UrlPath::Clean(path) => path.into_owned(),
        UrlPath::Redirect(_) | UrlPath::Invalid => return not_found(),
    };
    let full =
        || http1::plain(StatusCode::SERVICE_UNAVAILABLE, "too many watches, logs and streams\n").into();
    match (path.as_str(), route(request.method(), &path, Handlers::default())) {
        ("/v1/pods" | "/v1/sources", _) => match http1::refuse_method(&request) {
            Some(refusal) => refusal,
            None if path == "/v1/sources" => {
                http1::whole(StatusCode::OK, "application/json", line(&view.sources()))
            }
            None if !is_watch(&request) => {
                http1::whole(StatusCode::OK, "application/json", snapshot_line(&**view))
            }
            None if enter() => watch_response(Arc::clone(view)),
            None => return full(),
        }
        .into(),
        (_, Route::InPod(endpoint)) => {
            if !enter() {
                return full();
            }
            in_pod(pod_streams, endpoint, request, None, true).await
        }
        _ => not_found(),
    }
}

fn not_found() -> Answered {
    let served =
        "only /v1/pods, /v1/sources, /containerLogs, /exec, /attach, /portForward and /run are served here\n";
    http1::plain(StatusCode::NOT_FOUND, served).into()
}

fn is_watch(request: &Request<Incoming>) -> bool {
    request
        .uri()
        .query()
        .is_some_and(|query| query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1")))
}

fn snapshot_line(view: &dyn View) -> Bytes {
    line(&view.snapshot())
}

fn line(value: &impl serde::Serialize) -> Bytes {
    // The types of the view have string keys only, so there is nothing that JSON cannot say.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

fn watch_response(view: Arc<dyn View>) -> Response<Body> {
    let changes = view.changes();
    let frames = snapshots(view, changes).map(|line| Ok::<_, Infallible>(Frame::data(line)));
    let mut response = http1::whole(StatusCode::OK, "application/x-ndjson", Bytes::new());
    *response.body_mut() = StreamBody::new(frames).boxed_unsync();
    response
}

/// A snapshot at once and one after each change. It is made when the client has room for it, so one that reads
/// slowly gets fewer, and never costs memory.
fn snapshots(view: Arc<dyn View>, changes: watch::Receiver<u64>) -> impl Stream<Item = Bytes> + Send {
    futures::stream::unfold((view, changes, None), |(view, mut changes, last)| async move {
        if let Some(last) = last {
            changes.changed().await.ok()?;
            tokio::time::sleep_until(last + WATCH_PAUSE).await;
        }
        changes.borrow_and_update();
        let line = snapshot_line(view.as_ref());
        Some((line, (view, changes, Some(Instant::now()))))
    })
}

#[cfg(test)]
mod tests;
