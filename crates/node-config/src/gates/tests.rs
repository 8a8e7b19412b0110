use proptest::prelude::*;

use super::*;

fn set(text: &str) -> BTreeMap<String, bool> {
    text.split(',')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), value == "true")
        })
        .collect()
}

fn errors(text: &str) -> Vec<String> {
    Gates::new(&set(text)).unwrap_err().iter().map(GateError::to_string).collect()
}

#[test]
fn the_table_is_in_the_order_of_the_names_and_of_the_enum() {
    assert!(TABLE.is_sorted_by_key(|spec| spec.name));
    for (index, spec) in TABLE.iter().enumerate() {
        assert_eq!(spec.gate as usize, index, "{}", spec.name);
        assert_eq!(Gate::named(spec.name), Some(spec.gate));
        assert_eq!(spec.gate.to_string(), spec.name);
    }
    assert_eq!(Gate::named("nodeswap"), None);
}

/// The consistency that component-base asks of its own table.
#[test]
fn no_gate_needs_one_that_is_less_settled_or_less_on() {
    let rank = |stage| match stage {
        Stage::Deprecated => 0,
        Stage::Alpha => 1,
        Stage::Beta => 2,
        Stage::GA => 3,
    };
    for spec in TABLE {
        for needed in spec.needs.iter().map(|gate| gate.spec()) {
            assert!(rank(spec.stage) <= rank(needed.stage), "{} needs {}", spec.name, needed.name);
            assert!(!spec.default || needed.default, "{} needs {}", spec.name, needed.name);
            assert!(!spec.locked || needed.locked, "{} needs {}", spec.name, needed.name);
        }
    }
}

/// Upstream `pkg/features/kube_features.go`; a star is a lock.
#[test]
fn the_gates_of_the_kubelet_are_as_the_reference_has_them() {
    let ga_on = "CustomCPUCFSQuotaPeriod(36) DynamicResourceAllocation*(35) ImageMaximumGCAge*(35) \
                 ImageVolume*(36) InPlacePodVerticalScaling*(35) KubeletFineGrainedAuthz*(36) KubeletPSI*(36) \
                 KubeletPodResourcesGet*(36) MutableCSINodeAllocatableCount*(36) NodeLogQuery*(36) \
                 NodeSwap*(34) PodLifecycleSleepAction*(34) PodObservedGenerationTracking*(35) \
                 RecoverVolumeExpansionFailure*(34) RecursiveReadOnlyMounts*(33) SELinuxChangePolicy*(36) \
                 SELinuxMountReadWriteOncePod*(36) SupplementalGroupsPolicy*(35) \
                 TopologyManagerPolicyOptions*(32) UserNamespacesSupport*(36) KubeletCgroupDriverFromCRI* \
                 KubeletTracing* CPUManagerPolicyOptions* SidecarContainers* ProcMountType* SystemdWatchdog* \
                 ExecProbeTimeout* CSIServiceAccountTokenSecrets* KubeletPodResourcesDynamicResources*";
    let beta_on = "CPUManagerPolicyBetaOptions ContainerCheckpoint ContainerRestartRules DRAConsumableCapacity \
                   DRAExtendedResource EnvFiles ExtendWebSocketsToKubelet GracefulNodeShutdown \
                   GracefulNodeShutdownBasedOnPodPriority HostnameOverride \
                   InPlacePodLevelResourcesVerticalScaling InPlacePodVerticalScalingInitContainers \
                   KubeletCrashLoopBackOffMax KubeletEnsureSecretPulledImages KubeletSeparateDiskGC \
                   KubeletServiceAccountTokenForCredentialProviders NodeDeclaredFeatures PLEGOnDemandRelist \
                   PodLevelResources PodReadyToStartContainersCondition PreventStaticPodAPIReferences \
                   ReloadKubeletClientCAFile ReloadKubeletServerCertificateFile ResourceHealthStatus \
                   ResourceHealthStatusMessage RestartAllContainersOnContainerExits \
                   RotateKubeletServerCertificate TopologyManagerPolicyBetaOptions ComponentFlagz \
                   ComponentStatusz ContextualLogging LoggingBetaOptions";
    let beta_off = "ClusterTrustBundleProjection LocalStorageCapacityIsolationFSQuotaMonitoring \
                    PodCertificateRequest SELinuxMount";
    let alpha_off = "CPUManagerPolicyAlphaOptions CRIListStreaming CSIVolumeHealth ContainerStopSignals \
                     DRAWorkloadResourceClaims GenericWorkload EventedPLEG ImageVolumeWithDigest \
                     InPlacePodVerticalScalingExclusiveCPUs InPlacePodVerticalScalingExclusiveMemory \
                     KubeletInUserNamespace MemoryQoS PodAndContainerStatsFromCRI PodLevelResourceManagers \
                     PodLogsQuerySplitStreams PodsAPI QOSReserved ReduceDefaultCrashLoopBackOffDecay \
                     RuntimeClassInImageCriApi TaintTolerationComparisonOperators \
                     TopologyManagerPolicyAlphaOptions UserNamespacesHostNetworkSupport NativeHistograms \
                     LoggingAlphaOptions";
    let deprecated_on =
        "DisableCPUQuotaWithExclusiveCPUs DisableNodeKubeProxyVersion* KubeletPodResourcesListUseActivePods";
    let deprecated_off = "AllowDNSOnlyNodeCSR ChangeContainerStatusOnKubeletRestart GitRepoVolumeDriver* \
                          KubeletRegistrationGetOnExistsOnly";
    for (names, stage, default) in [
        (ga_on, Stage::GA, true),
        (beta_on, Stage::Beta, true),
        (beta_off, Stage::Beta, false),
        (alpha_off, Stage::Alpha, false),
        (deprecated_on, Stage::Deprecated, true),
        (deprecated_off, Stage::Deprecated, false),
    ] {
        for word in names.split_whitespace() {
            let (word, since) = match word.trim_end_matches(')').split_once('(') {
                Some((word, since)) => (word, Some(since.parse::<u8>().unwrap())),
                None => (word, None),
            };
            let name = word.trim_end_matches('*');
            let spec = Gate::named(name).unwrap_or_else(|| panic!("{name} is missing")).spec();
            assert_eq!((spec.stage, spec.default), (stage, default), "{name}");
            assert_eq!(spec.locked, word.ends_with('*'), "{name}");
            if let Some(since) = since {
                assert_eq!(spec.since, since, "{name}");
            }
        }
    }
}

