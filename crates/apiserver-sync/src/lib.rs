#![doc = include_str!("../README.md")]
//!
//! Owns: how the API server is reached ([`client`]), and small caches of what pods refer to ([`objects`],
//! [`services`]). Must not know what becomes of a pod, nor where the agent's configuration comes from.

mod causes;
pub mod client;
pub mod objects;
pub mod services;
