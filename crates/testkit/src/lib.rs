#![doc = include_str!("../README.md")]

pub mod env;
pub mod fake_api;
pub mod fake_cri;
pub mod proxy;
