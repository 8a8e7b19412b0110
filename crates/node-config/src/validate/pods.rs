//! Rules for how pods run: images, restarts, shutdown, swap, logs, user namespaces, sysctls.

use kube_model::duration::GoDuration;
use kube_model::quantity::Quantity;
use kube_model::sysctl;

use super::{Check, any_of};
use crate::gates::Gate;

const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MILLISECOND;

pub(super) fn image_gc(check: &mut Check<'_>) {
    let config = check.config;
    let (low, high) = (config.image_gc_low_threshold_percent, config.image_gc_high_threshold_percent);
    if low >= high {
        let rule = format!("must be less than imageGCHighThresholdPercent {high}");
        check.error("imageGCLowThresholdPercent", &low, rule);
    }
    let (min, max) = (config.image_minimum_gc_age, config.image_maximum_gc_age);
    if max.as_nanos() > 0 && max.as_nanos() <= min.as_nanos() {
        let rule = format!("must be longer than imageMinimumGCAge {min}, or 0s for no limit");
        check.error("imageMaximumGCAge", &max, rule);
    }
}

pub(super) fn image_pulls(check: &mut Check<'_>) {
    let Some(pulls) = check.config.max_parallel_image_pulls else { return };
    if pulls < 1 {
        check.error("maxParallelImagePulls", &pulls, "must be 1 or more");
    } else if pulls > 1 && check.config.serialize_image_pulls {
        check.error("maxParallelImagePulls", &pulls, "must be 1 unless serializeImagePulls is false");
    }
}

pub(super) fn image_credentials(check: &mut Check<'_>) {
    const POLICY: &str = "imagePullCredentialsVerificationPolicy";
    const LIST: &str = "preloadedImagesVerificationAllowlist";
    const ALLOWLIST_POLICY: &str = "NeverVerifyAllowlistedImages";
    const POLICIES: &[&str] =
        &["NeverVerify", "NeverVerifyPreloadedImages", ALLOWLIST_POLICY, "AlwaysVerify"];

    let policy = &check.config.image_pull_credentials_verification_policy;
    let list = &check.config.preloaded_images_verification_allowlist;
    if !check.enabled(Gate::KubeletEnsureSecretPulledImages) {
        let rule = "must not be set while the feature gate KubeletEnsureSecretPulledImages is off";
        if !policy.is_empty() {
            check.error(POLICY, policy, rule);
        }
        if !list.is_empty() {
            check.error(LIST, list, rule);
        }
        return;
    }
    if !POLICIES.contains(&policy.as_str()) {
        check.error(POLICY, policy, format!("must be {}", any_of(POLICIES)));
    }
    if !list.is_empty() && policy != ALLOWLIST_POLICY {
        check.error(LIST, list, format!("must not be set unless {POLICY} is {ALLOWLIST_POLICY:?}"));
    }
    for (index, pattern) in list.iter().enumerate() {
        if let Some(rule) = image_pattern(pattern) {
            check.error(format!("{LIST}[{index}]"), pattern, rule);
        }
    }
}

/// What is wrong with an image's name without tag and digest, or a prefix of such names that ends in `/*`.
fn image_pattern(pattern: &str) -> Option<&'static str> {
    let (name, wildcard) = match pattern.strip_suffix("/*") {
        Some(prefix) => (prefix, true),
        None => (pattern, false),
    };
    if pattern != pattern.trim() {
        Some("must not have leading or trailing spaces")
    } else if name.is_empty() {
        Some("must name an image, or a registry with /* behind it")
    } else if name.contains('*') {
        Some("must have no * but in /* at its end")
    } else if !wildcard && (name.contains('@') || name.rsplit('/').next()?.contains(':')) {
        Some("must have no tag and no digest")
    } else {
        None
    }
}

pub(super) fn crash_loop(check: &mut Check<'_>) {
    const FIELD: &str = "crashLoopBackOff.maxContainerRestartPeriod";
    let gate = check.enabled(Gate::KubeletCrashLoopBackOffMax);
    match check.config.crash_loop_back_off.max_container_restart_period {
        None if gate => {
            let rule = "must be set while the feature gate KubeletCrashLoopBackOffMax is on";
            check.error(FIELD, &None::<GoDuration>, rule);
        }
        Some(period) if !gate => {
            let rule = "must not be set while the feature gate KubeletCrashLoopBackOffMax is off";
            check.error(FIELD, &period, rule);
        }
        // In whole milliseconds, as the kubelet compares them.
        Some(period) if !(1_000..=300_000).contains(&(period.as_nanos() / MILLISECOND)) => {
            check.error(FIELD, &period, "must be between 1s and 300s");
        }
        _ => {}
    }
}

pub(super) fn cfs_period(check: &mut Check<'_>) {
    let period = check.config.cpu_cfs_quota_period;
    if !check.enabled(Gate::CustomCPUCFSQuotaPeriod) {
        if period.as_nanos() != 100 * MILLISECOND {
            let rule = "must be 100ms while the feature gate CustomCPUCFSQuotaPeriod is off";
            check.error("cpuCFSQuotaPeriod", &period, rule);
        }
    } else if !(MILLISECOND..=SECOND).contains(&period.as_nanos()) {
        check.error("cpuCFSQuotaPeriod", &period, "must be between 1ms and 1s");
    }
}

