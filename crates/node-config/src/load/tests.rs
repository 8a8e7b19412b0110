use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::{Folder, load};

const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

fn file(body: &str) -> Folder {
    Folder::new([("/etc/k.yaml", format!("{HEAD}{body}").as_str())])
}

/// With `body` as the configuration file.
fn with(body: &str, line: &[&str]) -> Effective {
    let mut all = vec!["--config=/etc/k.yaml"];
    all.extend(line);
    load(&file(body), &all).unwrap_or_else(|error| panic!("{body}: {error}"))
}

/// With drop-ins only, or over a file `/etc/k.yaml`.
fn drop_ins(files: &[(&str, &str)]) -> Result<Effective, LoadError> {
    let texts: Vec<_> = files.iter().map(|(path, body)| (*path, format!("{HEAD}{body}"))).collect();
    let folder = Folder::new(texts.iter().map(|(path, text)| (*path, text.as_str())));
    let main = files.iter().any(|(path, _)| *path == "/etc/k.yaml");
    load(&folder, if main { &["--config=/etc/k.yaml", "--config-dir=/d"] } else { &["--config-dir=/d"] })
}

fn messages(effective: &Effective) -> Vec<String> {
    effective.warnings.iter().map(Warning::to_string).collect()
}

/// The chain of an error in one line, as the binary prints it.
fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or(error.to_string(), |source| format!("{error}: {}", chain(source)))
}

#[test]
fn without_a_file_the_legacy_defaults_count() {
    let Effective { config, origins, warnings, .. } = load(&Folder::default(), &[]).unwrap();
    assert_eq!(config, KubeletConfiguration::legacy());
    assert!(config.authentication.anonymous.enabled && !config.authentication.webhook.enabled);
    assert_eq!((config.authorization.mode.as_str(), config.read_only_port), ("AlwaysAllow", 10255));
    assert!(config.eviction_hard.is_empty());
    assert_eq!((origins, warnings), (Origins::default(), vec![]));
}

#[test]
fn any_file_makes_them_the_safe_ones() {
    let config = with("", &[]).config;
    assert!(!config.authentication.anonymous.enabled && config.authentication.webhook.enabled);
    assert_eq!((config.authorization.mode.as_str(), config.read_only_port), ("Webhook", 0));
    assert_eq!(config.eviction_hard["memory.available"], "100Mi");
    assert_eq!(config.eviction_hard.len(), 5);
}

#[test]
fn drop_ins_alone_keep_the_legacy_defaults() {
    let config = drop_ins(&[("/d/a.conf", "maxPods: 5\n")]).unwrap().config;
    assert_eq!(config, KubeletConfiguration { max_pods: 5, ..KubeletConfiguration::legacy() });
}

#[test]
fn defaults_that_hang_on_other_fields() {
    let seconds = kube_model::duration::GoDuration::from_secs;
    let config =
        with("nodeStatusUpdateFrequency: 30s\nmaxParallelImagePulls: 2\npodPidsLimit: -7\n", &[]).config;
    assert_eq!(config.node_status_report_frequency, seconds(30));
    assert!(!config.serialize_image_pulls);
    assert_eq!(config.pod_pids_limit, -1);

    let config =
        with("nodeStatusReportFrequency: 1m\nnodeStatusUpdateFrequency: 0s\nmaxParallelImagePulls: 1\n", &[])
            .config;
    assert_eq!(config.node_status_report_frequency, seconds(60));
    assert_eq!(config.node_status_update_frequency, seconds(10));
    assert!(config.serialize_image_pulls);

    let off = "featureGates: {KubeletCrashLoopBackOffMax: false, KubeletEnsureSecretPulledImages: false}\n";
    for config in [
        with(off, &[]).config,
        with("", &["--feature-gates=KubeletCrashLoopBackOffMax=false,KubeletEnsureSecretPulledImages=false"])
            .config,
    ] {
        assert_eq!(config.crash_loop_back_off.max_container_restart_period, None);
        assert_eq!(config.image_pull_credentials_verification_policy, "");
    }
    let config = with(&format!("{off}crashLoopBackOff: {{maxContainerRestartPeriod: 9s}}\n"), &[]).config;
    assert_eq!(config.crash_loop_back_off.max_container_restart_period, Some(seconds(9)));
}

