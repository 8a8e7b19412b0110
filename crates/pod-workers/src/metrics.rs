//! What is counted of pods and their containers for `/metrics`, as an [`Observer`] hears of them.
//!
//! Names, labels and buckets are the kubelet's (upstream `pkg/kubelet/metrics/metrics.go`).

mod startup;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::metrics::{DEFAULT_BOUNDS, Histogram, Kind, Text};
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
pub struct PodMetrics(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    containers: Histogram,
    waits: Histogram,
    starts: Histogram,
    rejected: BTreeMap<&'static str, u64>,
    /// By kind, exit code and reason.
    ended: BTreeMap<(&'static str, i32, Box<str>), u64>,
    orphaned: u64,
    restarted_static: u64,
    restarted: u64,
}

impl Default for PodMetrics {
    fn default() -> Self {
        Self(Mutex::new(Counts {
            containers: Histogram::new(CONTAINERS),
            waits: Histogram::new(DEFAULT_BOUNDS),
            starts: Histogram::new(STARTS),
            rejected: BTreeMap::new(),
            ended: BTreeMap::new(),
            orphaned: 0,
            restarted_static: 0,
            restarted: 0,
        }))
    }
}

impl Observer for PodMetrics {
    fn started(&self, pod: &Pod, waited: Duration) {
        let mut counts = lock(&self.0);
        counts.containers.observe(pod.spec.as_ref().map_or(0, |spec| spec.containers.len()) as f64);
        counts.waits.observe(waited.as_secs_f64());
    }

    fn rejected(&self, reason: &str) {
        let known = REJECTIONS.iter().find(|known| **known == reason);
        *lock(&self.0).rejected.entry(known.copied().unwrap_or("Other")).or_default() += 1;
    }

    fn runs(&self, took: Duration) {
        lock(&self.0).starts.observe(took.as_secs_f64());
    }

    fn ended(&self, kind: Option<ContainerKind>, container: &Container) {
        let kind = container_type(kind.unwrap_or(ContainerKind::Regular));
        let key = (kind, container.exit_code, container.reason.as_str().into());
        *lock(&self.0).ended.entry(key).or_default() += 1;
    }

    fn orphaned(&self) {
        lock(&self.0).orphaned += 1;
    }

    fn restarted(&self, pod: &Pod) {
        let mut counts = lock(&self.0);
        *(if is_static(pod) { &mut counts.restarted_static } else { &mut counts.restarted }) += 1;
    }
}

impl PodMetrics {
    /// Writes what was counted.
    pub fn write(&self, out: &mut Text) {
        let counts = lock(&self.0);
        if !counts.rejected.is_empty() {
            let name = "kubelet_admission_rejections_total";
            out.metric(name, Kind::Counter, "[ALPHA] Pods that the node did not take, by reason");
            for (reason, count) in &counts.rejected {
                out.sample(name, &[("reason", reason)], count);
            }
        }
        let mut histogram = |name: &str, help: &str, histogram| {
            out.metric(name, Kind::Histogram, help);
            out.histogram(name, &[], histogram);
        };
        histogram(
            "kubelet_containers_per_pod_count",
            "[ALPHA] How many containers pods have",
            &counts.containers,
        );
        let help = "[ALPHA] How long pods took from when they were first seen until they ran, in seconds";
        histogram("kubelet_pod_start_duration_seconds", help, &counts.starts);
        let help = "[ALPHA] How long pods waited until somebody began to look after them, in seconds";
        histogram("kubelet_pod_worker_start_duration_seconds", help, &counts.waits);
        let name = "kubelet_orphaned_runtime_pods_total";
        out.metric(name, Kind::Counter, "[ALPHA] Pods that the runtime had and that no source wanted");
        out.sample(name, &[], counts.orphaned);
        let name = "kubelet_restarted_pods_total";
        let help = "[ALPHA] Pods that were wanted again under their UID while they were being removed; static is \
                    true if they are not from the API server";
        out.metric(name, Kind::Counter, help);
        for (label, count) in [("", counts.restarted), ("true", counts.restarted_static)] {
            out.sample(name, &[("static", label)], count);
        }
        if !counts.ended.is_empty() {
            let name = "kubelet_terminated_containers_total";
            out.metric(name, Kind::Counter, "[ALPHA] Containers that have ended, by exit code and reason");
            for ((kind, code, reason), count) in &counts.ended {
                let code = code.to_string();
                let labels = [("container_type", *kind), ("exit_code", &*code), ("reason", &**reason)];
                out.sample(name, &labels, count);
            }
        }
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
