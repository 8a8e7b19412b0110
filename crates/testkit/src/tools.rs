//! Programs from Debian's packages and from its source, and running programs: what `cargo xtask` needs for everything,
//! and nodes for their start. Few dependencies: this is built before anything can be shown or tested.

mod apt;
mod cache;
pub(crate) mod command;
pub(crate) mod error;
mod kube_apiserver;
mod packages;
mod wait;

pub use apt::{Apt, Kind, debian_mirror};
pub use cache::{lock, user_cache};
pub use command::{output, succeed};
pub use error::Error;
pub use kube_apiserver::{KUBE_APISERVER_VARIABLE, build_kube_apiserver, kube_apiserver};
pub use packages::{Line, STABLE, TESTING, Tools, target_dir};
pub use wait::{interrupt, interrupted, until, until_every};

/// The environment variable that names the agent's binary.
pub const BINARY_VARIABLE: &str = "NODE_AGENT_BINARY";

/// Tells the person at the terminal what is being done; test runners capture it.
#[expect(clippy::print_stderr, reason = "progress of a tool that people start by hand")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}
