#![doc = include_str!("../README.md")]

mod blocking;
mod content;
mod empty_dir;
mod error;
mod files;
mod hold;
mod host_path;
mod manager;
mod parts;
mod set_up;
mod settings;
mod tear_down;

pub use content::{Content, ContentError, NoContent, Token};
pub use error::TearDownError;
pub use manager::{Lacking, News, Shown, Volumes};
pub use parts::PartError;
pub use settings::Settings;
pub use volume_plan::plan::State;
