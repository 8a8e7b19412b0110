//! Rules that fit into a row: numbers and durations with bounds, texts that are one of a few.

use kube_model::duration::GoDuration;

use super::{Check, any_of};
use crate::config::KubeletConfiguration;

struct Number {
    field: &'static str,
    get: fn(&KubeletConfiguration) -> i64,
    min: i64,
    max: i64,
}

const fn number(field: &'static str, get: fn(&KubeletConfiguration) -> i64, min: i64, max: i64) -> Number {
    Number { field, get, min, max }
}

const NO_MAX: i64 = i64::MAX;

const NUMBERS: &[Number] = &[
    number("nodeLeaseDurationSeconds", |c| c.node_lease_duration_seconds.into(), 1, NO_MAX),
    number("eventBurst", |c| c.event_burst.into(), 0, NO_MAX),
    number("eventRecordQPS", |c| c.event_record_qps.into(), 0, NO_MAX),
    number("healthzPort", |c| c.healthz_port.into(), 0, 65535),
    number("port", |c| c.port.into(), 1, 65535),
    number("readOnlyPort", |c| c.read_only_port.into(), 0, 65535),
    number("imageGCHighThresholdPercent", |c| c.image_gc_high_threshold_percent.into(), 0, 100),
    number("imageGCLowThresholdPercent", |c| c.image_gc_low_threshold_percent.into(), 0, 100),
    number("iptablesDropBit", |c| c.iptables_drop_bit.into(), 0, 31),
    number("iptablesMasqueradeBit", |c| c.iptables_masquerade_bit.into(), 0, 31),
    number("kubeAPIBurst", |c| c.kube_api_burst.into(), 0, NO_MAX),
    number("kubeAPIQPS", |c| c.kube_api_qps.into(), 0, NO_MAX),
    number("nodeStatusMaxImages", |c| c.node_status_max_images.into(), -1, NO_MAX),
    number("maxOpenFiles", |c| c.max_open_files, 0, NO_MAX),
    number("maxPods", |c| c.max_pods.into(), 0, NO_MAX),
    number("podsPerCore", |c| c.pods_per_core.into(), 0, NO_MAX),
    number("oomScoreAdj", |c| c.oom_score_adj.into(), -1000, 1000),
    number("registryBurst", |c| c.registry_burst.into(), 0, NO_MAX),
    number("registryPullQPS", |c| c.registry_pull_qps.into(), 0, NO_MAX),
    number("containerLogMaxWorkers", |c| c.container_log_max_workers.into(), 1, NO_MAX),
    number("containerLogMaxFiles", |c| c.container_log_max_files.into(), 2, NO_MAX),
];

pub(super) fn numbers(check: &mut Check<'_>) {
    for &Number { field, get, min, max } in NUMBERS {
        let value = get(check.config);
        if !(min..=max).contains(&value) {
            let rule = match max {
                NO_MAX => format!("must be {min} or more"),
                _ => format!("must be between {min} and {max}"),
            };
            check.error(field, &value, rule);
        }
    }
}

struct Span {
    field: &'static str,
    get: fn(&KubeletConfiguration) -> GoDuration,
    min: GoDuration,
    rule: &'static str,
}

const fn positive(field: &'static str, get: fn(&KubeletConfiguration) -> GoDuration) -> Span {
    Span { field, get, min: GoDuration::from_nanos(1), rule: "must be longer than 0s" }
}

const fn not_negative(field: &'static str, get: fn(&KubeletConfiguration) -> GoDuration) -> Span {
    Span { field, get, min: GoDuration::from_nanos(0), rule: "must not be negative" }
}

/// With a frequency of zero, which only a flag can give, the kubelet panics or never rests.
const DURATIONS: &[Span] = &[
    positive("syncFrequency", |c| c.sync_frequency),
    positive("fileCheckFrequency", |c| c.file_check_frequency),
    positive("httpCheckFrequency", |c| c.http_check_frequency),
    positive("nodeStatusUpdateFrequency", |c| c.node_status_update_frequency),
    positive("runtimeRequestTimeout", |c| c.runtime_request_timeout),
    positive("logging.flushFrequency", |c| c.logging.flush_frequency.duration),
    not_negative("imageMinimumGCAge", |c| c.image_minimum_gc_age),
    not_negative("imageMaximumGCAge", |c| c.image_maximum_gc_age),
    Span {
        field: "containerLogMonitorInterval",
        get: |c| c.container_log_monitor_interval,
        min: GoDuration::from_secs(3),
        rule: "must be 3s or longer",
    },
];

pub(super) fn durations(check: &mut Check<'_>) {
    for &Span { field, get, min, rule } in DURATIONS {
        let value = get(check.config);
        if value.as_nanos() < min.as_nanos() {
            check.error(field, &value, rule);
        }
    }
}

struct Choice {
    field: &'static str,
    get: fn(&KubeletConfiguration) -> &str,
    options: &'static [&'static str],
}

const CHOICES: &[Choice] = &[
    Choice {
        field: "topologyManagerPolicy",
        get: |c| &c.topology_manager_policy,
        options: &["none", "best-effort", "restricted", "single-numa-node"],
    },
    Choice {
        field: "topologyManagerScope",
        get: |c| &c.topology_manager_scope,
        options: &["container", "pod"],
    },
    Choice { field: "cpuManagerPolicy", get: |c| &c.cpu_manager_policy, options: &["none", "static"] },
    Choice { field: "memoryManagerPolicy", get: |c| &c.memory_manager_policy, options: &["None", "Static"] },
    Choice {
        field: "memoryReservationPolicy",
        get: |c| &c.memory_reservation_policy,
        options: &["None", "TieredReservation"],
    },
    Choice {
        field: "memorySwap.swapBehavior",
        get: |c| &c.memory_swap.swap_behavior,
        options: &["", "NoSwap", "LimitedSwap"],
    },
    Choice {
        field: "hairpinMode",
        get: |c| &c.hairpin_mode,
        options: &["promiscuous-bridge", "hairpin-veth", "none"],
    },
    Choice { field: "cgroupDriver", get: |c| &c.cgroup_driver, options: &["cgroupfs", "systemd"] },
    Choice {
        field: "configMapAndSecretChangeDetectionStrategy",
        get: |c| &c.config_map_and_secret_change_detection_strategy,
        options: &["Watch", "Cache", "Get"],
    },
    Choice {
        field: "authorization.mode",
        get: |c| &c.authorization.mode,
        options: &["Webhook", "AlwaysAllow"],
    },
    Choice { field: "logging.format", get: |c| &c.logging.format, options: &["text", "json"] },
    Choice {
        field: "tlsMinVersion",
        get: |c| &c.tls_min_version,
        options: &["", "VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13"],
    },
];

pub(super) fn choices(check: &mut Check<'_>) {
    for &Choice { field, get, options } in CHOICES {
        let value = get(check.config);
        if !options.contains(&value) {
            check.error(field, &value, format!("must be {}", any_of(options)));
        }
    }
}
