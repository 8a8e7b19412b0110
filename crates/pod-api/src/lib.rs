//! The source that takes pods over HTTP: a small part of Kubernetes' own API over the pods of this node, so that
//! kubectl and curl work against a node without an API server.
//!
//! Pods that were pushed belong to this source and stay on disk; those of the node's other sources are shown, and can
//! not be changed here. An accepted change is on disk before it is answered. Names, codes and words are those of the
//! API server; where a rule of its own comes from stands beside it.
//!
//! Who may connect: a unix socket is its user's alone. Over TCP a client needs a bearer token or a certificate, unless
//! [`Settings::anonymous`] lets in every user of the machine; an address that is no loopback address needs TLS, too.
//! Browsers are refused.
//!
//! Owns the HTTP side and the stored pods. Must not know what becomes of them but through [`Handle::observe`], nor
//! where their logs are: [`Handle::serve_logs`] takes them from somebody who does.

mod access;
pub(crate) mod error;
mod files;
mod listen;
mod patch;
mod rest;
mod server;
mod store;
mod tls;
mod update;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use kube_model::view::PodView;
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use access::Access;
use files::BadFile;
use listen::Listener;
use manifest::SourceState;
use rest::Api;
use store::Store;

pub use listen::{Listen, NotAnAddress};
pub use store::OpenError;

/// Name of this source, in [`SourceState::source`] and in the annotation of its pods.
pub const SOURCE: &str = kube_model::pod::PUSH_SOURCE;

/// What to serve, where, and to whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen.
    pub listen: Listen,
    /// Name of this node: the `spec.nodeName` of every pod.
    pub node_name: String,
    /// A folder of the source's own, for the pods. One process at a time has it.
    pub dir: PathBuf,
    /// Serves TLS with this certificate. Plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// PEM file of the CAs whose client certificates are let in. Needs `tls`.
    pub client_ca: Option<PathBuf>,
    /// File of the bearer tokens that are let in, one a line. It is read again when it changes, as are the files of
    /// `tls` and `client_ca`.
    pub token_file: Option<PathBuf>,
    /// Lets anybody in who can connect to a loopback address, without token and certificate: every user and every
    /// program of the machine then runs what it likes as root. A unix socket needs no such thing.
    pub anonymous: bool,
    /// What clients may use up.
    pub limits: Limits,
}

impl Settings {
    /// Without TLS and tokens, which is enough for a unix socket, with the default limits.
    pub fn new(listen: Listen, node_name: impl Into<String>, dir: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            node_name: node_name.into(),
            dir: dir.into(),
            tls: None,
            client_ca: None,
            token_file: None,
            anonymous: false,
            limits: Limits::default(),
        }
    }
}

/// A certificate and its key, PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by those between it and its CA.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What clients may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one body; the default is 3 MiB, as in the API server. All bodies that are being read together may
    /// have sixteen times as many.
    pub body_bytes: usize,
    /// Bytes of all answers together that are not sent yet; the default is 64 MiB.
    pub unsent_bytes: usize,
    /// Pods at once; the default is 1000.
    pub pods: usize,
    /// Connections at once; the default is 256. A further one takes the place of one that nobody is known to be
    /// behind yet, or else of the one that is idle longest, or longest sends its request. Half of them may be watches
    /// and logs.
    pub connections: usize,
    /// How long a connection may be idle, or take for the head of a request or the start of TLS; the default is 30 s.
    pub idle: Duration,
    /// How long a client may take nothing of what it is sent, as one does who reads a log page by page; the default
    /// is 10 min.
    pub stall: Duration,
    /// How long a request may take that is not a watch or a log; the default is 60 s, as in the API server.
    pub request: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 3 << 20,
            unsent_bytes: 64 << 20,
            pods: 1000,
            connections: 256,
            idle: Duration::from_secs(30),
            stall: Duration::from_secs(600),
            request: Duration::from_secs(60),
        }
    }
}

