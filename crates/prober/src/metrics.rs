//! `/metrics/probes`: how the prober's probes went.

use ::metrics::{Histogram, Kind, Text};
use kube_model::probe::ProbeKind;

use crate::{SECONDS, Tallied};

/// Upper bounds of how long probes take.
static BOUNDS: [f64; SECONDS.len()] = SECONDS;

/// Writes the page. Results and times that never came are left out, as by the kubelet.
pub fn write_metrics(out: &mut Text, mut probes: Vec<Tallied>) {
    if probes.is_empty() {
        return;
    }
    probes.sort_by(|a, b| key(a).cmp(&key(b)));
    let name = "prober_probe_duration_seconds";
    out.metric(
        name,
        Kind::Histogram,
        "[ALPHA] How long probes of containers took, in seconds; failed ones left out",
    );
    for probe in probes.iter().filter(|probe| probe.tally.timed > 0) {
        let (namespace, pod, container, kind, _) = key(probe);
        let labels =
            [("container", container), ("namespace", namespace), ("pod", pod), ("probe_type", label(kind))];
        let tally = &probe.tally;
        let times = Histogram::counted(&BOUNDS, &tally.buckets, tally.timed, tally.seconds);
        out.histogram(name, &labels, &times);
    }
    let name = "prober_probe_total";
    out.metric(name, Kind::Counter, "[BETA] Probes of containers by result");
    for probe in &probes {
        let (namespace, pod, container, kind, uid) = key(probe);
        let tally = &probe.tally;
        let results =
            [("failed", tally.failed), ("successful", tally.successful), ("unknown", tally.unknown)];
        for (result, count) in results.into_iter().filter(|(_, count)| *count > 0) {
            let labels = [
                ("container", container),
                ("namespace", namespace),
                ("pod", pod),
                ("pod_uid", uid),
                ("probe_type", label(kind)),
                ("result", result),
            ];
            out.sample(name, &labels, count);
        }
    }
}

/// Namespace, pod, container, probe, and the pod's UID.
fn key(probe: &Tallied) -> (&str, &str, &str, ProbeKind, &str) {
    let metadata = &probe.pod.metadata;
    (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
        &probe.container,
        probe.kind,
        metadata.uid.as_deref().unwrap_or_default(),
    )
}

fn label(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Liveness => "Liveness",
        ProbeKind::Readiness => "Readiness",
        ProbeKind::Startup => "Startup",
    }
}
