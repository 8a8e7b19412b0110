//! An API server with TLS and certificates of its own making; what it answers is the test's business.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use apiserver_sync::client::Access;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::fake_api::FakeApi;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub(crate) struct Server {
    pub(crate) api: FakeApi,
    dir: TempDir,
    port: u16,
    authority: CertifiedIssuer<'static, KeyPair>,
    /// The common names of those who connected, in their order.
    peers: Arc<Mutex<Vec<String>>>,
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Server {
    /// Its certificate is for `localhost`; it takes clients without one, too.
    pub(crate) async fn start() -> Self {
        let authority = authority("kubernetes");
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(authority.der().to_vec())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let verifier = verifier.allow_unauthenticated().build().unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));

        let api = FakeApi::start().await;
        let front = api.front();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let peers = Arc::new(Mutex::new(Vec::new()));
        let connected = Arc::clone(&peers);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, front, connected) = (acceptor.clone(), front.clone(), Arc::clone(&connected));
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(stream).await else { return };
                    connected.lock().unwrap().push(common_name(tls.get_ref().1.peer_certificates()));
                    front.serve(tls).await;
                });
            }
        });
        let server = Self { api, dir: tempfile::tempdir().unwrap(), port, authority, peers };
        server.write("ca.crt", &server.authority.pem());
        server.issue("system:node:node1");
        server
    }

    /// Writes certificate and key of a client into `node.pem`, as the kubelet's own rotation does.
    pub(crate) fn issue(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        self.write("node.pem", &format!("{}{}", certificate.pem(), key.serialize_pem()));
    }

    /// The authority of another cluster.
    pub(crate) fn write_other_authority(&self, file: &str) {
        self.write(file, &authority("another cluster").pem());
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.dir.path().join(file), text).unwrap();
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn connections(&self) -> usize {
        self.peers.lock().unwrap().len()
    }

    pub(crate) fn last_peer(&self) -> String {
        self.peers.lock().unwrap().last().unwrap().clone()
    }

    /// A kubeconfig for this server, with `cluster` and `user` over what it would have.
    pub(crate) fn kubeconfig(&self, cluster: &Value, user: &Value) -> PathBuf {
        let mut all = json!({
            "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {
                "server": format!("https://localhost:{}", self.port), "certificate-authority": "ca.crt"}}],
            "users": [{"name": "u", "user": {"client-certificate": "node.pem", "client-key": "node.pem"}}],
        });
        for (place, changes) in [("/clusters/0/cluster", cluster), ("/users/0/user", user)] {
            let place = all.pointer_mut(place).unwrap().as_object_mut().unwrap();
            place.extend(changes.as_object().unwrap().clone());
            place.retain(|_, value| !value.is_null());
        }
        self.write("kubeconfig", &all.to_string());
        self.dir.path().join("kubeconfig")
    }

    pub(crate) fn access(&self) -> Access {
        self.access_with(&json!({}), &json!({}))
    }

    pub(crate) fn access_with(&self, cluster: &Value, user: &Value) -> Access {
        Access::load(&self.kubeconfig(cluster, user), "test/1").unwrap()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

fn common_name(certificates: Option<&[CertificateDer<'_>]>) -> String {
    let Some(certificate) = certificates.and_then(<[_]>::first) else { return String::new() };
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).unwrap();
    let names: Vec<_> = certificate.subject().iter_common_name().map(|name| name.as_str().unwrap()).collect();
    (*names.last().unwrap()).to_owned()
}
