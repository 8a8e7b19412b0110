//! Which fields this agent does something with. Each field of the configuration stands in one of three lists, by
//! itself or with the struct or map that it is in.

/// What a field does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// What it does in the kubelet.
    Heeded,
    /// Nothing yet: it is accepted and reported.
    NotYet,
    /// Nothing, in the kubelet neither (Top 40, 6).
    Nothing,
}

/// Fields that the agent heeds.
pub const HEEDED: &[&str] = &[
    "address",
    "apiVersion",
    "authentication",
    "authorization",
    "cgroupDriver",
    "cgroupRoot",
    "cgroupsPerQOS",
    "clusterDNS",
    "clusterDomain",
    "containerRuntimeEndpoint",
    "cpuCFSQuota",
    "cpuCFSQuotaPeriod",
    "enableControllerAttachDetach",
    "enableDebugFlagsHandler",
    "enableDebuggingHandlers",
    "enableProfilingHandler",
    "enableServer",
    "enableSystemLogHandler",
    "eventBurst",
    "eventRecordQPS",
    "evictionHard",
    "evictionPressureTransitionPeriod",
    "failCgroupV1",
    "failSwapOn",
    "featureGates",
    "fileCheckFrequency",
    "healthzBindAddress",
    "healthzPort",
    "httpCheckFrequency",
    "imageServiceEndpoint",
    "kind",
    "kubeAPIBurst",
    "kubeAPIQPS",
    "kubeReserved",
    "localStorageCapacityIsolation",
    "logging.format",
    "logging.verbosity",
    "maxPods",
    "mergeDefaultEvictionSettings",
    "nodeLeaseDurationSeconds",
    "nodeStatusMaxImages",
    "nodeStatusReportFrequency",
    "nodeStatusUpdateFrequency",
    "podLogsDir",
    "podPidsLimit",
    "podsPerCore",
    "port",
    "providerID",
    "readOnlyPort",
    "registerNode",
    "registerWithTaints",
    "registryBurst",
    "registryPullQPS",
    "resolvConf",
    "runOnce",
    "runtimeRequestTimeout",
    "seccompDefault",
    "serializeImagePulls",
    "staticPodPath",
    "staticPodURL",
    "staticPodURLHeader",
    "systemReserved",
    "tlsCertFile",
    "tlsCipherSuites",
    "tlsCurvePreferences",
    "tlsMinVersion",
    "tlsPrivateKeyFile",
];

/// Fields of [`HEEDED`] whose new values hold without a restart when the configuration is read again.
pub const LIVE: &[&str] = &["fileCheckFrequency", "httpCheckFrequency", "logging.verbosity"];

/// Fields that are accepted and have no effect yet. Shrinks as the agent grows.
pub const NOT_YET: &[&str] = &[
    "allowedUnsafeSysctls",
    "configMapAndSecretChangeDetectionStrategy",
    "containerLogMaxFiles",
    "containerLogMaxSize",
    "containerLogMaxWorkers",
    "containerLogMonitorInterval",
    "contentType",
    "cpuManagerPolicy",
    "cpuManagerPolicyOptions",
    "cpuManagerReconcilePeriod",
    "crashLoopBackOff",
    "enableContentionProfiling",
    "enableSystemLogQuery",
    "enforceNodeAllocatable",
    "evictionMaxPodGracePeriod",
    "evictionMinimumReclaim",
    "evictionSoft",
    "evictionSoftGracePeriod",
    "imageGCHighThresholdPercent",
    "imageGCLowThresholdPercent",
    "imageMaximumGCAge",
    "imageMinimumGCAge",
    "imagePullCredentialsVerificationPolicy",
    "kernelMemcgNotification",
    "kubeReservedCgroup",
    "kubeletCgroups",
    "logging.flushFrequency",
    "logging.options",
    "logging.vmodule",
    "makeIPTablesUtilChains",
    "maxOpenFiles",
    "maxParallelImagePulls",
    "memoryManagerPolicy",
    "memoryReservationPolicy",
    "memorySwap",
    "memoryThrottlingFactor",
    "oomScoreAdj",
    "podCIDR",
    "preloadedImagesVerificationAllowlist",
    "protectKernelDefaults",
    "qosReserved",
    "reservedMemory",
    "reservedSystemCPUs",
    "rotateCertificates",
    "serverTLSBootstrap",
    "showHiddenMetricsForVersion",
    "shutdownGracePeriod",
    "shutdownGracePeriodByPodPriority",
    "shutdownGracePeriodCriticalPods",
    "singleProcessOOMKill",
    "syncFrequency",
    "systemCgroups",
    "systemReservedCgroup",
    "topologyManagerPolicy",
    "topologyManagerPolicyOptions",
    "topologyManagerScope",
    "tracing",
    "userNamespaces",
    "volumePluginDir",
    "volumeStatsAggPeriod",
];

/// Fields that do nothing in the kubelet either.
pub const WITHOUT_EFFECT: &[&str] =
    &["hairpinMode", "iptablesDropBit", "iptablesMasqueradeBit", "streamingConnectionIdleTimeout"];

/// The entry of a list that `path` belongs to: itself or what it is in.
fn entry(list: &'static [&'static str], path: &str) -> Option<&'static str> {
    list.iter().copied().find(|name| {
        path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

/// What the field at `path` does, and the entry that says so: `evictionHard` for `evictionHard[pid.available]`.
/// `None` when there is no such field, or for a struct that is in more than one list.
pub fn effect(path: &str) -> Option<(Effect, &'static str)> {
    [(HEEDED, Effect::Heeded), (NOT_YET, Effect::NotYet), (WITHOUT_EFFECT, Effect::Nothing)]
        .into_iter()
        .find_map(|(list, effect)| entry(list, path).map(|name| (effect, name)))
}
