//! A cluster's control plane for tests: etcd and a real kube-apiserver, and nothing that acts by itself.
//!
//! There is no scheduler, no controller manager and no node: pods are bound by whoever creates them, and nobody
//! makes service accounts, tokens or endpoints. The server's admission is set up for that.

mod etcd;
mod http;
mod options;

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime};

use rcgen::KeyPair;
use serde_json::{Value, json};

pub use options::ClusterOptions;

use super::command::output;
use super::daemon::Daemon;
use super::error::At;
use super::port::ReservedPort;
use super::{Ca, Error, Identity, Run, Tools, kube_apiserver, until};
use etcd::Etcd;
use http::Client;

/// How long kube-apiserver may take until it is ready: six seconds on two idle cores.
const START: Duration = Duration::from_secs(90);

/// The name of the certificate that the server shows to kubelets.
const TO_KUBELETS: &str = "apiserver-kubelet-client";

/// Who a kubeconfig's user is.
#[derive(Debug, Clone)]
pub enum Login {
    /// The holder of a bearer token.
    Token(String),
    /// The holder of a client certificate.
    Certificate(Identity),
    /// Nobody.
    Anonymous,
}

/// A request that a node or another user without rights of its own has sent, from the server's audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditedRequest {
    /// As `system:node:node1`.
    pub user: String,
    /// Kubernetes' verb: `get`, `list`, `watch`, `create`, `patch`, ...
    pub verb: String,
    /// Path and query.
    pub uri: String,
    /// The answer's code.
    pub code: u16,
    /// What was sent, as the server understood it (patches as they came); `Null` without a body.
    pub body: Value,
    /// When it came, RFC 3339 with microseconds.
    pub received: String,
    /// When it was answered.
    pub answered: String,
}

/// A running control plane. Dropping it kills both processes.
#[derive(Debug)]
pub struct Cluster {
    run: Arc<Run>,
    dir: PathBuf,
    tools: Tools,
    ca: Ca,
    tokens: Vec<(String, String)>,
    admin: Client,
    // The server goes before what it stands on.
    apiserver: Daemon,
    etcd: Etcd,
    port: ReservedPort,
}

impl Cluster {
    /// Starts a cluster with the defaults and waits until it is ready.
    ///
    /// # Errors
    /// Without a kube-apiserver ([`kube_apiserver`]), when etcd or kubectl cannot be had, or when one of the
    /// processes ends or is not ready in time; the message has the end of its log.
    pub fn start(run: &Arc<Run>) -> Result<Self, Error> {
        Self::start_with(run, &ClusterOptions::default())
    }

    /// Starts a cluster and waits until it is ready.
    ///
    /// # Errors
    /// As for [`Cluster::start`].
    pub fn start_with(run: &Arc<Run>, options: &ClusterOptions) -> Result<Self, Error> {
        let program = kube_apiserver()?;
        let tools = Tools::ensure_cluster()?;
        let dir = run.dir().join(&options.name);
        let etcd_dir = dir.join("etcd");
        fs::create_dir_all(&etcd_dir).at("create", &etcd_dir)?;
        let ca = Ca::new(&dir, &format!("authority of {}/{}", run.name(), options.name))?;
        let tokens = write_tokens(&dir, options)?;
        let port = ReservedPort::new().at("find a free port on", "127.0.0.1")?;
        let admin = Client::new(port.address(), token(&tokens, "admin")?.to_owned(), &ca.certificate())
            .at("read", ca.certificate())?;
        let etcd = Etcd::start(run, format!("{}-etcd", options.name), &tools, &etcd_dir)?;
        let mut args = arguments(&dir, &ca, options)?;
        args.push(format!("--etcd-servers={}", etcd.url()));
        args.push(format!("--secure-port={}", port.address().port()));
        args.extend(options.args.iter().cloned());
        let name = format!("{}-apiserver", options.name);
        let apiserver = Daemon::start(run, name, program, args, dir.join("log"))?;
        let run = Arc::clone(run);
        let mut cluster = Self { run, dir, tools, ca, tokens, admin, apiserver, etcd, port };
        cluster.ready()?;
        cluster.kubeconfig("admin", &cluster.url(), &cluster.token_login("admin")?)?;
        Ok(cluster)
    }

