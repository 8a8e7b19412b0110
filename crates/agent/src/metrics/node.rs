//! How long the node took to become one of its cluster (upstream `pkg/kubelet/util/node_startup_latency_tracker.go`).
//! Nothing is told unless this agent registered it: a node that was there before has started long ago.

use std::sync::Mutex;
use std::time::Duration;

use server::metrics::{Kind, Text};
use tokio::time::Instant;

use super::{Metrics, lock};

#[derive(Debug)]
pub(super) struct Startup {
    began: Instant,
    /// How long the machine ran until then.
    uptime: Option<Duration>,
    steps: Mutex<Steps>,
}

/// When what was done first.
#[derive(Debug, Default)]
struct Steps {
    attempted: Option<Instant>,
    registered: Option<Instant>,
    ready: Option<Instant>,
}

impl Default for Startup {
    fn default() -> Self {
        Self { began: Instant::now(), uptime: uptime(), steps: Mutex::default() }
    }
}

impl Metrics {
    /// The node is about to be created at the API server.
    pub(crate) fn node_registers(&self) {
        lock(&self.node.steps).attempted.get_or_insert_with(Instant::now);
    }

    /// It was.
    pub(crate) fn node_registered(&self) {
        let mut steps = lock(&self.node.steps);
        if steps.attempted.is_some() {
            steps.registered.get_or_insert_with(Instant::now);
        }
    }

    /// The API server has heard that the node is ready.
    pub(crate) fn node_ready(&self) {
        let mut steps = lock(&self.node.steps);
        if steps.registered.is_some() {
            steps.ready.get_or_insert_with(Instant::now);
        }
    }
}

impl Startup {
    pub(super) fn write(&self, out: &mut Text) {
        let steps = lock(&self.steps);
        let began = Some(self.began).filter(|_| steps.registered.is_some());
        let between = |from: Option<Instant>, to: Option<Instant>| Some(to?.duration_since(from?));
        let uptime = self.uptime.filter(|_| began.is_some());
        let to_ready = between(began, steps.ready);
        for (name, took, help) in [
            ("", uptime.zip(to_ready).map(|(a, b)| a + b), "from the machine's start until it was ready"),
            (
                "post_registration_",
                between(steps.registered, steps.ready),
                "from its registration until it was ready",
            ),
            ("pre_kubelet_", uptime, "from the machine's start until this agent's"),
            (
                "pre_registration_",
                between(began, steps.attempted),
                "from the agent's start until its registration began",
            ),
            ("registration_", between(steps.attempted, steps.registered), "to register"),
        ] {
            let name = format!("kubelet_node_startup_{name}duration_seconds");
            out.metric(
                &name,
                Kind::Gauge,
                &format!("[ALPHA] How long the node took {help}, in seconds; 0: unknown"),
            );
            out.sample(&name, &[], took.unwrap_or_default().as_secs_f64());
        }
    }
}

/// How long the machine has run.
fn uptime() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    Duration::try_from_secs_f64(text.split_whitespace().next()?.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_that_was_registered_now_is_told_of() {
        let page = |startup: &Startup| {
            let mut out = Text::default();
            startup.write(&mut out);
            let page = out.finish();
            page.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        let began = Instant::now();
        let at = |second: u64| began + Duration::from_secs(second - 100);
        let mut startup = Startup { began, uptime: Some(Duration::from_secs(40)), steps: Mutex::default() };
        startup.steps.get_mut().unwrap().attempted = Some(at(101));
        assert!(page(&startup).iter().all(|line| line.ends_with(" 0")));
        *startup.steps.get_mut().unwrap() =
            Steps { attempted: Some(at(101)), registered: Some(at(103)), ready: Some(at(110)) };
        assert_eq!(
            page(&startup),
            [
                "kubelet_node_startup_duration_seconds 50",
                "kubelet_node_startup_post_registration_duration_seconds 7",
                "kubelet_node_startup_pre_kubelet_duration_seconds 40",
                "kubelet_node_startup_pre_registration_duration_seconds 1",
                "kubelet_node_startup_registration_duration_seconds 2",
            ]
        );
        let metrics = Metrics::default();
        metrics.node_registered();
        metrics.node_ready();
        assert!(lock(&metrics.node.steps).ready.is_none(), "it was there before");
    }
}
