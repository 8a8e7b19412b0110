#![doc = include_str!("../README.md")]
//!
//! Owns: how the API server is reached ([`client`]), what it is told of pods ([`pods`]) and of what happened
//! ([`events`]), small caches of what pods refer to ([`objects`], [`services`]), their tokens ([`tokens`]), what their claims stand for ([`storage`]) and
//! single objects, as the node's own ([`named`]). Must not know what becomes of a pod, nor where the agent's configuration comes from.

pub mod client;
pub mod events;
pub mod named;
pub mod objects;
mod pace;
pub mod pods;
mod retry_after;
pub mod services;
pub mod storage;
pub mod tokens;
