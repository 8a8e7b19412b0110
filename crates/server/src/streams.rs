//! exec, attach and port-forward: what a query asks for (`options`, pure), and the way of the bytes between the
//! client and the runtime's streaming server (`proxy`). The bytes are the client's and the runtime's business:
//! SPDY and old WebSocket protocols pass through as they are. What the runtime does not speak is translated to the
//! SPDY that it does (`websocket`, `spdy`). [`Session`] is the client's end.

mod options;
mod proxy;
mod session;
mod spdy;
mod websocket;

pub(crate) use options::{command, forwarded_ports, streams};
pub(crate) use proxy::{Proxied, ProxyError, is_upgrade, proxy};
pub use session::{FromStream, Session, ToStream};
pub(crate) use websocket::Translation;
