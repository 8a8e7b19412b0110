//! What is counted of the runtime for `/metrics`: calls, starts of pods and containers, and how long work on cgroups and
//! pulls took.
//!
//! Names, labels and buckets are the kubelet's (upstream `pkg/kubelet/metrics/metrics.go`).

mod timings;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::metrics::{DEFAULT_BOUNDS, Histogram, Kind, Text};
use kube_model::pod::ContainerKind;
use pod_lifecycle::FailureReason;
use pod_workers::container_type;

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

/// The counters of one runtime.
#[derive(Debug, Default)]
pub struct Metrics {
    counts: Mutex<Counts>,
    timings: timings::Timings,
}

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
    pub fn called(&self, method: &'static str, took: Duration, failed: bool) {
        let mut counts = self.lock();
        counts.calls.entry(method).or_insert_with(|| Calls::new(CALLS)).count(took, failed);
        if method == "RunPodSandbox" {
            counts.sandboxes.get_or_insert_with(|| Calls::new(DEFAULT_BOUNDS)).count(took, failed);
        }
    }

    /// A pod's sandbox is about to be made.
    pub fn pod_starts(&self) {
        self.lock().pods += 1;
    }

    /// Nothing came of it.
    pub fn pod_failed(&self) {
        self.lock().pod_errors += 1;
    }

    /// A container is about to be made and started.
    pub fn container_starts(&self, kind: ContainerKind) {
        *self.lock().containers.entry(container_type(kind)).or_default() += 1;
    }

    /// Nothing came of it.
    pub fn container_failed(&self, kind: ContainerKind, reason: FailureReason) {
        *self.lock().container_errors.entry((container_type(kind), reason.as_str())).or_default() += 1;
    }

    /// Writes all of it.
    pub fn write(&self, out: &mut Text) {
        self.timings.write(out);
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
        lock(&self.counts)
    }
}

fn lock<T>(counters: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counters that a panic left half counted are still counters.
    counters.lock().unwrap_or_else(PoisonError::into_inner)
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
}
