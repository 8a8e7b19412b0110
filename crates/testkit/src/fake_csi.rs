//! A CSI driver of a node that keeps its volumes in a folder: a CSI v1 server with the services Identity and Node, and a
//! registration socket, with faults on demand.
//!
//! It really mounts, so that containers find the files of a volume: `data(ID)` is what is in it. It holds to the CSI
//! spec: what is required is asked for, calls may come again, a volume is staged before it is published. What is mounted
//! it reads from the node, so that one that was ended and started again goes on. Must not know who calls or why.
//!
//! ```no_run
//! use node_proto::csi::v1::NodeStageVolumeRequest;
//! use testkit::fake_csi::{Capability, CsiOptions, Fault, FakeCsi};
//!
//! # fn example() -> std::io::Result<()> {
//! let driver = FakeCsi::start(CsiOptions::new("test.csi").can(Capability::StageUnstageVolume))?;
//! driver.register("/var/lib/kubelet/plugins_registry".as_ref())?;
//! std::fs::write(driver.data("volume-1").join("file"), "hello")?;
//! driver.fault_once(Fault::Hang, |request: &NodeStageVolumeRequest| request.volume_id == "volume-1");
//! # Ok(())
//! # }
//! ```

mod mounts;
mod node;
mod registration;

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use node_proto::csi::v1::identity_server::IdentityServer;
use node_proto::csi::v1::node_server::NodeServer;
pub use node_proto::csi::v1::node_service_capability::rpc::Type as Capability;
use node_proto::pluginregistration::v1::RegistrationStatus;
use node_proto::pluginregistration::v1::registration_server::RegistrationServer;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::transport::server::Router;

use crate::faults::Faults;
pub use crate::faults::{Code, Fault};

/// What the driver is.
#[derive(Debug, Clone)]
pub struct CsiOptions {
    name: String,
    node_id: String,
    capabilities: Vec<Capability>,
    max_volumes: i64,
    topology: BTreeMap<String, String>,
    versions: Vec<String>,
    kind: String,
}

impl CsiOptions {
    /// A driver of this name that stages nothing, on a node that it calls `node-of-NAME`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            node_id: format!("node-of-{name}"),
            capabilities: Vec::new(),
            max_volumes: 0,
            topology: BTreeMap::new(),
            versions: vec!["1.0.0".to_owned()],
            kind: "CSIPlugin".to_owned(),
        }
    }

    /// It can do this, too.
    #[must_use]
    pub fn can(mut self, capability: Capability) -> Self {
        self.capabilities.push(capability);
        self
    }

    /// How many volumes the node can have.
    #[must_use]
    pub fn max_volumes(mut self, max: i64) -> Self {
        self.max_volumes = max;
        self
    }

    /// Where the node is.
    #[must_use]
    pub fn topology(mut self, key: &str, value: &str) -> Self {
        self.topology.insert(key.to_owned(), value.to_owned());
        self
    }

    /// What it calls the node.
    #[must_use]
    pub fn node_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.node_id);
        self
    }

    /// Which versions of CSI it says that it speaks.
    #[must_use]
    pub fn versions(mut self, versions: &[&str]) -> Self {
        self.versions = versions.iter().map(|&version| version.to_owned()).collect();
        self
    }

    /// What it says that it is, instead of a `CSIPlugin`.
    #[must_use]
    pub fn kind(mut self, kind: &str) -> Self {
        kind.clone_into(&mut self.kind);
        self
    }
}

/// The name of the VolumeAttachment that a cluster has for a volume of a driver at a node.
pub fn attachment_name(volume: &str, driver: &str, node: &str) -> String {
    use sha2::Digest as _;
    let sum = sha2::Sha256::digest(format!("{volume}{driver}{node}"));
    let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("csi-{hex}")
}

/// A call that arrived.
#[derive(Clone)]
pub struct Call {
    /// The RPC's name, such as `NodeStageVolume`.
    pub method: &'static str,
    request: Arc<dyn Any + Send + Sync>,
}

impl Call {
    /// The request, if it is of this type.
    pub fn request<T: 'static>(&self) -> Option<&T> {
        self.request.downcast_ref()
    }
}

/// A running driver. Dropped it is gone, with its sockets and data; what it has mounted stays.
pub struct FakeCsi {
    folder: TempDir,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
    driver: Mutex<Option<JoinHandle<()>>>,
    registrar: Mutex<Option<(PathBuf, JoinHandle<()>)>>,
}

