//! What is counted of pods and their containers for `/metrics`, as an [`Observer`] hears of them.
//!
//! Names, labels and buckets are the kubelet's (upstream `pkg/kubelet/metrics/metrics.go`).

mod startup;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::metrics::{DEFAULT_BOUNDS, Family, Histogram, Kind, Text};
use kube_model::core::Pod;
use kube_model::observed::Container;
use kube_model::pod::{ContainerKind, is_static};

use crate::{Lifecycle, Observer, Wanted, Working, WorkingPods};

pub use startup::StartupLatency;

/// Upper bounds for the start of a pod, in seconds.
const STARTS: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0,
    480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];

/// Upper bounds for the number of a pod's containers.
const CONTAINERS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0];

/// The reasons that `kubelet_admission_rejections_total` tells apart; the others are `Other`, so that nobody can make
/// the page grow. The kubelet's list is meant to have `TaintToleration` too, and has the words of its message in its
/// place, so that reason is never counted as itself.
const REJECTIONS: &[&str] = &[
    "AppArmor",
    "Evicted",
    "InitContainerRestartPolicyForbidden",
    "InvalidNodeInfo",
    "NodeShutdown",
    "OutOfcpu",
    "OutOfephemeral-storage",
    "OutOfmemory",
    "OutOfpods",
    "PodOSNotSupported",
    "PodOSSelectorNodeLabelDoesNotMatch",
    "SupplementalGroupsPolicyNotSupported",
    "SysctlForbidden",
    "TopologyAffinityError",
    "UnexpectedAdmissionError",
    "UnexpectedPredicateFailureType",
    "UnknownReason",
];

/// Who wants a pod, whether it is static, and the label that says so: only these come together.
const WORKING: [(Wanted, bool, &str, &str); 5] = [
    (Wanted::Desired, true, "desired", "true"),
    (Wanted::Desired, false, "desired", ""),
    (Wanted::Orphan, true, "orphan", "true"),
    (Wanted::Orphan, false, "orphan", ""),
    (Wanted::RuntimeOnly, true, "runtime_only", "unknown"),
];

/// Counts pods and their containers.
#[derive(Debug)]
pub struct PodMetrics {
    rejected: Family<1>,
    containers: Family<0, Histogram>,
    starts: Family<0, Histogram>,
    waits: Family<0, Histogram>,
    orphaned: Family<0>,
    restarted: Family<1>,
    ended: Family<3>,
}

impl Default for PodMetrics {
    fn default() -> Self {
        let restarted = Family::counter(
            "kubelet_restarted_pods_total",
            "[ALPHA] Pods that were wanted again under their UID while they were being removed; static is true if they \
             are not from the API server",
            ["static"],
        );
        for label in ["", "true"] {
            restarted.change([label], |_| {});
        }
        Self {
            rejected: Family::counter(
                "kubelet_admission_rejections_total",
                "[ALPHA] Pods that the node did not take, by reason",
                ["reason"],
            ),
            containers: Family::of(
                "kubelet_containers_per_pod_count",
                "[ALPHA] How many containers pods have",
                [],
                || Histogram::new(CONTAINERS),
            )
            .shown(),
            starts: Family::of(
                "kubelet_pod_start_duration_seconds",
                "[ALPHA] How long pods took from when they were first seen until they ran, in seconds",
                [],
                || Histogram::new(STARTS),
            )
            .shown(),
            waits: Family::of(
                "kubelet_pod_worker_start_duration_seconds",
                "[ALPHA] How long pods waited until somebody began to look after them, in seconds",
                [],
                || Histogram::new(DEFAULT_BOUNDS),
            )
            .shown(),
            orphaned: Family::counter(
                "kubelet_orphaned_runtime_pods_total",
                "[ALPHA] Pods that the runtime had and that no source wanted",
                [],
            )
            .shown(),
            restarted,
            ended: Family::counter(
                "kubelet_terminated_containers_total",
                "[ALPHA] Containers that have ended, by exit code and reason",
                ["container_type", "exit_code", "reason"],
            ),
        }
    }
}

impl Observer for PodMetrics {
    fn started(&self, pod: &Pod, waited: Duration) {
        let containers = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
        self.containers.change([""; 0], |all| all.observe(containers as f64));
        self.waits.change([""; 0], |all| all.observe(waited.as_secs_f64()));
    }

    fn rejected(&self, reason: &str) {
        let known = REJECTIONS.iter().find(|known| **known == reason);
        self.rejected.count([known.copied().unwrap_or("Other")]);
    }

    fn runs(&self, took: Duration) {
        self.starts.change([""; 0], |all| all.observe(took.as_secs_f64()));
    }

    fn ended(&self, kind: Option<ContainerKind>, container: &Container) {
        let kind = container_type(kind.unwrap_or(ContainerKind::Regular)).to_owned();
        self.ended.count([kind, container.exit_code.to_string(), container.reason.clone()]);
    }

    fn orphaned(&self) {
        self.orphaned.count([""; 0]);
    }

    fn restarted(&self, pod: &Pod) {
        self.restarted.count([if is_static(pod) { "true" } else { "" }]);
    }
}

impl PodMetrics {
    /// Writes what was counted.
    pub fn write(&self, out: &mut Text) {
        self.rejected.write(out);
        self.containers.write(out);
        self.starts.write(out);
        self.waits.write(out);
        self.orphaned.write(out);
        self.restarted.write(out);
        self.ended.write(out);
    }
}

/// All kinds of pods, also those of which there are none.
pub fn write_working(out: &mut Text, pods: &WorkingPods) {
    let name = "kubelet_working_pods";
    let help = "[ALPHA] Pods that are being looked after, by how far they are, whether a source wants them, and \
                whether they are static";
    out.metric(name, Kind::Gauge, help);
    for (wanted, is_static, config, label) in WORKING {
        for (lifecycle, stage) in [
            (Lifecycle::Sync, "sync"),
            (Lifecycle::Terminating, "terminating"),
            (Lifecycle::Terminated, "terminated"),
        ] {
            let count = pods.get(&Working { lifecycle, wanted, is_static }).copied().unwrap_or_default();
            out.sample(name, &[("config", config), ("lifecycle", stage), ("static", label)], count);
        }
    }
}

/// What the kubelet's metrics call a container of this kind.
pub fn container_type(kind: ContainerKind) -> &'static str {
    match kind {
        ContainerKind::Init | ContainerKind::Sidecar => "init_container",
        ContainerKind::Regular => "container",
    }
}

fn lock<T>(counters: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counters that a panic left half counted are still counters.
    counters.lock().unwrap_or_else(PoisonError::into_inner)
}
