//! Pod sources: manifests in, full sets of pods and problems out on a watch.
//!
//! [`manifest`] is pure: the text of a manifest becomes a pod that is defaulted, validated and made a static
//! pod, or problems that name file, line and field. [`mod@file`] (feature `file`) reads a folder or one file and
//! follows its changes. Each source publishes a [`SourceState`]: always its whole set, never a difference.
//!
//! Must not know what becomes of the pods.

#[cfg(feature = "file")]
pub mod file;
pub mod manifest;
mod state;

pub use state::SourceState;

#[cfg(all(doctest, feature = "file"))]
#[doc = include_str!("../README.md")]
struct Readme;
