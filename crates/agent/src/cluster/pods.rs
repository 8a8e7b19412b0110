//! The node's pods, as what tells the API server of them sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use apiserver_sync::pods::Local;
use kube_model::PodUid;
use kube_model::view::{EventType, PodState};
use tokio::sync::watch;

use crate::AgentWorkers;
use crate::metrics::Metrics;

pub(crate) struct LocalPods {
    pub(crate) workers: AgentWorkers,
    pub(crate) complete: Arc<AtomicBool>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Local for LocalPods {
    fn pods(&self) -> Vec<PodState> {
        self.workers.states()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.workers.status_changes()
    }

    fn complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    fn refused(&self, uid: &PodUid, message: String) {
        self.workers.event(uid, None, EventType::Warning, "FailedSync", message);
    }

    fn status_sent(&self, took: Duration) {
        self.metrics.status_told(took);
    }
}
