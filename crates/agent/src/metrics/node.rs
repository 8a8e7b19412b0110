//! How long the node took to become one of its cluster (upstream `pkg/kubelet/util/node_startup_latency_tracker.go`).
//! Nothing is told unless this agent registered it: a node that was there before has started long ago.

use std::sync::Mutex;

use kube_model::Timestamp;
use server::metrics::{Kind, Text};

use super::{Metrics, lock};

#[derive(Debug)]
pub(super) struct Startup {
    began: Timestamp,
    steps: Mutex<Steps>,
}

/// When what was done first.
#[derive(Debug, Default)]
struct Steps {
    attempted: Option<Timestamp>,
    registered: Option<Timestamp>,
    ready: Option<Timestamp>,
}

impl Default for Startup {
    fn default() -> Self {
        Self { began: crate::wall(), steps: Mutex::default() }
    }
}

impl Metrics {
    /// The node is about to be created at the API server.
    pub(crate) fn node_registers(&self) {
        lock(&self.node.steps).attempted.get_or_insert_with(crate::wall);
    }

    /// It was.
    pub(crate) fn node_registered(&self) {
        let mut steps = lock(&self.node.steps);
        if steps.attempted.is_some() {
            steps.registered.get_or_insert_with(crate::wall);
        }
    }

    /// The API server has heard that the node is ready.
    pub(crate) fn node_ready(&self) {
        let mut steps = lock(&self.node.steps);
        if steps.registered.is_some() {
            steps.ready.get_or_insert_with(crate::wall);
        }
    }
}

impl Startup {
    pub(super) fn write(&self, out: &mut Text) {
        self.write_since(booted(), out);
    }

    fn write_since(&self, boot: Option<Timestamp>, out: &mut Text) {
        let steps = lock(&self.steps);
        let began = Some(self.began).filter(|_| steps.registered.is_some());
        for (name, from, to, help) in [
            ("", boot, steps.ready, "from the machine's start until it was ready"),
            ("post_registration_", steps.registered, steps.ready, "from its registration until it was ready"),
            ("pre_kubelet_", boot, began, "from the machine's start until this agent's"),
            (
                "pre_registration_",
                began,
                steps.attempted,
                "from the agent's start until its registration began",
            ),
            ("registration_", steps.attempted, steps.registered, "to register"),
        ] {
            let name = format!("kubelet_node_startup_{name}duration_seconds");
            out.metric(
                &name,
                Kind::Gauge,
                &format!("[ALPHA] How long the node took {help}, in seconds; 0: unknown"),
            );
            let took = from.zip(to).map(|(from, to)| to.duration_since(from).as_secs_f64());
            out.sample(&name, &[], took.unwrap_or_default());
        }
    }
}

fn booted() -> Option<Timestamp> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let second = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Timestamp::from_second(second).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_that_was_registered_now_is_told_of() {
        let page = |startup: &Startup, boot: Option<Timestamp>| {
            let mut out = Text::default();
            startup.write_since(boot, &mut out);
            let page = out.finish();
            page.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut startup = Startup { began: at(100), steps: Mutex::default() };
        startup.steps.get_mut().unwrap().attempted = Some(at(101));
        assert!(page(&startup, Some(at(60))).iter().all(|line| line.ends_with(" 0")));
        *startup.steps.get_mut().unwrap() =
            Steps { attempted: Some(at(101)), registered: Some(at(103)), ready: Some(at(110)) };
        assert_eq!(
            page(&startup, Some(at(60))),
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