#[test]
fn nothing_set_means_the_defaults() {
    let gates = Gates::new(&BTreeMap::new()).unwrap();
    assert_eq!(gates, Gates::default());
    assert!(gates.enabled(Gate::NodeSwap) && !gates.enabled(Gate::MemoryQoS));
    assert_eq!(gates.changed().count(), 0);
}

#[test]
fn all_alpha_and_all_beta_count_for_the_gates_of_their_stage_that_are_not_named() {
    let gates = Gates::new(&set("AllAlpha=true,MemoryQoS=false")).unwrap();
    assert!(gates.enabled(Gate::EventedPLEG) && gates.enabled(Gate::AllAlpha));
    assert!(!gates.enabled(Gate::MemoryQoS) && !gates.enabled(Gate::SELinuxMount));
    assert!(!gates.enabled(Gate::AllBeta) && !gates.enabled(Gate::AllowDNSOnlyNodeCSR));

    let gates = Gates::new(&set("AllBeta=false,HostnameOverride=true")).unwrap();
    assert!(gates.enabled(Gate::HostnameOverride) && gates.enabled(Gate::NodeSwap));
    assert!(!gates.enabled(Gate::EnvFiles));

    let gates = Gates::new(&set("AllAlpha=true,AllBeta=true")).unwrap();
    assert!(
        Gate::all()
            .all(|gate| gates.enabled(gate) || gate.spec().stage == Stage::Deprecated || gate.spec().locked)
    );
}

#[test]
fn unknown_and_locked_gates_are_errors_in_the_words_of_the_kubelet() {
    assert_eq!(
        errors("NodeSwap=false,Nosuch=true,nodeswap=true,GitRepoVolumeDriver=true"),
        [
            "cannot set feature gate GitRepoVolumeDriver to true, feature is locked to false",
            "cannot set feature gate NodeSwap to false, feature is locked to true",
            "unrecognized feature gate: Nosuch",
            "unrecognized feature gate: nodeswap",
        ]
    );
    assert!(Gates::new(&set("NodeSwap=true,GitRepoVolumeDriver=false")).is_ok());
}

