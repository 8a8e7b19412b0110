//! Volumes on real containerd: what pods find in them, and what stays on the node.

pub(crate) mod disk;
mod files;
mod images;
mod recorded;
mod survival;
