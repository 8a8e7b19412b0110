//! Ports on 127.0.0.1 that nobody else uses.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt};

use super::Error;
use super::error::At;

/// Where the kernel says from which port on it gives them to whoever asks for any.
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// The number of a free port, for as long as this lives: for a program that is told where to listen, and may be
/// started again. The kernel gives such numbers to nobody by itself, and other tests pass over it.
#[derive(Debug)]
pub(super) struct FreePort {
    port: u16,
    /// A name that only one socket of the machine can have, and that goes with its process.
    _name: net::UnixListener,
}

impl FreePort {
    pub(super) fn new() -> Result<Self, Error> {
        let range = std::fs::read_to_string(EPHEMERAL).at("read", EPHEMERAL)?;
        let end = range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(u16::MAX);
        let ports = 20_000..end.clamp(21_000, 32_000);
        // Each process begins elsewhere, so that they seldom meet.
        let skip = std::process::id() as usize * 97 % ports.len();
        let mut ports = ports.clone().skip(skip).chain(ports.take(skip));
        let found = ports.find_map(|port| {
            let name = net::SocketAddr::from_abstract_name(format!("node-agent-port-{port}")).ok()?;
            let name = net::UnixListener::bind_addr(&name).ok()?;
            // Of all addresses: none of them has a listener.
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).ok()?;
            Some(Self { port, _name: name })
        });
        found.ok_or_else(|| Error::Machine("there is no free port from 20000 on".to_owned()))
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
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
    fn a_free_port_is_given_once_and_can_be_listened_on() {
        let ports: Vec<_> = (0..50).map(|_| FreePort::new().unwrap()).collect();
        let numbers: std::collections::BTreeSet<_> = ports.iter().map(FreePort::port).collect();
        assert_eq!(numbers.len(), 50);
        for port in numbers {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        }
    }

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
