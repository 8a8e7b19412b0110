//! A case for each rule, good and bad.

use kube_model::duration::GoDuration;
use proptest::prelude::*;

use super::*;
use crate::config::UserNamespaces;

mod network;
mod pods;
mod resources;

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
                "authentication.webhook.enabled true needs --kubeconfig: no client provided, cannot use webhook \
                 authentication",
                "authorization.mode \"Webhook\" needs --kubeconfig: no client provided, cannot use webhook \
                 authorization",
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
