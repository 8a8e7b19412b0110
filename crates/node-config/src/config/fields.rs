//! What each field does in this agent: one row a field, or a struct or map of fields.

use kube_model::duration::GoDuration;

use super::KubeletConfiguration;

/// What a field or flag does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// What it does in the kubelet.
    Done,
    /// A part of that; the text says what is missing.
    Partly(&'static str),
    /// Nothing yet: it is accepted and reported.
    NotYet,
    /// Nothing, in the kubelet neither.
    Nothing,
}

/// What a field does.
pub struct Row {
    /// Its path.
    pub name: &'static str,
    /// What it does.
    pub effect: Effect,
    /// Whether it asks for nothing that would not happen anyway, so that there is nothing to report.
    pub idle: fn(&KubeletConfiguration) -> bool,
}

const fn row(name: &'static str, effect: Effect, idle: fn(&KubeletConfiguration) -> bool) -> Row {
    Row { name, effect, idle }
}

const fn done(name: &'static str) -> Row {
    row(name, Effect::Done, |_| true)
}

const fn never(_: &KubeletConfiguration) -> bool {
    false
}

fn is_zero(duration: GoDuration) -> bool {
    duration.as_nanos() == 0
}

/// Each field, by itself or with the struct or map that it is in.
#[rustfmt::skip]
pub static FIELDS: &[Row] = &[
    done("address"),
    done("allowedUnsafeSysctls"),
    done("apiVersion"),
    done("authentication"),
    done("authorization"),
    row("cgroupDriver", Effect::Partly("only cgroupfs is built"), |c| c.cgroup_driver == "cgroupfs"),
    done("cgroupRoot"),
    done("cgroupsPerQOS"),
    done("clusterDNS"),
    done("clusterDomain"),
    done("configMapAndSecretChangeDetectionStrategy"),
    row("containerLogMaxFiles", Effect::NotYet, never),
    row("containerLogMaxSize", Effect::NotYet, never),
    row("containerLogMaxWorkers", Effect::NotYet, never),
    row("containerLogMonitorInterval", Effect::NotYet, never),
    done("containerRuntimeEndpoint"),
    row("contentType", Effect::Partly("requests are JSON"), |c| c.content_type == "application/json"),
    done("cpuCFSQuota"),
    done("cpuCFSQuotaPeriod"),
    row("cpuManagerPolicy", Effect::Partly("only the policy none is built"), |c| c.cpu_manager_policy == "none"),
    row("cpuManagerPolicyOptions", Effect::NotYet, |c| c.cpu_manager_policy == "none"),
    row("cpuManagerReconcilePeriod", Effect::NotYet, |c| c.cpu_manager_policy == "none"),
    row("crashLoopBackOff", Effect::NotYet, |c| c.crash_loop_back_off.max_container_restart_period.is_none_or(|p| p == GoDuration::from_secs(300))),
    row("enableContentionProfiling", Effect::NotYet, |c| !c.enable_contention_profiling),
    row("enableControllerAttachDetach", Effect::Partly("the node tells of it, but volumes are not attached"), |c| c.enable_controller_attach_detach),
    done("enableDebugFlagsHandler"),
    done("enableDebuggingHandlers"),
    done("enableProfilingHandler"),
    done("enableServer"),
    done("enableSystemLogHandler"),
    row("enableSystemLogQuery", Effect::NotYet, |c| !c.enable_system_log_query),
    row("enforceNodeAllocatable", Effect::Partly("only pods are held to what they may use; the reserved cgroups are not limited"), |c| !c.enforce_node_allocatable.iter().any(|of| !["pods", "none", ""].contains(&of.as_str()))),
    done("eventBurst"),
    done("eventRecordQPS"),
    row("evictionHard", Effect::Partly("it counts for allocatable and the node's conditions, but no pod is evicted"), |c| c.eviction_hard.is_empty()),
    row("evictionMaxPodGracePeriod", Effect::NotYet, |c| c.eviction_soft.is_empty()),
    row("evictionMinimumReclaim", Effect::NotYet, |c| c.eviction_minimum_reclaim.is_empty()),
    row("evictionPressureTransitionPeriod", Effect::Partly("it counts for the node's conditions, but no pod is evicted"), |c| c.eviction_hard.is_empty()),
    row("evictionSoft", Effect::NotYet, |c| c.eviction_soft.is_empty()),
    row("evictionSoftGracePeriod", Effect::NotYet, |c| c.eviction_soft.is_empty()),
    done("failCgroupV1"),
    done("failSwapOn"),
    done("featureGates"),
    done("fileCheckFrequency"),
    row("hairpinMode", Effect::Nothing, never),
    done("healthzBindAddress"),
    done("healthzPort"),
    done("httpCheckFrequency"),
    row("imageGCHighThresholdPercent", Effect::NotYet, |c| c.image_gc_high_threshold_percent == 100),
    row("imageGCLowThresholdPercent", Effect::NotYet, |c| c.image_gc_high_threshold_percent == 100),
    row("imageMaximumGCAge", Effect::NotYet, |c| is_zero(c.image_maximum_gc_age)),
    row("imageMinimumGCAge", Effect::NotYet, never),
    row("imagePullCredentialsVerificationPolicy", Effect::NotYet, |c| ["", "NeverVerify"].contains(&c.image_pull_credentials_verification_policy.as_str())),
    done("imageServiceEndpoint"),
    row("iptablesDropBit", Effect::Nothing, never),
    row("iptablesMasqueradeBit", Effect::Nothing, never),
    row("kernelMemcgNotification", Effect::NotYet, |c| !c.kernel_memcg_notification),
    done("kind"),
    done("kubeAPIBurst"),
    done("kubeAPIQPS"),
    done("kubeReserved"),
    row("kubeReservedCgroup", Effect::NotYet, |c| c.kube_reserved_cgroup.is_empty()),
    row("kubeletCgroups", Effect::NotYet, |c| c.kubelet_cgroups.is_empty()),
    row("localStorageCapacityIsolation", Effect::Partly("the node tells of its ephemeral storage, but what pods use of it is not limited"), |c| !c.local_storage_capacity_isolation),
    done("logging.flushFrequency"),
    done("logging.format"),
    row("logging.options.json.infoBufferSize", Effect::NotYet, |c| !c.logging.options.json.split_stream),
    row("logging.options.json.splitStream", Effect::NotYet, |c| !c.logging.options.json.split_stream),
    row("logging.options.text.infoBufferSize", Effect::NotYet, |c| !c.logging.options.text.split_stream),
    row("logging.options.text.splitStream", Effect::NotYet, |c| !c.logging.options.text.split_stream),
    done("logging.verbosity"),
    done("logging.vmodule"),
    row("makeIPTablesUtilChains", Effect::NotYet, |c| !c.make_iptables_util_chains),
    done("maxOpenFiles"),
    done("maxParallelImagePulls"),
    done("maxPods"),
    row("memoryManagerPolicy", Effect::Partly("only the policy None is built"), |c| c.memory_manager_policy == "None"),
    row("memoryReservationPolicy", Effect::NotYet, |c| c.memory_reservation_policy == "None"),
    done("memorySwap"),
    row("memoryThrottlingFactor", Effect::NotYet, |c| c.feature_gates.get("MemoryQoS") != Some(&true)),
    done("mergeDefaultEvictionSettings"),
    done("nodeLeaseDurationSeconds"),
    done("nodeStatusMaxImages"),
    done("nodeStatusReportFrequency"),
    done("nodeStatusUpdateFrequency"),
    row("oomScoreAdj", Effect::NotYet, never),
    row("podCIDR", Effect::NotYet, |c| c.pod_cidr.is_empty()),
    done("podLogsDir"),
    done("podPidsLimit"),
    done("podsPerCore"),
    done("port"),
    row("preloadedImagesVerificationAllowlist", Effect::NotYet, |c| c.preloaded_images_verification_allowlist.is_empty()),
    row("protectKernelDefaults", Effect::NotYet, never),
    done("providerID"),
    row("qosReserved", Effect::NotYet, |c| c.qos_reserved.is_empty()),
    done("readOnlyPort"),
    done("registerNode"),
    done("registerWithTaints"),
    done("registryBurst"),
    done("registryPullQPS"),
    row("reservedMemory", Effect::NotYet, |c| c.memory_manager_policy == "None"),
    row("reservedSystemCPUs", Effect::Partly("as many CPUs are taken off allocatable, but none is kept free of pods"), |c| c.reserved_system_cpus.is_empty()),
    done("resolvConf"),
    done("rotateCertificates"),
    done("runOnce"),
    done("runtimeRequestTimeout"),
    done("seccompDefault"),
    done("serializeImagePulls"),
    done("serverTLSBootstrap"),
    row("showHiddenMetricsForVersion", Effect::NotYet, |c| c.show_hidden_metrics_for_version.is_empty()),
    row("shutdownGracePeriod", Effect::NotYet, |c| is_zero(c.shutdown_grace_period)),
    row("shutdownGracePeriodByPodPriority", Effect::NotYet, |c| c.shutdown_grace_period_by_pod_priority.is_empty()),
    row("shutdownGracePeriodCriticalPods", Effect::NotYet, |c| is_zero(c.shutdown_grace_period_critical_pods)),
    done("singleProcessOOMKill"),
    done("staticPodPath"),
    done("staticPodURL"),
    done("staticPodURLHeader"),
    row("streamingConnectionIdleTimeout", Effect::Nothing, never),
    row("syncFrequency", Effect::Partly("events and a look once a minute take its place; it counts for /healthz/syncloop, objects that are fetched, and claims whose volumes may grow"), |c| c.sync_frequency == GoDuration::from_secs(60)),
    row("systemCgroups", Effect::NotYet, |c| c.system_cgroups.is_empty()),
    done("systemReserved"),
    row("systemReservedCgroup", Effect::NotYet, |c| c.system_reserved_cgroup.is_empty()),
    done("tlsCertFile"),
    done("tlsCipherSuites"),
    done("tlsCurvePreferences"),
    done("tlsMinVersion"),
    done("tlsPrivateKeyFile"),
    row("topologyManagerPolicy", Effect::Partly("only the policy none is built"), |c| c.topology_manager_policy == "none"),
    row("topologyManagerPolicyOptions", Effect::NotYet, |c| c.topology_manager_policy == "none"),
    row("topologyManagerScope", Effect::NotYet, |c| c.topology_manager_policy == "none"),
    row("tracing", Effect::NotYet, |c| c.tracing.is_none()),
    row("userNamespaces", Effect::NotYet, |c| c.user_namespaces.is_none()),
    row("volumePluginDir", Effect::NotYet, never),
    done("volumeStatsAggPeriod"),
];

/// Fields whose new values hold without a restart when the configuration is read again.
pub const LIVE: &[&str] = &["fileCheckFrequency", "httpCheckFrequency", "logging.verbosity"];

/// The row that the field at `path` belongs to: `evictionHard` for `evictionHard[pid.available]`. `None` when there
/// is no such field, or for a struct that has several rows.
pub fn field(path: &str) -> Option<&'static Row> {
    FIELDS.iter().find(|row| {
        path.strip_prefix(row.name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}
