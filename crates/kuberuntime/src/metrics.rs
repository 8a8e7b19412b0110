//! What is counted of the runtime for `/metrics`: calls, starts of pods and containers, and how long work on cgroups and
//! pulls took.
//!
//! Names, labels and buckets are the kubelet's (upstream `pkg/kubelet/metrics/metrics.go`).

mod image_size;

use std::time::Duration;

use ::metrics::{DEFAULT_BOUNDS, Family, Histogram, Text};
use kube_model::pod::ContainerKind;
use pod_lifecycle::FailureReason;
use pod_workers::container_type;
use tokio::time::Instant;

use image_size::image_size;

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

/// Upper bounds for pulls of images, in seconds.
const PULLS: &[f64] = &[
    1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0,
    2700.0, 3600.0,
];

/// The counters of one runtime.
#[derive(Debug)]
pub struct Metrics {
    cgroups: Family<1, Histogram>,
    pulls: Family<1, Histogram>,
    /// RunPodSandbox once more, with bounds of its own.
    sandboxes: Family<1, Histogram>,
    sandbox_errors: Family<1>,
    call_seconds: Family<1, Histogram>,
    call_errors: Family<1>,
    calls: Family<1>,
    container_errors: Family<2>,
    containers: Family<1>,
    pod_errors: Family<0>,
    pods: Family<0>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            cgroups: Family::of(
                "kubelet_cgroup_manager_duration_seconds",
                "[ALPHA] How long it took to make, change or remove cgroups, in seconds",
                ["operation_type"],
                || Histogram::new(DEFAULT_BOUNDS),
            ),
            pulls: Family::of(
                "kubelet_image_pull_duration_seconds",
                "[ALPHA] How long pulls of images took, in seconds, by the image's size",
                ["image_size_in_bytes"],
                || Histogram::new(PULLS),
            ),
            sandboxes: Family::of(
                "kubelet_run_podsandbox_duration_seconds",
                "[ALPHA] How long sandboxes took to start, in seconds",
                ["runtime_handler"],
                || Histogram::new(DEFAULT_BOUNDS),
            ),
            sandbox_errors: Family::counter(
                "kubelet_run_podsandbox_errors_total",
                "[ALPHA] Sandboxes that could not be started",
                ["runtime_handler"],
            ),
            call_seconds: Family::of(
                "kubelet_runtime_operations_duration_seconds",
                "[ALPHA] How long calls to the runtime took, in seconds",
                ["operation_type"],
                || Histogram::new(CALLS),
            ),
            call_errors: Family::counter(
                "kubelet_runtime_operations_errors_total",
                "[ALPHA] Calls to the runtime that failed",
                ["operation_type"],
            ),
            calls: Family::counter(
                "kubelet_runtime_operations_total",
                "[ALPHA] Calls to the runtime",
                ["operation_type"],
            ),
            container_errors: Family::counter(
                "kubelet_started_containers_errors_total",
                "[ALPHA] Containers that could not be started",
                ["code", "container_type"],
            ),
            containers: Family::counter(
                "kubelet_started_containers_total",
                "[ALPHA] Containers that were to be started",
                ["container_type"],
            ),
            pod_errors: Family::counter(
                "kubelet_started_pods_errors_total",
                "[ALPHA] Pods whose sandbox could not be made",
                [],
            )
            .shown(),
            pods: Family::counter(
                "kubelet_started_pods_total",
                "[ALPHA] Pods whose sandbox was to be made",
                [],
            )
            .shown(),
        }
    }
}

impl Metrics {
    /// The runtime has answered, or has not.
    pub fn called(&self, method: &'static str, took: Duration, failed: bool) {
        let (operation, seconds) = (operation(method), took.as_secs_f64());
        // The agent asks for the runtime's default handler.
        const HANDLER: [&str; 1] = [""];
        if method == "RunPodSandbox" {
            self.sandboxes.change(HANDLER, |all| all.observe(seconds));
        }
        if failed {
            self.call_errors.count([operation.clone()]);
            if method == "RunPodSandbox" {
                self.sandbox_errors.count(HANDLER);
            }
        }
        self.calls.count([operation.clone()]);
        self.call_seconds.change([operation], |all| all.observe(seconds));
    }

    /// A pod's sandbox is about to be made.
    pub fn pod_starts(&self) {
        self.pods.count([""; 0]);
    }

    /// Nothing came of it.
    pub fn pod_failed(&self) {
        self.pod_errors.count([""; 0]);
    }

    /// A container is about to be made and started.
    pub fn container_starts(&self, kind: ContainerKind) {
        self.containers.count([container_type(kind)]);
    }

    /// Nothing came of it.
    pub fn container_failed(&self, kind: ContainerKind, reason: FailureReason) {
        self.container_errors.count([reason.as_str(), container_type(kind)]);
    }

    /// Something was done with a cgroup: `create`, `update` or `destroy`. It has failed or not.
    pub fn cgroup(&self, operation: &'static str, began: Instant) {
        self.cgroups.change([operation], |all| all.observe(began.elapsed().as_secs_f64()));
    }

    /// An image of this many bytes was pulled.
    pub fn image_pulled(&self, bytes: u64, took: Duration) {
        self.pulls.change([image_size(bytes)], |all| all.observe(took.as_secs_f64()));
    }

    /// Writes all of it.
    pub fn write(&self, out: &mut Text) {
        self.cgroups.write(out);
        self.pulls.write(out);
        self.sandboxes.write(out);
        self.sandbox_errors.write(out);
        self.call_seconds.write(out);
        self.call_errors.write(out);
        self.calls.write(out);
        self.container_errors.write(out);
        self.containers.write(out);
        self.pod_errors.write(out);
        self.pods.write(out);
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
