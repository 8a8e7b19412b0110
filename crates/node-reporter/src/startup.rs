//! How long the node took to become one of its cluster (upstream `pkg/kubelet/util/node_startup_latency_tracker.go`).
//! Nothing is told unless this agent registered it: a node that was there before has started long ago.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::metrics::{Kind, Text};
use tokio::time::Instant;

/// Follows the node until it is ready.
#[derive(Debug)]
pub struct StartupLatency {
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

impl StartupLatency {
    /// The agent starts now, on a machine that has run for so long, if that is known.
    pub fn new(uptime: Option<Duration>) -> Self {
        Self { began: Instant::now(), uptime, steps: Mutex::default() }
    }

    /// The node is about to be created at the API server.
    pub fn registers(&self) {
        lock(&self.steps).attempted.get_or_insert_with(Instant::now);
    }

    /// It was.
    pub fn registered(&self) {
        let mut steps = lock(&self.steps);
        if steps.attempted.is_some() {
            steps.registered.get_or_insert_with(Instant::now);
        }
    }

    /// The API server has heard that the node is ready.
    pub fn ready(&self) {
        let mut steps = lock(&self.steps);
        if steps.registered.is_some() {
            steps.ready.get_or_insert_with(Instant::now);
        }
    }

    /// Writes how long that took.
    pub fn write(&self, out: &mut Text) {
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

fn lock(steps: &Mutex<Steps>) -> MutexGuard<'_, Steps> {
    // Times that a panic left half noted are still times.
    steps.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_that_was_registered_now_is_told_of() {
        let page = |startup: &StartupLatency| {
            let mut out = Text::default();
            startup.write(&mut out);
            let page = out.finish();
            page.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        let began = Instant::now();
        let at = |second: u64| began + Duration::from_secs(second - 100);
        let mut startup =
            StartupLatency { began, uptime: Some(Duration::from_secs(40)), steps: Mutex::default() };
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
        let there = StartupLatency::new(None);
        there.registered();
        there.ready();
        assert!(lock(&there.steps).ready.is_none(), "it was there before");
    }
}
