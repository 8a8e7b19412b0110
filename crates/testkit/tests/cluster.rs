//! The cluster and its proxies themselves: a real kube-apiserver keeps objects over a restart, forgets history
//! when it is told to, gives nodes their rights and no more, and each fault arrives as what it is meant to be.
//! Needs root and a kube-apiserver; `cargo xtask test` sees to both and turns on the feature required here.

#![expect(clippy::unwrap_used, reason = "a panic is the report of a test, in its helpers too")]
#![expect(clippy::expect_used, reason = "as above")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::header::{AUTHORIZATION, HeaderMap};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use testkit::env::{Cluster, ClusterOptions, Login, Run};
use testkit::proxy::{Fault, HttpProxy, Link, TcpProxy};

const SOON: Duration = Duration::from_secs(60);

fn pod(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "work"},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "app", "image": "example.test/app:1"}],
        },
    })
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "work"}})
}

#[test]
fn objects_outlive_a_restart_and_history_does_not_outlive_a_compaction() {
    let run = Run::new().unwrap();
    let mut cluster = Cluster::start(&run).unwrap();
    cluster
        .apply(&json!({"apiVersion": "v1", "kind": "List", "items": [namespace(), pod("a", "node1")]}))
        .unwrap();
    let listed = cluster.kubectl(&["get", "pods", "-n", "work", "-o", "name"]).unwrap();
    assert_eq!(listed, "pod/a\n");
    let pods = "/api/v1/namespaces/work/pods";
    let (_, list) = cluster.request("GET", pods, None).unwrap();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let (code, _) = cluster.request("POST", pods, Some(&pod("b", "node1"))).unwrap();
    assert_eq!(code, 201);
    // Ends by itself after a second, having told of `b`.
    let watch = format!("{pods}?watch=1&timeoutSeconds=1&resourceVersion={version}");
    let (code, event) = cluster.request("GET", &watch, None).unwrap();
    assert_eq!(
        (code, &event["type"], &event["object"]["metadata"]["name"]),
        (200, &json!("ADDED"), &json!("b"))
    );

    cluster.compact().unwrap();
    let (address, pid) = (cluster.address(), cluster.pid());
    cluster.stop();
    assert_eq!(cluster.pid(), None);
    let error = std::net::TcpStream::connect(address).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let error = cluster.request("GET", pods, None).unwrap_err().to_string();
    assert!(error.contains("does not answer GET /api/v1/namespaces/work/pods"), "{error}");
    cluster.start_again().unwrap();
    assert_ne!(cluster.pid(), pid);
    assert_eq!(cluster.address(), address);

    let names = cluster
        .wait_for("both pods are there", pods, SOON, |list| {
            let names: Vec<&str> = list["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|p| p["metadata"]["name"].as_str().unwrap())
                .collect();
            if names.len() == 2 { Ok(names.join(" ")) } else { Err(format!("{names:?}")) }
        })
        .unwrap();
    assert_eq!(names, "a b");
    let (code, event) = cluster.request("GET", &watch, None).unwrap();
    let gone = if code == 200 { &event["object"] } else { &event };
    assert_eq!((&gone["code"], &gone["reason"]), (&json!(410), &json!("Expired")), "{code} {event}");
}

#[test]
fn a_node_may_do_its_work_and_nothing_for_another_node() {
    let run = Run::new().unwrap();
    let options = ClusterOptions::default().node("node2").user("eve", &[]);
    let cluster = Cluster::start_with(&run, &options).unwrap();
    cluster
        .apply(&json!({"apiVersion": "v1", "kind": "List", "items": [namespace(), pod("a", "node1")]}))
        .unwrap();
    let as_node = |kubeconfig: &std::path::Path, args: &[&str]| {
        testkit::env::output(cluster.kubectl_command().env("KUBECONFIG", kubeconfig).args(args))
    };
    // By certificate, and by token: the same user.
    let by_certificate = cluster.node_kubeconfig("node1").unwrap();
    let login = cluster.token_login("system:node:node1").unwrap();
    let by_token = cluster.kubeconfig("node1-token", &cluster.url(), &login).unwrap();
    for kubeconfig in [&by_certificate, &by_token] {
        let listed =
            as_node(kubeconfig, &["get", "pods", "-A", "--field-selector=spec.nodeName=node1", "-o", "name"]);
        assert_eq!(listed.unwrap(), "pod/a\n");
    }
    let node2 = cluster.node_kubeconfig("node2").unwrap();
    let refused = as_node(&node2, &["delete", "pod", "-n", "work", "a"]).unwrap_err().to_string();
    assert!(refused.contains("can only delete pods with spec.nodeName set to itself"), "{refused}");
    let login = cluster.token_login("eve").unwrap();
    let eve = cluster.kubeconfig("eve", &cluster.url(), &login).unwrap();
    assert!(as_node(&eve, &["get", "pods", "-A"]).unwrap_err().to_string().contains("Forbidden"));

    let audit = cluster.audit().unwrap();
    let seen = |user: &str, verb: &str, code: u16| {
        audit.iter().any(|r| r.user == user && r.verb == verb && r.code == code && r.uri.contains("/pods"))
    };
    assert!(seen("system:node:node1", "list", 200), "{audit:?}");
    assert!(seen("system:node:node2", "delete", 403), "{audit:?}");
    assert!(seen("eve", "list", 403), "{audit:?}");
    assert!(audit.iter().all(|r| r.user != "admin"), "{audit:?}");
    let unknown = cluster.token("system:node:node3").unwrap_err().to_string();
    assert!(
        unknown.contains("no user system:node:node3, only admin, system:node:node1, system:node:node2, eve")
    );
}

#[test]
fn a_cluster_leaves_no_process_and_no_file() {
    let run = Run::new().unwrap();
    let cluster = Cluster::start(&run).unwrap();
    let dir = run.dir().to_owned();
    let processes = || {
        let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        all.filter(|entry| {
            let args = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&args).contains(dir.to_str().unwrap())
        })
        .count()
    };
    assert_eq!(processes(), 2);
    drop(cluster);
    drop(run);
    assert_eq!(processes(), 0);
    assert!(!dir.exists());
}

