//! A node that gets its certificates from the cluster: TLS bootstrap, renewal, serving certificates. The test approves and
//! signs, as the controllers of a cluster do.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::env::{
    Agent, AgentOptions, BUSYBOX, Cluster, ClusterOptions, Containerd, Line, Login, Run, Signing, binary,
    is_ready as is_ready_here, pod, until,
};

use super::{ClusterNode, SOON, is_ready, write_static};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING: &str = "kubernetes.io/kubelet-serving";
const HOUR: Duration = Duration::from_secs(3600);

/// A node that is not in the cluster yet, with what kubeadm would have given it.
struct Newcomer {
    // Dropped in this order.
    agent: Agent,
    containerd: Containerd,
    cluster: Arc<Cluster>,
    run: Arc<Run>,
    kubeconfig: PathBuf,
    bootstrap: PathBuf,
    certs: PathBuf,
}

impl Newcomer {
    /// `prepare` gets the paths of the kubeconfig and of the folder for certificates.
    fn start(flags: &[&str], prepare: impl FnOnce(&Cluster, &Path, &Path)) -> Self {
        let run = Run::new().unwrap();
        let options = ClusterOptions::default().args(["--enable-bootstrap-token-auth=true"]);
        let cluster = Cluster::start_with(&run, &options).unwrap();
        let containerd = Containerd::start(&run, Line::V2_1).unwrap();
        let token = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
            "stringData": {
                "token-id": "abcdef", "token-secret": "0123456789abcdef",
                "usage-bootstrap-authentication": "true",
            },
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "bootstrap"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-bootstrapper",
            },
            "subjects": [{
                "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:bootstrappers",
            }],
        });
        for object in [token, binding] {
            until("the server takes it", SOON, || cluster.apply(&object).map_err(|e| e.to_string())).unwrap();
        }
        let login = Login::Token("abcdef.0123456789abcdef".to_owned());
        let bootstrap = cluster.kubeconfig("bootstrap", &cluster.url(), &login).unwrap();
        let kubeconfig = cluster.dir().join("kubernetes/kubelet.conf");
        let certs = cluster.dir().join("pki");
        prepare(&cluster, &kubeconfig, &certs);
        let args = cluster.node_args("node1", &kubeconfig).unwrap();
        let serving = flags.contains(&"--rotate-server-certificates");
        let args = args.into_iter().filter(|arg| !serving || !arg.starts_with("--tls-"));
        let options = AgentOptions::new(binary().unwrap(), &containerd.endpoint())
            .args(args)
            .args([format!("--cert-dir={}", certs.display())])
            .args([format!("--bootstrap-kubeconfig={}", bootstrap.display())])
            .args(flags.iter().copied());
        let agent = Agent::start(&run, options).unwrap();
        Self { agent, containerd, cluster: Arc::new(cluster), run, kubeconfig, bootstrap, certs }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.agent.log()).unwrap()
    }

    /// Waits until the agent has logged this text so often.
    fn until_logged(&self, text: &str, times: usize) {
        let logged = until(&format!("the log says {text:?} {times} times"), SOON, || {
            let log = self.log();
            if log.matches(text).count() >= times { Ok(()) } else { Err(log) }
        });
        logged.unwrap();
    }

    fn until_said(&self, text: &str) {
        let said = until(&format!("the sources say {text:?}"), SOON, || {
            let said = self.agent.ask(&["sources"]).map_err(|e| e.to_string())?;
            if said.contains(text) { Ok(()) } else { Err(said) }
        });
        said.unwrap_or_else(|e| panic!("{e}\n{}", self.log()));
    }

    fn until_local(&self, name: &str) {
        let ready = self.agent.wait_for(&format!("static pod {name} is ready"), SOON, |view| {
            if is_ready_here(view, name) { Ok(()) } else { Err(format!("{:?}", pod(view, name))) }
        });
        ready.unwrap();
    }

    /// Waits for a request of this signer that is not answered and is none of these.
    fn request(&self, signer: &str, known: &[&Value]) -> Value {
        let found = self.cluster.wait_for("there is a new request", REQUESTS, SOON, |list| {
            let items = list["items"].as_array().cloned().unwrap_or_default();
            let new = items.into_iter().find(|request| {
                request["spec"]["signerName"] == signer
                    && request["status"] == json!({})
                    && known.iter().all(|known| known["metadata"]["uid"] != request["metadata"]["uid"])
            });
            new.ok_or_else(|| list.to_string())
        });
        found.unwrap_or_else(|e| panic!("{e}\n{}", self.log()))
    }

    fn until_ready(&self) {
        let ready = |node: &Value| if is_ready(node) { Ok(()) } else { Err(node.to_string()) };
        let found = self.cluster.wait_for("the node is ready", "/api/v1/nodes/node1", SOON, ready);
        found.unwrap_or_else(|e| panic!("{e}\n{}", self.log()));
    }

    fn again(&mut self) {
        self.agent.start_again().unwrap();
        self.agent.wait_healthy().unwrap();
    }

    fn current(&self) -> String {
        fs::read_to_string(self.certs.join("kubelet-client-current.pem")).unwrap()
    }
}

