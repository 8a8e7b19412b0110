//! Metrics: what the server counts itself, and the endpoints' contents (upstream
//! `pkg/kubelet/metrics/metrics.go`).
//!
//! Must not measure anything but its own process and requests: the rest is given by [`crate::host`].

mod health;
mod pods;
mod process;
mod requests;
mod resource;

pub use ::metrics::{Histogram, Kind, Text};
pub use health::HealthChecks;
pub(crate) use pods::write as write_pods;
pub(crate) use process::{write as write_process, write_start_time};
pub(crate) use requests::{HttpMetrics, InFlight};
pub(crate) use resource::write as write_resource;

/// The endpoints that show counters; the agent adds to all but `/metrics/slis`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// `/metrics`
    Main,
    /// `/metrics/probes`
    Probes,
    /// `/metrics/slis`
    Slis,
}

/// The content type of every metrics page.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
