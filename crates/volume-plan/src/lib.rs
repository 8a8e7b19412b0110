#![doc = include_str!("../README.md")]

pub mod payload;
pub mod spec;
