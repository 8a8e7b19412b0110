use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

fn read(value: Value) -> KubeletConfiguration {
    let decoded = KubeletConfiguration::from_value(value, &BTreeMap::new()).unwrap();
    assert_eq!(decoded.unknown, Vec::<String>::new());
    decoded.config
}

#[test]
fn a_minimal_file_gives_what_the_kubelet_shows_at_configz() {
    let shown: Value =
        serde_json::from_str(include_str!("../../../../tests/fixtures/configz-with-a-minimal-config.json"))
            .unwrap();
    let mut config = read(json!({
        "failCgroupV1": false,
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
    }));
    config.eviction_hard =
        DEFAULT_EVICTION_HARD.iter().map(|&(signal, value)| (signal.to_owned(), value.to_owned())).collect();
    let mut ours = serde_json::to_value(&config).unwrap();
    // The kubelet shows the paths of its own certificate, which were blanked in the recording.
    ours["tlsCertFile"] = "".into();
    ours["tlsPrivateKeyFile"] = "".into();
    assert_eq!(ours, shown);
    let order = |text: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| line.strip_prefix(" \"")?.split_once('"').map(|(key, _)| key.to_owned()))
            .collect()
    };
    let text = serde_json::to_string_pretty(&config).unwrap().replace("\n  ", "\n ");
    let shown: Vec<_> = order(include_str!("../../../../tests/fixtures/configz-with-a-minimal-config.json"))
        .into_iter()
        .filter(|key| !key.starts_with("tls"))
        .collect();
    let ours = order(&text);
    let ours: Vec<_> = ours.into_iter().filter(|key| shown.contains(key)).collect();
    assert_eq!(ours, shown, "in the same order");
}

/// All fields set, so that nothing is left out.
fn whole() -> KubeletConfiguration {
    let mut value = serde_json::to_value(KubeletConfiguration::legacy()).unwrap();
    for (path, filled) in [
        ("/staticPodPath", json!("/m")),
        ("/staticPodURL", json!("http://x")),
        ("/staticPodURLHeader", json!({"a": ["b"]})),
        ("/tlsCertFile", json!("/c")),
        ("/tlsPrivateKeyFile", json!("/k")),
        ("/tlsCipherSuites", json!(["x"])),
        ("/tlsCurvePreferences", json!([29])),
        ("/tlsMinVersion", json!("VersionTLS13")),
        ("/rotateCertificates", json!(true)),
        ("/serverTLSBootstrap", json!(true)),
        ("/authentication/x509/clientCAFile", json!("/ca")),
        ("/preloadedImagesVerificationAllowlist", json!(["a/*"])),
        ("/enableContentionProfiling", json!(true)),
        ("/clusterDomain", json!("c.l")),
        ("/clusterDNS", json!(["10.0.0.1"])),
        ("/kubeletCgroups", json!("/a")),
        ("/systemCgroups", json!("/b")),
        ("/cgroupRoot", json!("/")),
        ("/singleProcessOOMKill", json!(true)),
        ("/cpuManagerPolicyOptions", json!({"a": "true"})),
        ("/topologyManagerPolicyOptions", json!({"a": "true"})),
        ("/qosReserved", json!({"memory": "50%"})),
        ("/podCIDR", json!("10.0.0.0/8")),
        ("/runOnce", json!(true)),
        ("/maxParallelImagePulls", json!(3)),
        ("/evictionHard", json!({"memory.available": "1Gi"})),
        ("/evictionSoft", json!({"memory.available": "2Gi"})),
        ("/evictionSoftGracePeriod", json!({"memory.available": "1m"})),
        ("/evictionMaxPodGracePeriod", json!(5)),
        ("/evictionMinimumReclaim", json!({"nodefs.available": "1Gi"})),
        ("/podsPerCore", json!(5)),
        ("/protectKernelDefaults", json!(true)),
        ("/featureGates", json!({"QOSReserved": true})),
        ("/memorySwap/swapBehavior", json!("LimitedSwap")),
        ("/systemReserved", json!({"cpu": "1"})),
        ("/kubeReserved", json!({"cpu": "1"})),
        ("/reservedSystemCPUs", json!("0-1")),
        ("/showHiddenMetricsForVersion", json!("1.35")),
        ("/systemReservedCgroup", json!("/s")),
        ("/kubeReservedCgroup", json!("/k")),
        ("/allowedUnsafeSysctls", json!(["net.*"])),
        ("/providerID", json!("p://x")),
        ("/kernelMemcgNotification", json!(true)),
        ("/logging/vmodule", json!([{"filePattern": "a*", "verbosity": 5}])),
        ("/logging/options/text/splitStream", json!(true)),
        ("/logging/options/json/splitStream", json!(true)),
        ("/logging/flushFrequency", json!(7_000_000_000_i64)),
        ("/shutdownGracePeriodByPodPriority", json!([{"priority": 5, "shutdownGracePeriodSeconds": 6}])),
        ("/reservedMemory", json!([{"numaNode": 0, "limits": {"memory": "1Gi"}}])),
        ("/registerWithTaints", json!([{"key": "a", "value": "b", "effect": "NoExecute"}])),
        ("/tracing", json!({"endpoint": "x:1", "samplingRatePerMillion": 5})),
        ("/imageServiceEndpoint", json!("unix:///x")),
        ("/userNamespaces", json!({"idsPerPod": 65536})),
    ] {
        let (parent, key) = path.rsplit_once('/').unwrap();
        value.pointer_mut(parent).unwrap()[key] = filled;
    }
    read(value)
}

