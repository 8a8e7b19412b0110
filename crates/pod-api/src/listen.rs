//! Where the API is served, and the socket itself.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use super::StartError;

/// Connections that the kernel holds until they are taken: a flood of idle ones must not fill it in a moment.
const BACKLOG: u32 = 1024;

/// Where to listen: `HOST:PORT`, where the host is an IP address or `localhost`, or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A TCP port. Port 0 takes a free one.
    Tcp(SocketAddr),
    /// A unix socket. Its file gets mode 0600.
    Unix(PathBuf),
}

/// A text that names no place to listen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address to listen on: expected IP:PORT, localhost:PORT or unix:/PATH")]
pub struct NotAnAddress(String);

impl FromStr for Listen {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let wrong = || NotAnAddress(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(wrong()) };
        }
        if let Some((host, port)) = text.rsplit_once(':') {
            let port = || port.parse().map_err(|_| wrong());
            match host {
                "localhost" => return Ok(Self::Tcp((Ipv4Addr::LOCALHOST, port()?).into())),
                // As Go reads it.
                "" => return Ok(Self::Tcp((Ipv6Addr::UNSPECIFIED, port()?).into())),
                _ => {}
            }
        }
        text.parse().map(Self::Tcp).map_err(|_| wrong())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Listen {
    /// Whether only processes on this machine can reach it.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

/// A byte stream of a client.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A socket that listens. The file of a unix socket goes with it.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Listens. The socket of a process that died is replaced.
    pub(super) fn bind(listen: &Listen) -> Result<Self, StartError> {
        let failed = |source| StartError::Bind { address: listen.to_string(), source };
        match listen {
            Listen::Tcp(address) => bind_tcp(*address).map(Self::Tcp).map_err(failed),
            Listen::Unix(path) => {
                make_way(path)?;
                let bound = serving::listen_unix(path, BACKLOG.cast_signed())
                    .and_then(|socket| UnixListener::from_std(socket.into()));
                Ok(Self::Unix(bound.map_err(failed)?, SocketFile(path.clone())))
            }
        }
    }

    /// Where it listens in fact: with the port that was taken.
    pub(super) fn address(&self) -> io::Result<Listen> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            Self::Unix(_, file) => Ok(Listen::Unix(file.0.clone())),
        }
    }

    /// The next connection, and who is at its other end: the machine, and in words. Nothing is lost when the future is
    /// dropped.
    pub(super) async fn accept(&self) -> io::Result<(Box<dyn Io>, Option<IpAddr>, Arc<str>)> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Answers and watch events are small and each is waited for.
                stream.set_nodelay(true)?;
                (Box::new(stream), Some(address.ip().to_canonical()), address.to_string().into())
            }
            Self::Unix(listener, _) => {
                let stream = listener.accept().await?.0;
                let from = match stream.peer_cred() {
                    Ok(peer) => format!("uid {}, pid {}", peer.uid(), peer.pid().unwrap_or_default()),
                    Err(_) => "a local process".to_owned(),
                };
                (Box::new(stream), None, from.into())
            }
        })
    }
}

/// The file of a socket.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If it stays, the next process finds that nobody listens and replaces it.
        let _leftover = fs::remove_file(&self.0);
    }
}

/// Removes a socket that nobody listens on any more.
fn make_way(path: &Path) -> Result<(), StartError> {
    let failed = |source| StartError::Bind { address: format!("unix:{}", path.display()), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => Err(StartError::InTheWay(path.to_owned())),
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(failed)
            }
            Err(error) => Err(failed(error)),
            Ok(_) => Err(failed(io::ErrorKind::AddrInUse.into())),
        },
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for the connections of the process before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for (text, shown, local) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.9.9.9:80", "127.9.9.9:80", true),
            ("[::1]:80", "[::1]:80", true),
            ("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80", true),
            ("localhost:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "0.0.0.0:80", false),
            (":80", "[::]:80", false),
            ("10.0.0.1:0", "10.0.0.1:0", false),
            ("unix:/run/a.sock", "unix:/run/a.sock", true),
            ("unix:///run/a.sock", "unix:/run/a.sock", true),
        ] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!((listen.to_string().as_str(), listen.is_local()), (shown, local), "{text}");
        }
        for text in ["", "80", "node1:80", "127.0.0.1", "localhost:", "localhost:70000", "unix:", "unix:run"]
        {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }
}