#[test]
fn a_server_that_does_not_start_says_why() {
    let run = Run::new().unwrap();
    let options = ClusterOptions::default().args(["--no-such-flag"]);
    let error = Cluster::start_with(&run, &options).unwrap_err().to_string();
    assert!(error.contains("cluster-apiserver ended with"), "{error}");
    assert!(error.contains("unknown flag: --no-such-flag"), "{error}");
}

/// A client of HTTP/2 as agents are: many requests over one connection, and tokens.
struct Simple {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: String,
    token: String,
}

impl Simple {
    fn new(cluster: &Cluster, url: String) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(cluster.ca().certificate()).unwrap()).unwrap();
        let provider = rustls::crypto::ring::default_provider();
        let tls = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http2().build();
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
        Self { client, url, token: cluster.token("admin").unwrap().to_owned() }
    }

    /// The answer as soon as its headers are there.
    async fn open(&self, path: &str) -> Result<(u16, HeaderMap, Incoming), String> {
        let request = Request::get(format!("{}{path}", self.url))
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Full::default())
            .unwrap();
        let answer = self.client.request(request).await.map_err(|error| format!("{error:?}"))?;
        Ok((answer.status().as_u16(), answer.headers().clone(), answer.into_body()))
    }

    /// The whole answer.
    async fn get(&self, path: &str) -> Result<(u16, HeaderMap, String), String> {
        let (code, headers, body) = self.open(path).await?;
        let body = body.collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
        Ok((code, headers, String::from_utf8(body.to_vec()).unwrap()))
    }
}

/// The next piece of a body, when one comes soon.
async fn next(body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
    let frame = tokio::time::timeout(SOON, body.frame()).await.expect("something comes soon");
    frame.map(|frame| frame.map(|frame| frame.into_data().unwrap()))
}

const NAMESPACES: &str = "/api/v1/namespaces";

