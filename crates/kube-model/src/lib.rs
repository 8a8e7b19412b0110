//! The Kubernetes model that every layer shares: the API types (re-exported from `k8s-openapi` so that the
//! whole workspace agrees on one Kubernetes version), pod identity, QoS, quantities, durations, and what a
//! runtime reports about pods.
//!
//! Owns data and pure functions over it. Must not know clocks, files, sockets or tasks.

pub mod age;
pub mod apparmor;
pub mod cgroup;
pub mod downward;
pub mod duration;
pub mod eviction;
pub mod expansion;
pub mod hash;
mod ids;
pub mod labels;
mod moment;
pub mod node_selector;
pub mod objects;
pub mod observed;
pub mod pod;
pub mod probe;
pub mod qos;
pub mod quantity;
pub mod resources;
pub mod stats;
pub mod strategic;
pub mod summary;
pub mod syntax;
pub mod sysctl;
pub mod view;
pub mod yaml;

pub use ids::{PodKey, PodUid};
pub use jiff::Timestamp;
pub use k8s_openapi;
pub use k8s_openapi::api::core::v1 as core;
pub use moment::{Monotonic, Now};