#[test]
fn hard_eviction_keeps_its_defaults_only_when_told() {
    let signals = |body: &str| with(body, &[]).config.eviction_hard.into_iter().collect::<Vec<_>>();
    let pair = |signal: &str, value: &str| (signal.to_owned(), value.to_owned());
    assert_eq!(signals("evictionHard: {memory.available: 1Gi}\n"), [pair("memory.available", "1Gi")]);
    assert_eq!(signals("evictionHard: {}\n"), []);
    assert_eq!(signals("evictionHard:\n").len(), 5);
    let merged = signals("evictionHard: {memory.available: 1Gi}\nmergeDefaultEvictionSettings: true\n");
    assert_eq!(merged.len(), 5);
    assert!(
        merged.contains(&pair("memory.available", "1Gi"))
            && merged.contains(&pair("nodefs.available", "10%"))
    );
}

#[test]
fn a_zero_that_means_unset_is_told_and_its_default_is_nobodys() {
    let effective = with("syncFrequency: 0s\nport: 0\nclusterDomain: ''\nhealthzPort: 0\n", &[]);
    assert_eq!((effective.config.port, effective.config.healthz_port), (10250, 0));
    assert_eq!(effective.origins.of("port"), Origin::Default);
    assert_eq!(effective.origins.of("healthzPort").to_string(), "file /etc/k.yaml line 6");
    assert_eq!(
        messages(&effective),
        [
            "zero is the same as not set, so the defaults count: port (file /etc/k.yaml line 4), syncFrequency (file /etc/k.yaml line 3)"
        ]
    );
}

#[test]
fn relative_paths_in_the_file_are_seen_from_its_folder() {
    let body = "staticPodPath: manifests\nauthentication: {x509: {clientCAFile: ../pki/ca.crt}}\ntlsCertFile: ./a\n\
                tlsPrivateKeyFile: b/../c\nresolvConf: resolv.conf\nvolumePluginDir: ../../../plugins\npodLogsDir: logs\n\
                kubeReservedCgroup: not/a/path\n";
    let config = with(body, &["--tls-cert-file=flag.crt"]).config;
    let paths = [
        &config.static_pod_path,
        &config.authentication.x509.client_ca_file,
        &config.tls_cert_file,
        &config.tls_private_key_file,
        &config.resolv_conf,
        &config.volume_plugin_dir,
        &config.pod_logs_dir,
        &config.kube_reserved_cgroup,
    ];
    assert_eq!(
        paths,
        [
            "/etc/manifests",
            "/pki/ca.crt",
            "flag.crt",
            "/etc/c",
            "/etc/resolv.conf",
            "/plugins",
            "/etc/logs",
            "not/a/path"
        ]
    );
    assert_eq!(with("resolvConf: ''\n", &[]).config.resolv_conf, "");

    let relative = Folder::new([("conf/k.yaml", format!("{HEAD}staticPodPath: m\n").as_str())]);
    let config = load(&relative, &["--config=conf/k.yaml"]).unwrap().config;
    assert_eq!(config.static_pod_path, "/here/conf/m");
}

#[test]
fn drop_ins_merge_in_the_order_of_their_names() {
    let effective = drop_ins(&[
        ("/etc/k.yaml", "maxPods: 1\nclusterDNS: [10.0.0.1, 10.0.0.2]\nevictionHard: {a: '1', b: '1'}\nhealthzPort: 1\nport: 1\n"),
        ("/d/20-b.conf", "maxPods: 2\nevictionHard: {b: '2', c: '2'}\nclusterDNS: [10.0.0.3]\nhealthzPort: null\n"),
        ("/d/10-a.conf", "maxPods: 3\npodCIDR: 10.0.0.0/8\nstaticPodPath: not/moved\n"),
        ("/d/20-a/z.conf", "podsPerCore: 4\nmaxPods: 4\n"),
        ("/d/20-a.d/a.conf", "podsPerCore: 5\n"),
        ("/d/99-last.yaml", "maxPods: 99\n"),
    ])
    .unwrap();
    let config = &effective.config;
    assert_eq!((config.max_pods, config.pods_per_core), (2, 5));
    assert_eq!(config.cluster_dns, ["10.0.0.3"], "lists replace");
    assert_eq!(
        serde_json::to_value(&config.eviction_hard).unwrap(),
        json!({"a": "1", "b": "2", "c": "2"}),
        "maps merge"
    );
    assert_eq!(config.healthz_port, 10248, "null goes back to the default");
    assert_eq!(config.static_pod_path, "not/moved");
    for (path, origin) in [
        ("maxPods", "drop-in 20-b.conf line 3"),
        ("podCIDR", "drop-in 10-a.conf line 4"),
        ("podsPerCore", "drop-in 20-a.d/a.conf line 3"),
        ("evictionHard.a", "file /etc/k.yaml line 5"),
        ("evictionHard.c", "drop-in 20-b.conf line 4"),
        ("clusterDNS[0]", "drop-in 20-b.conf line 5"),
        ("clusterDNS[1]", "drop-in 20-b.conf line 5"),
        ("healthzPort", "default"),
        ("port", "file /etc/k.yaml line 7"),
    ] {
        assert_eq!(effective.origins.of(path).to_string(), origin, "{path}");
    }
    assert!(
        messages(&effective).contains(
            &"\"99-last.yaml\" in the folder of --config-dir is not read: its name does not end in .conf"
                .to_owned()
        )
    );
}

