//! The addresses of the machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Whether others can reach a node there at all.
pub fn is_usable(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || link_local)
}

/// Whether an interface has it: the kernel lets nobody bind to another's address.
pub fn is_here(ip: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(ip, 0)).is_ok()
}

/// Connecting a datagram socket sends nothing: the kernel only chooses the source address.
fn outgoing(from: IpAddr, to: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).ok()?;
    socket.connect(SocketAddr::new(to, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| is_usable(*ip))
}

/// Where packets to the outside of IPv4 leave from. The documentation ranges (RFC 5737, RFC 3849) are routed by the default
/// route, if by any.
pub fn outgoing_v4() -> Option<IpAddr> {
    outgoing(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
}

/// The same of IPv6.
pub fn outgoing_v6() -> Option<IpAddr> {
    outgoing(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(all: &[&str]) -> Vec<IpAddr> {
        all.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn only_what_others_can_reach_and_this_machine_has_counts() {
        for ip in ips(&["127.0.1.1", "::1", "169.254.3.4", "fe80::1", "224.0.0.1", "0.0.0.0"]) {
            assert!(!is_usable(ip), "{ip}");
        }
        assert!(is_usable("10.1.2.3".parse().unwrap()) && is_usable("fd00::1".parse().unwrap()));
        assert!(is_here(Ipv4Addr::LOCALHOST.into()) && !is_here("203.0.113.77".parse().unwrap()));
    }
}
