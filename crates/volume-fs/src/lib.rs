#![doc = include_str!("../README.md")]
//!
//! All functions block, and may do so for as long as the file system they ask does not answer (a dead NFS server): they
//! belong on a thread that can be spared.

pub mod atomic;
mod beneath;
pub mod disk;
mod error;
pub mod helper;
mod in_use;
mod mode;
pub mod mount;
mod mount_table;
pub mod ownership;
mod remove;
pub mod sub_path;
pub mod usage;
mod walk;

pub use beneath::Root;
pub use error::Error;
pub use mount_table::{Mount, MountTable};
pub use remove::{remove_tree, remove_unmounted};