    /// Where the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The server's URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address())
    }

    /// The authority of the whole cluster: of the server's certificate, and trusted for clients and kubelets.
    #[must_use]
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// The folder of the cluster, for files that go with it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The server's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The server's pid, when it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.apiserver.pid()
    }

    /// The token of `admin`, `system:node:NAME` or another user of the options.
    ///
    /// # Errors
    /// When the options named no such user.
    pub fn token(&self, user: &str) -> Result<&str, Error> {
        token(&self.tokens, user)
    }

    /// The same as a login.
    ///
    /// # Errors
    /// As for [`Cluster::token`].
    pub fn token_login(&self, user: &str) -> Result<Login, Error> {
        self.token(user).map(|token| Login::Token(token.to_owned()))
    }

    /// Writes `DIR/NAME.kubeconfig` for a server (this one, or a proxy in front of it) and returns its path.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn kubeconfig(&self, name: &str, server: &str, login: &Login) -> Result<PathBuf, Error> {
        let user = match login {
            Login::Token(token) => json!({"token": token}),
            Login::Certificate(identity) => {
                json!({"client-certificate": identity.certificate, "client-key": identity.key})
            }
            Login::Anonymous => json!({}),
        };
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "test",
                "cluster": {"server": server, "certificate-authority": self.ca.certificate()},
            }],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        });
        let path = self.dir.join(format!("{name}.kubeconfig"));
        fs::write(&path, format!("{config:#}\n")).at("write", &path)?;
        Ok(path)
    }

    /// The kubeconfig of `admin`, who may do everything.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// A kubeconfig for a node with a client certificate, as bootstrapping would leave it. The server need not
    /// have been told of the node before.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn node_kubeconfig(&self, node: &str) -> Result<PathBuf, Error> {
        let identity = self.ca.client(node, &format!("system:node:{node}"), "system:nodes")?;
        self.kubeconfig(node, &self.url(), &Login::Certificate(identity))
    }

    /// What a kubelet needs to be a node of this cluster that the server can reach: it listens on a free port of
    /// 127.0.0.1 with a certificate of the cluster's authority, and the server decides who is let in.
    ///
    /// # Errors
    /// When a file cannot be written or there is no port.
    pub fn node_args(&self, node: &str, kubeconfig: &Path) -> Result<Vec<String>, Error> {
        let serving = self.ca.server(&format!("{node}-serving"), &["127.0.0.1"])?;
        Ok(vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--hostname-override={node}"),
            "--node-ip=127.0.0.1".to_owned(),
            "--address=127.0.0.1".to_owned(),
            format!("--port={}", self.run.free_port()?),
            "--read-only-port=0".to_owned(),
            format!("--tls-cert-file={}", serving.certificate.display()),
            format!("--tls-private-key-file={}", serving.key.display()),
            format!("--client-ca-file={}", self.ca.certificate().display()),
            "--anonymous-auth=false".to_owned(),
            "--authentication-token-webhook".to_owned(),
            "--authorization-mode=Webhook".to_owned(),
        ])
    }

    /// Connects to a node's server as kube-apiserver itself does: over TLS, with its certificate for kubelets.
    ///
    /// # Errors
    /// When nobody listens there, or with a certificate of another authority. Whom the other side trusts shows with
    /// the first answer.
    pub fn dial_node(&self, address: SocketAddr) -> Result<impl Read + Write + use<>, Error> {
        let identity = Identity {
            certificate: self.dir.join(format!("{TO_KUBELETS}.crt")),
            key: self.dir.join(format!("{TO_KUBELETS}.key")),
        };
        http::dial(address, &self.ca.certificate(), &identity).at("connect to", address.to_string())
    }

    /// `kubectl` as admin, for commands that need more than their output.
    #[must_use]
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(self.tools.kubectl());
        // Its cache goes to the home folder.
        command.env("KUBECONFIG", self.admin_kubeconfig()).env("HOME", &self.dir).current_dir(&self.dir);
        command
    }

    /// Runs `kubectl` as admin and returns what it printed on stdout.
    ///
    /// # Errors
    /// When it fails, or does not end within four minutes (status 124); what it printed until then is told.
    pub fn kubectl(&self, args: &[&str]) -> Result<String, Error> {
        let kubectl = self.kubectl_command();
        let mut limited = Command::new("timeout");
        limited.args(["--kill-after=5", "240"]).arg(kubectl.get_program()).args(args);
        limited.envs(kubectl.get_envs().filter_map(|(name, value)| Some((name, value?))));
        limited.current_dir(&self.dir);
        output(&mut limited)
    }

    /// `kubectl apply` with an object or a list.
    ///
    /// # Errors
    /// When it fails.
    pub fn apply(&self, object: &Value) -> Result<(), Error> {
        let mut file = tempfile::NamedTempFile::with_suffix_in(".json", &self.dir).at("create", &self.dir)?;
        file.write_all(object.to_string().as_bytes()).at("write", file.path())?;
        output(self.kubectl_command().arg("apply").arg("-f").arg(file.path())).map(drop)
    }

    /// One request as admin, without kubectl; returns the code and the answer, `Null` where it is no JSON. A
    /// `PATCH` is a strategic merge patch.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value), Error> {
        let kind = match method {
            "PATCH" => "application/strategic-merge-patch+json",
            _ => "application/json",
        };
        let text = body.map(Value::to_string);
        let body = text.as_deref().map(|text| (kind, text));
        let (code, text) = self.admin.send(method, path, body).map_err(|error| {
            self.apiserver.failed(format!("kube-apiserver does not answer {method} {path}: {error}"))
        })?;
        Ok((code, serde_json::from_str(&text).unwrap_or_default()))
    }

    /// Looks at the object or list at this path as admin until `look` returns a value; its `Err` says why not yet.
    ///
    /// # Errors
    /// When the time is up; the message has the last reason.
    pub fn wait_for<T>(
        &self,
        what: &str,
        path: &str,
        limit: Duration,
        mut look: impl FnMut(&Value) -> Result<T, String>,
    ) -> Result<T, Error> {
        until(what, limit, || match self.request("GET", path, None) {
            Ok((200, value)) => look(&value),
            Ok((code, value)) => Err(format!("GET {path} says {code} {}", value["message"])),
            Err(error) => Err(error.to_string()),
        })
    }

    /// What has happened to the objects of the list at this path since that list had this `resourceVersion`, oldest
    /// first: `{"type": "MODIFIED", "object": {...}}`.
    ///
    /// # Errors
    /// When the server does not answer, or does not know so far back.
    pub fn changes_since(&self, path: &str, resource_version: &str) -> Result<Vec<Value>, Error> {
        let path = format!("{path}?watch=1&resourceVersion={resource_version}&timeoutSeconds=1");
        let failed = |what: String| self.apiserver.failed(format!("GET {path}: {what}"));
        let (code, text) = self.admin.send("GET", &path, None).map_err(|error| failed(error.to_string()))?;
        let lines = text.lines().map(serde_json::from_str::<Value>);
        let events: Vec<Value> =
            lines.collect::<Result<_, _>>().map_err(|error| failed(error.to_string()))?;
        if code != 200 || events.iter().any(|event| event["type"] == "ERROR") {
            return Err(failed(format!("{code} {text}")));
        }
        Ok(events)
    }

    /// Watches the list at this path as admin, from what there is now; returns the lines and when each came. It
    /// ends when the server does, or after five to ten minutes.
    ///
    /// # Errors
    /// When the server does not answer, or with anything but 200.
    pub fn watch(&self, path: &str) -> Result<Receiver<(SystemTime, String)>, Error> {
        let path = format!("{path}?watch=1");
        let lines = self.admin.watch(&path).map_err(|error| {
            self.apiserver.failed(format!("kube-apiserver does not let watch {path}: {error}"))
        })?;
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send((SystemTime::now(), line)).is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    /// Ends kube-apiserver with SIGKILL: connections break, and new ones are refused. etcd goes on.
    pub fn stop(&mut self) {
        self.apiserver.kill9();
    }

    /// Starts kube-apiserver again on the same port, after stopping it if it runs, and waits until it is ready.
    /// It knows nothing of what was before: watches of an older `resourceVersion` end with 410 once etcd is
    /// compacted.
    ///
    /// # Errors
    /// As for [`Cluster::start`].
    pub fn start_again(&mut self) -> Result<(), Error> {
        self.apiserver.start_again()?;
        self.ready()
    }

    /// Compacts etcd: all revisions but the newest are forgotten. A server that runs still has recent ones in its
    /// watch caches.
    ///
    /// # Errors
    /// When etcd does not do it.
    pub fn compact(&self) -> Result<(), Error> {
        self.etcd.compact()
    }

    /// What nodes and the further users of the options have asked the server, oldest first. A watch stands there
    /// once it has ended.
    ///
    /// # Errors
    /// When the audit log cannot be read.
    pub fn audit(&self) -> Result<Vec<AuditedRequest>, Error> {
        let path = self.dir.join("audit.log");
        let text = fs::read_to_string(&path).at("read", path)?;
        // The last line may be half-written.
        Ok(text.lines().filter_map(|line| audited(&serde_json::from_str(line).ok()?)).collect())
    }

    fn ready(&mut self) -> Result<(), Error> {
        let what = format!("kube-apiserver is ready on {}", self.address());
        let Self { admin, apiserver, .. } = self;
        apiserver.wait_until(&what, START, || {
            // It makes these namespaces a moment after it calls itself ready.
            for path in ["/readyz", "/api/v1/namespaces/default", "/api/v1/namespaces/kube-node-lease"] {
                match admin.send("GET", path, None) {
                    Ok((200, _)) => {}
                    Ok((code, text)) => return Err(format!("GET {path} says {code} {text}")),
                    Err(error) => return Err(format!("GET {path}: {error}")),
                }
            }
            Ok(())
        })
    }
}

