#![doc = include_str!("../README.md")]
//!
//! Owns: how a CRI call travels, how long it may take, and what its failure is called. Knows nothing of pods,
//! labels, retries or what a caller does next: each method is one call, and nothing is logged or cached.

mod client;
mod code;
mod connection;
mod connector;
mod deadline;
mod endpoint;
mod error;
mod events;

pub use client::{Builder, Client, DEFAULT_REQUEST_TIMEOUT};
pub use code::Code;
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Error, ErrorKind};
pub use events::EventItem;
/// The messages of the contract.
pub use node_proto::cri::v1;
