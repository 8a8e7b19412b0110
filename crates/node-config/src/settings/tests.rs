use super::*;
use crate::parse::parse;

fn settings(line: &[&str]) -> Result<Settings, UsageError> {
    Settings::new(parse(AGENT, line.iter().map(|&arg| arg.to_owned()))?)
}

#[test]
fn an_empty_command_line_means_the_kubelets_defaults() {
    let expected = Settings {
        pod_manifest_path: None,
        file_check_frequency: Duration::from_secs(20),
        container_runtime_endpoint: "unix:///run/containerd/containerd.sock".into(),
        image_service_endpoint: "unix:///run/containerd/containerd.sock".into(),
        runtime_request_timeout: Duration::from_secs(120),
        root_dir: "/var/lib/kubelet".into(),
        pod_logs_dir: "/var/log/pods".into(),
        hostname_override: None,
        node_ips: vec![],
        sync_frequency: Duration::from_secs(60),
        healthz: Some("127.0.0.1:10248".parse().unwrap()),
        cluster_dns: vec![],
        cluster_domain: String::new(),
        resolv_conf: Some("/etc/resolv.conf".into()),
        cgroup_root: "/".into(),
        cgroups_per_qos: true,
        cpu_cfs_quota: true,
        cpu_cfs_quota_period: Duration::from_millis(100),
        pod_max_pids: None,
        serialize_image_pulls: true,
        registry_qps: 5,
        registry_burst: 10,
        seccomp_default: false,
        logging_format: LoggingFormat::Text,
        verbosity: 0,
        origins: Origins::default(),
        warnings: vec![],
    };
    assert_eq!(settings(&[]).unwrap(), expected);
}

#[test]
fn given_values_arrive_with_their_origin() {
    let settings = settings(&[
        "--pod-manifest-path=/etc/manifests",
        "--file_check_frequency=1m30s",
        "--container-runtime-endpoint=/run/crio.sock",
        "--image-service-endpoint=unix:/run/images.sock",
        "--hostname-override= Node-1 ",
        "--healthz-bind-address=::",
        "--healthz-port=1",
        "--cluster-dns=10.0.0.10,fd00::a",
        "--node-ip=192.0.2.1,2001:db8::1",
        "--resolv-conf=",
        "--cgroup-root=/test",
        "--pod-max-pids=100",
        "--registry-qps=0",
        "--logging-format=json",
        "-v4",
    ])
    .unwrap();
    assert_eq!(settings.pod_manifest_path, Some("/etc/manifests".into()));
    assert_eq!(settings.file_check_frequency, Duration::from_secs(90));
    assert_eq!(settings.container_runtime_endpoint, "unix:///run/crio.sock");
    assert_eq!(settings.image_service_endpoint, "unix:///run/images.sock");
    assert_eq!(settings.hostname_override.as_deref(), Some("node-1"));
    assert_eq!(settings.healthz, Some("[::]:1".parse().unwrap()));
    assert_eq!(settings.cluster_dns, ["10.0.0.10".parse::<IpAddr>().unwrap(), "fd00::a".parse().unwrap()]);
    assert_eq!(settings.node_ips.len(), 2);
    assert_eq!(settings.resolv_conf, None);
    assert_eq!(settings.cgroup_root, "/test");
    assert_eq!(settings.pod_max_pids, Some(100));
    assert_eq!(settings.registry_qps, 0);
    assert_eq!(settings.logging_format, LoggingFormat::Json);
    assert_eq!(settings.verbosity, 4);
    assert_eq!(settings.origins.of("file-check-frequency"), Origin::Flag("1m30s"));
    assert_eq!(settings.origins.of("root-dir"), Origin::Default);
    assert!(settings.warnings.is_empty());
}

