//! The server over real sockets, with an agent made of fakes.

mod answers;
mod auth;
mod connections;
mod log_files;
mod tunnels;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kube_model::observed::ObservedPod;
use kube_model::{PodKey, PodUid};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::*;
use crate::host::{Answer, HostError, Output};
use crate::pod_streams::PodStreams;
use crate::testing::{FakeAgent, FakeView, container, snapshot, view};
use crate::tls::{Certificate, provider};

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// A certificate authority of a test, and what it signed.
struct Ca {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for `127.0.0.1` and this subject, and its key.
    fn sign(&self, name: &str, groups: &[&str], usage: ExtendedKeyUsagePurpose) -> (String, String) {
        self.sign_with(|params| {
            params.distinguished_name.push(DnType::CommonName, name);
            for group in groups {
                params.distinguished_name.push(DnType::OrganizationName, *group);
            }
            params.extended_key_usages = vec![usage];
        })
    }

    fn sign_with(&self, edit: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A server that runs until this is dropped.
struct Server {
    address: SocketAddr,
    agent: Arc<FakeAgent>,
    view: Arc<FakeView>,
    folder: tempfile::TempDir,
    ca: Option<Ca>,
    task: JoinHandle<Result<(), ServerError>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// 10250 with anonymous users who may do everything, as the recordings were made.
    fn start() -> Self {
        Self::start_with(Authentication::default().anonymous(true), Authorization::always_allow())
    }

    fn start_with(authentication: Authentication, authorization: Authorization) -> Self {
        Self::start_serving(authentication, authorization, Handlers::default())
    }

    fn start_serving(
        authentication: Authentication,
        authorization: Authorization,
        handlers: Handlers,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new("test CA");
        let tls = given_tls(&ca, folder.path());
        let settings = Settings {
            address: ([127, 0, 0, 1], 0).into(),
            node_name: "node1".to_owned(),
            tls,
            authentication,
            authorization,
            handlers,
        };
        Self::run(folder, Some(ca), |host| KubeletServer::bind(settings, host))
    }

    fn start_read_only() -> Self {
        let address = ([127, 0, 0, 1], 0).into();
        Self::run(tempfile::tempdir().unwrap(), None, |host| KubeletServer::bind_read_only(address, host))
    }

    fn run(
        folder: tempfile::TempDir,
        ca: Option<Ca>,
        bind: impl FnOnce(Host) -> Result<KubeletServer, ServerError>,
    ) -> Self {
        let agent = Arc::<FakeAgent>::default();
        let view = FakeView::new(snapshot(vec![]));
        let pod_streams =
            PodStreams::new(Arc::clone(&view) as _, Arc::clone(&agent) as _, crate::testing::wall);
        let host = Host::new(pod_streams, Arc::clone(&agent) as _, Arc::clone(&agent) as _);
        let server = bind(host).unwrap();
        let address = server.address();
        Self { address, agent, view, folder, ca, task: tokio::spawn(server.serve()) }
    }

    /// A client without a certificate.
    fn client(&self) -> Client {
        Client { address: self.address, tls: self.ca.as_ref().map(|ca| client_config(ca, None)) }
    }

    async fn get(&self, path: &str) -> Reply {
        self.client().send("GET", path, &[]).await
    }

    /// Gives the container with this ID a log, and says that it runs.
    fn log(&self, id: &str, contents: &str) -> PathBuf {
        let folder = self.folder.path().join(id);
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("0.log");
        std::fs::write(&path, contents).unwrap();
        self.agent.logs.lock().unwrap().insert(id.to_owned(), path.clone());
        path
    }
}

fn given_tls(ca: &Ca, folder: &Path) -> TlsSettings {
    let (certificate, key) = ca.sign("node1", &[], ExtendedKeyUsagePurpose::ServerAuth);
    let (certificates, key_file) = (folder.join("tls.crt"), folder.join("tls.key"));
    std::fs::write(&certificates, certificate).unwrap();
    std::fs::write(&key_file, key).unwrap();
    TlsSettings {
        certificate: Certificate::Files { certificates, key: key_file },
        min_version: String::new(),
        cipher_suites: vec![],
        curves: vec![],
    }
}

fn client_config(ca: &Ca, own: Option<&(String, String)>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match own {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => config
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    })
}

trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

#[derive(Clone)]
struct Client {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Client {
    async fn connect(&self) -> Box<dyn Connection> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                let name = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
                Box::new(TlsConnector::from(Arc::clone(config)).connect(name, stream).await.unwrap())
            }
        }
    }

    /// The answer's head, its body to be read. The connection lives as long as the task.
    async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (Response<Incoming>, JoinHandle<()>) {
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.connect().await)).await.unwrap();
        let task = tokio::spawn(async move {
            let _closed = connection.with_upgrades().await;
        });
        let mut request = Request::builder().method(method).uri(path).header("host", "node1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = tokio::time::timeout(DEADLINE, sender.send_request(request)).await.unwrap().unwrap();
        (response, task)
    }

    /// The code, if there is an answer.
    async fn try_get(&self, path: &str) -> Option<u16> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.connect().await)).await.ok()?;
        tokio::spawn(connection);
        let request = Request::get(path).header("host", "node1").body(Empty::<Bytes>::new()).unwrap();
        Some(sender.send_request(request).await.ok()?.status().as_u16())
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        let (response, _task) = self.open(method, path, headers).await;
        let (parts, body) = response.into_parts();
        let body = tokio::time::timeout(DEADLINE, body.collect()).await.unwrap().unwrap().to_bytes();
        Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }
}

struct Reply {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn answer(&self) -> (u16, &str) {
        (self.status, &self.body)
    }
}

/// Waits for a condition.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Pod `default/<name>` with one container `app`, whose state and last state these are.
fn pod(name: &str, id: &str, state: Value, last: Value) -> kube_model::view::PodView {
    let mut app = container("app", true, 0, state);
    app["containerID"] = format!("containerd://{id}").into();
    app["lastState"] = last;
    view(
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "default", "uid": format!("{name}-uid") },
            "spec": { "nodeName": "node1", "containers": [{ "name": "app", "image": "busybox:1" }] }
        }),
        json!({ "phase": "Running", "containerStatuses": [app] }),
    )
}

fn running_pod(name: &str, id: &str) -> kube_model::view::PodView {
    pod(name, id, json!({ "running": { "startedAt": "2026-11-23T11:55:00Z" } }), json!({}))
}

fn ended(id: &str) -> Value {
    json!({ "terminated": { "exitCode": 1, "containerID": format!("containerd://{id}") } })
}

fn observed(name: &str, uid: &str) -> ObservedPod {
    ObservedPod::empty(PodUid::from(uid), PodKey::new("default", name))
}
