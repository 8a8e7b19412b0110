//! What is counted of volumes for `/metrics`. Names, labels and buckets are the kubelet's (upstream
//! `pkg/volume/util/metrics.go`, `pkg/kubelet/volumemanager/metrics`, `pkg/kubelet/metrics/collectors/volume_stats.go`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ::metrics::{DEFAULT_BOUNDS, Family, Histogram, Kind as Type, Text};
use kube_model::core::Volume;
use volume_plan::persistent::Source;
use volume_plan::spec::Kind;

use crate::claimed::Claimed;
use crate::manager::{Volumes, find};
use crate::usage::{Measure, Measured};

/// Upper bounds for operations, in seconds.
const OPERATIONS: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0];

/// The name of one.
type Plugin = Cow<'static, str>;

/// What was done.
#[derive(Debug)]
pub(crate) struct Counted {
    operations: Family<4, Histogram>,
    mounts: Family<2, Histogram>,
    measurements: Family<1, Histogram>,
}

impl Default for Counted {
    fn default() -> Self {
        Self {
            operations: Family::of(
                "storage_operation_duration_seconds",
                "[ALPHA] How long operations for volumes took, in seconds",
                ["migrated", "operation_name", "status", "volume_plugin"],
                || Histogram::new(OPERATIONS),
            ),
            mounts: Family::of(
                "volume_operation_total_seconds",
                "[ALPHA] How long it took from when a volume was wanted until it was there, in seconds",
                ["operation_name", "plugin_name"],
                || Histogram::new(OPERATIONS),
            ),
            measurements: Family::of(
                "kubelet_volume_metric_collection_duration_seconds",
                "[ALPHA] How long it took to measure what volumes hold, in seconds",
                ["metric_source"],
                || Histogram::new(DEFAULT_BOUNDS),
            ),
        }
    }
}

impl Counted {
    /// An operation has ended.
    pub(crate) fn operated(&self, operation: &'static str, plugin: Plugin, failed: bool, took: Duration) {
        let status = if failed { "fail-unknown" } else { "success" };
        let labels = [Cow::from("false"), operation.into(), status.into(), plugin];
        self.operations.change(labels, |all| all.observe(took.as_secs_f64()));
    }

    /// A volume is there, so long after it was wanted.
    pub(crate) fn mounted(&self, plugin: Plugin, took: Duration) {
        self.mounts
            .change([Cow::from("overall_volume_mount"), plugin], |all| all.observe(took.as_secs_f64()));
    }

    /// A volume was measured by this.
    pub(crate) fn measured(&self, source: &'static str, took: Duration) {
        self.measurements.change([source], |all| all.observe(took.as_secs_f64()));
    }
}

/// The plugin of a volume as upstream calls it; of a claim that of what it stands for, if that is known.
pub(crate) fn plugin(volume: &Volume, claimed: Option<&Claimed>) -> Plugin {
    const HOST_PATH: &str = "kubernetes.io/host-path";
    let kind = Kind::of(volume);
    let dir = match (kind, claimed.map(Claimed::source)) {
        (Kind::HostPath(_), _) | (Kind::Claim(_), Some(Source::HostPath(_))) => return HOST_PATH.into(),
        (Kind::Image(_), _) => return "kubernetes.io/image".into(),
        (Kind::Csi(source), _) => return format!("kubernetes.io/csi:{}", source.driver).into(),
        (Kind::Claim(_), Some(Source::Csi(source))) => {
            return format!("kubernetes.io/csi:{}", source.driver).into();
        }
        (Kind::Claim(_), Some(source)) => source.plugin_dir(),
        _ => kind.plugin_dir(),
    };
    dir.map_or("N/A".into(), |dir| dir.replace('~', "/").into())
}

impl Volumes {
    /// Writes the metrics. What claims hold is as it was measured last, and is measured anew for the next time if that is
    /// older than `period`; `None`: it is not told. Within a tokio runtime.
    pub fn write_metrics(&self, out: &mut Text, period: Option<Duration>) {
        let Counted { operations, mounts, measurements } = &self.inner.counted;
        operations.write(out);
        self.write_totals(out);
        mounts.write(out);
        measurements.write(out);
        let Some(period) = period else { return };
        let known = self.known_now();
        let of_claims: Vec<_> = known.values().flatten().filter(|one| one.claim.is_some()).collect();
        write_claims(out, &of_claims);
        if self.has_claims() {
            let volumes = self.clone();
            tokio::spawn(async move { volumes.usage(Measure::Claims, period).await });
        }
    }