#[test]
fn what_is_written_reads_back_as_the_same() {
    for config in [whole(), KubeletConfiguration::default(), KubeletConfiguration::legacy()] {
        assert_eq!(read(serde_json::to_value(&config).unwrap()), config);
    }
    assert_eq!(serde_json::to_value(whole()).unwrap()["logging"]["flushFrequency"], 7_000_000_000_i64);
}

#[test]
fn each_field_is_in_one_of_the_lists() {
    fn leaves(path: &str, value: &Value, out: &mut Vec<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| leaves(&join(path, key), value, out)),
            _ => out.push(path.to_owned()),
        }
    }
    let mut paths = Vec::new();
    leaves("", &serde_json::to_value(whole()).unwrap(), &mut paths);
    let written = serde_json::to_value(whole()).unwrap().as_object().unwrap().len();
    let declared = include_str!("kubelet.rs").lines().filter(|line| line.starts_with("    pub ")).count();
    assert_eq!(written, declared, "a field that whole() leaves out");
    let all = || FIELDS.iter().map(|row| row.name);
    let within = |path: &str, name: &str| {
        path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    for path in &paths {
        assert_eq!(all().filter(|name| within(path, name)).count(), 1, "{path}");
        assert!(field(path).is_some(), "{path}");
    }
    for name in all() {
        assert!(paths.iter().any(|path| within(path, name)), "{name} is no field");
    }
    let of = |path| field(path).map(|row| row.name);
    assert_eq!(of("evictionHard[a.b]"), Some("evictionHard"));
    assert_eq!(of("logging.options.json.splitStream"), Some("logging.options.json.splitStream"));
    assert_eq!((of("logging"), of("portx")), (None, None));
}

#[test]
fn what_asks_for_nothing_more_than_happens_anyway_is_idle() {
    let idle = |name: &str, value: Value| (field(name).unwrap().idle)(&read(json!({ name: value })));
    for (name, nothing, something) in [
        ("imageMaximumGCAge", json!("0s"), json!("1h")),
        ("shutdownGracePeriod", json!("0s"), json!("30s")),
        ("shutdownGracePeriodCriticalPods", json!("0s"), json!("10s")),
        ("evictionMaxPodGracePeriod", json!(0), json!(0)),
        ("cpuManagerPolicy", json!("none"), json!("static")),
        ("memoryManagerPolicy", json!("None"), json!("Static")),
        ("cgroupDriver", json!("cgroupfs"), json!("systemd")),
        ("enforceNodeAllocatable", json!(["pods"]), json!(["pods", "kube-reserved"])),
        ("imageGCHighThresholdPercent", json!(100), json!(85)),
        ("evictionHard", json!({}), json!({"memory.available": "1Gi"})),
    ] {
        assert!(idle(name, nothing), "{name}");
        assert_eq!(idle(name, something.clone()), something == json!(0), "{name}: {something}");
    }
    assert!(FIELDS.iter().all(|row| row.effect != Effect::Done || (row.idle)(&whole())));
}
