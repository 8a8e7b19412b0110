//! TCP connections to containers.
//!
//! The kubelet sets `SO_LINGER` to 1 s here, meant to shorten `TIME_WAIT`. Measured on Linux 6.18 it does not (60 s
//! with and without), while it makes closing a socket block its thread, so it is left out.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpStream, lookup_host};

/// A connection that could not be made. Worded as in Go, because it ends up in events.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The name could not be resolved.
    #[error("dial tcp: lookup {host}")]
    Lookup { host: String, source: io::Error },
    /// No address answered; the error is that of the last one tried.
    #[error("dial tcp {address}: connect")]
    Connect { address: SocketAddr, source: io::Error },
}

/// Connects to an IP address or a name; each address of a name is tried in turn. No timeout of its own.
pub(crate) async fn dial(host: &str, port: u16) -> Result<TcpStream, DialError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return connect(SocketAddr::new(ip, port)).await;
    }
    let unresolved = |source| DialError::Lookup { host: host.to_owned(), source };
    let mut failed = unresolved(io::Error::other("no such host"));
    for address in lookup_host((host, port)).await.map_err(unresolved)? {
        match connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(e) => failed = e,
        }
    }
    Err(failed)
}

async fn connect(address: SocketAddr) -> Result<TcpStream, DialError> {
    TcpStream::connect(address).await.map_err(|source| DialError::Connect { address, source })
}
