use std::collections::BTreeMap;

use kube_model::eviction::ThresholdValue;

use super::*;
use crate::load::CommandLine;
use crate::parse::parse;
use crate::table::AGENT;
use crate::testing::Folder;

fn settings(line: &[&str]) -> Result<Settings, InvalidConfiguration> {
    let line = CommandLine(parse(AGENT, line.iter().map(|&arg| arg.to_owned())).unwrap());
    Settings::new(&line.load(&Folder::default()).unwrap(), &Facts::default())
}

#[test]
fn an_empty_command_line_means_the_kubelets_defaults() {
    let expected = Settings {
        pod_manifest_path: None,
        file_check_frequency: Duration::from_secs(20),
        manifest_url: None,
        http_check_frequency: Duration::from_secs(20),
        manifest_server: None,
        node: NodeSettings {
            labels: BTreeMap::new(),
            max_pods: 110,
            pods_per_core: 0,
            reserved: BTreeMap::new(),
            eviction_hard: BTreeMap::new(),
            enforce_on_pods: true,
            allowed_unsafe_sysctls: Vec::new(),
            ephemeral_storage: true,
            controller_attach_detach: true,
        },
        cluster: None,
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
        limited_swap: false,
        single_process_oom_kill: None,
        serialize_image_pulls: true,
        max_parallel_image_pulls: None,
        registry_qps: 5,
        registry_burst: 10,
        seccomp_default: false,
        logging_format: LoggingFormat::Text,
        max_open_files: 1_000_000,
        verbosity: 0,
        vmodule: vec![],
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
    assert_eq!(settings.origins.of("fileCheckFrequency"), Origin::Flag("file-check-frequency"));
    assert_eq!(settings.origins.of("--root-dir"), Origin::Default);
    assert!(settings.warnings.iter().all(|warning| warning.contains("is deprecated: set ")), "{settings:?}");
}

#[test]
fn each_broken_rule_names_field_value_rule_and_origin() {
    let socket = "must be a unix socket";
    let folder = "must be an absolute path without . and ..";
    for (arg, error) in [
        ("--file-check-frequency=0s", "fileCheckFrequency \"0s\" must be longer than 0s (flag --file-check-frequency)".to_owned()),
        ("--runtime-request-timeout=-1s", "runtimeRequestTimeout \"-1s\" must be longer than 0s (flag --runtime-request-timeout)".to_owned()),
        ("--root-dir=var/lib", format!("--root-dir \"var/lib\" {folder} (flag --root-dir)")),
        ("--root-dir=", format!("--root-dir \"\" {folder} (flag --root-dir)")),
        ("--root-dir=/var/../lib", format!("--root-dir \"/var/../lib\" {folder} (flag --root-dir)")),
        (
            "--container-runtime-endpoint=tcp://localhost:1",
            format!("containerRuntimeEndpoint \"tcp://localhost:1\" {socket}"),
        ),
        (
            "--image-service-endpoint=unix://x",
            format!("imageServiceEndpoint \"unix://x\" {socket}"),
        ),
        (
            "--cgroup-driver=systemd",
            "cgroupDriver \"systemd\" is not supported: only \"cgroupfs\" is (flag --cgroup-driver)".to_owned(),
        ),
        ("--cloud-provider=aws", "--cloud-provider \"aws\" must be empty or \"external\" (flag --cloud-provider)".to_owned()),
        (
            "--exit-on-lock-contention",
            "--exit-on-lock-contention true needs --lock-file (flag --exit-on-lock-contention)".to_owned(),
        ),
        ("--node-labels=kubernetes.io/role=x", "--node-labels[kubernetes.io/role] \"x\" is not a label that a node may give itself".to_owned()),
        ("--cgroup-root=kube", format!("cgroupRoot \"kube\" {folder} (flag --cgroup-root)")),
        (
            "--hostname-override=a_b",
            "--hostname-override \"a_b\" must be a DNS-1123 subdomain: at most 253 of a-z, 0-9, - and ., with a letter or digit at each end of a part (flag --hostname-override)".to_owned(),
        ),
    ] {
        let got = settings(&[arg]).unwrap_err().to_string();
        assert!(got.starts_with("invalid configuration: ") && got.contains(&error), "{arg}: {got}");
    }
}

#[test]
fn each_field_is_reported_once_and_all_are() {
    let InvalidConfiguration(invalid) = settings(&[
        "--healthz-port=-1",
        "--root-dir=x",
        "--cgroup-driver=systemd",
        "--logging-format=xml",
        "--pod-logs-dir=.",
        "--cpu-cfs-quota-period=2s",
        "--sync-frequency=0",
        "--registry-qps=-1",
        "--registry-burst=-1",
        "--container-runtime-endpoint=",
    ])
    .unwrap_err();
    let mut fields: Vec<_> = invalid.iter().map(|invalid| invalid.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "--root-dir",
            "cgroupDriver",
            "containerRuntimeEndpoint",
            "cpuCFSQuotaPeriod",
            "healthzPort",
            "logging.format",
            "podLogsDir",
            "registryBurst",
            "registryPullQPS",
            "syncFrequency",
        ]
    );
}

