//! The kubelet's server: 10250 with TLS, authentication and authorisation, and 10255 without (upstream
//! `pkg/kubelet/server/server.go`).
//!
//! Owns connections, routing and the wording of answers. What the answers say comes from the agent through
//! [`crate::host`]. A request passes through: `path` (decoded and clean, or redirected), [`crate::auth`],
//! `route` (pure), and one function of `endpoints`.

mod connection;
mod endpoints;
mod heads;
mod path;
mod pods;
mod route;
mod service;
mod traffic;
mod var_log;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use crate::auth::{Authentication, Authorization};
use crate::host::Host;
use crate::tls::{TlsError, TlsSettings, server_config};
pub(crate) use endpoints::{Answered, in_pod};
pub(crate) use path::{Path, read as read_path};
pub(crate) use pods::{find as find_pod, is_desired};
pub(crate) use route::{Check, Route, route};
use service::{Auth, Service};

/// Which groups of endpoints are there. The default is the kubelet's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handlers {
    /// `enableDebuggingHandlers`: logs, exec and everything else that looks into pods or the configuration.
    pub debugging: bool,
    /// `enableSystemLogHandler`: `/logs/`.
    pub system_log: bool,
    /// `enableProfilingHandler`: `/debug/pprof/`.
    pub profiling: bool,
    /// `enableDebugFlagsHandler`: `/debug/flags/v`.
    pub debug_flags: bool,
    /// Gate `ExtendWebSocketsToKubelet`: WebSockets are translated for a runtime that speaks SPDY only. Without it
    /// they are handed on as they are.
    pub extend_websockets: bool,
}

impl Default for Handlers {
    fn default() -> Self {
        Self {
            debugging: true,
            system_log: true,
            profiling: true,
            debug_flags: true,
            extend_websockets: true,
        }
    }
}

/// The settings of the server on 10250.
#[derive(Debug)]
pub struct Settings {
    /// Where to listen: the unspecified address of either family is all of both; port 0 takes a free one.
    pub address: SocketAddr,
    /// The node that rights are asked for.
    pub node_name: String,
    /// Its side of TLS.
    pub tls: TlsSettings,
    /// How users are recognised.
    pub authentication: Authentication,
    /// How their rights are found out.
    pub authorization: Authorization,
    /// What is served.
    pub handlers: Handlers,
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, or not this node's.
    #[error("listening on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// TLS.
    #[error("serving TLS on {address}")]
    Tls {
        /// Where.
        address: SocketAddr,
        /// What is wrong.
        source: Box<TlsError>,
    },
}

/// A server that listens.
pub struct KubeletServer {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<connection::Tls>>,
    service: Arc<Service>,
}

impl KubeletServer {
    /// Reads or makes the certificate and listens. Blocks for files only.
    ///
    /// # Errors
    /// When the certificate cannot be used or the address not be had.
    pub fn bind(settings: Settings, host: Host) -> Result<Self, ServerError> {
        let Settings { address, node_name, tls, authentication, authorization, handlers } = settings;
        let tls =
            server_config(tls).map_err(|source| ServerError::Tls { address, source: Box::new(source) })?;
        let auth = Auth { node_name, authentication, authorization };
        Self::listen(address, Some(tls), Service::new(host, Some(auth), handlers))
    }

    /// Listens as the read-only port does: no TLS, nobody is asked for a name, and only what needs no right.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind_read_only(address: SocketAddr, host: Host) -> Result<Self, ServerError> {
        let handlers = Handlers { debugging: false, ..Handlers::default() };
        Self::listen(address, None, Service::new(host, None, handlers))
    }

    fn listen(
        address: SocketAddr,
        tls: Option<connection::Tls>,
        service: Service,
    ) -> Result<Self, ServerError> {
        let listen = |source| ServerError::Listen { address, source };
        let listener = crate::listen::tcp(address).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { listener, address, tls: tls.map(Arc::new), service: Arc::new(service) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the future is dropped, and with it all connections and streams.
    ///
    /// # Errors
    /// When the runtime does not take the socket.
    pub async fn serve(self) -> Result<(), ServerError> {
        let listener = tokio::net::TcpListener::from_std(self.listener)
            .map_err(|source| ServerError::Listen { address: self.address, source })?;
        connection::serve_all(listener, self.tls, self.service).await;
        Ok(())
    }
}

impl std::fmt::Debug for KubeletServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeletServer").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
