//! How pods run.

use super::*;
use crate::config::ShutdownGracePeriodByPodPriority;

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
