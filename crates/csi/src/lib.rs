#![doc = include_str!("../README.md")]
//!
//! Owns: how a driver is found, reached and called, and what its failure is called. Must not know of pods, volumes'
//! folders or the API server.

mod drivers;
mod error;
mod metrics;
mod registry;
mod session;
mod transport;

pub use drivers::{Driver, Drivers, NodeInfo, Reported};
pub use error::{Code, Error};
/// The messages of the contract.
pub use node_proto::csi::v1;
pub use registry::Registrar;
pub use registry::version::Version;
pub use session::{Capabilities, Session, TIMEOUT};