    fn write_totals(&self, out: &mut Text) {
        let mut totals = BTreeMap::<_, usize>::new();
        for entry in self.inner.pods().values() {
            for (name, claimed, is_mounted) in entry.wanted() {
                let Some(volume) = find(entry.pod(), name) else { continue };
                let mut add = |state| *totals.entry((plugin(volume, claimed), state)).or_default() += 1;
                add("desired_state_of_world");
                if is_mounted {
                    add("actual_state_of_world");
                }
            }
        }
        if totals.is_empty() {
            return;
        }
        let name = "volume_manager_total_volumes";
        out.metric(name, Type::Gauge, "[ALPHA] Volumes of pods that are wanted, and that are there");
        for ((plugin, state), count) in totals {
            out.sample(name, &[("plugin_name", &*plugin), ("state", state)], count);
        }
    }
}

/// Of several volumes of one claim the first is told.
fn write_claims(out: &mut Text, measured: &[&Measured]) {
    let mut seen = BTreeSet::new();
    let first = |one: &&&Measured| {
        one.claim.as_ref().is_some_and(|claim| seen.insert((claim.namespace.clone(), claim.name.clone())))
    };
    let measured: Vec<_> = measured.iter().filter(first).collect();
    if measured.is_empty() {
        return;
    }
    type Value = fn(&volume_fs::usage::Usage) -> Option<u64>;
    let all: [(&str, &str, Value); 6] = [
        ("kubelet_volume_stats_available_bytes", "Bytes that can still be used of a volume", |u| {
            Some(u.available)
        }),
        ("kubelet_volume_stats_capacity_bytes", "Bytes of a volume", |u| Some(u.capacity)),
        ("kubelet_volume_stats_inodes", "Inodes of a volume", |u| u.inodes),
        ("kubelet_volume_stats_inodes_free", "Free inodes of a volume", |u| u.inodes_free),
        ("kubelet_volume_stats_inodes_used", "Used inodes of a volume", |u| u.inodes_used),
        ("kubelet_volume_stats_used_bytes", "Used bytes of a volume", |u| Some(u.used)),
    ];
    for (name, help, value) in all {
        out.metric(name, Type::Gauge, &format!("[ALPHA] {help}"));
        for one in &measured {
            if let Some(claim) = &one.claim {
                let labels = [("namespace", &*claim.namespace), ("persistentvolumeclaim", &*claim.name)];
                // As upstream, nothing counts as none.
                out.sample(name, &labels, value(&one.usage).unwrap_or_default());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kube_model::Monotonic;
    use kube_model::stats::PvcReference;
    use volume_fs::usage::Usage;

    use super::*;

    #[test]
    fn each_claim_is_told_of_once() {
        let of = |claim: &str, used| Measured {
            name: "v".to_owned(),
            claim: Some(PvcReference { name: claim.to_owned(), namespace: "ns".to_owned() }),
            is_local: false,
            usage: Usage { capacity: 100, used, inodes: Some(7), ..Usage::default() },
            at: Monotonic::default(),
        };
        let all = [of("a", 1), of("b", 2), of("a", 3)];
        let mut out = Text::default();
        write_claims(&mut out, &all.iter().collect::<Vec<_>>());
        let page = out.finish();
        let of = |name: &str| {
            page.lines()
                .filter(|line| line.starts_with(&format!("kubelet_volume_stats_{name}{{")))
                .collect::<Vec<_>>()
        };
        let labels = |claim: &str| format!("{{namespace=\"ns\",persistentvolumeclaim=\"{claim}\"}}");
        let line = |name: &str, claim: &str, value: u64| {
            format!("kubelet_volume_stats_{name}{} {value}", labels(claim))
        };
        assert_eq!(of("used_bytes"), [line("used_bytes", "a", 1), line("used_bytes", "b", 2)]);
        assert_eq!(
            of("capacity_bytes"),
            [line("capacity_bytes", "a", 100), line("capacity_bytes", "b", 100)]
        );
        assert_eq!(of("inodes"), [line("inodes", "a", 7), line("inodes", "b", 7)]);
        let mut none = Text::default();
        write_claims(&mut none, &[]);
        assert_eq!(none.finish(), "");
    }
}