#[test]
fn each_broken_rule_names_field_flag_value_and_rule() {
    let endpoint = "must be a unix socket, such as \"unix:///run/containerd/containerd.sock\"";
    for (arg, error) in [
        (
            "--healthz-port=70000",
            "healthzPort (--healthz-port) \"70000\" must be between 0 and 65535; 0 turns the endpoint off",
        ),
        (
            "--healthz-port=-1",
            "healthzPort (--healthz-port) \"-1\" must be between 0 and 65535; 0 turns the endpoint off",
        ),
        (
            "--file-check-frequency=0s",
            "fileCheckFrequency (--file-check-frequency) \"0s\" must be longer than 0s",
        ),
        (
            "--runtime-request-timeout=-1s",
            "runtimeRequestTimeout (--runtime-request-timeout) \"-1s\" must be longer than 0s",
        ),
        ("--sync-frequency=0", "syncFrequency (--sync-frequency) \"0\" must be longer than 0s"),
        (
            "--cpu-cfs-quota-period=2s",
            "cpuCFSQuotaPeriod (--cpu-cfs-quota-period) \"2s\" must be between 1ms and 1s",
        ),
        ("--root-dir=var/lib", "--root-dir \"var/lib\" must be an absolute path without . and .."),
        ("--root-dir=", "--root-dir \"\" must be an absolute path without . and .."),
        ("--root-dir=/var/../lib", "--root-dir \"/var/../lib\" must be an absolute path without . and .."),
        ("--pod-logs-dir=.", "--pod-logs-dir \".\" must be an absolute path without . and .."),
        (
            "--container-runtime-endpoint=tcp://localhost:1",
            &format!(
                "containerRuntimeEndpoint (--container-runtime-endpoint) \"tcp://localhost:1\" {endpoint}"
            ),
        ),
        (
            "--container-runtime-endpoint=",
            &format!("containerRuntimeEndpoint (--container-runtime-endpoint) \"\" {endpoint}"),
        ),
        (
            "--image-service-endpoint=unix://x",
            &format!("imageServiceEndpoint (--image-service-endpoint) \"unix://x\" {endpoint}"),
        ),
        (
            "--cgroup-driver=systemd",
            "cgroupDriver (--cgroup-driver) \"systemd\" is not supported: only \"cgroupfs\" is",
        ),
        (
            "--cgroup-root=kube",
            "cgroupRoot (--cgroup-root) \"kube\" must be an absolute path without . and ..",
        ),
        ("--logging-format=xml", "logging.format (--logging-format) \"xml\" must be \"text\" or \"json\""),
        (
            "--hostname-override=a_b",
            "--hostname-override \"a_b\" must be a DNS-1123 subdomain: at most 253 of a-z, 0-9, - and ., with a letter or digit at each end of a part",
        ),
        ("--registry-qps=-1", "registryPullQPS (--registry-qps) \"-1\" must not be negative"),
        ("--registry-burst=-1", "registryBurst (--registry-burst) \"-1\" must not be negative"),
    ] {
        assert_eq!(
            settings(&[arg]).unwrap_err().to_string(),
            format!("invalid configuration: {error}"),
            "{arg}"
        );
    }
}

#[test]
fn all_broken_rules_are_reported_at_once() {
    let UsageError::Invalid(invalid) =
        settings(&["--healthz-port=-1", "--root-dir=x", "--cgroup-driver=systemd"]).unwrap_err()
    else {
        panic!("another error");
    };
    let flags: Vec<_> = invalid.iter().map(|invalid| invalid.flag).collect();
    assert_eq!(flags, ["cgroup-driver", "healthz-port", "root-dir"]);
}

#[test]
fn what_has_no_effect_or_is_left_out_is_a_warning() {
    let settings =
        settings(&["--sync-frequency=30s", "--cluster-dns=10.0.0.10,dns.local", "--node-ip=x"]).unwrap();
    assert_eq!(
        settings.warnings,
        [
            "--sync-frequency is accepted but has no effect in this agent",
            "--node-ip: \"x\" is not an IP address and is left out",
            "--cluster-dns: \"dns.local\" is not an IP address and is left out",
        ]
    );
    assert_eq!(settings.cluster_dns, ["10.0.0.10".parse::<IpAddr>().unwrap()]);
}

#[test]
fn healthz_port_zero_turns_the_endpoint_off() {
    assert_eq!(settings(&["--healthz-port=0"]).unwrap().healthz, None);
}

#[test]
fn the_node_name_is_the_override_or_the_lower_case_host_name() {
    let plain = settings(&[]).unwrap();
    assert_eq!(plain.node_name(" Host.Example \n").unwrap(), "host.example");
    assert_eq!(settings(&["--hostname-override=N"]).unwrap().node_name("ignored_").unwrap(), "n");
    for bad in ["", "a b", "-a", "a..b", "ä", &"a".repeat(254)] {
        let error = plain.node_name(bad).unwrap_err().to_string();
        assert!(error.contains("--hostname-override \"\" must be given"), "{error}");
    }
}