#[test]
fn a_drop_in_meets_values_that_are_already_set() {
    // As in the kubelet, where the base of the merge has its defaults written out.
    let config = drop_ins(&[
        ("/etc/k.yaml", ""),
        ("/d/a.conf", "nodeStatusUpdateFrequency: 30s\nmaxParallelImagePulls: 5\nevictionHard: {memory.available: 1Gi}\n"),
    ])
    .unwrap()
    .config;
    assert_eq!(config.node_status_report_frequency.to_string(), "5m0s");
    assert!(config.serialize_image_pulls);
    assert_eq!(config.eviction_hard.len(), 5);
    let config =
        drop_ins(&[("/etc/k.yaml", ""), ("/d/a.conf", "evictionHard: null\nenforceNodeAllocatable: []\n")]);
    let config = config.unwrap().config;
    assert!(config.eviction_hard.is_empty() && config.enforce_node_allocatable.is_empty());
}

#[test]
fn flags_go_before_files_and_drop_ins() {
    let files = [
        (
            "/etc/k.yaml",
            format!(
                "{HEAD}maxPods: 1\nevictionHard: {{a: '1'}}\nclusterDNS: [10.0.0.1]\nfeatureGates: {{ContainerCheckpoint: true, QOSReserved: false}}\n"
            ),
        ),
        ("/d/a.conf", format!("{HEAD}maxPods: 2\nsystemReserved: {{cpu: 1m}}\n")),
    ];
    let folder = Folder::new(files.iter().map(|(path, text)| (*path, text.as_str())));
    let effective = load(
        &folder,
        &[
            "--eviction-hard=b<2",
            "--config=/nowhere",
            "--max-pods=3",
            "--config=/etc/k.yaml",
            "--config-dir=/d",
            "--cluster-dns=10.0.0.2",
            "--feature-gates=QOSReserved=true",
            "--eviction-hard=c<3",
            "--cluster-dns=10.0.0.3",
        ],
    )
    .unwrap();
    let config = &effective.config;
    assert_eq!(config.max_pods, 3);
    assert_eq!(
        serde_json::to_value(&config.eviction_hard).unwrap(),
        json!({"b": "2", "c": "3"}),
        "maps are replaced"
    );
    assert_eq!(config.cluster_dns, ["10.0.0.2", "10.0.0.3"]);
    assert_eq!(
        serde_json::to_value(&config.feature_gates).unwrap(),
        json!({"ContainerCheckpoint": true, "QOSReserved": true}),
        "gates are merged"
    );
    for (path, origin) in [
        ("maxPods", "flag --max-pods"),
        ("evictionHard.a", "flag --eviction-hard"),
        ("featureGates.ContainerCheckpoint", "file /etc/k.yaml line 6"),
        ("featureGates.QOSReserved", "flag --feature-gates"),
        ("systemReserved.cpu", "drop-in a.conf line 4"),
        ("--config", "flag --config"),
    ] {
        assert_eq!(effective.origins.of(path).to_string(), origin, "{path}");
    }
}

#[test]
fn what_go_passes_over_is_a_warning_with_its_place() {
    let effective =
        with("maxPod: 5\nmaxPods: 1\nmaxPods: 2\ncrashLoopBackOff: {max: 1s}\n---\nkind: Pod\n", &[]);
    assert_eq!(effective.config.max_pods, 2);
    assert_eq!(
        messages(&effective),
        [
            "field maxPods is given twice, the last one counts (file /etc/k.yaml line 5)",
            "a second document is ignored (file /etc/k.yaml line 7)",
            "unknown field crashLoopBackOff.max is ignored (file /etc/k.yaml line 6)",
            "unknown field maxPod is ignored (file /etc/k.yaml line 3)",
        ]
    );
    let effective =
        drop_ins(&[("/etc/k.yaml", "b: {}\n"), ("/d/x.conf", "maxPods: 5\nevictionHrd: {a: b}\nfoo: {}\n")])
            .unwrap();
    assert_eq!(
        messages(&effective),
        [
            "unknown field b is ignored (file /etc/k.yaml line 3)",
            "unknown field evictionHrd is ignored (drop-in x.conf line 4)",
            "unknown field foo is ignored (drop-in x.conf line 5)",
        ]
    );
    let fields: Vec<_> =
        effective.origins.iter().map(|(path, _)| path).filter(|path| !path.starts_with('-')).collect();
    assert_eq!(fields, ["maxPods"]);
}

