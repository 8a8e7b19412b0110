//! exec, attach and port-forward: what a query asks for ([`options`], pure), and the way of the bytes between the
//! client and the runtime's streaming server ([`proxy`]). The bytes are the client's and the runtime's business:
//! SPDY and WebSocket pass through as they are (reference 7.3).

mod options;
mod proxy;

pub(crate) use options::{command, forwarded_ports, streams};
pub(crate) use proxy::{Proxied, is_upgrade, proxy};