fn name(request: &Value) -> &str {
    request["metadata"]["name"].as_str().unwrap()
}

/// Says yes or no to a request.
fn judge(cluster: &Cluster, request: &Value, verdict: &str) {
    let mut answer = cluster.request("GET", &format!("{REQUESTS}/{}", name(request)), None).unwrap().1;
    answer["status"]["conditions"] =
        json!([{"type": verdict, "status": "True", "reason": "Test", "message": "the test says so"}]);
    let path = format!("{REQUESTS}/{}/approval", name(request));
    let (code, said) = cluster.request("PUT", &path, Some(&answer)).unwrap();
    assert_eq!(code, 200, "{said}");
}

fn sign(cluster: &Cluster, request: &Value, signing: &Signing) {
    let mut answer = cluster.request("GET", &format!("{REQUESTS}/{}", name(request)), None).unwrap().1;
    let pem = STANDARD.decode(request["spec"]["request"].as_str().unwrap()).unwrap();
    let certificate = cluster.ca().answer(&String::from_utf8(pem).unwrap(), signing).unwrap();
    answer["status"]["certificate"] = json!(STANDARD.encode(certificate));
    let path = format!("{REQUESTS}/{}/status", name(request));
    let (code, said) = cluster.request("PUT", &path, Some(&answer)).unwrap();
    assert_eq!(code, 200, "{said}");
}

fn grant(cluster: &Cluster, request: &Value, signing: &Signing) {
    judge(cluster, request, "Approved");
    sign(cluster, request, signing);
}

#[test]
fn a_node_joins_with_a_bootstrap_token_and_its_request_outlives_the_agent() {
    let mut node = Newcomer::start(&[], |_, _, _| {});
    write_static(&node.agent, "early");
    node.until_local("early");

    let request = node.request(CLIENT, &[]);
    assert!(name(&request).starts_with("node-csr-"), "{request}");
    let spec = &request["spec"];
    assert_eq!(spec["username"], "system:bootstrap:abcdef");
    assert_eq!(spec["usages"], json!(["digital signature", "client auth"]));
    node.until_said(&format!("{} waits to be approved", name(&request)));
    assert!(!node.kubeconfig.exists());

    // The agent ends and comes back, at each step.
    node.agent.kill9();
    node.again();
    node.until_said(&format!("{} waits to be approved", name(&request)));
    node.until_local("early");
    judge(&node.cluster, &request, "Approved");
    node.until_said(&format!("{} is approved and waits to be signed", name(&request)));
    node.agent.kill9();
    sign(&node.cluster, &request, &Signing::client(HOUR));
    node.again();
    node.until_ready();
    let requests = node.cluster.request("GET", REQUESTS, None).unwrap().1;
    assert_eq!(requests["items"].as_array().map(Vec::len), Some(1), "{requests}");

    // What the kubelet would have left.
    let link = node.certs.join("kubelet-client-current.pem");
    let expected = format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority: {ca}\n    server: {url}\n  name: \
         default-cluster\ncontexts:\n- context:\n    cluster: default-cluster\n    namespace: default\n    user: \
         default-auth\n  name: default-context\ncurrent-context: default-context\nkind: Config\nusers:\n- name: \
         default-auth\n  user:\n    client-certificate: {pem}\n    client-key: {pem}\n",
        ca = node.cluster.ca().certificate().display(),
        url = node.cluster.url(),
        pem = link.display(),
    );
    assert_eq!(fs::read_to_string(&node.kubeconfig).unwrap(), expected);
    assert!(fs::read_link(&link).unwrap().to_string_lossy().contains("/pki/kubelet-client-20"));
    let text = node.current();
    assert!(
        text.starts_with("-----BEGIN CERTIFICATE-----\n")
            && text.contains("-----BEGIN EC PRIVATE KEY-----\n")
    );
    assert!(!node.certs.join("kubelet-client.key.tmp").exists());

    // From now on nothing of the token is needed.
    fs::remove_file(&node.bootstrap).unwrap();
    node.agent.kill9();
    node.again();
    let Newcomer { agent, containerd, cluster, run, .. } = node;
    let cluster = Arc::into_inner(cluster).unwrap();
    let node = ClusterNode { agent, containerd, cluster, run };
    node.until_pod("early-node1", "has a mirror that is ready", is_ready);
    node.create("late", json!({}));
    node.until_pod("late", "is ready", is_ready);
}

