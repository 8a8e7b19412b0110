#![doc = include_str!("../README.md")]

#[cfg(feature = "nodes")]
pub mod env;
#[cfg(feature = "nodes")]
pub mod fake_api;
#[cfg(feature = "nodes")]
pub mod fake_cri;
#[cfg(feature = "nodes")]
pub mod fake_csi;
#[cfg(feature = "nodes")]
mod faults;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod mounts;
#[cfg(feature = "nodes")]
pub mod proxy;
pub mod tools;