fn token<'a>(tokens: &'a [(String, String)], user: &str) -> Result<&'a str, Error> {
    let found = tokens.iter().find(|(name, _)| name == user);
    found.map(|(_, token)| token.as_str()).ok_or_else(|| {
        let known: Vec<&str> = tokens.iter().map(|(name, _)| name.as_str()).collect();
        Error::Machine(format!("the cluster has no user {user}, only {}", known.join(", ")))
    })
}

/// Makes a token for each user and writes the file that the server reads them from.
fn write_tokens(dir: &Path, options: &ClusterOptions) -> Result<Vec<(String, String)>, Error> {
    let mut random = fs::File::open("/dev/urandom").at("open", "/dev/urandom")?;
    let mut tokens = Vec::new();
    let mut file = String::new();
    for user in &options.users {
        let mut bytes = [0; 16];
        std::io::Read::read_exact(&mut random, &mut bytes).at("read", "/dev/urandom")?;
        let token = format!("{:032x}", u128::from_ne_bytes(bytes));
        file += &format!("{token},{name},{name},\"{}\"\n", user.groups.join(","), name = user.name);
        tokens.push((user.name.clone(), token));
    }
    fs::write(dir.join("tokens.csv"), file).at("write", dir.join("tokens.csv"))?;
    Ok(tokens)
}

