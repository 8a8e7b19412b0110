//! What several crates need and none of them owns.
//!
//! Owns small rules without a home: how an error is told, how pauses grow, how a rate is kept, how a server is not verified. Must not know Kubernetes,
//! nor do any I/O.

mod causes;
mod flowcontrol;
#[cfg(feature = "tls")]
mod trust_any;

pub use causes::{causes, causes_with};
pub use flowcontrol::{Backoff, TokenBucket, doubled};
#[cfg(feature = "tls")]
pub use trust_any::TrustAny;

/// The example of the README, so that it is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
