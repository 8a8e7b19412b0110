//! A container runtime that runs nothing: a CRI v1 server on a unix socket in a temporary folder, with faults on
//! demand.
//!
//! Owns an honest model of sandboxes, containers and images (states, names, idempotence and error codes as
//! containerd 2.1 has them), the record of all calls, and the faults. Must not know who calls or why: no pods, no
//! labels of Kubernetes.
//!
//! ```
//! use node_proto::cri::v1::{RunPodSandboxRequest, VersionRequest};
//! use testkit::fake_cri::{FakeCri, Fault};
//!
//! # async fn example() -> std::io::Result<()> {
//! let runtime = FakeCri::start().await?;
//! runtime.fault(Fault::Hang, |request: &RunPodSandboxRequest| {
//!     request.config.as_ref().is_some_and(|config| config.hostname == "web")
//! });
//! // ... let the code under test work against runtime.endpoint() ...
//! assert_eq!(runtime.calls_of::<VersionRequest>().len(), 1);
//! # Ok(())
//! # }
//! ```

mod containers;
mod images;
mod model;
mod sandboxes;
mod service;

use std::any::Any;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use node_proto::cri::v1::image_service_server::ImageServiceServer;
use node_proto::cri::v1::runtime_service_server::RuntimeServiceServer;
use node_proto::cri::v1::{ContainerStatus, ExecSyncRequest, ExecSyncResponse, PodSandboxStatus};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::faults::Faults;
pub use crate::faults::{Code, Fault};
use model::Model;
use service::Service;

/// The kubelet's and containerd's message limit.
const MAX_MESSAGE: usize = 16 << 20;

/// How long [`FakeCri::wait_for`] waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// A call that arrived.
#[derive(Clone)]
pub struct Call {
    /// The RPC's name, such as `RunPodSandbox`.
    pub method: &'static str,
    request: Arc<dyn Any + Send + Sync>,
}

impl Call {
    /// The request, if it is of this type.
    pub fn request<T: 'static>(&self) -> Option<&T> {
        self.request.downcast_ref()
    }
}

/// A running fake. Stops when dropped.
pub struct FakeCri {
    folder: TempDir,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

/// What the server and the handle share; survives [`FakeCri::stop`], as a runtime's state survives on disk.
struct Shared {
    model: Mutex<Model>,
    faults: Mutex<Faults>,
    calls: Mutex<Vec<Call>>,
    connections: Mutex<Vec<StdStream>>,
    /// Told of every call's arrival and end.
    changed: watch::Sender<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked while it held the lock has failed already.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeCri {
    /// Starts a runtime that is ready and empty, pulls any image, and offers events.
    ///
    /// # Errors
    /// When there can be no temporary folder or socket.
    pub async fn start() -> io::Result<Self> {
        let shared = Shared {
            model: Mutex::default(),
            faults: Mutex::default(),
            calls: Mutex::default(),
            connections: Mutex::default(),
            changed: watch::Sender::new(()),
        };
        let folder = tempfile::Builder::new().prefix("fake-cri-").tempdir()?;
        let mut fake = Self { folder, shared: Arc::new(shared), server: None };
        fake.start_again().await?;
        Ok(fake)
    }

    /// Where it listens, as `unix:///path`.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("cri.sock")
    }

