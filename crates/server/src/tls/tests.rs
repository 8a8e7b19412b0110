use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn settings(folder: &Path) -> TlsSettings {
    TlsSettings {
        certificate: Certificate::SelfSigned {
            folder: folder.to_owned(),
            host_name: "node1".to_owned(),
            now: crate::testing::wall(),
        },
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
    server_config(settings(&certs)).unwrap();
    let certificate = fs::read(certs.join("kubelet.crt")).unwrap();
    assert_eq!(fs::metadata(certs.join("kubelet.key")).unwrap().permissions().mode() & 0o777, 0o600);
    server_config(settings(&certs)).unwrap();
    assert_eq!(fs::read(certs.join("kubelet.crt")).unwrap(), certificate);
    assert_eq!(fs::read_dir(&certs).unwrap().count(), 2, "nothing is left behind");
}

#[test]
fn half_a_pair_is_an_error_that_names_the_other_half() {
    for (lost, kept) in [("kubelet.key", "kubelet.crt"), ("kubelet.crt", "kubelet.key")] {
        let folder = tempfile::tempdir().unwrap();
        server_config(settings(folder.path())).unwrap();
        fs::remove_file(folder.path().join(lost)).unwrap();
        let error = text(&server_config(settings(folder.path())).unwrap_err());
        assert!(error.contains(lost) && error.contains("cannot be read but its other half can"), "{error}");
        assert!(folder.path().join(kept).exists());
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (ours, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&ours, &other] {
        server_config(settings(folder.path())).unwrap();
    }
    let given = |certificates: PathBuf, key: PathBuf| {
        let certificate = Certificate::Files { certificates, key };
        text(&server_config(TlsSettings { certificate, ..settings(ours.path()) }).unwrap_err())
    };
    let (crt, key) = (ours.path().join("kubelet.crt"), ours.path().join("kubelet.key"));
    let missing = ours.path().join("missing");
    assert!(given(missing.clone(), key.clone()).contains("reading the serving certificate"));
    assert!(given(crt.clone(), missing).starts_with("reading the key of the serving certificate"));
    let switched = given(key, crt.clone());
    assert!(switched.contains("kubelet.crt") && switched.contains("kubelet.key"), "{switched}");
    assert!(
        switched.ends_with("but did find a private key; PEM inputs may have been switched"),
        "{switched}"
    );
    let mixed = given(crt, other.path().join("kubelet.key"));
    assert!(mixed.contains("cannot be used with the certificate"), "{mixed}");
    assert!(mixed.ends_with(": tls: private key does not match public key"), "{mixed}");
}

#[tokio::test]
async fn a_certificate_that_is_issued_later_is_taken_when_it_comes() {
    let (ours, issued) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    server_config(settings(ours.path())).unwrap();
    let [crt, key] = ["kubelet.crt", "kubelet.key"].map(|name| fs::read(ours.path().join(name)).unwrap());
    let (current, old) = (issued.path().join("current.pem"), issued.path().join("old"));
    let places =
        vec![(current.clone(), current.clone()), (old.with_extension("crt"), old.with_extension("key"))];
    let certificate = Certificate::Issued { places };
    let open =
        || server_config(TlsSettings { certificate: certificate.clone(), ..settings(ours.path()) }).unwrap();
    let shown = async |config: &Reloaded<ServerConfig, TlsError>| {
        format!("{:?}", config.current().await.cert_resolver).contains("SingleCertAndKey")
    };
    let config = open();
    assert!(!shown(&config).await);
    // Half of it is none; and keeps no server from starting.
    fs::write(&current, &crt).unwrap();
    assert!(!shown(&config).await);
    assert!(!shown(&open()).await);
    fs::write(&current, [crt.clone(), key.clone()].concat()).unwrap();
    assert!(shown(&config).await);
    // What is broken later leaves the last one.
    fs::write(&current, "").unwrap();
    assert!(shown(&config).await);
    fs::remove_file(&current).unwrap();
    fs::write(old.with_extension("crt"), crt).unwrap();
    fs::write(old.with_extension("key"), key).unwrap();
    assert!(shown(&open()).await, "the next place");
}

/// Of `tests/fixtures/tls`.
macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/fixtures/tls/", $name))
    };
}

const P256: (&str, &str) = (fixture!("p256.crt"), fixture!("p256-sec1-with-parameters.key"));

