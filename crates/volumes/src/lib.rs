#![doc = include_str!("../README.md")]

mod block;
mod blocking;
mod claimed;
mod content;
mod empty_dir;
mod error;
mod files;
mod hold;
mod host_path;
mod in_use;
mod local;
mod manager;
mod nfs;
mod parts;
mod plugins;
mod set_up;
mod settings;
mod shared;
mod storage;
mod tear_down;

pub use claimed::Device;
pub use content::{Content, ContentError, NoContent, Token};
pub use error::TearDownError;
pub use manager::{Lacking, News, Shown, Volumes};
pub use parts::PartError;
pub use settings::Settings;
pub use storage::{NoStorage, Storage, StorageError};
pub use volume_plan::plan::State;
