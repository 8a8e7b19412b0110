#![doc = include_str!("../README.md")]

mod content;

pub use content::{Content, ContentError, NoContent, Token};