/// What the servers and the handle share.
struct Shared {
    options: CsiOptions,
    data: PathBuf,
    faults: Mutex<Faults>,
    lying: Mutex<bool>,
    calls: Mutex<Vec<Call>>,
    statuses: Mutex<Vec<RegistrationStatus>>,
    connections: Mutex<Vec<StdStream>>,
    /// One change of mounts at a time.
    mounting: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked while it held the lock has failed already.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeCsi {
    /// Starts the driver, on a thread of its own; it is not registered anywhere.
    ///
    /// # Errors
    /// When there can be no temporary folder, thread or socket.
    pub fn start(options: CsiOptions) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("fake-csi-").tempdir()?;
        let data = folder.path().join("data");
        std::fs::create_dir(&data)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let shared = Shared {
            options,
            data,
            faults: Mutex::default(),
            lying: Mutex::default(),
            calls: Mutex::default(),
            statuses: Mutex::default(),
            connections: Mutex::default(),
            mounting: Mutex::default(),
        };
        let driver = Self {
            folder,
            shared: Arc::new(shared),
            runtime: Some(runtime),
            driver: Mutex::default(),
            registrar: Mutex::default(),
        };
        driver.start_again()?;
        Ok(driver)
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("csi.sock")
    }

    /// What is in a volume; made if it is not there.
    ///
    /// # Panics
    /// If it cannot be made.
    #[expect(clippy::expect_used, reason = "a test's assertion")]
    pub fn data(&self, volume: &str) -> PathBuf {
        let path = self.shared.data.join(volume);
        std::fs::create_dir_all(&path).expect("a volume's data can be made");
        path
    }

    /// Makes itself known by a socket in this folder, instead of any that it had.
    ///
    /// # Errors
    /// When the socket cannot be bound.
    pub fn register(&self, registry: &Path) -> io::Result<()> {
        self.unregister();
        std::fs::create_dir_all(registry)?;
        let socket = registry.join(format!("{}-reg.sock", self.shared.options.name));
        let service =
            registration::Registration { shared: Arc::clone(&self.shared), endpoint: self.socket() };
        let server = Server::builder().add_service(RegistrationServer::new(service));
        let serving = self.serve(&socket, server)?;
        *lock(&self.registrar) = Some((socket, serving));
        Ok(())
    }

    /// Takes its registration socket away.
    pub fn unregister(&self) {
        if let Some((socket, serving)) = lock(&self.registrar).take() {
            serving.abort();
            // Nothing to remove when somebody was faster.
            let _ = std::fs::remove_file(socket);
        }
    }

    /// What it was told of its registrations, in order.
    pub fn statuses(&self) -> Vec<RegistrationStatus> {
        lock(&self.shared.statuses).clone()
    }

    /// Ends it as if it were killed: connections break, nobody listens. What is mounted stays, and so does its
    /// registration.
    pub fn stop(&self) {
        if let Some(serving) = lock(&self.driver).take() {
            serving.abort();
        }
        self.shared.disconnect();
        // Nothing to remove when it was stopped before.
        let _ = std::fs::remove_file(self.socket());
    }

    /// Listens again at the same place.
    ///
    /// # Errors
    /// When the socket cannot be bound.
    pub fn start_again(&self) -> io::Result<()> {
        self.stop();
        let service = node::Service(Arc::clone(&self.shared));
        let server = Server::builder()
            .add_service(IdentityServer::new(service.clone()))
            .add_service(NodeServer::new(service));
        *lock(&self.driver) = Some(self.serve(&self.socket(), server)?);
        Ok(())
    }

    /// Makes calls fail whose request is of this type and matches, until [`FakeCsi::clear_faults`].
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

    /// Whether it says that it has staged and published what it has not.
    pub fn lie(&self, lying: bool) {
        *lock(&self.shared.lying) = lying;
    }

    /// The names of all calls so far, in order of arrival.
    pub fn methods(&self) -> Vec<&'static str> {
        lock(&self.shared.calls).iter().map(|call| call.method).collect()
    }

    /// Those that change something: what is asked to find out left out.
    pub fn changes(&self) -> Vec<&'static str> {
        let asked = ["NodeGetCapabilities", "NodeGetInfo", "NodeGetVolumeStats", "GetPluginInfo", "Probe"];
        self.methods().into_iter().filter(|method| !asked.contains(method)).collect()
    }

    /// The requests of one type so far.
    pub fn calls_of<T: Clone + 'static>(&self) -> Vec<T> {
        lock(&self.shared.calls).iter().filter_map(|call| call.request().cloned()).collect()
    }

    /// Starts the record of calls anew.
    pub fn forget_calls(&self) {
        lock(&self.shared.calls).clear();
    }

    fn serve(&self, socket: &Path, server: Router) -> io::Result<JoinHandle<()>> {
        let Some(runtime) = &self.runtime else { return Err(io::Error::other("the driver is gone")) };
        let _within = runtime.enter();
        let listener = UnixListenerStream::new(UnixListener::bind(socket)?);
        let shared = Arc::clone(&self.shared);
        let incoming = listener.map(move |stream| stream.and_then(|stream| shared.keep(stream)));
        Ok(runtime.spawn(async move {
            // It ends with an error only when accepting fails; the test then sees refused calls.
            let _ = server.serve_with_incoming(incoming).await;
        }))
    }
}

impl Drop for FakeCsi {
    fn drop(&mut self) {
        self.unregister();
        self.stop();
        if let Some(runtime) = self.runtime.take() {
            // Calls that hang are not waited for.
            runtime.shutdown_background();
        }
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