#[test]
fn what_has_no_effect_or_is_left_out_is_a_warning() {
    let settings = settings(&[
        "--kubelet-cgroups=/x",
        "--lock-file=/x",
        "--node-ip=x",
        "--containerd=/x",
        "--version=v1.36.9",
    ])
    .unwrap();
    assert_eq!(
        settings.warnings,
        [
            "flag --kubelet-cgroups is deprecated: set kubeletCgroups in the file given with --config",
            "flag --containerd is deprecated",
            "accepted, but without effect in this agent: kubeletCgroups (flag --kubelet-cgroups), --lock-file, --containerd, --version",
            "--node-ip: \"x\" is not an IP address and is left out (flag --node-ip)",
        ]
    );
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

#[test]
fn a_kubeconfig_makes_the_node_part_of_a_cluster() {
    let settings = |config: &str, args: &[&str]| {
        let text = format!("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n{config}");
        let line = CommandLine(parse(AGENT, args.iter().map(|&arg| arg.to_owned())).unwrap());
        let folder = Folder::new([("/c", text.as_str())]);
        Settings::new(&line.load(&folder).unwrap(), &Facts::default())
    };
    let all = settings(
        "systemReserved: {cpu: 100m, memory: 1Gi}\nkubeReserved: {cpu: '1', pid: '10'}\n\
         evictionHard: {memory.available: 100Mi, nodefs.available: 3%, pid.available: 0%}\n\
         nodeStatusMaxImages: -1\naddress: '::1'\nport: 7\n",
        &[
            "--config=/c",
            "--kubeconfig=/k",
            "--node-labels=a=b",
            "--cloud-provider=external",
            "--read-only-port=8",
        ],
    )
    .unwrap();
    assert_eq!(all.node.labels, BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    let cluster = all.cluster.unwrap();
    assert_eq!(cluster.kubeconfig, PathBuf::from("/k"));
    assert_eq!(
        all.node.reserved,
        BTreeMap::from([("cpu".to_owned(), 1100), ("memory".to_owned(), 1 << 30), ("pid".to_owned(), 10)])
    );
    assert_eq!(
        all.node.eviction_hard,
        BTreeMap::from([
            ("memory.available".to_owned(), ThresholdValue::Quantity(100 << 20)),
            ("nodefs.available".to_owned(), ThresholdValue::Percentage(0.03)),
        ])
    );
    assert!(all.node.ephemeral_storage && all.node.controller_attach_detach);
    assert_eq!((cluster.max_images, cluster.external_cloud, all.node.max_pods), (None, true, 110));
    assert_eq!(cluster.read_only, Some("[::1]:8".parse().unwrap()));
    assert_eq!(cluster.sync_loop_limit, Duration::from_secs(300));
    assert_eq!(cluster.change_detection, ChangeDetection::Watch);
    let server = cluster.server.unwrap();
    assert_eq!(server.address, "[::1]:7".parse().unwrap());
    // A configuration file turns on what is safe.
    assert!(!server.anonymous && server.token_review.is_some() && server.access_review.is_some());

    assert_eq!(settings("", &["--config=/c"]).unwrap().cluster, None);
    let off = settings("enableServer: false", &["--config=/c", "--kubeconfig=/k"]).unwrap();
    assert_eq!(off.cluster.unwrap().server, None);
    let odd =
        "syncFrequency: 3m\nlocalStorageCapacityIsolation: false\nenableControllerAttachDetach: false\n";
    let odd = settings(odd, &["--config=/c", "--kubeconfig=/k"]).unwrap();
    let of_cluster = odd.cluster.unwrap();
    assert_eq!(of_cluster.sync_loop_limit, Duration::from_secs(360));
    assert_eq!(of_cluster.sync_frequency, Duration::from_secs(180));
    for (text, want) in [("Cache", ChangeDetection::Cache), ("Get", ChangeDetection::Get)] {
        let config = format!("configMapAndSecretChangeDetectionStrategy: {text}");
        let asked = settings(&config, &["--config=/c", "--kubeconfig=/k"]).unwrap();
        assert_eq!(asked.cluster.unwrap().change_detection, want);
    }
    assert!(!odd.node.ephemeral_storage && !odd.node.controller_attach_detach);
    for (config, wrong) in [
        ("tlsCertFile: /x", "tlsCertFile"),
        ("tlsPrivateKeyFile: /x", "tlsPrivateKeyFile"),
        ("systemReserved: {cpu: much}", "systemReserved.cpu"),
    ] {
        let error = settings(config, &["--config=/c", "--kubeconfig=/k"]).unwrap_err().to_string();
        assert!(error.contains(wrong), "{config}: {error}");
    }
}