pub(super) fn run_once(check: &mut Check<'_>) {
    if check.config.run_once {
        check.error("runOnce", &true, "must be false: there is no such mode any more");
    }
}

pub(super) fn shutdown(check: &mut Check<'_>) {
    let all = check.config.shutdown_grace_period;
    let critical = check.config.shutdown_grace_period_critical_pods;
    let by_priority = &check.config.shutdown_grace_period_by_pod_priority;
    let graceful = check.enabled(Gate::GracefulNodeShutdown);
    for (field, period) in [("shutdownGracePeriod", all), ("shutdownGracePeriodCriticalPods", critical)] {
        if graceful && (period.as_nanos() < 0 || (1..SECOND).contains(&period.as_nanos())) {
            check.error(field, &period, "must be 0s, or 1s or longer");
        }
        if !graceful && period.as_nanos() > 0 {
            check.error(field, &period, "must be 0s while the feature gate GracefulNodeShutdown is off");
        }
    }
    if graceful && critical.as_nanos() > all.as_nanos() {
        let rule = format!("must not be longer than shutdownGracePeriod {all}, of which it is a part");
        check.error("shutdownGracePeriodCriticalPods", &critical, rule);
    }
    if by_priority.is_empty() {
        return;
    }
    let rule = if !check.enabled(Gate::GracefulNodeShutdownBasedOnPodPriority) {
        "must not be set while the feature gate GracefulNodeShutdownBasedOnPodPriority is off"
    } else if all.as_nanos() > 0 || critical.as_nanos() > 0 {
        "must not be set beside shutdownGracePeriod and shutdownGracePeriodCriticalPods"
    } else {
        return;
    };
    check.error("shutdownGracePeriodByPodPriority", by_priority, rule);
}

pub(super) fn swap(check: &mut Check<'_>) {
    let behavior = &check.config.memory_swap.swap_behavior;
    if behavior == "LimitedSwap" && check.facts.cgroup_version == Some(1) {
        check.error("memorySwap.swapBehavior", behavior, "needs cgroup v2, and this machine has v1");
    }
    if check.config.fail_swap_on && check.facts.swap == Some(true) {
        check.error("failSwapOn", &true, "does not allow swap, and this machine has swap on");
    }
}

pub(super) fn logs(check: &mut Check<'_>) {
    let dir = &check.config.pod_logs_dir;
    if !dir.is_ascii() {
        check.error("podLogsDir", dir, "must have ASCII characters only");
    }
    if !is_clean(dir) {
        let rule = "must be an absolute path without . and .., double and trailing slashes";
        check.error("podLogsDir", dir, rule);
    }
    // A negative size turns rotation off.
    let size = &check.config.container_log_max_size;
    if let Err(error) = size.parse::<Quantity>() {
        check.error("containerLogMaxSize", size, format!("must be a quantity such as 10Mi: {error}"));
    }
}

/// Whether Go's `filepath.Clean` would leave this absolute path as it is.
fn is_clean(path: &str) -> bool {
    let Some(inner) = path.strip_prefix('/') else { return false };
    inner.is_empty() || !inner.split('/').any(|part| matches!(part, "" | "." | ".."))
}

pub(super) fn user_namespaces(check: &mut Check<'_>) {
    const UNIT: i64 = 65536;
    let Some(ids) = check.config.user_namespaces.as_ref().and_then(|namespaces| namespaces.ids_per_pod)
    else {
        return;
    };
    if ids < UNIT || ids % UNIT != 0 || ids > u32::MAX.into() {
        let rule =
            format!("must be a multiple of {UNIT}, from {UNIT} to {}", i64::from(u32::MAX) / UNIT * UNIT);
        check.error("userNamespaces.idsPerPod", &ids, rule);
    }
}

pub(super) fn unsafe_sysctls(check: &mut Check<'_>) {
    for (index, pattern) in check.config.allowed_unsafe_sysctls.iter().enumerate() {
        let rule = if !is_sysctl_pattern(pattern) {
            "must be the name of a sysctl, or its beginning with * behind it"
        } else if sysctl::namespace(&sysctl::pattern(pattern).0).is_none() {
            "must be a sysctl that each pod has for itself: kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.*, \
             net.*"
        } else {
            continue;
        };
        check.error(format!("allowedUnsafeSysctls[{index}]"), pattern, rule);
    }
}

/// Parts with dots or slashes between them, the last of which may end in, or be, `*`.
fn is_sysctl_pattern(pattern: &str) -> bool {
    let alphanumeric = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |text: &str, end: &dyn Fn(u8) -> bool| match text.as_bytes() {
        [] => false,
        [only] => end(*only),
        [first, inner @ .., last] => {
            let inside = |c: &u8| alphanumeric(*c) || matches!(c, b'-' | b'_');
            alphanumeric(*first) && inner.iter().all(inside) && end(*last)
        }
    };
    let (folders, last) = match pattern.rfind(['.', '/']) {
        Some(at) => (Some(&pattern[..at]), &pattern[at + 1..]),
        None => (None, pattern),
    };
    pattern.len() <= 253
        && folders.is_none_or(|text| text.split(['.', '/']).all(|text| part(text, &alphanumeric)))
        && part(last, &|c| alphanumeric(c) || c == b'*')
}
