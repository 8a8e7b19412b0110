//! Who is let in.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use pod_api::{Settings, StartError, TlsFiles, start};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use testkit::env::{Ca, Identity};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::node::{Node, PODS, ask, manifest};

/// A folder with a CA, the certificate of a server and those of clients.
struct Pki {
    dir: tempfile::TempDir,
    ca: Ca,
    server: Identity,
}

impl Pki {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new(dir.path(), "test").unwrap();
        let server = ca.server("server", &["node1.example", "127.0.0.1"]).unwrap();
        Self { dir, ca, server }
    }

    fn files(&self) -> Option<TlsFiles> {
        Some(TlsFiles { cert: self.server.certificate.clone(), key: self.server.key.clone() })
    }

    fn client(&self, identity: Option<&Identity>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.ca.certificate())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let key = PrivateKeyDer::from_pem_file(key).unwrap();
                builder.with_client_auth_cert(vec![self::certificate(certificate)], key).unwrap()
            }
        }
    }
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

async fn connect(node: &Node, client: ClientConfig) -> TlsStream<tokio::net::TcpStream> {
    let name = ServerName::try_from("node1.example").unwrap();
    TlsConnector::from(Arc::new(client)).connect(name, node.connect().await).await.unwrap()
}

/// The code of a request over TLS with this client certificate and token.
async fn code(node: &Node, client: ClientConfig, token: Option<&str>) -> u16 {
    let mut ask = ask("GET", PODS).header("host", "node1.example:6443");
    if let Some(token) = token {
        ask = ask.header("authorization", &format!("Bearer {token}"));
    }
    ask.send(connect(node, client).await).await.unwrap().code
}

async fn refused(change: impl FnOnce(&mut Settings)) -> StartError {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::new("127.0.0.1:0".parse().unwrap(), "node1", dir.path().join("push"));
    settings.anonymous = true;
    change(&mut settings);
    start(settings, CancellationToken::new()).await.unwrap_err()
}

