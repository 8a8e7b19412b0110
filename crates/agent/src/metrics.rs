//! What the agent itself counts for `/metrics`: calls to the runtime, starts of pods and containers.
//!
//! Names, labels and buckets are the kubelet's (reference 7.4). What is counted elsewhere is written elsewhere.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube_model::pod::ContainerKind;
use pod_lifecycle::FailureReason;
use server::metrics::{Histogram, Kind, Text};

/// Upper bounds for calls to the runtime, in seconds: fourteen of them, each 2.5 times the one before.
const CALLS: &[f64] = &[
    0.005,
    0.0125,
    0.03125,
    0.078125,
    0.1953125,
    0.48828125,
    1.220703125,
    3.0517578125,
    7.62939453125,
    19.073486328125,
    47.6837158203125,
    119.20928955078125,
    298.0232238769531,
    745.0580596923828,
];

/// Upper bounds for the start of a sandbox: Prometheus' default ones.
const SANDBOXES: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The counters of one agent.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By the method as CRI names it.
    calls: BTreeMap<&'static str, Calls>,
    /// RunPodSandbox once more, with bounds of its own.
    sandboxes: Option<Calls>,
    pods: u64,
    pod_errors: u64,
    /// By the kind as the kubelet names it.
    containers: BTreeMap<&'static str, u64>,
    /// The same, and by the reason.
    container_errors: BTreeMap<(&'static str, &'static str), u64>,
}

#[derive(Debug)]
struct Calls {
    total: u64,
    errors: u64,
    seconds: Histogram,
}

impl Calls {
    fn new(bounds: &'static [f64]) -> Self {
        Self { total: 0, errors: 0, seconds: Histogram::new(bounds) }
    }

    fn count(&mut self, took: Duration, failed: bool) {
        self.total += 1;
        self.errors += u64::from(failed);
        self.seconds.observe(took.as_secs_f64());
    }
}

impl Metrics {
    /// The runtime has answered, or has not.
    pub(crate) fn called(&self, method: &'static str, took: Duration, failed: bool) {
        let mut counts = self.lock();
        counts.calls.entry(method).or_insert_with(|| Calls::new(CALLS)).count(took, failed);
        if method == "RunPodSandbox" {
            counts.sandboxes.get_or_insert_with(|| Calls::new(SANDBOXES)).count(took, failed);
        }
    }

    /// A pod's sandbox is about to be made.
    pub(crate) fn pod_starts(&self) {
        self.lock().pods += 1;
    }

    /// Nothing came of it.
    pub(crate) fn pod_failed(&self) {
        self.lock().pod_errors += 1;
    }

    /// A container is about to be made and started.
    pub(crate) fn container_starts(&self, kind: ContainerKind) {
        *self.lock().containers.entry(name(kind)).or_default() += 1;
    }

    /// Nothing came of it.
    pub(crate) fn container_failed(&self, kind: ContainerKind, reason: FailureReason) {
        *self.lock().container_errors.entry((name(kind), reason.as_str())).or_default() += 1;
    }