/// Why the source can not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Others could read and change the pods.
    #[error(
        "{0} can be reached from other machines: serving pods there needs a TLS certificate and key, and a file of bearer \
         tokens or a client CA; without them listen on a unix socket (unix:/PATH)"
    )]
    NotProtected(Listen),
    /// Any user of the machine could run pods, and so be root.
    #[error(
        "{0} can be reached by every user of this machine: serving pods there needs a file of bearer tokens or a client \
         CA, or else that anonymous clients are let in on purpose; better listen on a unix socket (unix:/PATH), which is \
         its user's alone"
    )]
    Anybody(Listen),
    /// Client certificates are part of TLS.
    #[error("a client CA for {0} needs a TLS certificate and key, too")]
    CaWithoutTls(Listen),
    /// TLS is for TCP.
    #[error(
        "{0} is a unix socket, which is not served over TLS: leave out the certificate and the client CA"
    )]
    TlsOnUnix(Listen),
    /// A file of the settings can not be used.
    #[error("{what} for {address}")]
    File {
        /// What it is for.
        what: &'static str,
        /// Where was to be served.
        address: Listen,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something that is no socket stands at the socket's path; it is left alone.
    #[error("{} is not a socket: remove it", .0.display())]
    InTheWay(PathBuf),
    /// The address can not be had.
    #[error("listening on {address}")]
    Bind {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The folder can not be used.
    #[error(transparent)]
    Store(#[from] OpenError),
}

/// The running source.
#[derive(Debug)]
pub struct Push {
    /// The pushed pods.
    pub state: Receiver<Arc<SourceState>>,
    /// Tells it how the pods are.
    pub handle: Handle,
    /// Where it is served: with the port that was taken.
    pub address: Listen,
    /// Ends after a cancellation, when no request is under way any more.
    pub served: JoinHandle<()>,
}

/// The agent's hold of the source. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Api>);

impl Handle {
    /// Takes in how the node's pods are now, of all sources: the status and events of those that were pushed, all
    /// of the others. Whole sets, as often as one likes: cheap where nothing changed.
    ///
    /// A pushed pod that was deleted goes when its view is `finished`, or when it is no longer among the views after
    /// one of them had its deletion.
    pub fn observe(&self, views: &[Arc<PodView>]) {
        self.0.observe(views);
    }

    /// Serves `/log` of all pods from now on. The first one stays.
    pub fn serve_logs(&self, logs: Arc<dyn Logs>) {
        // A second one is no better than the first.
        let _kept = self.0.logs.set(logs);
    }
}

/// Whoever knows what containers write.
pub trait Logs: fmt::Debug + Send + Sync + 'static {
    /// The log of a container of the pod, piece by piece. `query` is that of the request: `follow`, `previous`,
    /// `timestamps`, `sinceSeconds`, `sinceTime`, `tailLines`, `limitBytes`; its numbers have been checked. What is not
    /// taken need not be read: a slow client takes slowly.
    fn log<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        container: &'a str,
        query: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Bytes>, NoLog>>;
}

/// Why there is no log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoLog {
    /// The HTTP status code.
    pub code: u16,
    /// What to tell the client.
    pub message: String,
}

/// Checks who could connect, opens the folder, listens and serves until `cancel` is cancelled.
///
/// Must be called within a tokio runtime that has its I/O and time drivers on.
///
/// # Errors
/// Settings that would let in everybody, files that can not be used, a folder that another process has, an address
/// that can not be had.
pub async fn start(settings: Settings, cancel: CancellationToken) -> Result<Push, StartError> {
    check(&settings)?;
    let bad_file = |what| {
        let address = settings.listen.clone();
        move |error: BadFile| StartError::File { what, address, source: Box::new(error) }
    };
    let tls = settings.tls.as_ref().map(|files| tls::configuration(files, settings.client_ca.as_deref()));
    let tls = tls.transpose().map_err(bad_file("using the TLS files"))?;
    let access = Access::new(&settings).map_err(bad_file("using the token file"))?;
    let limits = settings.limits;
    let (dir, node_name) = (settings.dir.clone(), settings.node_name.clone());
    let opened = tokio::task::spawn_blocking(move || Store::open(&dir, &node_name, limits.pods)).await;
    let store = opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    // After the folder: a second process on the same settings is told who has it.
    let listener = Listener::bind(&settings.listen)?;
    let address = listener
        .address()
        .map_err(|source| StartError::Bind { address: settings.listen.to_string(), source })?;
    store.served_at(&address.to_string());
    if settings.anonymous && !access.asks() && matches!(address, Listen::Tcp(_)) {
        tracing::warn!(%address, "The push API lets in everybody: each user of this machine can run pods, and so is root");
    }
    let state = store.state();
    let api = Arc::new(Api::new(store, limits, cancel.clone()));
    let served = tokio::spawn(server::serve(listener, tls, access, Arc::clone(&api), cancel));
    Ok(Push { state, handle: Handle(api), address, served })
}

/// Whether the settings keep out who is not authenticated.
fn check(settings: &Settings) -> Result<(), StartError> {
    let Settings { listen, tls, client_ca, token_file, anonymous, .. } = settings;
    let (encrypted, asks) = (tls.is_some(), token_file.is_some() || client_ca.is_some());
    let refused = match listen {
        Listen::Unix(_) if encrypted || client_ca.is_some() => StartError::TlsOnUnix,
        Listen::Unix(_) => return Ok(()),
        Listen::Tcp(_) if !(listen.is_local() || encrypted && asks) => StartError::NotProtected,
        Listen::Tcp(_) if client_ca.is_some() && !encrypted => StartError::CaWithoutTls,
        Listen::Tcp(_) if !asks && !anonymous => StartError::Anybody,
        Listen::Tcp(_) => return Ok(()),
    };
    Err(refused(listen.clone()))
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
