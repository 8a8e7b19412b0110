//! What is counted for `/metrics`: each crate counts what it does; here all of that comes together.

pub(crate) mod info;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::metrics::{Histogram, Kind, Text};
use pod_workers::{PodMetrics, StartupLatency};

/// Upper bounds for telling the API server of a status, in seconds.
const STATUSES: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0];

/// The counters of one agent.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) runtime: Arc<kuberuntime::Metrics>,
    pub(crate) pods: Arc<PodMetrics>,
    pub(crate) pod_startup: StartupLatency,
    pub(crate) node_startup: node_reporter::StartupLatency,
    statuses: Mutex<Histogram>,
}

impl Metrics {
    /// Of an agent that starts now.
    pub(crate) fn new() -> Self {
        Self {
            runtime: Arc::default(),
            pods: Arc::default(),
            pod_startup: StartupLatency::default(),
            node_startup: node_reporter::StartupLatency::new(stats::machine::uptime()),
            statuses: Mutex::new(Histogram::new(STATUSES)),
        }
    }

    /// The API server has a pod's status.
    pub(crate) fn status_told(&self, took: Duration) {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).observe(took.as_secs_f64());
    }

    pub(crate) fn write(&self, out: &mut Text) {
        self.node_startup.write(out);
        self.pods.write(out);
        self.pod_startup.write(out);
        self.runtime.write(out);
        let name = "kubelet_pod_status_sync_duration_seconds";
        let help = "[ALPHA] How long it took to tell the API server of a pod's status, in seconds";
        out.metric(name, Kind::Histogram, help);
        out.histogram(name, &[], &self.statuses.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