/// The server's arguments, and the files that they name.
fn arguments(dir: &Path, ca: &Ca, options: &ClusterOptions) -> Result<Vec<String>, Error> {
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).at("write", &path).map(|()| path.display().to_string())
    };
    let hosts = ["127.0.0.1", "localhost", "kubernetes.default.svc", "10.96.0.1"];
    let serving = ca.server("apiserver", &hosts)?;
    let to_kubelets = ca.client(TO_KUBELETS, "kube-apiserver-kubelet-client", "system:masters")?;
    let accounts = KeyPair::generate()
        .map_err(|source| Error::Certificate { what: "the key for service accounts".to_owned(), source })?;
    let private = write("service-accounts.key", accounts.serialize_pem())?;
    let public = write("service-accounts.pub", accounts.public_key_pem())?;
    // What the administrator does is no finding.
    let users: Vec<&str> = options.users.iter().map(|u| u.name.as_str()).filter(|&u| u != "admin").collect();
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [
            {"level": "Request", "userGroups": ["system:nodes"]},
            {"level": "Request", "users": users},
        ],
    });
    let ca = ca.certificate().display().to_string();
    let path = |path: PathBuf| path.display().to_string();
    let mut args = vec![
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        // The port is held for it, also while it is stopped.
        "--permit-port-sharing=true".to_owned(),
        format!("--tls-cert-file={}", path(serving.certificate)),
        format!("--tls-private-key-file={}", path(serving.key)),
        format!("--client-ca-file={ca}"),
        format!("--token-auth-file={}", path(dir.join("tokens.csv"))),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={public}"),
        format!("--service-account-signing-key-file={private}"),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        // Its own address is no endpoint that pods could reach.
        "--endpoint-reconciler-type=none".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        // Nobody makes the accounts and tokens that it waits for.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        format!("--kubelet-client-certificate={}", path(to_kubelets.certificate)),
        format!("--kubelet-client-key={}", path(to_kubelets.key)),
        // Names of nodes mean nothing to this machine.
        "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname".to_owned(),
        format!("--audit-policy-file={}", write("audit-policy.json", policy.to_string())?),
        format!("--audit-log-path={}", path(dir.join("audit.log"))),
    ];
    if options.verify_kubelets {
        args.push(format!("--kubelet-certificate-authority={ca}"));
    }
    Ok(args)
}

/// The parts of an audit event that tests look at.
fn audited(event: &Value) -> Option<AuditedRequest> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(AuditedRequest {
        user: text(&event["user"]["username"])?,
        verb: text(&event["verb"])?,
        uri: text(&event["requestURI"])?,
        code: event["responseStatus"]["code"].as_u64()?.try_into().ok()?,
        body: event["requestObject"].clone(),
        received: text(&event["requestReceivedTimestamp"])?,
        answered: text(&event["stageTimestamp"])?,
    })
}
