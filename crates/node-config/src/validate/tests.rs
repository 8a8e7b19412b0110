//! A case for each rule, good and bad.

use kube_model::core::Taint;
use kube_model::duration::GoDuration;
use proptest::prelude::*;

use super::*;
use crate::config::{
    MemoryReservation, ShutdownGracePeriodByPodPriority, Tracing, UserNamespaces, VModuleItem,
};

type Config = KubeletConfiguration;

fn lines(found: &[Finding<&str>]) -> Vec<String> {
    found.iter().map(|Finding { field, value, rule, .. }| format!("{field} {value} {rule}")).collect()
}

fn report(change: impl Fn(&mut Config), facts: &Facts) -> Report<&'static str> {
    let mut config = Config::default();
    change(&mut config);
    validate(&config, facts, |_| "default")
}

/// What is changed in the defaults, and the errors that it makes.
type Case = (fn(&mut Config), &'static [&'static str]);

fn assert_errors(cases: &[Case]) {
    for (index, (change, expected)) in cases.iter().enumerate() {
        assert_eq!(lines(&report(change, &Facts::default()).errors), *expected, "case {index}");
    }
}

fn assert_warnings(cases: &[Case]) {
    for (index, (change, expected)) in cases.iter().enumerate() {
        let report = report(change, &Facts::default());
        assert_eq!(lines(&report.errors), [""; 0], "case {index}");
        assert_eq!(lines(&report.warnings), *expected, "case {index}");
    }
}

fn ms(milliseconds: i64) -> GoDuration {
    GoDuration::from_nanos(milliseconds * 1_000_000)
}

