//! HTTPS: whom the source trusts.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A certificate authority.
struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        Self::named("ca")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A server with a certificate for 127.0.0.1.
    async fn server(&self) -> Server {
        self.server_with(|_| {}).await
    }

    async fn server_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Server {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let server = Server::with(Some(TlsAcceptor::from(Arc::new(config)))).await;
        server.answers_text(pod("a", "one"));
        server
    }
}

fn settings(server: &Server, dir: &tempfile::TempDir) -> Settings {
    let url = format!("https://{}/pods", server.address);
    Settings { ca_file: Some(dir.path().join("ca.pem")), ..Settings::new(url, "node1") }
}

#[tokio::test]
async fn only_the_given_authority_is_trusted_and_its_file_may_change() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, other) = (Ca::new(), Ca::named("other"));
    let server = ca.server().await;
    let mut source = Source::with(settings(&server, &dir));
    let file = dir.path().join("ca.pem");
    let shown = file.display().to_string();
    source.until_problem(&format!("the CA file {shown} can not be read: No such file")).await;
    for (text, said) in [
        (other.0.pem(), "invalid peer certificate: UnknownIssuer".to_owned()),
        ("nothing".to_owned(), format!("the CA file {shown} has no usable certificate")),
        (
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_owned(),
            format!("the CA file {shown} "),
        ),
    ] {
        fs::write(&file, text).unwrap();
        source.poll();
        let state = source.until_problem(&said).await;
        assert!(!state.seen);
    }
    fs::write(&file, other.0.pem() + &ca.0.pem()).unwrap();
    source.poll();
    source.until_images(&["one"]).await;
    server.answers_text(pod("a", "two"));
    source.poll();
    source.until_images(&["two"]).await;
}

#[tokio::test]
async fn a_server_that_the_system_does_not_know_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let server = Ca::new().server().await;
    let mut source = Source::with(Settings { ca_file: None, ..settings(&server, &dir) });
    // Without any roots on the system it says so.
    let state = source.until("a problem", |state| !state.problems.is_empty()).await;
    let said = &problems(&state)[0];
    assert!(said.contains("UnknownIssuer") || said.contains("has no root certificates"), "{said}");
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn certificates_that_are_not_for_now_or_for_this_server_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    fs::write(dir.path().join("ca.pem"), ca.0.pem()).unwrap();
    type Change = fn(&mut CertificateParams);
    let cases: [(Change, &str); 3] = [
        (
            |params| params.not_after = date_time_ymd(2020, 2, 3),
            "can not connect to 127.0.0.1:{port}: the server's certificate expired at 2020-02-03T00:00:00Z;",
        ),
        (
            |params| params.not_before = date_time_ymd(2090, 2, 3),
            "the server's certificate is not valid before 2090-02-03T00:00:00Z",
        ),
        (
            |params| params.subject_alt_names = vec![rcgen::SanType::DnsName("other".try_into().unwrap())],
            "certificate not valid for name",
        ),
    ];
    for (change, said) in cases {
        let good = ca.server().await;
        let mut source = Source::with(settings(&good, &dir));
        source.until_images(&["one"]).await;

        let server = ca.server_with(change).await;
        let said = said.replace("{port}", &server.address.port().to_string());
        let mut source = Source::with(settings(&server, &dir));
        source.until_problem(said.trim_end_matches(';')).await;
        assert_eq!(server.requests().len(), 0);
        // And no further time with the next reading, though the time of the check is another.
        source.frequency.send(Duration::from_millis(1100)).unwrap();
        assert!(
            timeout(Duration::from_millis(1500), source.states.changed()).await.is_err(),
            "{:?}",
            source.state()
        );
    }
}

#[tokio::test]
async fn no_redirect_leads_from_https_to_plain_http() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    fs::write(dir.path().join("ca.pem"), ca.0.pem()).unwrap();
    let plain = Server::start().await;
    let server = ca.server().await;
    let location = url(&plain, "/pods");
    server.answers(move |_| status(302, &[("location", &location)]));
    let redirects = podsource::http::Redirects::Any;
    let mut source = Source::with(Settings { redirects, ..settings(&server, &dir) });
    source.until_problem("the redirect leads from https to http://127.0.0.1:").await;
    assert_eq!(plain.requests().len(), 0);

    // The other way is fine, and the port is another then.
    let location = format!("https://{}/pods", server.address);
    plain.answers(move |_| status(302, &[("location", &location)]));
    server.answers_text(pod("a", "one"));
    let mut source = Source::with(Settings { url: url(&plain, "/pods"), ..settings(&server, &dir) });
    source.until_images(&["one"]).await;
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.pem"), Ca::new().0.pem()).unwrap();
    let server = Server::start().await;
    server.answers_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let mut source = Source::with(settings(&server, &dir));
    source.until_problem("can not connect to 127.0.0.1:").await;
}
