//! Listening sockets as Go's `net.Listen("tcp", …)` makes them (`net/ipsock_posix.go`, `favoriteAddrFamily`): the
//! unspecified address of either family stands for all addresses of both.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// Connections that may wait: a flood of idle ones must not fill it in a moment.
const BACKLOG: i32 = 1024;

/// A socket that does not block and listens on `address`.
pub(crate) fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let both = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
    if address.ip().is_unspecified() {
        match bind(both) {
            // Without IPv6 the machine has only the one family.
            Err(error) if address.is_ipv4() && is_missing(&error) => {}
            bound => return bound,
        }
    }
    bind(address)
}

/// The address of the client, which has IPv4 as such whatever the socket.
pub(crate) fn peer(stream: &tokio::net::TcpStream) -> io::Result<SocketAddr> {
    let peer = stream.peer_addr()?;
    Ok(SocketAddr::new(peer.ip().to_canonical(), peer.port()))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Built without IPv6, or switched off.
fn is_missing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let missing = [Errno::AFNOSUPPORT, Errno::PROTONOSUPPORT, Errno::ADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| missing.iter().any(|errno| errno.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, TcpStream};

    use super::*;

    #[test]
    fn the_unspecified_address_stands_for_both_families() {
        for (address, reached) in [
            ("0.0.0.0:0", ["127.0.0.1", "::1"].as_slice()),
            ("[::]:0", &["127.0.0.1", "::1"]),
            ("127.0.0.1:0", &["127.0.0.1"]),
            ("[::1]:0", &["::1"]),
        ] {
            let listener = tcp(address.parse().unwrap()).unwrap();
            let port = listener.local_addr().unwrap().port();
            for ip in ["127.0.0.1", "::1"] {
                let ip: IpAddr = ip.parse().unwrap();
                let answered = TcpStream::connect(SocketAddr::new(ip, port)).is_ok();
                assert_eq!(answered, reached.contains(&ip.to_string().as_str()), "{address}: {ip}");
            }
        }
    }

    #[test]
    fn what_a_machine_without_ipv6_says_is_known() {
        for (code, missing) in [(97, true), (93, true), (99, true), (98, false), (13, false)] {
            assert_eq!(is_missing(&io::Error::from_raw_os_error(code)), missing, "{code}");
        }
    }

    #[tokio::test]
    async fn a_client_has_its_own_family() {
        let listener = tcp("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (stream, _) = tokio::net::TcpListener::from_std(listener).unwrap().accept().await.unwrap();
        assert_eq!(peer(&stream).unwrap(), client.local_addr().unwrap());
    }
}