#[test]
fn pairs_are_taken_as_go_takes_them() {
    let (crt, key) = P256;
    let crlf = |text: &str| text.replace('\n', "\r\n");
    let relabelled = |text: &str, label: &str| {
        text.replace("BEGIN PRIVATE", label).replace("END PRIVATE", &label.replace("BEGIN", "END"))
    };
    let bag = format!(
        "Bag Attributes\n  friendlyName: a\nKey Attributes: <No Attributes>\n{key}\nsubject=CN = a\n{crt}"
    );
    let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    let chain = format!("{broken}{crt}{}", fixture!("rsa.crt"));
    for (what, crt, key) in [
        ("PKCS#1", fixture!("rsa.crt"), fixture!("rsa-pkcs1.key")),
        ("PKCS#8", fixture!("rsa.crt"), fixture!("rsa-pkcs8.key")),
        (
            "PKCS#8 called PKCS#1",
            fixture!("rsa.crt"),
            &relabelled(fixture!("rsa-pkcs8.key"), "BEGIN RSA PRIVATE"),
        ),
        ("parameters before SEC 1", crt, key),
        ("PKCS#8 of a curve", crt, fixture!("p256-pkcs8.key")),
        ("P-384", fixture!("p384.crt"), fixture!("p384-sec1.key")),
        ("Ed25519", fixture!("ed25519.crt"), fixture!("ed25519-pkcs8.key")),
        ("X.509 version 1", fixture!("p256-v1.crt"), fixture!("p256-pkcs8.key")),
        ("line ends of another system", &crlf(crt), &crlf(key)),
        ("both in one file, with text", &bag, &bag),
        ("something broken before, and a chain", &chain, key),
        ("blanks in lines", &crt.replace("\nM", "\n M"), &key.replace("\nM", "\n\tM")),
    ] {
        let pair = pair::pair(crt.as_bytes(), key.as_bytes());
        let chain = pair.unwrap_or_else(|error| panic!("{what}: {error}")).cert.len();
        assert_eq!(chain, 1 + usize::from(what.contains("a chain")), "{what}");
    }
}

#[test]
fn what_is_no_pair_is_refused_in_gos_words() {
    let (crt, key) = P256;
    let spoken =
        " is not spoken here: keys are RSA of 2048 to 4096 bits, ECDSA with P-256 or P-384, or Ed25519";
    for (crt, key, error) in [
        ("", key, "tls: failed to find any PEM data in certificate input"),
        (
            fixture!("rsa-pkcs1.key"),
            key,
            "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may \
             have been switched",
        ),
        (
            key,
            key,
            "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the \
             following types: [EC PARAMETERS EC PRIVATE KEY]",
        ),
        (crt, "text", "tls: failed to find any PEM data in key input"),
        (crt, crt, "tls: found a certificate rather than a key in the PEM for the private key"),
        (
            crt,
            &[crt, crt].concat(),
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of \
             the following types: [CERTIFICATE CERTIFICATE]",
        ),
        (crt, fixture!("rsa-pkcs8.key"), "tls: private key type does not match public key type"),
        (crt, fixture!("p384-sec1.key"), "tls: private key does not match public key"),
        (fixture!("rsa.crt"), fixture!("rsa-encrypted.key"), "tls: failed to parse private key"),
        (fixture!("p521.crt"), fixture!("p521-sec1.key"), &format!("ECDSA with P-521{spoken}")),
        (fixture!("rsa1024.crt"), fixture!("rsa1024.key"), &format!("RSA of 1024 bits{spoken}")),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", key, "x509: malformed certificate"),
    ] {
        assert_eq!(pair::pair(crt.as_bytes(), key.as_bytes()).unwrap_err().to_string(), error);
    }
}

#[tokio::test]
async fn versions_suites_and_curves_are_restricted_by_gos_names() {
    let folder = tempfile::tempdir().unwrap();
    let config = async |min_version: &str, suites: &[&str], curves: &[i32]| {
        let cipher_suites = suites.iter().map(|name| (*name).to_owned()).collect();
        let settings = settings(folder.path());
        let settings =
            TlsSettings { min_version: min_version.into(), cipher_suites, curves: curves.into(), ..settings };
        let config = server_config(settings).map_err(|error| error.to_string())?.current().await;
        let provider = config.crypto_provider();
        Ok::<_, String>((provider.cipher_suites.len(), provider.kx_groups.len()))
    };
    assert_eq!(config("", &[], &[]).await, Ok((9, 3)));
    assert_eq!(config("VersionTLS13", &[], &[29]).await, Ok((9, 1)));
    let aes = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
    assert_eq!(config("VersionTLS12", &[aes, "TLS_RSA_WITH_RC4_128_SHA"], &[]).await, Ok((4, 3)));
    assert_eq!(
        config("VersionTLS11", &["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"], &[23, 24]).await,
        Ok((4, 2))
    );
    let chacha = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    assert_eq!(config("", &[chacha, "TLS_AES_128_GCM_SHA256"], &[]).await, Ok((4, 3)));
    let none = "the settings leave no cipher suite for TLS 1.2 (tlsCipherSuites)";
    assert_eq!(config("", &["TLS_RSA_WITH_RC4_128_SHA"], &[]).await, Err(none.to_owned()));
    assert_eq!(config("VersionTLS13", &["TLS_RSA_WITH_RC4_128_SHA"], &[]).await, Ok((3, 3)));
    let none = "the settings leave no key exchange (tlsCurvePreferences)";
    assert_eq!(config("", &[], &[25]).await, Err(none.to_owned()));
    let unknown = "tlsMinVersion \"TLS1.3\" is not known: use VersionTLS12 or VersionTLS13";
    assert_eq!(config("TLS1.3", &[], &[]).await, Err(unknown.to_owned()));
}
