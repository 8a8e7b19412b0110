//! What several crates need and none of them owns.
//!
//! Owns small rules without a home: how an error is told, how pauses grow, how a rate is kept. Must not know Kubernetes,
//! nor do any I/O.

mod causes;
mod flowcontrol;

pub use causes::{causes, causes_with};
pub use flowcontrol::{Backoff, TokenBucket, doubled};

/// The example of the README, so that it is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
