//! A real node to test on: private containerd instances of two lines, images that need no registry, a pod
//! network, and the agent as a process. `cargo xtask` and the integration tests share it.
//!
//! Owns everything that it starts or creates and takes it away again: at the end, after a panic, and, when the
//! process was killed, at the start of the next run. It never touches the machine's own containerd, and it
//! installs nothing: Debian packages are unpacked into `target/tools`.
//!
//! Must not know what is tested: no pods, no expectations.
//!
//! ```no_run
//! use testkit::env::{Agent, AgentOptions, Containerd, Line, Run};
//!
//! # fn main() -> Result<(), testkit::env::Error> {
//! let run = Run::new()?;
//! let containerd = Containerd::start(&run, Line::V2_1)?;
//! let agent = Agent::start(&run, AgentOptions::new("target/debug/node-agent", &containerd.endpoint()))?;
//! std::fs::write(agent.manifests().join("web.yaml"), "...").expect("writable");
//! agent.wait_for("pod web is ready", std::time::Duration::from_secs(20), |pods| {
//!     testkit::env::is_ready(pods, "web").then_some(()).ok_or_else(|| "not ready".to_owned())
//! })?;
//! # Ok(())
//! # }
//! ```

mod agent;
mod ca;
mod cleanup;
mod cluster;
mod containerd;
mod cri;
mod daemon;
mod images;
mod network;
pub(crate) mod port;
mod proc;
mod run;
mod view;

pub use agent::{Agent, AgentOptions, binary};
pub use ca::{Ca, Identity, Signing};
pub use cleanup::{clean, clean_up_after_killed_runs};
pub use cluster::{AuditedRequest, Cluster, ClusterOptions, Login};
pub use containerd::Containerd;
pub use images::{BUSYBOX, PAUSE};
pub use proc::{Usage, usage};
pub use run::Run;
pub use view::{container_status, is_ready, pod};

pub use crate::tools::{
    BINARY_VARIABLE, Error, KUBE_APISERVER_VARIABLE, Line, Tools, build_kube_apiserver, interrupt,
    interrupted, kube_apiserver, output, succeed, target_dir, until, until_every,
};
use crate::tools::{command, error, say};