    /// Stops listening and breaks all connections, like a runtime that was killed. Containers run on.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            // An aborted task's error is the abort itself.
            let _ = server.await;
        }
        self.disconnect();
        // Nothing to remove when it was stopped before.
        let _ = std::fs::remove_file(self.socket());
    }

    /// Listens again at the same endpoint, with the same sandboxes, containers and images.
    ///
    /// # Errors
    /// When the socket cannot be bound.
    pub async fn start_again(&mut self) -> io::Result<()> {
        self.stop().await;
        let listener = UnixListenerStream::new(UnixListener::bind(self.socket())?);
        let shared = Arc::clone(&self.shared);
        let incoming = listener.map(move |stream| stream.and_then(|stream| shared.keep(stream)));
        let service = Service(Arc::clone(&self.shared));
        let server = Server::builder()
            .add_service(
                RuntimeServiceServer::new(service.clone())
                    .max_decoding_message_size(MAX_MESSAGE)
                    .max_encoding_message_size(MAX_MESSAGE),
            )
            .add_service(ImageServiceServer::new(service))
            .serve_with_incoming(incoming);
        self.server = Some(tokio::spawn(async move {
            // It ends with an error only when accepting fails; the test then sees refused calls.
            let _ = server.await;
        }));
        Ok(())
    }

    /// Breaks all connections; new ones are accepted.
    pub fn disconnect(&self) {
        self.shared.disconnect();
    }

    /// Makes calls fail whose request is of this type and matches, until [`FakeCri::clear_faults`].
    pub fn fault<T: 'static>(&self, fault: Fault, when: impl Fn(&T) -> bool + Send + 'static) {
        lock(&self.shared.faults).add(fault, None, when);
    }

    /// Makes the next such call fail, and only that.
    pub fn fault_once<T: 'static>(&self, fault: Fault, when: impl Fn(&T) -> bool + Send + 'static) {
        lock(&self.shared.faults).add(fault, Some(1), when);
    }

    /// Ends all faults; calls that hang go on.
    pub fn clear_faults(&self) {
        lock(&self.shared.faults).clear();
    }

    /// Every call so far, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.shared.calls).clone()
    }

    /// The names of all calls so far.
    pub fn methods(&self) -> Vec<&'static str> {
        lock(&self.shared.calls).iter().map(|call| call.method).collect()
    }

    /// The requests of one type so far.
    pub fn calls_of<T: Clone + 'static>(&self) -> Vec<T> {
        lock(&self.shared.calls).iter().filter_map(|call| call.request().cloned()).collect()
    }

    /// Starts the record of calls anew.
    pub fn forget_calls(&self) {
        lock(&self.shared.calls).clear();
    }

    /// Waits until a condition holds; looks after each call's arrival and end.
    ///
    /// # Panics
    /// After 20 s, with `what`.
    #[expect(clippy::panic, reason = "a test's assertion")]
    pub async fn wait_for(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        let waited = tokio::time::timeout(PATIENCE, async {
            while !holds(self) {
                // The sender lives as long as self.
                let _ = changed.changed().await;
            }
        });
        if waited.await.is_err() {
            panic!("waited {PATIENCE:?} in vain until {what}; calls: {:?}", self.methods());
        }
    }

    /// Whether the pod network is ready (default: yes). Sandboxes with a network of their own need it.
    pub fn set_network_ready(&self, ready: bool) {
        lock(&self.shared.model).network_ready = ready;
    }

    /// Whether `GetContainerEvents` is implemented (default: yes). Holds for new subscriptions.
    pub fn set_events(&self, offered: bool) {
        lock(&self.shared.model).events_offered = offered;
    }

    /// What `ExecSync` in a running container answers. Default: no output, exit code 0.
    pub fn set_exec(&self, exec: impl Fn(&ExecSyncRequest) -> ExecSyncResponse + Send + 'static) {
        lock(&self.shared.model).exec = Box::new(exec);
    }

    /// Lets a running container's process end by itself. False if it does not run.
    pub fn exit_container(&self, id: &str, exit_code: i32, reason: &str) -> bool {
        let exited = lock(&self.shared.model).exit(id, exit_code, reason);
        self.shared.changed.send_replace(());
        exited
    }

    /// Lets a sandbox die, with its network but not its containers. False if it is not ready.
    pub fn kill_sandbox(&self, id: &str) -> bool {
        let killed = lock(&self.shared.model).sandbox_died(id);
        self.shared.changed.send_replace(());
        killed
    }

    /// All sandboxes, oldest first.
    pub fn sandboxes(&self) -> Vec<PodSandboxStatus> {
        lock(&self.shared.model).sandbox_statuses()
    }

    /// All containers, oldest first.
    pub fn containers(&self) -> Vec<ContainerStatus> {
        lock(&self.shared.model).container_statuses()
    }
}

impl Drop for FakeCri {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
        self.disconnect();
    }
}

impl Shared {
    /// Keeps a second handle of a connection, to break it later.
    fn keep(&self, stream: UnixStream) -> io::Result<UnixStream> {
        let stream = stream.into_std()?;
        lock(&self.connections).push(stream.try_clone()?);
        UnixStream::from_std(stream)
    }

    fn disconnect(&self) {
        for stream in lock(&self.connections).drain(..) {
            // Fails only when the peer was faster.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
