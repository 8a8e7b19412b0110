#![doc = include_str!("../README.md")]

pub mod claims;
pub mod container_mounts;
pub mod csi;
pub mod empty_dir;
pub mod env_file;
pub mod growth;
pub mod never;
pub mod payload;
pub mod persistent;
pub mod plan;
pub mod selinux;
pub mod spec;
