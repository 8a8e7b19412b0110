//! `/metrics/resource` (upstream `pkg/kubelet/metrics/collectors/resource_metrics.go`): CPU, memory and swap, for
//! metrics-server. Rendered from a summary.

use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_model::stats::{ContainerStats, CpuStats, MemoryStats, PodStats, Summary, SwapStats};

use super::{Kind, Text};

/// A sample's value and time.
type Sample = (f64, Option<Time>);

/// `None`: the summary could not be had, which is said as `resource_scrape_error`.
pub(crate) fn write(out: &mut Text, summary: Option<&Summary>) {
    if let Some(summary) = summary {
        containers(
            out,
            summary,
            "container_cpu_usage_seconds_total",
            Kind::Counter,
            "[STABLE] CPU time that the container used, in core-seconds",
            |c| cpu(&c.cpu),
        );
        containers(
            out,
            summary,
            "container_memory_working_set_bytes",
            Kind::Gauge,
            "[STABLE] Working set of the container in bytes",
            |c| memory(&c.memory),
        );
        containers(
            out,
            summary,
            "container_start_time_seconds",
            Kind::Gauge,
            "[STABLE] When the container was started, seconds since the epoch",
            started,
        );
        containers(
            out,
            summary,
            "container_swap_limit_bytes",
            Kind::Gauge,
            "[ALPHA] Swap limit of the container in bytes",
            |c| swap_limit(&c.swap),
        );
        containers(
            out,
            summary,
            "container_swap_usage_bytes",
            Kind::Gauge,
            "[ALPHA] Swap that the container uses, in bytes",
            |c| swap(&c.swap),
        );
        let node = &summary.node;
        one(
            out,
            "node_cpu_usage_seconds_total",
            Kind::Counter,
            "[STABLE] CPU time that the node used, in core-seconds",
            cpu(&node.cpu),
        );
        one(
            out,
            "node_memory_working_set_bytes",
            Kind::Gauge,
            "[STABLE] Working set of the node in bytes",
            memory(&node.memory),
        );
        one(
            out,
            "node_swap_usage_bytes",
            Kind::Gauge,
            "[ALPHA] Swap that the node uses, in bytes",
            swap(&node.swap),
        );
        pods(
            out,
            summary,
            "pod_cpu_usage_seconds_total",
            Kind::Counter,
            "[STABLE] CPU time that the pod used, in core-seconds",
            |p| cpu(&p.cpu),
        );
        pods(
            out,
            summary,
            "pod_memory_working_set_bytes",
            Kind::Gauge,
            "[STABLE] Working set of the pod in bytes",
            |p| memory(&p.memory),
        );
        pods(
            out,
            summary,
            "pod_swap_usage_bytes",
            Kind::Gauge,
            "[ALPHA] Swap that the pod uses, in bytes",
            |p| swap(&p.swap),
        );
    }
    let failed = if summary.is_some() { 0.0 } else { 1.0 };
    one(
        out,
        "resource_scrape_error",
        Kind::Gauge,
        "[STABLE] 1 if the numbers above could not be had, else 0",
        Some((failed, None)),
    );
}

fn containers(
    out: &mut Text,
    summary: &Summary,
    name: &str,
    kind: Kind,
    help: &str,
    value: impl Fn(&ContainerStats) -> Option<Sample>,
) {
    let samples = summary.pods.iter().flat_map(|pod| pod.containers.iter().map(move |c| (pod, c)));
    let samples = samples.filter_map(|(pod, c)| Some((pod, c, value(c)?)));
    family(out, name, kind, help, samples, |out, (pod, container, sample)| {
        let reference = &pod.pod_ref;
        let labels = [
            ("container", &*container.name),
            ("namespace", &*reference.namespace),
            ("pod", &*reference.name),
        ];
        put(out, name, &labels, sample);
    });
}

fn pods(
    out: &mut Text,
    summary: &Summary,
    name: &str,
    kind: Kind,
    help: &str,
    value: impl Fn(&PodStats) -> Option<Sample>,
) {
    let samples = summary.pods.iter().filter_map(|pod| Some((pod, value(pod)?)));
    family(out, name, kind, help, samples, |out, (pod, sample)| {
        let labels = [("namespace", &*pod.pod_ref.namespace), ("pod", &*pod.pod_ref.name)];
        put(out, name, &labels, sample);
    });
}

fn one(out: &mut Text, name: &str, kind: Kind, help: &str, value: Option<Sample>) {
    family(out, name, kind, help, value.into_iter(), |out, sample| put(out, name, &[], sample));
}

/// A metric without samples is not named at all.
fn family<T>(
    out: &mut Text,
    name: &str,
    kind: Kind,
    help: &str,
    samples: impl Iterator<Item = T>,
    mut each: impl FnMut(&mut Text, T),
) {
    let mut samples = samples.peekable();
    if samples.peek().is_some() {
        out.metric(name, kind, help);
    }
    samples.for_each(|sample| each(out, sample));
}

fn put(out: &mut Text, name: &str, labels: &[(&str, &str)], (value, at): Sample) {
    match at {
        Some(at) => out.sample_at(name, labels, value, at.0),
        None => out.sample(name, labels, value),
    }
}

fn cpu(cpu: &Option<CpuStats>) -> Option<Sample> {
    let cpu = cpu.as_ref()?;
    Some((cpu.usage_core_nano_seconds? as f64 / 1e9, Some(cpu.time.clone())))
}

fn memory(memory: &Option<MemoryStats>) -> Option<Sample> {
    let memory = memory.as_ref()?;
    Some((memory.working_set_bytes? as f64, Some(memory.time.clone())))
}

fn swap(swap: &Option<SwapStats>) -> Option<Sample> {
    let swap = swap.as_ref()?;
    Some((swap.swap_usage_bytes? as f64, Some(swap.time.clone())))
}

fn swap_limit(swap: &Option<SwapStats>) -> Option<Sample> {
    let swap = swap.as_ref()?;
    let limit = swap.swap_available_bytes? + swap.swap_usage_bytes.unwrap_or(0);
    Some((limit as f64, Some(swap.time.clone())))
}

fn started(container: &ContainerStats) -> Option<Sample> {
    let started = container.start_time.as_ref()?.0;
    (started.as_second() > 0).then(|| (started.as_nanosecond() as f64 / 1e9, None))
}