#[test]
fn what_is_refused_or_wrong_is_told_and_asked_for_anew() {
    let mut node = Newcomer::start(&[], |_, kubeconfig, _| {
        fs::create_dir(kubeconfig.parent().unwrap()).unwrap();
        fs::write(kubeconfig, "apiVersion: v1\nclusters:\n- cluster:\n    serv").unwrap();
    });
    node.until_logged("cannot be used, a client certificate is asked for", 1);
    let first = node.request(CLIENT, &[]);
    let other = Signing { other_key: true, ..Signing::client(HOUR) };
    grant(&node.cluster, &first, &other);
    node.until_said("holds a key that does not go with its certificate");
    assert!(!node.certs.join("kubelet-client-current.pem").exists(), "nothing of that is kept");
    let second = node.request(CLIENT, &[&first]);
    assert_ne!(name(&second), name(&first), "another key");
    judge(&node.cluster, &second, "Denied");
    node.until_said("is denied, reason: Test, message: the test says so");
    // Deleted ones, as clusters do after a while, are asked for anew.
    let third = node.request(CLIENT, &[&first, &second]);
    let path = format!("{REQUESTS}/{}", name(&third));
    assert_eq!(node.cluster.request("DELETE", &path, None).unwrap().0, 200);
    let fourth = node.request(CLIENT, &[&first, &second, &third]);
    grant(&node.cluster, &fourth, &Signing::client(HOUR));
    node.until_ready();

    // A certificate that has ended while the node was away, with a kubeconfig that is as it should be.
    node.agent.kill9();
    let expired = node.cluster.ca().expired_client("away", "system:node:node1", "system:nodes").unwrap();
    let both = fs::read_to_string(expired.certificate).unwrap() + &fs::read_to_string(expired.key).unwrap();
    fs::write(fs::read_link(node.certs.join("kubelet-client-current.pem")).unwrap(), &both).unwrap();
    node.again();
    node.until_logged("its certificate has ended at 2020-01-02", 1);
    let fifth = node.request(CLIENT, &[&first, &second, &third, &fourth]);
    node.until_logged(&format!("{} waits to be approved", name(&fifth)), 1);
    grant(&node.cluster, &fifth, &Signing::client(HOUR));
    node.until_logged("There is a new client certificate", 2);
    assert_ne!(node.current(), both);
    write_static(&node.agent, "back");
    node.until_local("back");
    let mirror = "/api/v1/namespaces/default/pods/back-node1";
    let found = node.cluster.wait_for("the mirror is there", mirror, SOON, |_| Ok(()));
    found.unwrap_or_else(|e| panic!("{e}\n{}", node.log()));

    // The same without a way to begin anew: local pods run, and it is said what to do.
    node.agent.kill9();
    fs::write(fs::read_link(node.certs.join("kubelet-client-current.pem")).unwrap(), &both).unwrap();
    let right = fs::read_to_string(&node.bootstrap).unwrap();
    fs::remove_file(&node.bootstrap).unwrap();
    node.again();
    node.until_local("back");
    node.until_logged("kubeadm token create --print-join-command", 1);
    node.until_logged(&format!("to {}", node.bootstrap.display()), 1);
    // A token that has ended is told as such; with another one the node is back.
    fs::write(&node.bootstrap, right.replace("0123456789abcdef", "fedcba9876543210")).unwrap();
    node.until_logged("creating a certificate signing request: ApiError: Unauthorized", 1);
    fs::write(&node.bootstrap, right).unwrap();
    let sixth = node.request(CLIENT, &[&first, &second, &third, &fourth, &fifth]);
    grant(&node.cluster, &sixth, &Signing::client(HOUR));
    node.until_logged("There is a new client certificate", 3);
}

/// Approves and signs everything, until it is told to end.
fn controllers(cluster: &Arc<Cluster>, over: &Arc<AtomicBool>, lifetime: Duration) -> JoinHandle<()> {
    let (cluster, over) = (Arc::clone(cluster), Arc::clone(over));
    std::thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            let (_, list) = cluster.request("GET", REQUESTS, None).unwrap();
            for request in list["items"].as_array().into_iter().flatten().filter(|r| r["status"] == json!({}))
            {
                let server = request["spec"]["signerName"] == SERVING;
                grant(&cluster, request, &Signing { server, ..Signing::client(lifetime) });
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    })
}

