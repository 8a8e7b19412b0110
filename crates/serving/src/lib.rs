#![doc = include_str!("../README.md")]
//!
//! Owns how connections share a listener. Must not know what is said over them, nor to whom they belong.

mod accept;
mod slots;
mod unix;
mod unsent;
mod watched;

pub use accept::serve_all;
pub use slots::{Busy, ConnectionSlots, Slot};
pub use unix::listen_unix;
pub use unsent::{Budget, Sending, Share};
pub use watched::{Patience, Watch, Watched};
