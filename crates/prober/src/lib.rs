//! Liveness, readiness and startup probes over exec, HTTP, TCP and gRPC, by the kubelet's rules
//! (upstream `pkg/kubelet/prober`).
//!
//! [`Prober`] owns one task per probe of a running container and the settled outcomes of every pod; the rules
//! themselves are pure and stand in [`decide`]. The handlers ([`http`], [`tcp`], [`grpc`], [`exec`]) can be used
//! alone: lifecycle hooks do.
//!
//! Must not know the runtime (commands go through [`exec::Exec`]), pod statuses or restarts: it reports outcomes
//! through [`Sink`] and others act on them.

mod attempt;
pub mod decide;
mod dial;
mod error;
pub mod exec;
pub mod grpc;
pub mod http;
mod manager;
mod metrics;
mod tally;
pub mod target;
pub mod tcp;
mod tls;
mod worker;

pub use self::metrics::write_metrics;
pub use attempt::{HandlerError, Verdict};
pub use exec::{Exec, ExecError, ExecOutput};
pub use manager::{Prober, Running, Sink};
pub use tally::{SECONDS, Tallied, Tally};

/// What the probes call themselves towards servers: the kubelet's name with the Kubernetes version that this
/// crate follows, because servers filter their access logs by it.
const USER_AGENT: &str = "kube-probe/1.36";

/// As [`USER_AGENT`], for lifecycle hooks.
const HOOK_USER_AGENT: &str = "kube-lifecycle/1.36";

/// How much of an answer or of a command's output is kept, in bytes.
const OUTPUT_CAP: usize = 10 * 1024;

/// Keeps the README's example compiling.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
