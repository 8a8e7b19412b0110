//! Rules for TLS: what Go can be told, and what of it rustls with ring can do.

use std::collections::BTreeSet;

use super::Check;

/// What Go's name of a cipher suite means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suite {
    /// For TLS 1.2.
    Tls12,
    /// Always there with TLS 1.3, listed or not.
    Tls13,
    /// Go has it and rustls does not: no forward secrecy, CBC, RC4 or 3DES.
    Missing,
}

/// By Go's names, with the two old ones that component-base adds.
const SUITES: &[(&str, Suite)] = &[
    ("TLS_AES_128_GCM_SHA256", Suite::Tls13),
    ("TLS_AES_256_GCM_SHA384", Suite::Tls13),
    ("TLS_CHACHA20_POLY1305_SHA256", Suite::Tls13),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Suite::Tls12),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Suite::Tls12),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", Suite::Tls12),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", Suite::Tls12),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Suite::Tls12),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Suite::Tls12),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", Suite::Tls12),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", Suite::Tls12),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", Suite::Missing),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", Suite::Missing),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", Suite::Missing),
    ("TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", Suite::Missing),
    ("TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", Suite::Missing),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", Suite::Missing),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", Suite::Missing),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", Suite::Missing),
    ("TLS_ECDHE_RSA_WITH_RC4_128_SHA", Suite::Missing),
    ("TLS_RSA_WITH_3DES_EDE_CBC_SHA", Suite::Missing),
    ("TLS_RSA_WITH_AES_128_CBC_SHA", Suite::Missing),
    ("TLS_RSA_WITH_AES_128_CBC_SHA256", Suite::Missing),
    ("TLS_RSA_WITH_AES_128_GCM_SHA256", Suite::Missing),
    ("TLS_RSA_WITH_AES_256_CBC_SHA", Suite::Missing),
    ("TLS_RSA_WITH_AES_256_GCM_SHA384", Suite::Missing),
    ("TLS_RSA_WITH_RC4_128_SHA", Suite::Missing),
];

/// Go's CurveIDs, and whether ring has the key exchange.
const CURVES: &[(i32, &str, bool)] = &[
    (23, "P-256", true),
    (24, "P-384", true),
    (25, "P-521", false),
    (29, "X25519", true),
    (4587, "SecP256r1MLKEM768", false),
    (4588, "X25519MLKEM768", false),
    (4589, "SecP384r1MLKEM1024", false),
];

pub(super) fn versions(check: &mut Check<'_>) {
    let version = &check.config.tls_min_version;
    if matches!(version.as_str(), "VersionTLS10" | "VersionTLS11") {
        check.warn("tlsMinVersion", version, "is taken as VersionTLS12: older ones are not spoken");
    }
}

pub(super) fn cipher_suites(check: &mut Check<'_>) {
    let config = check.config;
    let mut usable = 0;
    for (index, name) in config.tls_cipher_suites.iter().enumerate() {
        let field = format!("tlsCipherSuites[{index}]");
        match SUITES.iter().find(|(known, _)| known == name).map(|(_, suite)| suite) {
            None => check.error(field, name, "is not a cipher suite that Go knows"),
            Some(Suite::Missing) => check.warn(field, name, "is left out: this agent does not speak it"),
            Some(Suite::Tls13) => {}
            Some(Suite::Tls12) => usable += 1,
        }
    }
    if usable == 0 && !config.tls_cipher_suites.is_empty() && config.tls_min_version != "VersionTLS13" {
        let rule = "leaves no cipher suite for TLS 1.2: add one, or set tlsMinVersion to VersionTLS13";
        check.error("tlsCipherSuites", &config.tls_cipher_suites, rule);
    }
}

pub(super) fn key_exchanges(check: &mut Check<'_>) {
    let config = check.config;
    let mut seen = BTreeSet::new();
    let mut usable = false;
    for (index, id) in config.tls_curve_preferences.iter().enumerate() {
        let field = format!("tlsCurvePreferences[{index}]");
        match CURVES.iter().find(|(known, ..)| known == id) {
            _ if !seen.insert(id) => check.error(field, id, "must not stand twice"),
            None => {
                let known: Vec<_> = CURVES.iter().map(|(id, name, _)| format!("{id} ({name})")).collect();
                check.error(field, id, format!("must be one of {}", known.join(", ")));
            }
            Some((_, name, false)) => check.warn(field, id, format!("is left out: this agent has no {name}")),
            Some((_, _, true)) => usable = true,
        }
    }
    if !usable && !config.tls_curve_preferences.is_empty() {
        let rule = "leaves no key exchange: add 29 (X25519), 23 (P-256) or 24 (P-384)";
        check.error("tlsCurvePreferences", &config.tls_curve_preferences, rule);
    }
}
