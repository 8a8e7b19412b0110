//! Pods to CRI v1 messages, and what the runtime answers back to [`kube_model::observed`].
//!
//! Owns every rule about what a sandbox or container is created with, and every name on disk that such a
//! message carries. All of it is pure: files are read by the caller and passed in as text. It must not know
//! sockets, clocks, tasks or the order in which things are done.
//!
//! Quantities that do not parse count as not given, as everywhere in [`kube_model::resources`]: a source
//! refuses such pods before they come here.

pub mod cgroup;
mod container;
pub mod dns;
pub mod env;
mod error;
mod extras;
pub mod hostname;
pub mod hosts;
pub mod observe;
pub mod paths;
mod resources;
mod sandbox;
mod security;
mod settings;
pub mod takeover;
pub mod termination;
#[cfg(test)]
mod test_pods;
mod unsupported;

pub use container::{ContainerInputs, container_config, variables};
pub use error::ConfigError;
pub use extras::{ContainerExtras, Cpuset};
pub use kube_model::downward::Allocatable;
pub use sandbox::sandbox_config;
pub use security::ImageUser;
pub use settings::{Cgroups, Dns, Settings, Swap, Version};
pub use unsupported::{Unsupported, unsupported};

/// The example of the README, so that it is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
