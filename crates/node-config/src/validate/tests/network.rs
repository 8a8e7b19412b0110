//! Who is talked to, and what the node says of itself.

use kube_model::core::Taint;

use super::*;
use crate::config::{Tracing, VModuleItem};

#[test]
fn taints_of_the_node() {
    fn taint(c: &mut Config, key: &str, value: &str, effect: &str) {
        c.register_with_taints.push(Taint {
            key: key.to_owned(),
            value: Some(value.to_owned()),
            effect: effect.to_owned(),
            time_added: None,
        });
    }
    assert_errors(&[
        (|c| taint(c, "node-role.kubernetes.io/control-plane", "", "NoSchedule"), &[]),
        (
            |c| taint(c, "a b", "c d", "Never"),
            &[
                "registerWithTaints[0].key \"a b\" name part must be letters, digits, '-', '_' or '.', and begin \
             and end with a letter or digit",
                "registerWithTaints[0].value \"c d\" must be letters, digits, '-', '_' or '.', and begin and end \
             with a letter or digit",
                "registerWithTaints[0].effect \"Never\" must be \"NoSchedule\", \"PreferNoSchedule\" or \
             \"NoExecute\"",
            ],
        ),
        (
            |c| {
                taint(c, "a", "b", "NoExecute");
                let time = serde_json::from_str("\"2024-01-01T00:00:00Z\"").unwrap();
                c.register_with_taints[0].time_added = Some(time);
            },
            &["registerWithTaints[0].timeAdded \"2024-01-01T00:00:00Z\" must not be set"],
        ),
    ]);
    assert_warnings(&[(
        |c| taint(c, "a", "b", ""),
        &[
            "registerWithTaints[0].effect \"\" should be \"NoSchedule\", \"PreferNoSchedule\" or \"NoExecute\": the \
         API server takes no taint without",
        ],
    )]);
}

#[test]
fn labels_that_a_node_may_give_itself() {
    for (key, value, good) in [
        ("example.com/a", "b", true),
        ("a", "", true),
        ("kubernetes.io/hostname", "n", true),
        ("topology.kubernetes.io/zone", "z", true),
        ("node.kubernetes.io/anything", "x", true),
        ("sub.kubelet.kubernetes.io/anything", "x", true),
        ("notkubernetes.io/a", "b", true),
        ("kubernetes.io/role", "x", false),
        ("node-role.kubernetes.io/worker", "", false),
        ("k8s.io/a", "b", false),
        ("x.k8s.io/a", "b", false),
        ("a b", "c", false),
        ("a", "c d", false),
    ] {
        let found = node_labels(&map(&[(key, value)]), &"flag --node-labels");
        assert_eq!(found.is_empty(), good, "{key}={value}: {found:?}");
    }
    let found = node_labels(&map(&[("k8s.io/a", "b c")]), &"flag --node-labels");
    assert_eq!(found.len(), 2);
    assert_eq!(
        found[1].to_string(),
        "--node-labels[k8s.io/a] \"b c\" must be letters, digits, '-', '_' or '.', and begin and end with a \
         letter or digit (flag --node-labels)"
    );
}

#[test]
fn only_hidden_metrics_of_the_previous_minor_version_can_be_shown() {
    assert_errors(&[
        (|c| c.show_hidden_metrics_for_version = "1.35".into(), &[]),
        (
            |c| c.show_hidden_metrics_for_version = "1.34".into(),
            &["showHiddenMetricsForVersion \"1.34\" must be the previous minor version, \"1.35\", or empty"],
        ),
    ]);
}

#[test]
fn addresses_and_endpoints() {
    const SOCKET: &str = "must be a unix socket such as unix:///run/containerd/containerd.sock";
    assert_errors(&[
        (|c| c.address = "::".into(), &[]),
        (|c| c.address = "localhost".into(), &["address \"localhost\" must be an IP address"]),
        (
            |c| c.healthz_bind_address = "1.2.3".into(),
            &["healthzBindAddress \"1.2.3\" must be an IP address"],
        ),
        (|c| c.container_runtime_endpoint.clear(), &["containerRuntimeEndpoint \"\" must be set"]),
        (
            |c| c.static_pod_url = "ftp://x".into(),
            &["staticPodURL \"ftp://x\" must begin with http:// or https://"],
        ),
    ]);
    for (endpoint, good) in [
        ("unix:///run/crio/crio.sock", true),
        ("unix:/run/crio/crio.sock", true),
        ("/run/crio/crio.sock", true),
        ("unix://run/crio.sock", false),
        ("tcp://127.0.0.1:1", false),
        ("npipe:////./pipe/containerd", false),
        ("unix:///run/", false),
        ("unix:///run/../x", false),
    ] {
        let report = report(|c| c.image_service_endpoint = endpoint.to_owned(), &Facts::default());
        let expected = format!("imageServiceEndpoint {endpoint:?} {SOCKET}");
        assert_eq!(lines(&report.errors), if good { vec![] } else { vec![expected] });
    }
    assert_warnings(&[(
        |c| c.cluster_dns = list(&["10.96.0.10", "dns"]),
        &["clusterDNS[1] \"dns\" is not an IP address and is left out"],
    )]);
}

