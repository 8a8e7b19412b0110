#![doc = include_str!("../README.md")]

mod block;
mod blocking;
mod claimed;
mod content;
mod csi;
mod empty_dir;
mod error;
mod files;
mod group;
mod hold;
mod host_path;
mod in_use;
mod local;
mod manager;
mod metrics;
mod nfs;
mod parts;
mod plugins;
mod read;
mod set_up;
mod settings;
mod shared;
mod storage;
mod tear_down;
mod usage;

pub use claimed::Device;
pub use content::{Content, ContentError, NoContent, Token};
pub use error::TearDownError;
pub use manager::{Lacking, News, Shown, Volumes};
pub use parts::PartError;
pub use read::FileError;
pub use settings::Settings;
pub use storage::{NoStorage, Storage, StorageError};
pub use usage::{Measure, Measured};
pub use volume_fs::usage::Usage;
pub use volume_plan::plan::State;
