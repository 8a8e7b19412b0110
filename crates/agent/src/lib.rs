//! Composition root: gives each room its neighbours, the order in which they start, and the drain.
//!
//! Owns no rule of its own: what is decided here is only who talks to whom. The binary hands in validated
//! settings; everything else of the agent is reached from [`Agent`].

mod addresses;
mod allocatable;
mod cluster;
pub mod config;
mod metrics;
mod node;
mod open_files;
mod references;
mod run;
mod service_manager;
mod settings;
mod sources;
mod takeover;
mod view;

pub use cluster::ClusterError;
pub use run::{Agent, Environment, StartError};
pub use settings::logging;
pub use sources::SourceError;

/// The actors of this agent.
type AgentWorkers = pod_workers::Workers<kuberuntime::CriRuntime, kuberuntime::AgentProbes>;

/// Wall time: for what is shown and stored, and for times that others wrote.
#[expect(clippy::disallowed_methods, reason = "the one place that asks")]
fn wall() -> kube_model::Timestamp {
    kube_model::Timestamp::now()
}