#[test]
fn certificates_and_tls() {
    assert_errors(&[
        (|c| c.tls_cert_file = "/c".into(), &["tlsPrivateKeyFile \"\" must be set when tlsCertFile is"]),
        (
            |c| c.tls_private_key_file = "/k".into(),
            &["tlsCertFile \"\" must be set when tlsPrivateKeyFile is"],
        ),
        (
            |c| {
                c.server_tls_bootstrap = true;
                gate(c, "RotateKubeletServerCertificate", false);
            },
            &["serverTLSBootstrap true needs the feature gate RotateKubeletServerCertificate"],
        ),
        (
            |c| c.tls_cipher_suites = list(&["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "ECDHE-RSA-AES128"]),
            &["tlsCipherSuites[1] \"ECDHE-RSA-AES128\" is not a cipher suite that Go knows"],
        ),
        (
            |c| c.tls_cipher_suites = list(&["TLS_RSA_WITH_AES_128_GCM_SHA256"]),
            &[
                "tlsCipherSuites [\"TLS_RSA_WITH_AES_128_GCM_SHA256\"] leaves no cipher suite for TLS 1.2: add one, \
             or set tlsMinVersion to VersionTLS13",
            ],
        ),
        (|c| c.tls_curve_preferences = vec![29, 23], &[]),
        (
            |c| c.tls_curve_preferences = vec![29, 29, 1],
            &[
                "tlsCurvePreferences[1] 29 must not stand twice",
                "tlsCurvePreferences[2] 1 must be one of 23 (P-256), 24 (P-384), 25 (P-521), 29 (X25519), 4587 \
             (SecP256r1MLKEM768), 4588 (X25519MLKEM768), 4589 (SecP384r1MLKEM1024)",
            ],
        ),
        (
            |c| c.tls_curve_preferences = vec![4588],
            &["tlsCurvePreferences [4588] leaves no key exchange: add 29 (X25519), 23 (P-256) or 24 (P-384)"],
        ),
    ]);
    assert_warnings(&[
        (
            |c| c.tls_min_version = "VersionTLS10".into(),
            &["tlsMinVersion \"VersionTLS10\" is taken as VersionTLS12: older ones are not spoken"],
        ),
        (
            |c| {
                c.tls_cipher_suites = list(&[
                    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                    "TLS_RSA_WITH_AES_256_GCM_SHA384",
                    "TLS_AES_128_GCM_SHA256",
                ]);
            },
            &[
                "tlsCipherSuites[1] \"TLS_RSA_WITH_AES_256_GCM_SHA384\" is left out: this agent does not speak it",
            ],
        ),
        (
            |c| c.tls_curve_preferences = vec![4588, 29],
            &["tlsCurvePreferences[0] 4588 is left out: this agent has no X25519MLKEM768"],
        ),
    ]);
}

#[test]
fn logging_and_tracing() {
    fn item(c: &mut Config, pattern: &str, verbosity: u32) {
        c.logging.vmodule.push(VModuleItem { file_pattern: pattern.to_owned(), verbosity });
    }
    fn trace(c: &mut Config, endpoint: &str, rate: i32) {
        c.tracing =
            Some(Tracing { endpoint: Some(endpoint.to_owned()), sampling_rate_per_million: Some(rate) });
    }
    assert_errors(&[
        (
            |c| c.logging.verbosity = 2_147_483_648,
            &["logging.verbosity 2147483648 must be no more than 2147483647"],
        ),
        (|c| item(c, "kubelet*", 4), &[]),
        (
            |c| item(c, "a=b", 2_147_483_648),
            &[
                "logging.vmodule[0].filePattern \"a=b\" must be the name of a source file, or a pattern for some, \
             without = and ,",
                "logging.vmodule[0].verbosity 2147483648 must be no more than 2147483647",
            ],
        ),
        (
            |c| {
                item(c, "a", 1);
                c.logging.format = "json".into();
            },
            &[
                "logging.vmodule [{\"filePattern\":\"a\",\"verbosity\":1}] must not be set unless logging.format \
               is \"text\"",
            ],
        ),
        (
            |c| {
                c.logging.format = "json".into();
                gate(c, "LoggingBetaOptions", false);
            },
            &["logging.format \"json\" needs the feature gate LoggingBetaOptions"],
        ),
        (
            |c| {
                c.logging.options.text.split_stream = true;
                c.logging.options.json.info_buffer_size = "1Mi".parse().unwrap();
            },
            &[
                "logging.options.text.splitStream true needs the feature gate LoggingAlphaOptions",
                "logging.options.json.infoBufferSize \"1Mi\" needs the feature gate LoggingAlphaOptions",
            ],
        ),
        (
            |c| {
                c.logging.options.json.split_stream = true;
                gate(c, "LoggingAlphaOptions", true);
            },
            &[],
        ),
        (|c| trace(c, "localhost:4317", 1_000_000), &[]),
        (|c| trace(c, "unix:///run/otel.sock", 0), &[]),
        (
            |c| trace(c, "https://otel", 1_000_001),
            &[
                "tracing.samplingRatePerMillion 1000001 must be between 0 and 1000000",
                "tracing.endpoint \"https://otel\" must be a host and port, or begin with dns://, unix:// or \
             unix-abstract://",
            ],
        ),
        (
            |c| {
                c.enable_system_log_query = true;
                c.enable_system_log_handler = false;
            },
            &["enableSystemLogQuery true needs enableSystemLogHandler"],
        ),
        (|c| c.enable_system_log_query = true, &[]),
    ]);
}
