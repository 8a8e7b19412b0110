//! Pod sources: manifests in, full sets of pods and problems out on a watch.
//!
//! [`manifest`] is pure: the text of a manifest becomes a pod that is defaulted, validated and made a static
//! pod, or problems that name file, line and field. [`mod@file`] (feature `file`) reads a folder or one file and
//! follows its changes. Each source publishes a [`SourceState`]: always its whole set, never a difference.
//! `api` (feature `api`) watches an API server for a node's pods.
//! [`Mux`] (feature `mux`) merges any number of them and says what changed.
//!
//! Must not know what becomes of the pods.

#[cfg(feature = "api")]
pub mod api;
#[cfg(feature = "file")]
pub mod file;
#[cfg(feature = "http")]
pub mod http;
#[cfg(any(feature = "file", feature = "http"))]
mod last_good;
pub mod manifest;
#[cfg(feature = "mux")]
mod mux;
#[cfg(feature = "push")]
pub mod push;
mod state;
mod typed;

#[cfg(feature = "mux")]
pub use mux::Mux;
pub use state::{Place, SourceState, WallClock};

#[cfg(all(doctest, feature = "file"))]
#[doc = include_str!("../README.md")]
struct Readme;