#[test]
fn yaml_is_read_as_go_reads_it() {
    let body = "\u{feff}apiVersion: kubelet.config.k8s.io/v1beta1\r\nkind: KubeletConfiguration\r\nfailSwapOn: off\r\n\
                maxPods: 0o12\r\npodsPerCore: 010\r\nserverTLSBootstrap: yes\r\n";
    let folder = Folder::new([("/k", body)]);
    let config = load(&folder, &["--config=/k"]).unwrap().config;
    assert_eq!((config.fail_swap_on, config.max_pods, config.pods_per_core), (false, 10, 8));
    assert!(config.server_tls_bootstrap);
    let json =
        r#"{"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1", "maxPods": 7}"#;
    assert_eq!(load(&Folder::new([("/k", json)]), &["--config=/k"]).unwrap().config.max_pods, 7);
}

#[test]
fn bad_files_are_errors_that_name_the_place() {
    let long = format!("{HEAD}maxPods: {}\n", "9".repeat(1 << 20));
    let kind = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: Pod\n";
    for (text, error) in [
        ("", "file /k is empty: a configuration has at least an apiVersion and a kind".to_owned()),
        ("# nothing\n", "file /k is empty: a configuration has at least an apiVersion and a kind".to_owned()),
        ("a: 1\n", "file /k line 1: expected apiVersion \"kubelet.config.k8s.io/v1beta1\", got none".to_owned()),
        ("- a\n", "file /k line 1: expected an object, got a list".to_owned()),
        ("text\n", "file /k line 1: expected an object, got \"text\"".to_owned()),
        (kind, "file /k line 2: expected kind \"KubeletConfiguration\", got \"Pod\"".to_owned()),
        (&kind.replace("v1beta1", "v1"), "file /k line 1: expected apiVersion \"kubelet.config.k8s.io/v1beta1\", got \"kubelet.config.k8s.io/v1\"".to_owned()),
        (&format!("{HEAD}a:\n\tb: 1\n"), "reading file /k line 4: a tab can not indent: use spaces".to_owned()),
        (&format!("{HEAD}a: [\n"), "reading file /k line 4: did not find expected node content while parsing a flow node".to_owned()),
        (&format!("{HEAD}a: \0\n"), "reading file /k line 3: control character U+0000 is not allowed".to_owned()),
        (&format!("{HEAD}maxPods: 1.5\n"), "wrong types: maxPods: invalid type: floating point `1.5`, expected i32 (file /k line 3)".to_owned()),
        (&format!("{HEAD}maxPods: 3000000000\n"), "wrong types: maxPods: invalid value: integer `3000000000`, expected i32 (file /k line 3)".to_owned()),
        (&format!("{HEAD}syncFrequency: 10\n"), "wrong types: syncFrequency: invalid type: integer `10`, expected a duration such as \"1m30s\" (file /k line 3)".to_owned()),
        (&format!("{HEAD}syncFrequency: '10'\n"), "wrong types: syncFrequency: time: missing unit in duration \"10\" (file /k line 3)".to_owned()),
        (&format!("{HEAD}clusterDomain: on\n"), "wrong types: clusterDomain: invalid type: boolean `true`, expected a string: put on in quotes (file /k line 3)".to_owned()),
        (
            &format!("{HEAD}maxPods: x\nevictionHard:\n  memory.available: 5\nregisterWithTaints:\n- key: 1\n"),
            "wrong types: evictionHard[memory.available]: invalid type: integer `5`, expected a string: put 5 in quotes (file /k line 5); \
             maxPods: invalid type: string \"x\", expected i32 (file /k line 3); \
             registerWithTaints[0].key: invalid type: integer `1`, expected a string: put 1 in quotes (file /k line 7)".to_owned(),
        ),
    ] {
        let folder = Folder::new([("/k", text)]);
        assert_eq!(chain(&load(&folder, &["--config=/k"]).unwrap_err()), error, "{text:?}");
    }
    let error = chain(&load(&Folder::new([("/k", long.as_str())]), &["--config=/k"]).unwrap_err());
    assert!(
        error.starts_with("wrong types: maxPods: ") && error.ends_with(" (file /k line 3)"),
        "{}",
        &error[..80]
    );
}

