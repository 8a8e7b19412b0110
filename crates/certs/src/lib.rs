#![doc = include_str!("../README.md")]
//!
//! Owns the files of certificates that the agent gets for itself, and when they are asked for. Must not know how the API
//! server is reached ([`Ways`]), nor who shows the certificates.

pub mod decide;
mod issue;
mod key;
pub mod kubeconfig;
mod manager;
mod metrics;
mod pair;
mod store;
mod template;
#[cfg(test)]
mod testing;

pub use issue::IssueError;
pub use key::{Key, KeyError};
pub use manager::{Manager, Settings, Ways};
pub use metrics::Metrics;
pub use pair::{Leaf, Pair, PairError};
pub use store::{Store, StoreError};
pub use template::{Signer, Template};