#[test]
fn a_gate_that_is_on_needs_the_gates_that_it_depends_on() {
    for (given, expected) in [
        (
            "NodeDeclaredFeatures=false",
            "ExtendWebSocketsToKubelet is enabled, but depends on features that are disabled: \
             [NodeDeclaredFeatures]\n\
             InPlacePodLevelResourcesVerticalScaling is enabled, but depends on features that are disabled: \
             [NodeDeclaredFeatures]\n\
             InPlacePodVerticalScalingInitContainers is enabled, but depends on features that are disabled: \
             [NodeDeclaredFeatures]\n\
             RestartAllContainersOnContainerExits is enabled, but depends on features that are disabled: \
             [NodeDeclaredFeatures]",
        ),
        (
            "GracefulNodeShutdown=false",
            "GracefulNodeShutdownBasedOnPodPriority is enabled, but depends on features that are disabled: \
             [GracefulNodeShutdown]\n\
             WindowsGracefulNodeShutdown is enabled, but depends on features that are disabled: \
             [GracefulNodeShutdown]",
        ),
        (
            "NodeDeclaredFeatures=false,PodLevelResources=false,ExtendWebSocketsToKubelet=false,\
             InPlacePodVerticalScalingInitContainers=false,RestartAllContainersOnContainerExits=false",
            "InPlacePodLevelResourcesVerticalScaling is enabled, but depends on features that are disabled: \
             [NodeDeclaredFeatures PodLevelResources]",
        ),
        (
            "ClusterTrustBundleProjection=true",
            "ClusterTrustBundleProjection is enabled, but depends on features that are disabled: \
             [ClusterTrustBundle]",
        ),
    ] {
        assert_eq!(errors(given).join("\n"), expected, "{given}");
    }
    assert!(Gates::new(&set("ClusterTrustBundleProjection=true,ClusterTrustBundle=true")).is_ok());
    assert_eq!(errors("ClusterTrustBundleProjection=true,Nosuch=true").len(), 1, "names first");
}

#[test]
fn flags_win_gate_by_gate() {
    let merged = merge(&set("MemoryQoS=true,SELinuxMount=true"), &set("MemoryQoS=false,EventedPLEG=true"));
    assert_eq!(merged, set("EventedPLEG=true,MemoryQoS=false,SELinuxMount=true"));
}

#[test]
fn what_is_set_away_from_its_default_without_effect_is_named() {
    let gates =
        Gates::new(&set("EventedPLEG=true,NodeSwap=true,LoggingAlphaOptions=true,EnvFiles=false")).unwrap();
    let names: Vec<_> = gates.without_effect().map(|gate| gate.to_string()).collect();
    assert_eq!(names, ["EnvFiles", "EventedPLEG"]);
    assert_eq!(format!("{gates:?}"), "{EnvFiles: false, EventedPLEG: true, LoggingAlphaOptions: true}");
}

#[test]
fn a_node_declares_what_is_built_and_on() {
    let declared = |gates: &str| Gates::new(&set(gates)).unwrap().declared_features();
    assert_eq!(Gates::default().declared_features(), ["ExtendWebSocketsToKubelet"]);
    assert!(declared("ExtendWebSocketsToKubelet=false").is_empty());
    assert!(DECLARED.iter().all(|gate| BUILT.contains(gate)), "nothing that is not there");
}

#[test]
fn the_help_names_what_may_still_be_set() {
    assert_eq!(Gate::MemoryQoS.help().unwrap(), "MemoryQoS=true|false (ALPHA - default=false)");
    assert_eq!(Gate::EnvFiles.help().unwrap(), "EnvFiles=true|false (BETA - default=true)");
    assert_eq!(Gate::NodeSwap.help(), None);
    assert_eq!(Gate::GitRepoVolumeDriver.help(), None);
}

proptest! {
    #[test]
    fn an_explicit_entry_always_wins(
        index in 0..TABLE.len(), value: bool, alpha: Option<bool>, beta: Option<bool>,
    ) {
        let mut wanted = BTreeMap::from([(TABLE[index].name.to_owned(), value)]);
        for (name, value) in [("AllAlpha", alpha), ("AllBeta", beta)] {
            if let Some(value) = value {
                wanted.entry(name.to_owned()).or_insert(value);
            }
        }
        if let Ok(gates) = Gates::new(&wanted) {
            prop_assert_eq!(gates.enabled(TABLE[index].gate), value);
        }
    }
}
