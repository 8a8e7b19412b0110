//! Pod sources: manifests in, full sets of pods and problems out on a watch.
//!
//! [`manifest`], a crate of its own, is pure: the text of a manifest becomes a pod that is defaulted, validated and made
//! a static pod, or problems that name file, line and field. [`mod@file`] (feature `file`) reads a folder or one file and
//! follows its changes. Each source publishes a [`SourceState`]: always its whole set, never a difference.
//! `http` (feature `http`) polls a URL, `push` (feature `push`), the crate `pod-api`, takes pods over HTTP,
//! `api` (feature `api`) watches an API server for a node's pods.
//! [`Mux`] (feature `mux`) merges any number of them and says what changed.
//!
//! Must not know what becomes of the pods.

#[cfg(feature = "api")]
pub mod api;
#[cfg(feature = "http")]
mod clock;
#[cfg(feature = "file")]
pub mod file;
#[cfg(feature = "http")]
pub mod http;
#[cfg(any(feature = "file", feature = "http"))]
mod last_good;
#[cfg(feature = "mux")]
mod mux;

#[cfg(feature = "http")]
pub use clock::WallClock;
pub use manifest::{self, Location, SourceState};
#[cfg(feature = "mux")]
pub use mux::Mux;
#[cfg(feature = "push")]
pub use pod_api as push;

/// Whether two sets are one: an object that did not change is the same in both.
#[cfg(any(feature = "file", feature = "http", feature = "mux"))]
fn same_objects(a: &Objects, b: &Objects) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((a, x), (b, y))| a == b && std::sync::Arc::ptr_eq(x, y))
}

/// ConfigMaps and Secrets that are there for the pods of this node.
#[cfg(any(feature = "file", feature = "http", feature = "mux"))]
type Objects =
    std::collections::BTreeMap<kube_model::objects::Key, std::sync::Arc<kube_model::objects::Object>>;

#[cfg(all(doctest, feature = "file"))]
#[doc = include_str!("../README.md")]
struct Readme;
