use std::sync::Mutex;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube_model::core::NodeAddress;
use kube_model::k8s_openapi::serde_json::{Value, json};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SubjectPublicKeyInfo};
use tower::service_fn;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::*;

const START: i64 = 1_700_000_000;

/// What a signer answers to the request of this number: its `status`.
type Sign = Box<dyn Fn(usize, &Value) -> Value + Send>;

/// An API server that knows requests of certificates only, and does not let them be watched.
struct Server {
    requests: Mutex<Vec<Value>>,
    sign: Mutex<Sign>,
}

impl Server {
    fn new(sign: impl Fn(usize, &Value) -> Value + Send + 'static) -> Arc<Self> {
        Arc::new(Self { requests: Mutex::default(), sign: Mutex::new(Box::new(sign)) })
    }

    fn client(self: &Arc<Self>) -> Client {
        let server = Arc::clone(self);
        let service = service_fn(move |request: Request<Body>| {
            let server = Arc::clone(&server);
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let (code, answer) = server.answer(&head.method, &head.uri.to_string(), &body);
                let body = Body::from(answer.to_string().into_bytes());
                Ok::<_, std::convert::Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        });
        Client::new(service, "default")
    }

    fn answer(&self, method: &Method, uri: &str, body: &[u8]) -> (u16, Value) {
        let mut requests = self.requests.lock().unwrap();
        let refused = |code: u16, reason| {
            (
                code,
                json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason}),
            )
        };
        if method == Method::POST {
            let mut request: Value = serde_json::from_slice(body).unwrap();
            let index = requests.len();
            let name = request["metadata"]["name"].as_str().map_or(format!("csr-{index}"), str::to_owned);
            if requests.iter().any(|there| there["metadata"]["name"] == *name) {
                return refused(409, "AlreadyExists");
            }
            request["metadata"] = json!({"name": name, "uid": format!("u{index}")});
            requests.push(request.clone());
            return (201, request);
        }
        if uri.contains("watch=") {
            return refused(403, "Forbidden");
        }
        let sign = self.sign.lock().unwrap();
        let answered = requests.iter().enumerate().map(|(index, request)| {
            let mut request = request.clone();
            request["status"] = sign(index, &request);
            request
        });
        let named = |request: &Value| {
            uri.contains(&format!("metadata.name%3D{}", request["metadata"]["name"].as_str().unwrap()))
        };
        let items: Vec<Value> = answered.filter(named).collect();
        (
            200,
            json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequestList",
                     "metadata": {"resourceVersion": "1"}, "items": items}),
        )
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A certificate for a request's key, from then on, for so many seconds.
fn granted(request: &Value, template: &Template, from: i64, lifetime: i64) -> Value {
    let pem = BASE64_STANDARD.decode(request["spec"]["request"].as_str().unwrap()).unwrap();
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    let (_, parsed) = X509CertificationRequest::from_der(&block.contents).unwrap();
    let key = SubjectPublicKeyInfo::from_der(parsed.certification_request_info.subject_pki.raw).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = template.params().unwrap();
    params.not_before = std::time::SystemTime::from(at(from)).into();
    params.not_after = std::time::SystemTime::from(at(from + lifetime)).into();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    json!({
        "conditions": [{"type": "Approved", "status": "True", "reason": "r", "message": "m"}],
        "certificate": BASE64_STANDARD.encode(certificate),
    })
}

struct TestWays(Client);

impl Ways for TestWays {
    fn own(&self) -> Client {
        self.0.clone()
    }

    fn may_bootstrap(&self) -> bool {
        false
    }

    fn bootstrap(&self) -> Result<Client, Box<dyn Error + Send + Sync>> {
        Err("none".into())
    }

    fn write_kubeconfig(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }

    fn renewed(&self) {}

    fn help(&self) -> String {
        "help".to_owned()
    }
}

