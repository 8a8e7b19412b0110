//! Ports on 127.0.0.1 that nobody else uses.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt};

use super::Error;
use super::error::At;

/// A port that is free now. Another process may take it before the one that it is for, which then says so.
pub(super) fn free_port() -> Result<u16, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).at("find a free port on", "127.0.0.1")?;
    Ok(listener.local_addr().at("find a free port on", "127.0.0.1")?.port())
}

/// A port that stays ours while nobody listens on it: connections are refused then, and only sockets that share
/// ports (`SO_REUSEPORT`) can listen.
#[derive(Debug)]
pub(crate) struct ReservedPort {
    address: SocketAddr,
    /// Bound, but not listening.
    _holder: OwnedFd,
}

impl ReservedPort {
    /// Reserves a port that is free.
    pub(crate) fn new() -> io::Result<Self> {
        let holder = bound(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into())?;
        let address = getsockname(&holder)?.try_into()?;
        Ok(Self { address, _holder: holder })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to accept connections, until the listener is dropped.
    pub(crate) fn listen(&self) -> io::Result<TcpListener> {
        let socket = bound(self.address)?;
        listen(&socket, 1024)?;
        Ok(socket.into())
    }
}

fn bound(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_reserved_port_refuses_until_it_listens_and_again_afterwards() {
        let port = ReservedPort::new().unwrap();
        let refused =
            || TcpStream::connect(port.address()).unwrap_err().kind() == ErrorKind::ConnectionRefused;
        assert!(refused());
        let listener = port.listen().unwrap();
        drop(TcpStream::connect(port.address()).unwrap());
        drop(listener);
        assert!(refused());
        assert!(TcpListener::bind(port.address()).is_err(), "nobody else can take it");
        port.listen().unwrap();
    }
}