/// How many requests to the API server had each of these outcomes.
fn outcomes(node: &Newcomer, port: &str, code: &str) -> u64 {
    let page = node.metrics(port);
    let lines = page.lines().filter(|line| line.starts_with("rest_client_requests_total"));
    let of = lines.filter(|line| line.contains(&format!("code=\"{code}\"")));
    of.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

impl Newcomer {
    /// `/metrics`, through the API server.
    fn metrics(&self, port: &str) -> String {
        let path = format!("/api/v1/nodes/https:node1:{port}/proxy/metrics");
        self.cluster.kubectl(&["get", "--raw", &path]).unwrap()
    }
}

#[test]
fn certificates_are_renewed_and_nobody_notices() {
    let node = Newcomer::start(&["--rotate-certificates", "--rotate-server-certificates"], |_, _, _| {});
    let (over, lifetime) = (Arc::new(AtomicBool::new(false)), Duration::from_secs(30));
    let began = Instant::now();
    let signing = controllers(&node.cluster, &over, lifetime);
    node.until_ready();
    let object = node.cluster.request("GET", "/api/v1/nodes/node1", None).unwrap().1;
    let port = object["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].to_string();
    let talker = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "talker", "namespace": "default"},
        "spec": {"nodeName": "node1", "terminationGracePeriodSeconds": 1, "containers": [{
            "name": "app", "image": BUSYBOX,
            "command": ["sh", "-c", "i=0; while true; do i=$((i+1)); echo line $i; sleep 1; done"],
        }]},
    });
    assert_eq!(
        node.cluster.request("POST", "/api/v1/namespaces/default/pods", Some(&talker)).unwrap().0,
        201
    );
    let ready = |pod: &Value| if is_ready(pod) { Ok(()) } else { Err(pod.to_string()) };
    node.cluster.wait_for("talker is ready", "/api/v1/namespaces/default/pods/talker", SOON, ready).unwrap();
    // One who follows the log on the node, and one through the API server.
    let follow = |mut command: std::process::Command| {
        command.stdout(std::process::Stdio::piped()).stdin(std::process::Stdio::null()).spawn().unwrap()
    };
    let mut local = std::process::Command::new(node.agent.binary());
    local.args(["logs", "-f", "talker", "--root-dir"]).arg(node.agent.root());
    let mut remote = node.cluster.kubectl_command();
    remote.args(["logs", "-f", "talker"]);
    let mut followers = [follow(local), follow(remote)];

    let errors = outcomes(&node, &port, "<error>");
    let (mut seen, mut serving) = (Vec::new(), Vec::new());
    while began.elapsed() < Duration::from_secs(100) {
        for (all, file) in
            [(&mut seen, "kubelet-client-current.pem"), (&mut serving, "kubelet-server-current.pem")]
        {
            let text = fs::read_to_string(node.certs.join(file)).unwrap();
            if !all.contains(&text) {
                all.push(text);
            }
        }
        assert!(node.metrics(&port).contains("kubelet_certificate_manager_client_ttl_seconds"));
        std::thread::sleep(Duration::from_secs(1));
    }
    assert!(
        (4..=8).contains(&seen.len()) && (4..=8).contains(&serving.len()),
        "{} {}",
        seen.len(),
        serving.len()
    );
    for follower in &mut followers {
        assert!(follower.try_wait().unwrap().is_none(), "nobody has ended it");
        follower.kill().unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(follower.stdout.as_mut().unwrap(), &mut text).unwrap();
        follower.wait().unwrap();
        let lines = text.lines().count();
        assert!(lines > 50 && text.lines().zip(1..).all(|(line, i)| line == format!("line {i}")), "{text}");
    }
    node.until_ready();
    assert_eq!(outcomes(&node, &port, "401"), 0, "{}", node.metrics(&port));
    assert_eq!(outcomes(&node, &port, "<error>"), errors, "{}", node.log());
    let page = node.metrics(&port);
    for line in [
        "kubelet_certificate_manager_client_expiration_renew_errors 0",
        "kubelet_server_expiration_renew_errors 0",
        "kubelet_certificate_manager_server_rotation_seconds_bucket{le=\"60\"} ",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    let failed = node.cluster.audit().unwrap().into_iter().filter(|r| r.code == 401).count();
    assert_eq!(failed, 0);
    over.store(true, Ordering::Relaxed);
    signing.join().unwrap();
}