/// A manager that runs against a server, with a clock that is off by so many seconds.
struct Running {
    _dir: tempfile::TempDir,
    store: Store,
    template: watch::Sender<Option<Template>>,
    waits: watch::Receiver<Option<String>>,
    metrics: Arc<Metrics>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn new(server: &Arc<Server>, off: i64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Signer::Serving, None).unwrap();
        let metrics = Arc::new(Metrics::new(Signer::Serving));
        let (template, templates) = watch::channel(None);
        let (waiting, waits) = watch::channel(None);
        let began = Instant::now();
        let clock = move || at(START + off + i64::try_from(began.elapsed().as_secs()).unwrap());
        let settings = Settings {
            signer: Signer::Serving,
            store: store.clone(),
            template: templates,
            rotate: true,
            own: true,
            apart: true,
            clock: Arc::new(clock),
            metrics: Arc::clone(&metrics),
            waits: waiting,
        };
        let task = tokio::spawn(Manager::new(settings, Arc::new(TestWays(server.client()))).run());
        Self { _dir: dir, store, template, waits, metrics, task }
    }

    async fn until_waits(&mut self, text: &str) {
        let said = |waits: &Option<String>| waits.as_ref().is_some_and(|waits| waits.contains(text));
        let waited =
            timeout(Duration::from_secs(3600), self.waits.wait_for(said)).await.map(|waits| waits.is_ok());
        assert_eq!(waited, Ok(true), "{text:?}, not {:?}", self.waits.borrow());
    }

    fn failures(&self) -> String {
        let mut out = ::metrics::Text::default();
        self.metrics.write(&mut out, at(START));
        let page = out.finish();
        let line = page.lines().find(|line| line.starts_with("kubelet_server_expiration_renew_errors"));
        line.unwrap_or_default().rsplit(' ').next().unwrap_or_default().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn template(ip: &str) -> Template {
    let address = NodeAddress { type_: "InternalIP".to_owned(), address: ip.to_owned() };
    Template::serving("node1", &[address], false).unwrap()
}

async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_got_renewed_and_got_anew_when_addresses_change() {
    let began = Instant::now();
    let server = Server::new(move |index, request| {
        // The third one is for the address that is not the node's any more, and is never answered.
        let ip = ["10.0.0.1", "10.0.0.1", "", "10.0.0.3"][index];
        let now = START + i64::try_from(began.elapsed().as_secs()).unwrap();
        if ip.is_empty() { json!({}) } else { granted(request, &template(ip), now, 10_000) }
    });
    let mut running = Running::new(&server, 0);
    running.until_waits("for which addresses").await;
    pass(1000).await;
    assert_eq!(server.count(), 0);
    running.template.send_replace(Some(template("10.0.0.1")));
    pass(5).await;
    assert_eq!((server.count(), running.waits.borrow().clone()), (1, None));
    pass(6900).await;
    assert_eq!(server.count(), 1, "not before 70 %");
    pass(2200).await;
    assert_eq!(server.count(), 2, "not after 90 %");
    // Two changes at once.
    for ip in ["10.0.0.2", "10.0.0.3"] {
        running.template.send_replace(Some(template(ip)));
        pass(5).await;
    }
    assert_eq!(server.count(), 4);
    let held = running.store.current().unwrap().unwrap();
    assert_eq!(held.leaf.ips, ["10.0.0.3".parse().unwrap()].into());
    assert_eq!(running.failures(), "0");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_asked_for_is_not_taken_and_refusals_are_not_repeated_at_once() {
    let server = Server::new(|index, request| {
        let denied = json!({"conditions": [{"type": "Denied", "status": "True", "reason": "No"}]});
        match index {
            0 => denied,
            1 => granted(
                request,
                &Template { common_name: "system:node:other".to_owned(), ..template("10.0.0.1") },
                START,
                10_000,
            ),
            2 => granted(request, &template("10.0.0.9"), START, 10_000),
            _ => granted(request, &template("10.0.0.1"), START, 10_000),
        }
    });
    let mut running = Running::new(&server, 0);
    running.template.send_replace(Some(template("10.0.0.1")));
    for (text, pause) in
        [("is denied, reason: No", 10), ("for \"system:node:other\"", 20), ("not for 10.0.0.1", 40)]
    {
        let before = Instant::now();
        running.until_waits(text).await;
        assert!(running.waits.borrow().as_ref().unwrap().ends_with(&format!("in {pause}s")));
        assert!(before.elapsed() < Duration::from_secs(pause), "{text}");
        assert!(running.store.current().unwrap().is_none(), "{text}");
    }
    pass(45).await;
    assert!(running.store.current().unwrap().is_some());
    assert_eq!((server.count(), running.failures().as_str()), (4, "3"));
    let keys: std::collections::BTreeSet<String> =
        server.requests.lock().unwrap().iter().map(|r| r["spec"]["request"].to_string()).collect();
    assert_eq!(keys.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nobody_answers_stays_the_only_one() {
    let server = Server::new(|_, _| json!({}));
    let mut running = Running::new(&server, 0);
    running.template.send_replace(Some(template("10.0.0.1")));
    running.until_waits("csr-0 waits to be approved").await;
    pass(3700).await;
    assert_eq!((server.count(), running.failures().as_str()), (1, "4"));
    *server.sign.lock().unwrap() =
        Box::new(|_, request| granted(request, &template("10.0.0.1"), START, 100_000));
    pass(5).await;
    assert!(running.store.current().unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_years_off_renews_in_time_and_not_more_often() {
    for off in [-300_000_000, 300_000_000] {
        let began = Instant::now();
        let server = Server::new(move |_, request| {
            let now = START + i64::try_from(began.elapsed().as_secs()).unwrap();
            granted(request, &template("10.0.0.1"), now, 10_000)
        });
        let running = Running::new(&server, off);
        running.template.send_replace(Some(template("10.0.0.1")));
        pass(6900).await;
        assert_eq!(server.count(), 1, "{off}");
        pass(2200).await;
        assert_eq!(server.count(), 2, "{off}");
    }
}