#[test]
fn missing_files_and_folders_are_named() {
    let folder = file("");
    for (line, error) in [
        (vec!["--config=/nowhere"], "reading file /nowhere: entity not found"),
        (vec!["--config=/etc"], "reading file /etc: is a directory"),
        (vec!["--config-dir=/nowhere"], "listing the folder \"/nowhere\" of --config-dir: entity not found"),
    ] {
        assert_eq!(chain(&load(&folder, &line).unwrap_err()), error);
    }
}

#[test]
fn bad_drop_ins_are_named() {
    for (text, error) in [
        ("", "drop-in 1.conf is empty: a configuration has at least an apiVersion and a kind"),
        (
            "maxPods: 1\n",
            "drop-in 1.conf line 1: expected apiVersion \"kubelet.config.k8s.io/v1beta1\", got none",
        ),
        (
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: CredentialProviderConfig\n",
            "drop-in 1.conf line 2: expected kind \"KubeletConfiguration\", got \"CredentialProviderConfig\"",
        ),
        (
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: [1]\n",
            "wrong types: maxPods: invalid type: sequence, expected i32 (drop-in 1.conf line 3)",
        ),
    ] {
        let folder = Folder::new([("/d/1.conf", text)]);
        assert_eq!(chain(&load(&folder, &["--config-dir=/d"]).unwrap_err()), error, "{text:?}");
    }
}

/// A flag, the line that says the same in a file, and another line for the same field.
const SAME: &[(&str, &str, &str)] = &[
    ("--max-pods=7", "maxPods: 7", "maxPods: 8"),
    ("--file-check-frequency=7s", "fileCheckFrequency: 7s", "fileCheckFrequency: 8s"),
    ("--cluster-dns=10.0.0.7", "clusterDNS: [10.0.0.7]", "clusterDNS: [10.0.0.8, 10.0.0.9]"),
    ("--eviction-hard=a<7", "evictionHard: {a: '7'}", "evictionHard: {a: '8', b: '9'}"),
    (
        "--register-with-taints=a:NoExecute",
        "registerWithTaints: [{key: a, effect: NoExecute}]",
        "registerWithTaints: []",
    ),
    (
        "--reserved-memory=0:memory=7Gi",
        "reservedMemory: [{numaNode: 0, limits: {memory: 7Gi}}]",
        "reservedMemory: []",
    ),
    (
        "--anonymous-auth=true",
        "authentication: {anonymous: {enabled: true}}",
        "authentication: {anonymous: {enabled: false}}",
    ),
    ("-v7", "logging: {verbosity: 7}", "logging: {verbosity: 8}"),
    (
        "--feature-gates=QOSReserved=true",
        "featureGates: {QOSReserved: true}",
        "featureGates: {QOSReserved: false}",
    ),
    (
        "--manifest-url-header=a:7",
        "staticPodURLHeader: {a: ['7']}",
        "staticPodURLHeader: {a: ['8'], b: ['9']}",
    ),
];

proptest! {
    #[test]
    fn flags_after_a_file_always_win_in_any_order(order in Just((0..SAME.len()).collect::<Vec<_>>()).prop_shuffle(), taken in 0..SAME.len()) {
        let flags: Vec<_> = order.iter().take(taken).map(|&index| SAME[index].0).collect();
        let body = |of: fn(&(&'static str, &'static str, &'static str)) -> &'static str| {
            order.iter().take(taken).map(|&index| format!("{}\n", of(&SAME[index]))).collect::<String>()
        };
        let by_flags = with(&body(|same| same.2), &flags).config;
        let by_file = with(&body(|same| same.1), &[]).config;
        prop_assert_eq!(by_flags, by_file);
    }

    #[test]
    fn no_text_makes_it_panic(text in "(apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n)?[a-zA-Z:{}\\[\\],0-9'\" \n-]{0,120}") {
        let folder = Folder::new([("/k", text.as_str()), ("/d/x.conf", text.as_str())]);
        for line in [["--config=/k"], ["--config-dir=/d"]] {
            if let Err(error) = load(&folder, &line) {
                prop_assert!(!chain(&error).contains('\n'));
            }
        }
    }
}