#[tokio::test]
async fn each_fault_of_requests_arrives_as_what_it_is() {
    let run = Run::new().unwrap();
    let mut cluster = Cluster::start(&run).unwrap();
    let proxy = HttpProxy::start(cluster.ca(), cluster.address()).unwrap();
    let client = Simple::new(&cluster, proxy.url());
    let (code, _, whole) = client.get(NAMESPACES).await.unwrap();
    assert_eq!(code, 200);
    assert!(serde_json::from_str::<Value>(&whole).unwrap()["items"].as_array().unwrap().len() >= 3);

    let namespaces = |request: &testkit::proxy::Exchange| request.path == NAMESPACES;
    proxy.fault_times(1, Fault::Refuse(429, Some(2)), namespaces);
    proxy.fault_times(1, Fault::Refuse(500, None), namespaces);
    let (code, headers, body) = client.get(NAMESPACES).await.unwrap();
    assert_eq!((code, headers["retry-after"].to_str().unwrap()), (429, "2"));
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["reason"], "TooManyRequests");
    assert_eq!(client.get("/version").await.unwrap().0, 200, "others are served");
    assert_eq!(client.get(NAMESPACES).await.unwrap().0, 500);
    assert_eq!(client.get(NAMESPACES).await.unwrap().0, 200);

    proxy.fault_times(1, Fault::Truncate(20), namespaces);
    let (code, _, body) = client.get(NAMESPACES).await.unwrap();
    assert_eq!((code, body.as_str()), (200, &whole[..20]));
    proxy.fault_times(1, Fault::Break(20), namespaces);
    let (_, _, mut body) = client.open(NAMESPACES).await.unwrap();
    assert_eq!(next(&mut body).await.unwrap().unwrap(), whole.as_bytes()[..20]);
    assert!(next(&mut body).await.unwrap().is_err());

    let delay = Duration::from_millis(200);
    proxy.fault_times(1, Fault::Slow(delay), namespaces);
    let start = std::time::Instant::now();
    assert_eq!(client.get(NAMESPACES).await.unwrap().0, 200);
    assert!(start.elapsed() >= delay);

    // Two watches of the same, one of them dead.
    let watch = format!("{NAMESPACES}?watch=true&resourceVersion=0&fieldSelector=metadata.name=");
    proxy.fault_times(1, Fault::Hang(0), |request| request.is_watch());
    let (_, _, mut dead) = client.open(&format!("{watch}dead")).await.unwrap();
    let (_, _, mut alive) = client.open(&format!("{watch}alive")).await.unwrap();
    for name in ["dead", "alive"] {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        assert_eq!(cluster.request("POST", NAMESPACES, Some(&object)).unwrap().0, 201);
    }
    let event: Value = serde_json::from_slice(&next(&mut alive).await.unwrap().unwrap()).unwrap();
    assert_eq!(event["object"]["metadata"]["name"], "alive");
    let nothing = tokio::time::timeout(Duration::from_millis(100), dead.frame()).await;
    assert!(nothing.is_err(), "{nothing:?}");

    let exchanges = proxy.exchanges();
    let [hung, answered] = [&exchanges[exchanges.len() - 2], &exchanges[exchanges.len() - 1]];
    assert_eq!((hung.code, hung.received()), (Some(200), 0));
    assert!(answered.received() > 0);
    assert_eq!((exchanges[0].method.as_str(), exchanges[0].received()), ("GET", whole.len() as u64));

    let node = cluster.token_login("system:node:node1").unwrap();
    let kubeconfig = cluster.kubeconfig("through", &proxy.url(), &node).unwrap();
    let mut kubectl = cluster.kubectl_command();
    kubectl.env("KUBECONFIG", kubeconfig).args(["get", "namespace", "default"]);
    let refused = testkit::env::output(&mut kubectl).unwrap_err().to_string();
    assert!(refused.contains("User \"system:node:node1\" cannot get resource \"namespaces\""), "{refused}");

    cluster.stop();
    assert!(client.get(NAMESPACES).await.is_err(), "no answer of the proxy's own");
    cluster.start_again().unwrap();
    assert_eq!(client.get(NAMESPACES).await.unwrap().0, 200);
}

