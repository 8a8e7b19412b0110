#![doc = include_str!("../README.md")]
//!
//! Owns how connections share a listener. Must not know what is said over them, nor to whom they belong.

mod accept;
mod places;
mod reload;
mod stalled;
mod unix;

pub use accept::serve_all;
pub use places::{Busy, ConnectionSlots, Place};
pub use reload::Reloaded;
pub use stalled::Stalling;
pub use unix::listen_unix;
