#![doc = include_str!("../README.md")]

pub mod env;
pub mod fake_cri;
