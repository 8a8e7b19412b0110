//! How long work on cgroups and pulls of images took.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use ::metrics::{DEFAULT_BOUNDS, Histogram, Kind, Text};
use tokio::time::Instant;

use super::{Metrics, lock};

/// Upper bounds for pulls of images, in seconds.
const PULLS: &[f64] = &[
    1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0,
    2700.0, 3600.0,
];

const MB: u64 = 1 << 20;
const GB: u64 = 1 << 30;

/// Names of image sizes by what they are smaller than.
const SIZES: &[(u64, &str)] = &[
    (10 * MB, "0-10MB"),
    (100 * MB, "10MB-100MB"),
    (500 * MB, "100MB-500MB"),
    (GB, "500MB-1GB"),
    (5 * GB, "1GB-5GB"),
    (10 * GB, "5GB-10GB"),
    (20 * GB, "10GB-20GB"),
    (30 * GB, "20GB-30GB"),
    (40 * GB, "30GB-40GB"),
    (60 * GB, "40GB-60GB"),
    (100 * GB, "60GB-100GB"),
];

#[derive(Debug, Default)]
pub(super) struct Timings {
    /// By what was done.
    cgroups: Mutex<BTreeMap<&'static str, Histogram>>,
    /// By the name of the image's size.
    pulls: Mutex<BTreeMap<&'static str, Histogram>>,
}

impl Metrics {
    /// Something was done with a cgroup: `create`, `update` or `destroy`. It has failed or not.
    pub fn cgroup(&self, operation: &'static str, began: Instant) {
        let took = began.elapsed().as_secs_f64();
        let mut cgroups = lock(&self.timings.cgroups);
        cgroups.entry(operation).or_insert_with(|| Histogram::new(DEFAULT_BOUNDS)).observe(took);
    }

    /// An image of this many bytes was pulled.
    pub fn image_pulled(&self, bytes: u64, took: Duration) {
        let mut pulls = lock(&self.timings.pulls);
        let pulls = pulls.entry(size(bytes)).or_insert_with(|| Histogram::new(PULLS));
        pulls.observe(took.as_secs_f64());
    }
}

impl Timings {
    pub(super) fn write(&self, out: &mut Text) {
        let mut histograms =
            |name: &str, help: &str, label: &str, all: &BTreeMap<&'static str, Histogram>| {
                if !all.is_empty() {
                    out.metric(name, Kind::Histogram, help);
                }
                for (value, histogram) in all {
                    out.histogram(name, &[(label, value)], histogram);
                }
            };
        let help = "[ALPHA] How long it took to make, change or remove cgroups, in seconds";
        let name = "kubelet_cgroup_manager_duration_seconds";
        histograms(name, help, "operation_type", &lock(&self.cgroups));
        let help = "[ALPHA] How long pulls of images took, in seconds, by the image's size";
        histograms("kubelet_image_pull_duration_seconds", help, "image_size_in_bytes", &lock(&self.pulls));
    }
}

/// The name of an image's size, as the kubelet has it.
fn size(bytes: u64) -> &'static str {
    if bytes == 0 {
        return "N/A";
    }
    SIZES.iter().find(|(below, _)| bytes < *below).map_or("GT100GB", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_kubelets_names() {
        for (bytes, expected) in [
            (0, "N/A"),
            (5 * MB, "0-10MB"),
            (10 * MB, "10MB-100MB"),
            (15 * MB, "10MB-100MB"),
            (500 * MB - 1, "100MB-500MB"),
            (15 * GB, "10GB-20GB"),
            (200 * GB, "GT100GB"),
        ] {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
    }
}
