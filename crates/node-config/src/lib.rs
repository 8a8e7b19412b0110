//! Kubelet flags and configuration: text in, values with their origin out.
//!
//! The flags are data: [`table`] has one row for each, and parsing, `--help` and defaults come from the rows.
//! What was typed ([`table::AgentFlags`]) and what it means ([`Settings`]) are two types: the first has a field
//! for each flag, the second is validated and typed. Owns the command line's grammar and the rules for values.
//! Must not know the environment, files, clocks or how anything is carried out.
#![doc = include_str!("../README.md")]

mod command;
pub mod config;
mod error;
pub mod flag;
pub mod gates;
mod help;
mod parse;
mod settings;
pub mod table;
mod value;

pub use command::{Command, ExplainArgs, Output, PodsArgs, parse};
pub use error::{Invalid, UsageError};
pub use settings::{LoggingFormat, Origin, Origins, Settings};

/// The Kubernetes release whose behaviour this agent follows.
pub const KUBERNETES_VERSION: &str = "1.36.2";