#[tokio::test]
async fn a_watch_over_a_bad_link_is_slow_dead_or_broken() {
    let run = Run::new().unwrap();
    let cluster = Cluster::start(&run).unwrap();
    let mut proxy = TcpProxy::start(cluster.address()).unwrap();
    // Certificates get through.
    let login = Login::Certificate(cluster.ca().client("someone", "someone", "system:masters").unwrap());
    let kubeconfig = cluster.kubeconfig("someone", &proxy.url(), &login).unwrap();
    let mut kubectl = cluster.kubectl_command();
    kubectl.env("KUBECONFIG", kubeconfig).args(["get", "namespace", "default", "-o", "name"]);
    assert_eq!(testkit::env::output(&mut kubectl).unwrap(), "namespace/default\n");

    let client = Simple::new(&cluster, proxy.url());
    let watch = format!("{NAMESPACES}?watch=true&fieldSelector=metadata.name=work");
    let (_, _, mut body) = client.open(&format!("{watch}&resourceVersion=0")).await.unwrap();
    proxy.set(Link::Silent).unwrap();
    let version = cluster.request("POST", NAMESPACES, Some(&namespace())).unwrap().1;
    let nothing = tokio::time::timeout(Duration::from_millis(200), body.frame()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    proxy.set(Link::Open).unwrap();
    let event: Value = serde_json::from_slice(&next(&mut body).await.unwrap().unwrap()).unwrap();
    assert_eq!(event["object"]["metadata"]["name"], "work");

    proxy.reset_after(100);
    let patch = json!({"metadata": {"annotations": {"long": "x".repeat(500)}}});
    assert_eq!(cluster.request("PATCH", &format!("{NAMESPACES}/work"), Some(&patch)).unwrap().0, 200);
    assert!(next(&mut body).await.unwrap().is_err(), "reset in the middle of an event");
    // As a client resumes: after what it has seen.
    let resume =
        format!("{watch}&resourceVersion={}", version["metadata"]["resourceVersion"].as_str().unwrap());
    let (_, _, mut body) = client.open(&resume).await.unwrap();
    let event: Value = serde_json::from_slice(&next(&mut body).await.unwrap().unwrap()).unwrap();
    assert_eq!(event["type"], "MODIFIED");

    proxy.set(Link::Down).unwrap();
    assert!(next(&mut body).await.unwrap().is_err());
    let error = client.get(NAMESPACES).await.unwrap_err();
    assert!(error.contains("ConnectionRefused"), "{error}");
    proxy.set(Link::Open).unwrap();
    assert_eq!(client.get(NAMESPACES).await.unwrap().0, 200);
    let counts = proxy.counts();
    assert!(counts.connections >= 3 && counts.sent > 500 && counts.received > 1000, "{counts:?}");
}

/// A kubelet that answers each request with what it was asked, and lets in only clients of the cluster's authority.
fn kubelet(cluster: &Cluster) -> std::net::SocketAddr {
    let identity = cluster.ca().server("kubelet", &["127.0.0.1"]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(cluster.ca().certificate()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
    let certificate = CertificateDer::from_pem_file(&identity.certificate).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![certificate], PrivateKeyDer::from_pem_file(&identity.key).unwrap())
        .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = BufReader::new(rustls::StreamOwned::new(tls, stream.unwrap()));
            let mut line = String::new();
            if stream.read_line(&mut line).is_ok() {
                let answer = format!("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n{line}");
                let stream = stream.get_mut();
                stream.write_all(answer.as_bytes()).unwrap();
                stream.conn.send_close_notify();
                stream.flush().unwrap();
            }
        }
    });
    address
}

#[test]
fn kubectl_logs_gets_through_to_the_kubelet_that_the_node_names() {
    let run = Run::new().unwrap();
    let cluster = Cluster::start(&run).unwrap();
    let port = kubelet(&cluster).port();
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"}});
    cluster
        .apply(&json!({"apiVersion": "v1", "kind": "List", "items": [namespace(), node, pod("a", "node1")]}))
        .unwrap();
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }});
    let (code, answer) = cluster.request("PATCH", "/api/v1/nodes/node1/status", Some(&status)).unwrap();
    assert_eq!(code, 200, "{answer}");
    let logs = cluster.kubectl(&["logs", "-n", "work", "a"]).unwrap();
    assert_eq!(logs.trim_end(), "GET /containerLogs/work/a/app HTTP/1.1");
}