fn map(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn list(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

fn gate(config: &mut Config, name: &str, on: bool) {
    config.feature_gates.insert(name.to_owned(), on);
}

#[test]
fn the_defaults_are_valid_with_and_without_a_file() {
    for config in [Config::default(), Config::legacy()] {
        let facts = Facts { cgroup_version: Some(2), swap: Some(false), ..Facts::default() };
        let report = validate(&config, &facts, |_| "");
        assert_eq!(report, Report { errors: Vec::new(), warnings: Vec::new() });
    }
}

#[test]
fn a_finding_says_field_value_rule_and_origin() {
    let mut config = Config { port: 0, ..Config::default() };
    config.eviction_hard = map(&[("memory.available", "no")]);
    let report = validate(&config, &Facts::default(), |path| format!("origin of {path}"));
    let texts: Vec<_> = report.errors.iter().map(Finding::to_string).collect();
    assert_eq!(
        texts,
        [
            "port 0 must be between 1 and 65535 (origin of port)",
            "evictionHard[memory.available] \"no\" must be a quantity such as 100Mi or a percentage such as \
             10%: quantities must match the regular expression \
             '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$' (origin of evictionHard[memory.available])",
        ]
    );
}

#[test]
fn numbers_keep_their_bounds() {
    assert_errors(&[
        (|c| c.node_lease_duration_seconds = 0, &["nodeLeaseDurationSeconds 0 must be 1 or more"]),
        (|c| c.event_burst = -1, &["eventBurst -1 must be 0 or more"]),
        (|c| c.event_record_qps = -1, &["eventRecordQPS -1 must be 0 or more"]),
        (|c| c.event_record_qps = 0, &[]),
        (|c| c.healthz_port = 65536, &["healthzPort 65536 must be between 0 and 65535"]),
        (|c| c.healthz_port = 0, &[]),
        (|c| c.port = 0, &["port 0 must be between 1 and 65535"]),
        (|c| c.port = 65535, &[]),
        (|c| c.read_only_port = -1, &["readOnlyPort -1 must be between 0 and 65535"]),
        (|c| c.iptables_drop_bit = 32, &["iptablesDropBit 32 must be between 0 and 31"]),
        (|c| c.iptables_masquerade_bit = -1, &["iptablesMasqueradeBit -1 must be between 0 and 31"]),
        (|c| c.kube_api_burst = -1, &["kubeAPIBurst -1 must be 0 or more"]),
        (|c| c.kube_api_qps = -1, &["kubeAPIQPS -1 must be 0 or more"]),
        (|c| c.node_status_max_images = -2, &["nodeStatusMaxImages -2 must be -1 or more"]),
        (|c| c.node_status_max_images = -1, &[]),
        (|c| c.max_open_files = -1, &["maxOpenFiles -1 must be 0 or more"]),
        (|c| c.max_pods = -1, &["maxPods -1 must be 0 or more"]),
        (|c| c.pods_per_core = -1, &["podsPerCore -1 must be 0 or more"]),
        (|c| c.oom_score_adj = -1001, &["oomScoreAdj -1001 must be between -1000 and 1000"]),
        (|c| c.oom_score_adj = 1000, &[]),
        (|c| c.registry_burst = -1, &["registryBurst -1 must be 0 or more"]),
        (|c| c.registry_pull_qps = -1, &["registryPullQPS -1 must be 0 or more"]),
        (|c| c.container_log_max_workers = 0, &["containerLogMaxWorkers 0 must be 1 or more"]),
        (|c| c.container_log_max_files = 1, &["containerLogMaxFiles 1 must be 2 or more"]),
    ]);
}

#[test]
fn durations_keep_their_bounds() {
    assert_errors(&[
        (|c| c.sync_frequency = ms(0), &["syncFrequency \"0s\" must be longer than 0s"]),
        (|c| c.file_check_frequency = ms(-1), &["fileCheckFrequency \"-1ms\" must be longer than 0s"]),
        (|c| c.http_check_frequency = ms(0), &["httpCheckFrequency \"0s\" must be longer than 0s"]),
        (
            |c| c.node_status_update_frequency = ms(0),
            &["nodeStatusUpdateFrequency \"0s\" must be longer than 0s"],
        ),
        (|c| c.runtime_request_timeout = ms(0), &["runtimeRequestTimeout \"0s\" must be longer than 0s"]),
        (
            |c| c.logging.flush_frequency.duration = ms(0),
            &["logging.flushFrequency \"0s\" must be longer than 0s"],
        ),
        (|c| c.image_minimum_gc_age = ms(-1), &["imageMinimumGCAge \"-1ms\" must not be negative"]),
        (|c| c.image_maximum_gc_age = ms(-1), &["imageMaximumGCAge \"-1ms\" must not be negative"]),
        (
            |c| c.container_log_monitor_interval = ms(2999),
            &["containerLogMonitorInterval \"2.999s\" must be 3s or longer"],
        ),
        (|c| c.container_log_monitor_interval = ms(3000), &[]),
    ]);
}

#[test]
fn texts_are_one_of_a_few() {
    assert_errors(&[
        (
            |c| c.topology_manager_policy = "best".into(),
            &["topologyManagerPolicy \"best\" must be \"none\", \"best-effort\", \"restricted\" or \
               \"single-numa-node\""],
        ),
        (
            |c| c.topology_manager_scope = "node".into(),
            &["topologyManagerScope \"node\" must be \"container\" or \"pod\""],
        ),
        (
            |c| c.cpu_manager_policy = "Static".into(),
            &["cpuManagerPolicy \"Static\" must be \"none\" or \"static\""],
        ),
        (
            |c| c.memory_manager_policy = "static".into(),
            &["memoryManagerPolicy \"static\" must be \"None\" or \"Static\""],
        ),
        (
            |c| c.memory_reservation_policy = "none".into(),
            &["memoryReservationPolicy \"none\" must be \"None\" or \"TieredReservation\""],
        ),
        (
            |c| c.memory_swap.swap_behavior = "UnlimitedSwap".into(),
            &["memorySwap.swapBehavior \"UnlimitedSwap\" must be \"\", \"NoSwap\" or \"LimitedSwap\""],
        ),
        (|c| c.memory_swap.swap_behavior = "LimitedSwap".into(), &[]),
        (
            |c| c.hairpin_mode = "veth".into(),
            &["hairpinMode \"veth\" must be \"promiscuous-bridge\", \"hairpin-veth\" or \"none\""],
        ),
        (
            |c| c.cgroup_driver = "docker".into(),
            &["cgroupDriver \"docker\" must be \"cgroupfs\" or \"systemd\""],
        ),
        (
            |c| c.config_map_and_secret_change_detection_strategy = "watch".into(),
            &["configMapAndSecretChangeDetectionStrategy \"watch\" must be \"Watch\", \"Cache\" or \"Get\""],
        ),
        (
            |c| c.authorization.mode = "RBAC".into(),
            &["authorization.mode \"RBAC\" must be \"Webhook\" or \"AlwaysAllow\""],
        ),
        (|c| c.logging.format = "logfmt".into(), &["logging.format \"logfmt\" must be \"text\" or \"json\""]),
        (|c| c.logging.format = "json".into(), &[]),
        (
            |c| c.tls_min_version = "TLS1.2".into(),
            &[
                "tlsMinVersion \"TLS1.2\" must be \"\", \"VersionTLS10\", \"VersionTLS11\", \"VersionTLS12\" or \
             \"VersionTLS13\"",
            ],
        ),
    ]);
}

#[test]
fn gates_that_cannot_be_set_are_errors_and_old_ones_warnings() {
    assert_errors(&[
        (
            |c| {
                gate(c, "Nosuch", true);
                gate(c, "NodeSwap", false);
            },
            &[
                "featureGates.NodeSwap false is not possible: cannot set feature gate NodeSwap to false, \
                 feature is locked to true",
                "featureGates.Nosuch true is not possible: unrecognized feature gate: Nosuch",
            ],
        ),
        (|c| gate(c, "ImageVolumeWithDigest", true), &[]),
        (
            |c| gate(c, "ClusterTrustBundleProjection", true),
            &[
                "featureGates.ClusterTrustBundleProjection true is not possible: ClusterTrustBundleProjection \
               is enabled, but depends on features that are disabled: [ClusterTrustBundle]",
            ],
        ),
    ]);
    assert_warnings(&[
        (|c| gate(c, "EventedPLEG", true), &[]),
        (
            |c| gate(c, "NodeSwap", true),
            &["featureGates.NodeSwap true sets a gate that a future release removes"],
        ),
    ]);
}

#[test]
fn image_collection_and_pulls() {
    assert_errors(&[
        (
            |c| c.image_gc_low_threshold_percent = 85,
            &["imageGCLowThresholdPercent 85 must be less than imageGCHighThresholdPercent 85"],
        ),
        (
            |c| c.image_gc_high_threshold_percent = 101,
            &["imageGCHighThresholdPercent 101 must be between 0 and 100"],
        ),
        (
            |c| c.image_gc_low_threshold_percent = -1,
            &["imageGCLowThresholdPercent -1 must be between 0 and 100"],
        ),
        (
            |c| c.image_maximum_gc_age = GoDuration::from_secs(120),
            &["imageMaximumGCAge \"2m0s\" must be longer than imageMinimumGCAge 2m0s, or 0s for no limit"],
        ),
        (|c| c.image_maximum_gc_age = GoDuration::from_secs(121), &[]),
        (|c| c.max_parallel_image_pulls = Some(0), &["maxParallelImagePulls 0 must be 1 or more"]),
        (|c| c.max_parallel_image_pulls = Some(1), &[]),
        (
            |c| c.max_parallel_image_pulls = Some(2),
            &["maxParallelImagePulls 2 must be 1 unless serializeImagePulls is false"],
        ),
        (
            |c| {
                c.max_parallel_image_pulls = Some(2);
                c.serialize_image_pulls = false;
            },
            &[],
        ),
    ]);
}

#[test]
fn image_credentials() {
    fn allow(c: &mut Config, patterns: &[&str]) {
        c.image_pull_credentials_verification_policy = "NeverVerifyAllowlistedImages".into();
        c.preloaded_images_verification_allowlist = list(patterns);
    }
    assert_errors(&[
        (
            |c| c.image_pull_credentials_verification_policy = "Always".into(),
            &["imagePullCredentialsVerificationPolicy \"Always\" must be \"NeverVerify\", \
             \"NeverVerifyPreloadedImages\", \"NeverVerifyAllowlistedImages\" or \"AlwaysVerify\""],
        ),
        (
            |c| c.preloaded_images_verification_allowlist = list(&["a"]),
            &["preloadedImagesVerificationAllowlist [\"a\"] must not be set unless \
             imagePullCredentialsVerificationPolicy is \"NeverVerifyAllowlistedImages\""],
        ),
        (|c| allow(c, &["example.com:5000/a/b", "example.com/*", "busybox", "a:1/b"]), &[]),
        (
            |c| allow(c, &["a:1", "a@sha256:0"]),
            &[
                "preloadedImagesVerificationAllowlist[0] \"a:1\" must have no tag and no digest",
                "preloadedImagesVerificationAllowlist[1] \"a@sha256:0\" must have no tag and no digest",
            ],
        ),
        (
            |c| allow(c, &[" a", "", "/*", "a/*/b", "a*"]),
            &[
                "preloadedImagesVerificationAllowlist[0] \" a\" must not have leading or trailing spaces",
                "preloadedImagesVerificationAllowlist[1] \"\" must name an image, or a registry with /* behind it",
                "preloadedImagesVerificationAllowlist[2] \"/*\" must name an image, or a registry with /* behind it",
                "preloadedImagesVerificationAllowlist[3] \"a/*/b\" must have no * but in /* at its end",
                "preloadedImagesVerificationAllowlist[4] \"a*\" must have no * but in /* at its end",
            ],
        ),
        (
            |c| gate(c, "KubeletEnsureSecretPulledImages", false),
            &[
                "imagePullCredentialsVerificationPolicy \"NeverVerifyPreloadedImages\" must not be set while the \
               feature gate KubeletEnsureSecretPulledImages is off",
            ],
        ),
        (
            |c| {
                gate(c, "KubeletEnsureSecretPulledImages", false);
                c.image_pull_credentials_verification_policy.clear();
            },
            &[],
        ),
    ]);
}

#[test]
fn restarts_quota_and_run_once() {
    fn period(c: &mut Config, milliseconds: i64) {
        c.crash_loop_back_off.max_container_restart_period = Some(ms(milliseconds));
    }
    assert_errors(&[
        (|c| period(c, 1_000), &[]),
        (|c| period(c, 300_000), &[]),
        (
            |c| period(c, 999),
            &["crashLoopBackOff.maxContainerRestartPeriod \"999ms\" must be between 1s and 300s"],
        ),
        (
            |c| period(c, 300_001),
            &["crashLoopBackOff.maxContainerRestartPeriod \"5m0.001s\" must be between 1s and 300s"],
        ),
        (
            |c| c.crash_loop_back_off.max_container_restart_period = None,
            &["crashLoopBackOff.maxContainerRestartPeriod null must be set while the feature gate \
             KubeletCrashLoopBackOffMax is on"],
        ),
        (
            |c| gate(c, "KubeletCrashLoopBackOffMax", false),
            &["crashLoopBackOff.maxContainerRestartPeriod \"5m0s\" must not be set while the feature gate \
             KubeletCrashLoopBackOffMax is off"],
        ),
        (|c| c.cpu_cfs_quota_period = ms(1), &[]),
        (|c| c.cpu_cfs_quota_period = ms(1001), &["cpuCFSQuotaPeriod \"1.001s\" must be between 1ms and 1s"]),
        (
            |c| {
                gate(c, "CustomCPUCFSQuotaPeriod", false);
                c.cpu_cfs_quota_period = ms(50);
            },
            &[
                "cpuCFSQuotaPeriod \"50ms\" must be 100ms while the feature gate CustomCPUCFSQuotaPeriod is off",
            ],
        ),
        (|c| c.run_once = true, &["runOnce true must be false: there is no such mode any more"]),
    ]);
}

#[test]
fn node_shutdown() {
    fn periods(c: &mut Config, all: i64, critical: i64) {
        c.shutdown_grace_period = ms(all);
        c.shutdown_grace_period_critical_pods = ms(critical);
    }
    fn by_priority(c: &mut Config) {
        c.shutdown_grace_period_by_pod_priority =
            vec![ShutdownGracePeriodByPodPriority { priority: 0, shutdown_grace_period_seconds: 10 }];
    }
    assert_errors(&[
        (|c| periods(c, 30_000, 10_000), &[]),
        (|c| periods(c, 1_000, 1_000), &[]),
        (|c| periods(c, 500, 0), &["shutdownGracePeriod \"500ms\" must be 0s, or 1s or longer"]),
        (
            |c| periods(c, 10_000, -1),
            &["shutdownGracePeriodCriticalPods \"-1ms\" must be 0s, or 1s or longer"],
        ),
        (
            |c| periods(c, 10_000, 20_000),
            &[
                "shutdownGracePeriodCriticalPods \"20s\" must not be longer than shutdownGracePeriod 10s, of which \
             it is a part",
            ],
        ),
        (by_priority, &[]),
        (
            |c| {
                by_priority(c);
                periods(c, 10_000, 0);
            },
            &[
                "shutdownGracePeriodByPodPriority [{\"priority\":0,\"shutdownGracePeriodSeconds\":10}] must not \
               be set beside shutdownGracePeriod and shutdownGracePeriodCriticalPods",
            ],
        ),
        (
            |c| {
                for name in [
                    "GracefulNodeShutdown",
                    "GracefulNodeShutdownBasedOnPodPriority",
                    "WindowsGracefulNodeShutdown",
                ] {
                    gate(c, name, false);
                }
                by_priority(c);
                periods(c, 10_000, 0);
            },
            &[
                "shutdownGracePeriod \"10s\" must be 0s while the feature gate GracefulNodeShutdown is off",
                "shutdownGracePeriodByPodPriority [{\"priority\":0,\"shutdownGracePeriodSeconds\":10}] must not \
                 be set while the feature gate GracefulNodeShutdownBasedOnPodPriority is off",
            ],
        ),
    ]);
}

#[test]
fn logs_of_pods() {
    const UNCLEAN: &str = "must be an absolute path without . and .., double and trailing slashes";
    for (dir, rules) in [
        ("/var/log/pods", vec![]),
        ("/", vec![]),
        ("", vec![UNCLEAN]),
        ("var/log", vec![UNCLEAN]),
        ("/var/log/", vec![UNCLEAN]),
        ("/var//log", vec![UNCLEAN]),
        ("/var/../log", vec![UNCLEAN]),
        ("/var/./log", vec![UNCLEAN]),
        ("/var/lög", vec!["must have ASCII characters only"]),
    ] {
        let report = report(|c| c.pod_logs_dir = dir.to_owned(), &Facts::default());
        let expected: Vec<_> = rules.iter().map(|rule| format!("podLogsDir {dir:?} {rule}")).collect();
        assert_eq!(lines(&report.errors), expected);
    }
    assert_errors(&[
        (|c| c.container_log_max_size = "-1".into(), &[]),
        (
            |c| c.container_log_max_size = "10MM".into(),
            &[
                "containerLogMaxSize \"10MM\" must be a quantity such as 10Mi: unable to parse quantity's suffix",
            ],
        ),
    ]);
}

#[test]
fn user_namespaces_get_whole_blocks_of_ids() {
    for (ids, good) in [
        (65536, true),
        (131_072, true),
        (4_294_901_760, true),
        (0, false),
        (65535, false),
        (65537, false),
        (-65536, false),
        (4_294_967_296, false),
    ] {
        let report = report(
            |c| c.user_namespaces = Some(UserNamespaces { ids_per_pod: Some(ids) }),
            &Facts::default(),
        );
        let expected =
            format!("userNamespaces.idsPerPod {ids} must be a multiple of 65536, from 65536 to 4294901760");
        assert_eq!(lines(&report.errors), if good { vec![] } else { vec![expected] });
    }
}

#[test]
fn only_sysctls_of_pods_can_be_allowed() {
    for (pattern, rule) in [
        ("net.core.somaxconn", None),
        ("net/core/somaxconn", None),
        ("net.ipv4.tcp_*", None),
        ("net.*", None),
        ("net/ipv4/conf/eno2.100/rp_filter", None),
        ("kernel.msg*", None),
        ("kernel.shm_rmid_forced", None),
        ("fs.mqueue.*", None),
        ("kernel.shm_*", Some("must be a sysctl that each pod has for itself")),
        ("kernel.*", Some("must be a sysctl that each pod has for itself")),
        ("vm.swappiness", Some("must be a sysctl that each pod has for itself")),
        ("*", Some("must be a sysctl that each pod has for itself")),
        ("network", Some("must be a sysctl that each pod has for itself")),
        ("", Some("must be the name of a sysctl")),
        ("net.Core", Some("must be the name of a sysctl")),
        ("net.*.x", Some("must be the name of a sysctl")),
        ("net..x", Some("must be the name of a sysctl")),
        ("net.-x", Some("must be the name of a sysctl")),
    ] {
        let report = report(|c| c.allowed_unsafe_sysctls = list(&[pattern]), &Facts::default());
        match rule {
            None => assert_eq!(lines(&report.errors), [""; 0], "{pattern}"),
            Some(rule) => assert!(report.errors[0].rule.starts_with(rule), "{pattern}: {report:?}"),
        }
    }
}

#[test]
fn enforcement_of_reservations() {
    fn enforce(c: &mut Config, values: &[&str]) {
        c.enforce_node_allocatable = list(values);
        c.system_reserved_cgroup = "/system".into();
        c.kube_reserved_cgroup = "/kube".into();
    }
    assert_errors(&[
        (|c| enforce(c, &["pods", "system-reserved", "kube-reserved-compressible"]), &[]),
        (|c| enforce(c, &[]), &[]),
        (|c| enforce(c, &["none"]), &[]),
        (|c| enforce(c, &["pods", "none"]), &["enforceNodeAllocatable[1] \"none\" must stand alone"]),
        (|c| enforce(c, &["pods", "pods"]), &["enforceNodeAllocatable[1] \"pods\" must not stand twice"]),
        (
            |c| enforce(c, &["pod"]),
            &["enforceNodeAllocatable[0] \"pod\" must be \"none\", \"pods\", \"system-reserved\", \
             \"system-reserved-compressible\", \"kube-reserved\" or \"kube-reserved-compressible\""],
        ),
        (
            |c| enforce(c, &["kube-reserved", "kube-reserved-compressible"]),
            &[
                "enforceNodeAllocatable [\"kube-reserved\",\"kube-reserved-compressible\"] must not have both \
             \"kube-reserved\" and \"kube-reserved-compressible\"",
            ],
        ),
        (
            |c| c.enforce_node_allocatable = list(&["pods", "system-reserved-compressible"]),
            &[
                "systemReservedCgroup \"\" must be set when enforceNodeAllocatable has \"system-reserved\" in \
             either form",
            ],
        ),
        (
            |c| c.enforce_node_allocatable = list(&["kube-reserved"]),
            &[
                "kubeReservedCgroup \"\" must be set when enforceNodeAllocatable has \"kube-reserved\" in either \
             form",
            ],
        ),
        (
            |c| c.cgroups_per_qos = false,
            &["enforceNodeAllocatable[0] \"pods\" needs cgroupsPerQOS; with that off it must be \"none\""],
        ),
        (
            |c| {
                c.cgroups_per_qos = false;
                c.enforce_node_allocatable = list(&["none"]);
            },
            &[],
        ),
    ]);
}

#[test]
fn reservations() {
    assert_errors(&[
        (
            |c| {
                c.system_reserved =
                    map(&[("cpu", "500m"), ("memory", "1Gi"), ("ephemeral-storage", "0"), ("pid", "1000")]);
            },
            &[],
        ),
        (
            |c| c.kube_reserved = map(&[("cpu", "-1"), ("hugepages-2Mi", "1"), ("memory", "1GM")]),
            &[
                "kubeReserved.cpu \"-1\" must not be negative",
                "kubeReserved.hugepages-2Mi \"1\" reserves a resource that cannot be: it must be \"cpu\", \
             \"memory\", \"ephemeral-storage\" or \"pid\"",
                "kubeReserved.memory \"1GM\" must be a quantity such as 500m or 1Gi: unable to parse quantity's \
             suffix",
            ],
        ),
        (|c| c.reserved_system_cpus = "0-3,8".into(), &[]),
        (
            |c| c.reserved_system_cpus = "3-0".into(),
            &["reservedSystemCPUs \"3-0\" must be a list of CPUs such as 0-3,8"],
        ),
        (
            |c| c.reserved_system_cpus = "0,".into(),
            &["reservedSystemCPUs \"0,\" must be a list of CPUs such as 0-3,8"],
        ),
        (
            |c| {
                c.reserved_system_cpus = "0".into();
                c.system_reserved_cgroup = "/system".into();
                c.kube_reserved_cgroup = "/kube".into();
            },
            &[
                "reservedSystemCPUs \"0\" must not be set beside systemReservedCgroup",
                "reservedSystemCPUs \"0\" must not be set beside kubeReservedCgroup",
            ],
        ),
        (|c| c.qos_reserved = map(&[("memory", "50%")]), &[]),
        (
            |c| c.qos_reserved = map(&[("cpu", "50%"), ("memory", "101%")]),
            &[
                "qosReserved.cpu \"50%\" reserves a resource that cannot be: it must be \"memory\"",
                "qosReserved.memory \"101%\" must be a percentage from 0% to 100%",
            ],
        ),
        (
            |c| c.qos_reserved = map(&[("memory", "50")]),
            &["qosReserved.memory \"50\" must be a percentage from 0% to 100%"],
        ),
    ]);
}

#[test]
fn reserved_memory_of_numa_nodes() {
    fn reserve(c: &mut Config, all: &[(i32, &str, &str)]) {
        c.reserved_memory = all
            .iter()
            .map(|(node, resource, quantity)| MemoryReservation {
                numa_node: *node,
                limits: [((*resource).to_owned(), quantity.parse().unwrap())].into(),
            })
            .collect();
    }
    assert_errors(&[
        (|c| reserve(c, &[(0, "memory", "1Gi"), (1, "memory", "1Gi"), (0, "hugepages-2Mi", "2Mi")]), &[]),
        (
            |c| reserve(c, &[(0, "cpu", "1"), (0, "memory", "0"), (1, "memory", "1"), (1, "memory", "2")]),
            &[
                "reservedMemory[0].limits.cpu \"1\" reserves what is neither memory nor hugepages-<size>",
                "reservedMemory[1].limits.memory \"0\" must not be zero",
                "reservedMemory[3].limits.memory \"2\" must stand once only for NUMA node 1",
            ],
        ),
    ]);
}

#[test]
fn options_of_resource_managers() {
    fn cpu(c: &mut Config, options: &[(&str, &str)]) {
        c.cpu_manager_policy = "static".into();
        c.cpu_manager_policy_options = map(options);
    }
    fn topology(c: &mut Config, options: &[(&str, &str)]) {
        c.topology_manager_policy = "restricted".into();
        c.topology_manager_policy_options = map(options);
    }
    assert_errors(&[
        (|c| cpu(c, &[("full-pcpus-only", "true"), ("distribute-cpus-across-numa", "F")]), &[]),
        (
            |c| cpu(c, &[("full-pcpus-only", "yes"), ("nosuch", "true"), ("align-by-socket", "true")]),
            &[
                "cpuManagerPolicyOptions.align-by-socket \"true\" needs the feature gate \
             CPUManagerPolicyAlphaOptions",
                "cpuManagerPolicyOptions.full-pcpus-only \"yes\" must be true or false",
                "cpuManagerPolicyOptions.nosuch \"true\" is no option: there are \"full-pcpus-only\", \
             \"strict-cpu-reservation\", \"prefer-align-cpus-by-uncorecache\", \"distribute-cpus-across-numa\", \
             \"align-by-socket\" or \"distribute-cpus-across-cores\"",
            ],
        ),
        (
            |c| {
                cpu(c, &[("align-by-socket", "true")]);
                gate(c, "CPUManagerPolicyAlphaOptions", true);
            },
            &[],
        ),
        (|c| topology(c, &[("max-allowable-numa-nodes", "8"), ("prefer-closest-numa-nodes", "1")]), &[]),
        (
            |c| topology(c, &[("max-allowable-numa-nodes", "7")]),
            &["topologyManagerPolicyOptions.max-allowable-numa-nodes \"7\" must be a number, 8 or more"],
        ),
    ]);
    assert_warnings(&[(
        |c| c.cpu_manager_policy_options = map(&[("full-pcpus-only", "x")]),
        &[
            "cpuManagerPolicyOptions.full-pcpus-only \"x\" must be true or false; it counts once the policy is set",
        ],
    )]);
}

#[test]
fn cgroups_and_memory() {
    assert_errors(&[
        (
            |c| c.system_cgroups = "/system".into(),
            &["systemCgroups \"/system\" must not be set unless cgroupRoot is"],
        ),
        (
            |c| {
                c.system_cgroups = "/system".into();
                c.cgroup_root = "/".into();
            },
            &[],
        ),
        (|c| c.cgroup_root = "a".into(), &["cgroupRoot \"a\" must be an absolute path without . and .."]),
        (
            |c| c.cgroup_root = "/a/..".into(),
            &["cgroupRoot \"/a/..\" must be an absolute path without . and .."],
        ),
        (|c| c.memory_throttling_factor = 1.0, &[]),
        (
            |c| c.memory_throttling_factor = 0.0,
            &["memoryThrottlingFactor 0.0 must be greater than 0 and no more than 1"],
        ),
        (
            |c| c.memory_throttling_factor = 1.1,
            &["memoryThrottlingFactor 1.1 must be greater than 0 and no more than 1"],
        ),
        (
            |c| c.memory_reservation_policy = "TieredReservation".into(),
            &["memoryReservationPolicy \"TieredReservation\" needs the feature gate MemoryQoS"],
        ),
        (
            |c| {
                c.memory_reservation_policy = "TieredReservation".into();
                gate(c, "MemoryQoS", true);
            },
            &[],
        ),
    ]);
}

#[test]
fn eviction_thresholds() {
    assert_errors(&[
        (
            |c| {
                c.eviction_hard = map(&[
                    ("memory.available", "100Mi"),
                    ("nodefs.available", "10.5%"),
                    ("pid.available", "0%"),
                    ("imagefs.inodesFree", "100%"),
                ]);
                c.eviction_soft = map(&[("memory.available", "1Gi"), ("nodefs.available", "100%")]);
                c.eviction_soft_grace_period = map(&[("memory.available", "1m30s")]);
                c.eviction_minimum_reclaim = map(&[("memory.available", "0"), ("nodefs.available", "5%")]);
            },
            &[],
        ),
        (
            |c| {
                c.eviction_hard = map(&[
                    ("imagefs.available", "0"),
                    ("memory.available", "-5%"),
                    ("memory.free", "1"),
                    ("nodefs.available", "101%"),
                    ("nodefs.inodesFree", "nan%"),
                    ("pid.available", "-1"),
                ]);
            },
            &[
                "evictionHard[imagefs.available] \"0\" must be more than 0",
                "evictionHard[memory.available] \"-5%\" must be between 0% and 100%",
                "evictionHard[memory.free] \"1\" is for a signal that there is not: it must be \
                 \"memory.available\", \"allocatableMemory.available\", \"nodefs.available\", \
                 \"nodefs.inodesFree\", \"imagefs.available\", \"imagefs.inodesFree\", \"containerfs.available\", \
                 \"containerfs.inodesFree\" or \"pid.available\"",
                "evictionHard[nodefs.available] \"101%\" must be between 0% and 100%",
                "evictionHard[nodefs.inodesFree] \"nan%\" must be a quantity such as 100Mi or a percentage such \
                 as 10%",
                "evictionHard[pid.available] \"-1\" must be more than 0",
            ],
        ),
        (
            |c| c.eviction_soft = map(&[("memory.available", "1Gi")]),
            &["evictionSoft[memory.available] \"1Gi\" needs a grace period for the same signal in \
             evictionSoftGracePeriod"],
        ),
        (
            |c| {
                c.eviction_soft_grace_period =
                    map(&[("memory.available", "10"), ("nodefs.available", "-1s")]);
            },
            &[
                "evictionSoftGracePeriod[memory.available] \"10\" must be a duration such as 1m30s: time: \
                 missing unit in duration \"10\"",
                "evictionSoftGracePeriod[nodefs.available] \"-1s\" must not be negative",
            ],
        ),
        (
            |c| {
                c.eviction_minimum_reclaim = map(&[("memory.available", "0%"), ("nodefs.available", "-1")]);
            },
            &[
                "evictionMinimumReclaim[memory.available] \"0%\" must be more than 0%",
                "evictionMinimumReclaim[nodefs.available] \"-1\" must not be negative",
            ],
        ),
    ]);
    assert_warnings(&[(
        |c| c.eviction_hard = map(&[("containerfs.available", "5%")]),
        &[
            "evictionHard[containerfs.available] \"5%\" is replaced by the threshold of the file system that the \
         containers are on",
        ],
    )]);
}

#[test]
fn taints_of_the_node() {
    fn taint(c: &mut Config, key: &str, value: &str, effect: &str) {
        c.register_with_taints.push(Taint {
            key: key.to_owned(),
            value: Some(value.to_owned()),
            effect: effect.to_owned(),
            time_added: None,
        });
    }
    assert_errors(&[
        (|c| taint(c, "node-role.kubernetes.io/control-plane", "", "NoSchedule"), &[]),
        (
            |c| taint(c, "a b", "c d", "Never"),
            &[
                "registerWithTaints[0].key \"a b\" name part must be letters, digits, '-', '_' or '.', and begin \
             and end with a letter or digit",
                "registerWithTaints[0].value \"c d\" must be letters, digits, '-', '_' or '.', and begin and end \
             with a letter or digit",
                "registerWithTaints[0].effect \"Never\" must be \"NoSchedule\", \"PreferNoSchedule\" or \
             \"NoExecute\"",
            ],
        ),
        (
            |c| {
                taint(c, "a", "b", "NoExecute");
                let time = serde_json::from_str("\"2024-01-01T00:00:00Z\"").unwrap();
                c.register_with_taints[0].time_added = Some(time);
            },
            &["registerWithTaints[0].timeAdded \"2024-01-01T00:00:00Z\" must not be set"],
        ),
    ]);
    assert_warnings(&[(
        |c| taint(c, "a", "b", ""),
        &[
            "registerWithTaints[0].effect \"\" should be \"NoSchedule\", \"PreferNoSchedule\" or \"NoExecute\": the \
         API server takes no taint without",
        ],
    )]);
}

#[test]
fn labels_that_a_node_may_give_itself() {
    for (key, value, good) in [
        ("example.com/a", "b", true),
        ("a", "", true),
        ("kubernetes.io/hostname", "n", true),
        ("topology.kubernetes.io/zone", "z", true),
        ("node.kubernetes.io/anything", "x", true),
        ("sub.kubelet.kubernetes.io/anything", "x", true),
        ("notkubernetes.io/a", "b", true),
        ("kubernetes.io/role", "x", false),
        ("node-role.kubernetes.io/worker", "", false),
        ("k8s.io/a", "b", false),
        ("x.k8s.io/a", "b", false),
        ("a b", "c", false),
        ("a", "c d", false),
    ] {
        let found = node_labels(&map(&[(key, value)]), &"flag --node-labels");
        assert_eq!(found.is_empty(), good, "{key}={value}: {found:?}");
    }
    let found = node_labels(&map(&[("k8s.io/a", "b c")]), &"flag --node-labels");
    assert_eq!(found.len(), 2);
    assert_eq!(
        found[1].to_string(),
        "--node-labels[k8s.io/a] \"b c\" must be letters, digits, '-', '_' or '.', and begin and end with a \
         letter or digit (flag --node-labels)"
    );
}

#[test]
fn only_hidden_metrics_of_the_previous_minor_version_can_be_shown() {
    assert_errors(&[
        (|c| c.show_hidden_metrics_for_version = "1.35".into(), &[]),
        (
            |c| c.show_hidden_metrics_for_version = "1.34".into(),
            &["showHiddenMetricsForVersion \"1.34\" must be the previous minor version, \"1.35\", or empty"],
        ),
    ]);
}

#[test]
fn addresses_and_endpoints() {
    const SOCKET: &str = "must be a unix socket such as unix:///run/containerd/containerd.sock";
    assert_errors(&[
        (|c| c.address = "::".into(), &[]),
        (|c| c.address = "localhost".into(), &["address \"localhost\" must be an IP address"]),
        (
            |c| c.healthz_bind_address = "1.2.3".into(),
            &["healthzBindAddress \"1.2.3\" must be an IP address"],
        ),
        (|c| c.container_runtime_endpoint.clear(), &["containerRuntimeEndpoint \"\" must be set"]),
        (
            |c| c.static_pod_url = "ftp://x".into(),
            &["staticPodURL \"ftp://x\" must begin with http:// or https://"],
        ),
    ]);
    for (endpoint, good) in [
        ("unix:///run/crio/crio.sock", true),
        ("unix:/run/crio/crio.sock", true),
        ("/run/crio/crio.sock", true),
        ("unix://run/crio.sock", false),
        ("tcp://127.0.0.1:1", false),
        ("npipe:////./pipe/containerd", false),
        ("unix:///run/", false),
        ("unix:///run/../x", false),
    ] {
        let report = report(|c| c.image_service_endpoint = endpoint.to_owned(), &Facts::default());
        let expected = format!("imageServiceEndpoint {endpoint:?} {SOCKET}");
        assert_eq!(lines(&report.errors), if good { vec![] } else { vec![expected] });
    }
    assert_warnings(&[(
        |c| c.cluster_dns = list(&["10.96.0.10", "dns"]),
        &["clusterDNS[1] \"dns\" is not an IP address and is left out"],
    )]);
}

#[test]
fn certificates_and_tls() {
    assert_errors(&[
        (|c| c.tls_cert_file = "/c".into(), &["tlsPrivateKeyFile \"\" must be set when tlsCertFile is"]),
        (
            |c| c.tls_private_key_file = "/k".into(),
            &["tlsCertFile \"\" must be set when tlsPrivateKeyFile is"],
        ),
        (
            |c| {
                c.server_tls_bootstrap = true;
                gate(c, "RotateKubeletServerCertificate", false);
            },
            &["serverTLSBootstrap true needs the feature gate RotateKubeletServerCertificate"],
        ),
        (
            |c| c.tls_cipher_suites = list(&["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "ECDHE-RSA-AES128"]),
            &["tlsCipherSuites[1] \"ECDHE-RSA-AES128\" is not a cipher suite that Go knows"],
        ),
        (
            |c| c.tls_cipher_suites = list(&["TLS_RSA_WITH_AES_128_GCM_SHA256"]),
            &[
                "tlsCipherSuites [\"TLS_RSA_WITH_AES_128_GCM_SHA256\"] leaves no cipher suite for TLS 1.2: add one, \
             or set tlsMinVersion to VersionTLS13",
            ],
        ),
        (|c| c.tls_curve_preferences = vec![29, 23], &[]),
        (
            |c| c.tls_curve_preferences = vec![29, 29, 1],
            &[
                "tlsCurvePreferences[1] 29 must not stand twice",
                "tlsCurvePreferences[2] 1 must be one of 23 (P-256), 24 (P-384), 25 (P-521), 29 (X25519), 4587 \
             (SecP256r1MLKEM768), 4588 (X25519MLKEM768), 4589 (SecP384r1MLKEM1024)",
            ],
        ),
        (
            |c| c.tls_curve_preferences = vec![4588],
            &["tlsCurvePreferences [4588] leaves no key exchange: add 29 (X25519), 23 (P-256) or 24 (P-384)"],
        ),
    ]);
    assert_warnings(&[
        (
            |c| c.tls_min_version = "VersionTLS10".into(),
            &["tlsMinVersion \"VersionTLS10\" is taken as VersionTLS12: older ones are not spoken"],
        ),
        (
            |c| {
                c.tls_cipher_suites = list(&[
                    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                    "TLS_RSA_WITH_AES_256_GCM_SHA384",
                    "TLS_AES_128_GCM_SHA256",
                ]);
            },
            &[
                "tlsCipherSuites[1] \"TLS_RSA_WITH_AES_256_GCM_SHA384\" is left out: this agent does not speak it",
            ],
        ),
        (
            |c| c.tls_curve_preferences = vec![4588, 29],
            &["tlsCurvePreferences[0] 4588 is left out: this agent has no X25519MLKEM768"],
        ),
    ]);
}

#[test]
fn logging_and_tracing() {
    fn item(c: &mut Config, pattern: &str, verbosity: u32) {
        c.logging.vmodule.push(VModuleItem { file_pattern: pattern.to_owned(), verbosity });
    }
    fn trace(c: &mut Config, endpoint: &str, rate: i32) {
        c.tracing =
            Some(Tracing { endpoint: Some(endpoint.to_owned()), sampling_rate_per_million: Some(rate) });
    }
    assert_errors(&[
        (
            |c| c.logging.verbosity = 2_147_483_648,
            &["logging.verbosity 2147483648 must be no more than 2147483647"],
        ),
        (|c| item(c, "kubelet*", 4), &[]),
        (
            |c| item(c, "a=b", 2_147_483_648),
            &[
                "logging.vmodule[0].filePattern \"a=b\" must be the name of a source file, or a pattern for some, \
             without = and ,",
                "logging.vmodule[0].verbosity 2147483648 must be no more than 2147483647",
            ],
        ),
        (
            |c| {
                item(c, "a", 1);
                c.logging.format = "json".into();
            },
            &[
                "logging.vmodule [{\"filePattern\":\"a\",\"verbosity\":1}] must not be set unless logging.format \
               is \"text\"",
            ],
        ),
        (
            |c| {
                c.logging.format = "json".into();
                gate(c, "LoggingBetaOptions", false);
            },
            &["logging.format \"json\" needs the feature gate LoggingBetaOptions"],
        ),
        (
            |c| {
                c.logging.options.text.split_stream = true;
                c.logging.options.json.info_buffer_size = "1Mi".parse().unwrap();
            },
            &[
                "logging.options.text.splitStream true needs the feature gate LoggingAlphaOptions",
                "logging.options.json.infoBufferSize \"1Mi\" needs the feature gate LoggingAlphaOptions",
            ],
        ),
        (
            |c| {
                c.logging.options.json.split_stream = true;
                gate(c, "LoggingAlphaOptions", true);
            },
            &[],
        ),
        (|c| trace(c, "localhost:4317", 1_000_000), &[]),
        (|c| trace(c, "unix:///run/otel.sock", 0), &[]),
        (
            |c| trace(c, "https://otel", 1_000_001),
            &[
                "tracing.samplingRatePerMillion 1000001 must be between 0 and 1000000",
                "tracing.endpoint \"https://otel\" must be a host and port, or begin with dns://, unix:// or \
             unix-abstract://",
            ],
        ),
        (
            |c| {
                c.enable_system_log_query = true;
                c.enable_system_log_handler = false;
            },
            &["enableSystemLogQuery true needs enableSystemLogHandler"],
        ),
        (|c| c.enable_system_log_query = true, &[]),
    ]);
}

#[test]
fn rules_of_this_machine_need_its_facts() {
    let v1 = Facts { cgroup_version: Some(1), ..Facts::default() };
    let v2 = Facts { cgroup_version: Some(2), ..Facts::default() };
    let swap = Facts { swap: Some(true), ..Facts::default() };
    let two_cpus = Facts { online_cpus: Some([0, 1].into()), ..Facts::default() };
    let alone = Facts { api_server: Some(false), ..Facts::default() };
    type Change = fn(&mut Config);
    let on_v1: Change = |c| c.fail_cgroup_v1 = false;
    let limited: Change = |c| {
        c.fail_cgroup_v1 = false;
        c.memory_swap.swap_behavior = "LimitedSwap".into();
        c.single_process_oom_kill = Some(false);
    };
    for (facts, change, expected) in [
        (&v1, on_v1, vec![]),
        (
            &v1,
            (|_| {}) as Change,
            vec![
                "failCgroupV1 true does not allow cgroup v1, which this machine has; it must be false to run \
                  here",
            ],
        ),
        (
            &v1,
            limited,
            vec![
                "memorySwap.swapBehavior \"LimitedSwap\" needs cgroup v2, and this machine has v1",
                "singleProcessOOMKill false needs cgroup v2, and this machine has v1",
            ],
        ),
        (&v2, limited, vec![]),
        (&Facts::default(), limited, vec![]),
        (&swap, |_| {}, vec!["failSwapOn true does not allow swap, and this machine has swap on"]),
        (&swap, |c| c.fail_swap_on = false, vec![]),
        (&two_cpus, |c| c.reserved_system_cpus = "0-1".into(), vec![]),
        (
            &two_cpus,
            |c| c.reserved_system_cpus = "1-4294967295".into(),
            vec!["reservedSystemCPUs \"1-4294967295\" must name CPUs that are online, and 2 is not"],
        ),
        (
            &alone,
            |_| {},
            vec![
                "authentication.webhook.enabled true asks an API server, and there is no --kubeconfig: it must \
                 be false",
                "authorization.mode \"Webhook\" asks an API server, and there is no --kubeconfig: it must be \
                 \"AlwaysAllow\"",
            ],
        ),
        (&alone, |c| *c = Config::legacy(), vec![]),
    ] {
        assert_eq!(lines(&report(change, facts).errors), expected);
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_rule_panic(text in "\\PC*", number: i64) {
        let small = number as i32;
        let pairs = map(&[("memory.available", &text), ("memory", &text), (&text, &text)]);
        let mut config = Config {
            pod_logs_dir: text.clone(),
            address: text.clone(),
            container_runtime_endpoint: text.clone(),
            reserved_system_cpus: text.clone(),
            allowed_unsafe_sysctls: vec![text.clone()],
            preloaded_images_verification_allowlist: vec![text.clone()],
            tls_cipher_suites: vec![text.clone()],
            tls_curve_preferences: vec![small],
            eviction_hard: pairs.clone(),
            eviction_soft: pairs.clone(),
            eviction_soft_grace_period: pairs.clone(),
            eviction_minimum_reclaim: pairs.clone(),
            system_reserved: pairs.clone(),
            qos_reserved: pairs.clone(),
            user_namespaces: Some(UserNamespaces { ids_per_pod: Some(number) }),
            cpu_cfs_quota_period: GoDuration::from_nanos(number),
            ..Config::default()
        };
        config.feature_gates.insert(text.clone(), true);
        let facts = Facts { online_cpus: Some(BTreeSet::new()), ..Facts::default() };
        let report = validate(&config, &facts, |_| ());
        prop_assert!(report.errors.iter().any(|found| found.field.starts_with("featureGates")));
        let _ = node_labels(&pairs, &());
    }
}
