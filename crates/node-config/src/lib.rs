//! Kubelet flags and configuration: text in, values with their origin out.
//!
//! The flags are data: [`table`] has one row for each, and parsing, `--help` and defaults come from the rows. So are
//! the fields of the configuration: [`config`]. From a command line ([`parse`]) and the files that it names to one
//! configuration with the origin of each value leads [`CommandLine::load`]; what that means for the agent says
//! [`Settings`]. Owns the command line's grammar, the merging, and the rules for values. Must not know the
//! environment, files (a caller's [`Files`] does), clocks or how anything is carried out.
#![doc = include_str!("../README.md")]

mod command;
mod completion;
pub mod config;
mod error;
pub mod flag;
pub mod gates;
mod help;
mod load;
mod man;
mod origin;
mod parse;
mod render;
mod secret;
mod settings;
mod source;
pub mod table;
#[cfg(test)]
mod testing;
pub mod validate;
mod value;
mod warning;

pub use command::{
    Ask, Command, ExecArgs, ExplainArgs, Forward, LocalPort, LogsArgs, Output, PodArgs, PodsArgs,
    PortForwardArgs, RemotePort, Since, SourcesArgs, ValidateArgs, parse,
};
pub use config::LIVE;
pub use error::{InvalidConfiguration, LoadError, UsageError, WrongType};
pub use load::{CommandLine, Effective, Files};
pub use man::man_page;
pub use origin::{Location, Origin, Origins};
pub use render::render;
pub use settings::{
    ChangeDetection, Cluster, KubeletServer, LoggingFormat, ManifestAddress, ManifestServer, ManifestUrl,
    NodeSettings, Rate, Settings, TlsBootstrap,
};
pub use value::Version;
pub use warning::Warning;

/// The Kubernetes release whose behaviour this agent follows.
pub const KUBERNETES_VERSION: &str = "1.36.2";
