//! `/healthz`: whether the agent's process is alive (port 10248), and its blocking work goes on. It runs on
//! a thread and runtime of its own, so that busy workers cannot make the node look dead.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures::StreamExt as _;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;

use crate::http1::{self, Body};
use crate::kubelet::Check;
use crate::metrics::HealthChecks;

/// Probes are few and short. So many places are cheap, and some hundred silent clients hold up nobody.
const MOST_CONNECTIONS: usize = 256;

/// Longest time for one connection.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// Why the endpoint cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HealthzError {
    /// The address is taken, not this machine's, or not allowed.
    #[error("listening on {address} for /healthz")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no thread or event queue.
    #[error("starting the thread that serves /healthz")]
    Start(#[source] io::Error),
}

/// The endpoint's address, held. Clients may connect, and wait for their answer until it is served.
#[derive(Debug)]
pub struct BoundHealthz {
    address: SocketAddr,
    listener: TcpListener,
    checks: Arc<HealthChecks>,
}

impl BoundHealthz {
    /// Counts the health checks together with those that other servers make.
    pub fn counting(mut self, checks: Arc<HealthChecks>) -> Self {
        self.checks = checks;
        self
    }

    /// Serves the endpoint, and first of all whoever waits already.
    ///
    /// # Errors
    /// When the system gives no thread or event queue.
    pub fn serve(self) -> Result<Healthz, HealthzError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(HealthzError::Start)?;
        let listener = {
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(self.listener).map_err(HealthzError::Start)?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("healthz".to_owned())
            .spawn(move || runtime.block_on(serve(listener, self.checks, stopped)))
            .map_err(HealthzError::Start)?;
        Ok(Healthz { address: self.address, stop: Some(stop), thread: Some(thread) })
    }
}

/// The endpoint, served until this is dropped.
#[derive(Debug)]
pub struct Healthz {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Healthz {
    /// Takes `address` for `/healthz`; port 0 takes a free one. Nobody is told that the agent is well before
    /// [`BoundHealthz::serve`].
    ///
    /// # Errors
    /// When it cannot listen there.
    pub fn bind(address: SocketAddr) -> Result<BoundHealthz, HealthzError> {
        let listen = |source| HealthzError::Listen { address, source };
        let listener = crate::listen::tcp(address).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(BoundHealthz { address, listener, checks: Arc::default() })
    }

    /// Where it is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Healthz {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported by the panic hook.
            let _panicked = thread.join();
        }
    }
}

async fn serve(listener: tokio::net::TcpListener, checks: Arc<HealthChecks>, stopped: oneshot::Receiver<()>) {
    let incoming = TcpListenerStream::new(listener).map(http1::with_peer);
    // An answer is there with the request, so no connection is ever busy.
    let mut connections = JoinSet::new();
    let served = serving::serve_all(incoming, MOST_CONNECTIONS, &mut connections, |stream, _place| {
        let checks = Arc::clone(&checks);
        async move {
            let answer = |request| answer(request, Arc::clone(&checks));
            let _too_slow = tokio::time::timeout(CONNECTION_LIMIT, http1::serve_one(stream, answer)).await;
        }
    });
    tokio::select! {
        () = served => {}
        _ = stopped => {}
    }
}

async fn answer(request: Request<Incoming>, checks: Arc<HealthChecks>) -> Response<Body> {
    if let Some(refusal) = http1::refuse_host(&request) {
        return refusal;
    }
    let (path, name) = (request.uri().path(), Check::BlockingWork.name());
    let checked = match path.strip_prefix("/healthz") {
        Some("") => {
            // As the kubelet: one check asked for alone does not count.
            let checked = checks.blocking_work();
            checks.count(Check::Ping.name(), true);
            checks.count(name, checked.is_ok());
            checked
        }
        Some("/ping") => Ok(()),
        Some("/blocking-work") => checks.blocking_work(),
        _ => return http1::plain(StatusCode::NOT_FOUND, "404 page not found\n"),
    };
    if let Some(refusal) = http1::refuse_method(&request) {
        return refusal;
    }
    let Err(error) = checked else { return http1::plain(StatusCode::OK, "ok") };
    tracing::warn!(check = name, error = error.as_str(), "Health check failed");
    http1::text(
        StatusCode::INTERNAL_SERVER_ERROR,
        match path {
            "/healthz" => format!("[+]ping ok\n[-]{name} failed: reason withheld\nhealthz check failed\n"),
            _ => format!("internal server error: {error}\n"),
        },
    )
}

#[cfg(test)]
mod tests;
