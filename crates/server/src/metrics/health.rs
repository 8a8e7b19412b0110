//! `kubernetes_healthcheck*`: how the health checks went each time that somebody asked for `/healthz`
//! (upstream `k8s.io/apiserver/pkg/server/healthz`).

use ::metrics::{Family, Gauge};
use tokio::runtime::Handle;

use super::Text;
use crate::blocking_work::BlockingWork;

/// The health checks of one agent, whichever server makes them.
#[derive(Debug)]
pub struct HealthChecks {
    last: Family<2, Gauge>,
    total: Family<3>,
    blocking_work: Option<BlockingWork>,
}

impl Default for HealthChecks {
    fn default() -> Self {
        Self {
            last: Family::of(
                "kubernetes_healthcheck",
                "[STABLE] Whether a health check succeeded when it was last made",
                ["name", "type"],
                Gauge::default,
            ),
            total: Family::counter(
                "kubernetes_healthchecks_total",
                "[STABLE] Results of all health checks",
                ["name", "status", "type"],
            ),
            blocking_work: None,
        }
    }
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

    /// Whether all is well, or why it is not. Counted nowhere.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check(&self) -> Result<(), String> {
        self.blocking_work()
    }

    /// Whether blocking work goes on, or why it does not.
    pub(crate) fn blocking_work(&self) -> Result<(), String> {
        self.blocking_work.as_ref().map_or(Ok(()), BlockingWork::check)
    }

    /// A check has been made.
    pub(crate) fn count(&self, check: &'static str, healthy: bool) {
        self.last.change([check, "healthz"], |last| *last = Gauge(healthy.into()));
        self.total.count([check, if healthy { "success" } else { "error" }, "healthz"]);
    }

    pub(crate) fn write(&self, out: &mut Text) {
        self.last.write(out);
        self.total.write(out);
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
