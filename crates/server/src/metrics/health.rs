//! `kubernetes_healthcheck*`: how the health checks went each time that somebody asked for `/healthz`
//! (upstream `k8s.io/apiserver/pkg/server/healthz`).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

use super::{Kind, Text};
use crate::blocking_work::BlockingWork;

/// The health checks of one agent, whichever server makes them.
#[derive(Debug, Default)]
pub struct HealthChecks {
    results: Mutex<BTreeMap<&'static str, Results>>,
    blocking_work: Option<BlockingWork>,
}

#[derive(Debug, Default)]
struct Results {
    succeeded: u64,
    failed: u64,
    /// Whether the last one succeeded.
    healthy: bool,
}

impl HealthChecks {
    /// With the check whether the blocking work of this runtime goes on.
    pub fn of(runtime: Handle) -> Self {
        Self { blocking_work: Some(BlockingWork::new(runtime)), ..Self::default() }
    }

    #[cfg(test)]
    pub(crate) fn impatient(runtime: Handle) -> Self {
        Self { blocking_work: Some(BlockingWork::impatient(runtime)), ..Self::default() }
    }

    /// Whether blocking work goes on, or why it does not.
    pub(crate) fn blocking_work(&self) -> Result<(), String> {
        self.blocking_work.as_ref().map_or(Ok(()), BlockingWork::check)
    }

    /// A check has been made.
    pub(crate) fn count(&self, check: &'static str, healthy: bool) {
        let mut checks = self.lock();
        let results = checks.entry(check).or_default();
        results.healthy = healthy;
        *(if healthy { &mut results.succeeded } else { &mut results.failed }) += 1;
    }

    pub(crate) fn write(&self, out: &mut Text) {
        let checks = self.lock();
        if checks.is_empty() {
            return;
        }
        let name = "kubernetes_healthcheck";
        out.metric(name, Kind::Gauge, "[STABLE] Whether a health check succeeded when it was last made");
        for (check, results) in &*checks {
            out.sample(name, &[("name", check), ("type", "healthz")], u8::from(results.healthy));
        }
        let name = "kubernetes_healthchecks_total";
        out.metric(name, Kind::Counter, "[STABLE] Results of all health checks");
        for (check, results) in &*checks {
            for (status, count) in [("error", results.failed), ("success", results.succeeded)] {
                if count > 0 {
                    out.sample(name, &[("name", check), ("status", status), ("type", "healthz")], count);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Results>> {
        // Counters that a panic left half counted are still counters.
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_result_shows_and_all_are_counted() {
        let checks = HealthChecks::default();
        let page = || {
            let mut out = Text::default();
            checks.write(&mut out);
            out.finish()
        };
        assert_eq!(page(), "");
        checks.count("ping", true);
        checks.count("syncloop", true);
        checks.count("syncloop", false);
        let page = page();
        let lines: Vec<_> = page.lines().filter(|line| !line.starts_with("# HELP")).collect();
        assert_eq!(
            lines,
            [
                "# TYPE kubernetes_healthcheck gauge",
                "kubernetes_healthcheck{name=\"ping\",type=\"healthz\"} 1",
                "kubernetes_healthcheck{name=\"syncloop\",type=\"healthz\"} 0",
                "# TYPE kubernetes_healthchecks_total counter",
                "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"healthz\"} 1",
                "kubernetes_healthchecks_total{name=\"syncloop\",status=\"error\",type=\"healthz\"} 1",
                "kubernetes_healthchecks_total{name=\"syncloop\",status=\"success\",type=\"healthz\"} 1",
            ]
        );
    }
}