#[tokio::test]
async fn an_address_that_others_can_reach_needs_tls_and_somebody_to_know() {
    let pki = Pki::new();
    let token = pki.dir.path().join("token");
    fs::write(&token, "secret").unwrap();
    let (ca, files) = (Some(pki.ca.certificate()), pki.files());
    for (tls, client_ca, token_file) in [
        (None, None, None),
        (None, None, Some(token.clone())),
        (None, ca.clone(), Some(token.clone())),
        (files.clone(), None, None),
    ] {
        let error = refused(|settings| {
            settings.listen = "0.0.0.0:0".parse().unwrap();
            (settings.tls, settings.client_ca, settings.token_file) = (tls, client_ca, token_file);
        });
        let error = error.await;
        assert!(matches!(error, StartError::NotProtected(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("TLS certificate and key") && text.contains("tokens or a client CA"), "{text}");
    }
    for (client_ca, token_file) in [(None, Some(token.clone())), (ca.clone(), None)] {
        Node::with(|settings| {
            settings.listen = "0.0.0.0:0".parse().unwrap();
            (settings.tls, settings.client_ca, settings.token_file) = (files.clone(), client_ca, token_file);
        })
        .await;
    }
    let any = async |tls, anonymous| {
        refused(move |settings| (settings.tls, settings.anonymous) = (tls, anonymous)).await
    };
    for tls in [None, files.clone()] {
        let error = any(tls, false).await;
        assert!(matches!(error, StartError::Anybody(_)), "{error:?}");
        assert!(error.to_string().contains("unix:/PATH"), "{error}");
    }
    Node::with(|settings| (settings.token_file, settings.anonymous) = (Some(token.clone()), false)).await;
    let error = refused(|settings| settings.client_ca = ca.clone()).await;
    assert!(matches!(error, StartError::CaWithoutTls(_)), "{error:?}");
    let error = refused(|settings| {
        settings.listen = "unix:/nowhere/s".parse().unwrap();
        settings.tls = files.clone();
    });
    assert!(matches!(error.await, StartError::TlsOnUnix(_)));
}

#[tokio::test]
async fn files_that_can_not_be_used_keep_it_from_starting_and_are_named() {
    let pki = Pki::new();
    let path = |name: &str| pki.dir.path().join(name);
    fs::write(path("empty"), "\n# nothing\n").unwrap();
    let other = pki.ca.server("other", &["other"]).unwrap();
    let tls = |cert: &Path, key: &Path| Some(TlsFiles { cert: cert.to_owned(), key: key.to_owned() });
    let (cert, key) = (&pki.server.certificate, &pki.server.key);
    for (tls, client_ca, token_file, words) in [
        (None, None, Some(path("none")), "none"),
        (None, None, Some(path("empty")), "holds no token"),
        (tls(&path("none"), key), None, None, "none"),
        (tls(&path("empty"), key), None, None, "empty holds no certificate"),
        (tls(cert, &path("empty")), None, None, "empty holds no private key"),
        (tls(cert, &other.key), None, None, "does not fit"),
        (tls(cert, key), Some(path("empty")), None, "empty holds no certificate"),
    ] {
        let error = refused(|settings| {
            (settings.tls, settings.client_ca, settings.token_file) = (tls, client_ca, token_file);
        });
        let error = error.await;
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(why.contains(words), "{why}");
    }
}

#[tokio::test]
async fn over_tls_a_token_or_a_certificate_lets_in() {
    let pki = Pki::new();
    let token = pki.dir.path().join("token");
    fs::write(&token, "secret\n").unwrap();
    let node = Node::with(|settings| {
        (settings.tls, settings.client_ca, settings.token_file) =
            (pki.files(), Some(pki.ca.certificate()), Some(token.clone()));
    })
    .await;
    let known = pki.ca.client("admin", "admin", "admins").unwrap();
    assert_eq!(code(&node, pki.client(None), None).await, 401);
    assert_eq!(code(&node, pki.client(None), Some("wrong")).await, 401);
    assert_eq!(code(&node, pki.client(None), Some("secret")).await, 200);
    assert_eq!(code(&node, pki.client(Some(&known)), None).await, 200);
    let refusal = ask("GET", "/healthz").send(connect(&node, pki.client(None)).await).await.unwrap();
    assert_eq!(
        (refusal.error().1.as_str(), &refusal.headers["www-authenticate"]),
        ("Unauthorized", &"Bearer".parse().unwrap())
    );

    fs::write(&token, "another\n").unwrap();
    assert_eq!(code(&node, pki.client(None), Some("secret")).await, 401);
    assert_eq!(code(&node, pki.client(None), Some("another")).await, 200);

    // A certificate of somebody else is none.
    let others = tempfile::tempdir().unwrap();
    let stranger = Ca::new(others.path(), "stranger").unwrap().client("admin", "admin", "admins").unwrap();
    let name = ServerName::try_from("node1.example").unwrap();
    let connector = TlsConnector::from(Arc::new(pki.client(Some(&stranger))));
    if let Ok(stream) = connector.connect(name, node.connect().await).await {
        // In TLS 1.3 the client learns of it with its first reading.
        assert!(ask("GET", PODS).send(stream).await.is_err());
    }
}

#[tokio::test]
async fn certificates_change_with_their_files() {
    let pki = Pki::new();
    let node = Node::with(|settings| {
        (settings.tls, settings.client_ca) = (pki.files(), Some(pki.ca.certificate()));
    })
    .await;
    let known = pki.ca.client("admin", "admin", "admins").unwrap();
    let shown = async || {
        let stream = connect(&node, pki.client(Some(&known))).await;
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let first = shown().await;
    assert_eq!(first, certificate(&pki.server.certificate));
    // Files are written one after the other: what does not fit together is not taken.
    let key = fs::read(&pki.server.key).unwrap();
    pki.ca.server("server", &["node1.example"]).unwrap();
    let new_key = fs::read(&pki.server.key).unwrap();
    fs::write(&pki.server.key, key).unwrap();
    assert_eq!(shown().await, first);
    fs::write(&pki.server.key, new_key).unwrap();
    let second = shown().await;
    assert_eq!(second, certificate(&pki.server.certificate));
    assert_ne!(first, second);
}

#[tokio::test]
async fn a_client_that_does_not_speak_tls_gets_nothing() {
    let pki = Pki::new();
    let node =
        Node::with(|settings| (settings.tls, settings.client_ca) = (pki.files(), Some(pki.ca.certificate())))
            .await;
    assert!(ask("GET", PODS).send(node.connect().await).await.is_err());
}

#[tokio::test]
async fn a_web_page_can_not_reach_a_loopback_address() {
    let node = Node::new().await;
    for (name, value) in [
        ("origin", "https://attacker.example"),
        ("origin", "http://localhost:8080"),
        ("sec-fetch-site", "cross-site"),
        ("host", "attacker.example"),
    ] {
        let ask = ask("POST", PODS).header(name, value).body(manifest("web"));
        let reply = node.send(ask).await;
        assert_eq!(reply.error().1, "Forbidden", "{name}: {value}");
    }
    assert_eq!(node.send(ask("GET", PODS)).await.expect(200)["items"], serde_json::json!([]));
}

#[tokio::test]
async fn a_unix_socket_is_its_users_alone_and_goes_with_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("push.sock");
    let listen = format!("unix:{}", path.display());
    let mut node = Node::with(|settings| settings.listen = listen.parse().unwrap()).await;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let create = ask("POST", PODS).header("host", "whatever").body(manifest("web"));
    create.send(UnixStream::connect(&path).await.unwrap()).await.unwrap().expect(201);

    let error = refused(|settings| settings.listen = listen.parse().unwrap()).await;
    assert!(matches!(&error, StartError::Bind { address, .. } if *address == listen), "{error:?}");

    node.cancel.cancel();
    (&mut node.push.served).await.unwrap();
    assert!(!path.exists());

    // What a dead process left is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    Node::with(|settings| settings.listen = listen.parse().unwrap()).await;
    // What is no socket is not ours.
    let file = dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    let error = refused(|settings| settings.listen = pod_api::Listen::Unix(file.clone())).await;
    assert!(matches!(&error, StartError::InTheWay(path) if *path == file), "{error:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[tokio::test]
async fn two_processes_can_not_have_one_folder_or_one_port() {
    let node = Node::new().await;
    node.create("web").await;
    let dir = node.dir.path().join("push");
    let error = refused(|settings| settings.dir.clone_from(&dir)).await;
    assert!(matches!(error, StartError::Store(_)), "{error:?}");
    assert!(error.to_string().contains(&dir.display().to_string()), "{error}");
    let address = node.push.address.clone();
    let error = refused(|settings| settings.listen = address.clone()).await;
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