    pub(crate) fn write(&self, out: &mut Text) {
        let counts = self.lock();
        counts.write_calls(out);
        let mut counter = |name: &str, help: &str, samples: &[(Vec<(&str, &str)>, u64)]| {
            if !samples.is_empty() {
                out.metric(name, Kind::Counter, help);
            }
            for (labels, count) in samples {
                out.sample(name, labels, count);
            }
        };
        let containers = counts.containers.iter();
        let containers: Vec<_> = containers.map(|(kind, n)| (vec![("container_type", *kind)], *n)).collect();
        let errors = counts.container_errors.iter();
        let errors: Vec<_> =
            errors.map(|((kind, code), n)| (vec![("code", *code), ("container_type", *kind)], *n)).collect();
        counter(
            "kubelet_started_containers_errors_total",
            "[ALPHA] Containers that could not be started",
            &errors,
        );
        counter(
            "kubelet_started_containers_total",
            "[ALPHA] Containers that were to be started",
            &containers,
        );
        let none = Vec::new;
        counter(
            "kubelet_started_pods_errors_total",
            "[ALPHA] Pods whose sandbox could not be made",
            &[(none(), counts.pod_errors)],
        );
        counter(
            "kubelet_started_pods_total",
            "[ALPHA] Pods whose sandbox was to be made",
            &[(none(), counts.pods)],
        );
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counters that a panic left half counted are still counters.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn write_calls(&self, out: &mut Text) {
        if let Some(calls) = &self.sandboxes {
            // The agent asks for the runtime's default handler.
            let handler = [("runtime_handler", "")];
            let name = "kubelet_run_podsandbox_duration_seconds";
            out.metric(name, Kind::Histogram, "[ALPHA] How long sandboxes took to start, in seconds");
            out.histogram(name, &handler, &calls.seconds);
            if calls.errors > 0 {
                let name = "kubelet_run_podsandbox_errors_total";
                out.metric(name, Kind::Counter, "[ALPHA] Sandboxes that could not be started");
                out.sample(name, &handler, calls.errors);
            }
        }
        if self.calls.is_empty() {
            return;
        }
        let calls = || self.calls.iter().map(|(method, calls)| (operation(method), calls));
        let name = "kubelet_runtime_operations_duration_seconds";
        out.metric(name, Kind::Histogram, "[ALPHA] How long calls to the runtime took, in seconds");
        for (operation, calls) in calls() {
            out.histogram(name, &[("operation_type", &operation)], &calls.seconds);
        }
        if calls().any(|(_, calls)| calls.errors > 0) {
            let name = "kubelet_runtime_operations_errors_total";
            out.metric(name, Kind::Counter, "[ALPHA] Calls to the runtime that failed");
            for (operation, calls) in calls().filter(|(_, calls)| calls.errors > 0) {
                out.sample(name, &[("operation_type", &operation)], calls.errors);
            }
        }
        let name = "kubelet_runtime_operations_total";
        out.metric(name, Kind::Counter, "[ALPHA] Calls to the runtime");
        for (operation, calls) in calls() {
            out.sample(name, &[("operation_type", &operation)], calls.total);
        }
    }
}

/// What the kubelet calls a method of CRI: `run_podsandbox`.
fn operation(method: &str) -> String {
    let mut name = String::with_capacity(method.len() + 4);
    for c in method.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name.replace("pod_sandbox", "podsandbox")
}

fn name(kind: ContainerKind) -> &'static str {
    match kind {
        ContainerKind::Init | ContainerKind::Sidecar => "init_container",
        ContainerKind::Regular => "container",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_called_as_the_kubelet_calls_them() {
        for (method, expected) in [
            ("Version", "version"),
            ("RunPodSandbox", "run_podsandbox"),
            ("PodSandboxStatus", "podsandbox_status"),
            ("ListContainers", "list_containers"),
            ("ImageFsInfo", "image_fs_info"),
        ] {
            assert_eq!(operation(method), expected);
        }
    }

    #[test]
    fn what_was_counted_has_the_names_types_and_labels_of_the_kubelet() {
        let metrics = Metrics::default();
        metrics.called("RunPodSandbox", Duration::from_millis(20), true);
        metrics.called("RunPodSandbox", Duration::from_millis(20), false);
        metrics.called("ListImages", Duration::from_millis(4), false);
        metrics.pod_starts();
        metrics.container_starts(ContainerKind::Regular);
        metrics.container_starts(ContainerKind::Sidecar);
        metrics.container_failed(ContainerKind::Regular, FailureReason::RunContainerError);
        let mut out = Text::default();
        metrics.write(&mut out);
        let page = out.finish();
        let recorded = include_str!("../../../tests/fixtures/server/metrics.tsv");
        for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            // The recording does not have it: nothing had failed.
            let rare = name == "kubelet_run_podsandbox_errors_total";
            assert!(rare || recorded.contains(&format!("\n{name}\t{kind}\t")), "{line}");
        }
        for line in [
            "kubelet_run_podsandbox_duration_seconds_bucket{runtime_handler=\"\",le=\"0.025\"} 2",
            "kubelet_runtime_operations_total{operation_type=\"run_podsandbox\"} 2",
            "kubelet_runtime_operations_errors_total{operation_type=\"run_podsandbox\"} 1",
            "kubelet_runtime_operations_duration_seconds_bucket{operation_type=\"list_images\",le=\"0.005\"} 1",
            "kubelet_started_pods_total 1",
            "kubelet_started_pods_errors_total 0",
            "kubelet_started_containers_total{container_type=\"init_container\"} 1",
            "kubelet_started_containers_errors_total{code=\"RunContainerError\",container_type=\"container\"} 1",
        ] {
            assert!(page.contains(&format!("{line}\n")), "{line}: {page}");
        }
    }
}
