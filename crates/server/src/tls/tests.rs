use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn settings(folder: &Path) -> TlsSettings {
    TlsSettings {
        certificate: Certificate::SelfSigned { folder: folder.to_owned(), host_name: "node1".to_owned() },
        min_version: String::new(),
        cipher_suites: vec![],
        curves: vec![],
    }
}

fn text(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

#[test]
fn a_pair_is_made_once_and_its_key_is_secret() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("pki");
    server_config(&settings(&certs)).unwrap();
    let certificate = fs::read(certs.join("kubelet.crt")).unwrap();
    assert_eq!(fs::metadata(certs.join("kubelet.key")).unwrap().permissions().mode() & 0o777, 0o600);
    server_config(&settings(&certs)).unwrap();
    assert_eq!(fs::read(certs.join("kubelet.crt")).unwrap(), certificate);
    assert_eq!(fs::read_dir(&certs).unwrap().count(), 2, "nothing is left behind");
}

#[test]
fn half_a_pair_is_an_error_that_names_the_other_half() {
    for (lost, kept) in [("kubelet.key", "kubelet.crt"), ("kubelet.crt", "kubelet.key")] {
        let folder = tempfile::tempdir().unwrap();
        server_config(&settings(folder.path())).unwrap();
        fs::remove_file(folder.path().join(lost)).unwrap();
        let error = text(&server_config(&settings(folder.path())).unwrap_err());
        assert!(error.contains(lost) && error.contains("cannot be read but its other half can"), "{error}");
        assert!(folder.path().join(kept).exists());
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (ours, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&ours, &other] {
        server_config(&settings(folder.path())).unwrap();
    }
    let given = |certificates: PathBuf, key: PathBuf| {
        let certificate = Certificate::Files { certificates, key };
        text(&server_config(&TlsSettings { certificate, ..settings(ours.path()) }).unwrap_err())
    };
    let (crt, key) = (ours.path().join("kubelet.crt"), ours.path().join("kubelet.key"));
    let empty = ours.path().join("empty");
    fs::write(&empty, "").unwrap();
    let missing = ours.path().join("missing");
    assert!(given(missing.clone(), key.clone()).contains("reading the serving certificate"));
    assert!(given(empty.clone(), key.clone()).ends_with("empty holds no PEM certificate"));
    assert!(given(crt.clone(), missing).contains("missing: "));
    assert!(given(crt.clone(), empty).starts_with("reading the key of the serving certificate"));
    let mixed = given(crt, other.path().join("kubelet.key"));
    assert!(mixed.contains("cannot be used with the certificate"), "{mixed}");
}

#[test]
fn versions_suites_and_curves_are_restricted_by_gos_names() {
    let folder = tempfile::tempdir().unwrap();
    let config = |min_version: &str, suites: &[&str], curves: &[i32]| {
        let cipher_suites = suites.iter().map(|name| (*name).to_owned()).collect();
        let settings = settings(folder.path());
        server_config(&TlsSettings {
            min_version: min_version.into(),
            cipher_suites,
            curves: curves.into(),
            ..settings
        })
        .map(|config| {
            let provider = config.crypto_provider();
            (provider.cipher_suites.len(), provider.kx_groups.len())
        })
        .map_err(|error| error.to_string())
    };
    assert_eq!(config("", &[], &[]), Ok((9, 3)));
    assert_eq!(config("VersionTLS13", &[], &[29]), Ok((9, 1)));
    let aes = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
    assert_eq!(config("VersionTLS12", &[aes, "TLS_RSA_WITH_RC4_128_SHA"], &[]), Ok((4, 3)));
    assert_eq!(config("VersionTLS11", &["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"], &[23, 24]), Ok((4, 2)));
    let chacha = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    assert_eq!(config("", &[chacha, "TLS_AES_128_GCM_SHA256"], &[]), Ok((4, 3)));
    let none = "the settings leave no cipher suite for TLS 1.2 (tlsCipherSuites)";
    assert_eq!(config("", &["TLS_RSA_WITH_RC4_128_SHA"], &[]), Err(none.to_owned()));
    assert_eq!(config("VersionTLS13", &["TLS_RSA_WITH_RC4_128_SHA"], &[]), Ok((3, 3)));
    let none = "the settings leave no key exchange (tlsCurvePreferences)";
    assert_eq!(config("", &[], &[25]), Err(none.to_owned()));
    let unknown = "tlsMinVersion \"TLS1.3\" is not known: use VersionTLS12 or VersionTLS13";
    assert_eq!(config("TLS1.3", &[], &[]), Err(unknown.to_owned()));
}
