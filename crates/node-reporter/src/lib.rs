#![doc = include_str!("../README.md")]
//!
//! Owns what the Node object, its lease and its CSINode say, and when. Must not know how the API server is reached, nor how a
//! machine is measured.

mod conditions;
mod csi_node;
mod facts;
mod lease;
mod register;
mod report;
mod startup;
mod status;
#[cfg(test)]
mod testing;
mod traits;

pub use csi_node::{CSI_NODE_IS_MISSING, CsiDriver, CsiDrivers, CsiNodeApi, CsiNodes};
pub use facts::{Facts, Hardware, Limits, RuntimeFacts, Settings, VolumesInUse};
pub use lease::{INSTANCE, Lease};
pub use register::labels;
pub use report::Reporter;
pub use startup::StartupLatency;
pub use traits::{ApiError, Machine, NodeApi};
