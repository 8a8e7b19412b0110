use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// A folder with an authority, a certificate with its key, and another key.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let certificate = rcgen::generate_simple_self_signed(vec!["node1".to_owned()]).unwrap();
        let (pem, key) = (certificate.cert.pem(), certificate.signing_key.serialize_pem());
        files.write("node1.crt", &pem);
        files.write("node1.key", &key);
        files.write("both.pem", &format!("{pem}{key}"));
        files.write("other.key", &rcgen::KeyPair::generate().unwrap().serialize_pem());
        files.write("text", "not PEM at all");
        files.write("token", "secret\n");
        files.write("empty", "");
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn kubeconfig(&self, kubeconfig: &Value) -> PathBuf {
        let path = self.0.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        path
    }

    fn load(&self, kubeconfig: &Value) -> Result<Access, Error> {
        Access::load(&self.kubeconfig(kubeconfig), "test/1")
    }
}

fn good() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {
            "server": "https://127.0.0.1:6443", "certificate-authority": "node1.crt"}}],
        "users": [{"name": "u", "user": {"client-certificate": "node1.crt", "client-key": "node1.key"}}],
    })
}

const CLUSTER: &str = "/clusters/0/cluster/";
const USER: &str = "/users/0/user/";

/// Pointers to fields, and what to put there; null removes them.
type Changes = Vec<(String, Value)>;

/// `good()` with some fields set, or removed by null.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut kubeconfig = good();
    for (path, value) in changes {
        let (parent, name) = path.rsplit_once('/').unwrap();
        let parent = kubeconfig.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Value::Null => parent.remove(name),
            value => parent.insert(name.to_owned(), value.clone()),
        };
    }
    kubeconfig
}

#[tokio::test]
async fn every_field_that_is_wrong_is_named() {
    let files = Files::new();
    let cluster = |name: &str| format!("{CLUSTER}{name}");
    let user = |name: &str| format!("{USER}{name}");
    let data = |text: &str| json!(BASE64_STANDARD.encode(text));
    let cases: Vec<(Changes, &str, &str)> = vec![
        (vec![("/current-context".into(), Value::Null)], "current-context", "must name the context"),
        (vec![("/current-context".into(), json!("there"))], "current-context", "no context \"there\""),
        (
            vec![("/contexts/0/context/cluster".into(), json!("x"))],
            "contexts[here].context.cluster",
            "no cluster \"x\"",
        ),
        (
            vec![("/contexts/0/context/user".into(), json!("x"))],
            "contexts[here].context.user",
            "no user \"x\"",
        ),
        (vec![(cluster("server"), Value::Null)], "clusters[c].cluster.server", "must be the address"),
        (vec![(cluster("server"), json!("ftp://host"))], "clusters[c].cluster.server", "scheme"),
        (vec![(cluster("server"), json!("https://a b"))], "clusters[c].cluster.server", "not an address"),
        (
            vec![(cluster("server"), json!("https://me:pw@host"))],
            "clusters[c].cluster.server",
            "neither a user",
        ),
        (
            vec![(cluster("certificate-authority"), json!("none.crt"))],
            "clusters[c].cluster.certificate-authority (DIR/none.crt)",
            "can not be read: No such file",
        ),
        (
            vec![(cluster("certificate-authority"), json!("text"))],
            "clusters[c].cluster.certificate-authority (DIR/text)",
            "no PEM certificate",
        ),
        (
            vec![(cluster("certificate-authority-data"), json!("%"))],
            "clusters[c].cluster.certificate-authority-data",
            "not base64",
        ),
        (
            vec![(cluster("certificate-authority-data"), data("x"))],
            "clusters[c].cluster.certificate-authority-data",
            "no PEM certificate",
        ),
        (
            vec![(cluster("insecure-skip-tls-verify"), json!(true))],
            "clusters[c].cluster.certificate-authority (DIR/node1.crt)",
            "insecure-skip-tls-verify",
        ),
        (
            vec![(cluster("tls-server-name"), json!("a b"))],
            "clusters[c].cluster.tls-server-name",
            "neither a host name",
        ),
        (
            vec![(cluster("proxy-url"), json!("http://proxy:3128"))],
            "clusters[c].cluster.proxy-url",
            "not supported",
        ),
        (
            vec![(user("client-certificate"), json!("none.crt"))],
            "users[u].user.client-certificate (DIR/none.crt)",
            "can not be read",
        ),
        (
            vec![(user("client-certificate"), json!("text"))],
            "users[u].user.client-certificate (DIR/text)",
            "no PEM certificate",
        ),
        (
            vec![(user("client-certificate-data"), json!("%"))],
            "users[u].user.client-certificate-data",
            "not base64",
        ),
        (
            vec![(user("client-certificate"), Value::Null)],
            "users[u].user.client-key (DIR/node1.key)",
            "needs client-certificate",
        ),
        (
            vec![(user("client-key"), Value::Null)],
            "users[u].user.client-certificate (DIR/node1.crt)",
            "needs client-key",
        ),
        (
            vec![(user("client-key"), json!("none.key"))],
            "users[u].user.client-key (DIR/none.key)",
            "can not be read",
        ),
        (
            vec![(user("client-key"), json!("text"))],
            "users[u].user.client-key (DIR/text)",
            "holds no PEM key",
        ),
        (
            vec![(user("client-key"), json!("other.key"))],
            "users[u].user.client-key (DIR/other.key)",
            "does not go with users[u].user.client-certificate (DIR/node1.crt)",
        ),
        (vec![(user("client-key-data"), data("x"))], "users[u].user.client-key-data", "holds no PEM key"),
        (vec![(user("token"), json!("a\nb"))], "users[u].user.token", "line breaks"),
        (vec![(user("tokenFile"), json!("none"))], "users[u].user.tokenFile (DIR/none)", "can not be read"),
        (vec![(user("tokenFile"), json!("empty"))], "users[u].user.tokenFile (DIR/empty)", "is empty"),
        (
            vec![(user("token"), json!("t")), (user("username"), json!("me"))],
            "users[u].user.username",
            "together with a token",
        ),
        (vec![(user("as"), json!("a\nb"))], "users[u].user.as", "header value"),
        (
            vec![(user("auth-provider"), json!({"name": "gcp"}))],
            "users[u].user.auth-provider",
            "\"gcp\" is not supported",
        ),
        (
            vec![(user("exec"), json!({"apiVersion": "v1"}))],
            "users[u].user.exec.command",
            "must name the program",
        ),
        (vec![(user("exec"), json!({"command": "x"}))], "users[u].user.exec.apiVersion", "must be set"),
        (
            vec![(user("exec"), json!({"command": "x", "apiVersion": "v1", "interactiveMode": "Always"}))],
            "users[u].user.exec.interactiveMode",
            "no terminal",
        ),
    ];
    for (changes, field, message) in cases {
        let changes: Vec<_> = changes.iter().map(|(path, value)| (path.as_str(), value.clone())).collect();
        let error = files.load(&with(&changes)).unwrap_err();
        let Error::Field { path, problem } = &error else { panic!("{changes:?}: {error}") };
        assert_eq!(*path, files.0.path().join("kubeconfig"));
        let dir = files.0.path().display().to_string();
        assert_eq!(problem.field.replace(&dir, "DIR"), field, "{error}");
        assert!(problem.message.replace(&dir, "DIR").contains(message), "{error}");
        assert!(error.to_string().contains(&problem.field), "{error}");
    }
}

#[tokio::test]
async fn what_the_kubelet_takes_is_taken() {
    let files = Files::new();
    let authority = json!(BASE64_STANDARD.encode(std::fs::read(files.0.path().join("node1.crt")).unwrap()));
    let cluster = |name: &str| format!("{CLUSTER}{name}");
    let user = |name: &str| format!("{USER}{name}");
    let cases: Vec<(Changes, &str)> = vec![
        (vec![], "https://127.0.0.1:6443"),
        (vec![(cluster("server"), json!("https://host:6443/some/path/"))], "https://host:6443/some/path"),
        (vec![(cluster("server"), json!("host:6443"))], "https://host:6443"),
        (
            vec![
                (cluster("certificate-authority"), Value::Null),
                (cluster("insecure-skip-tls-verify"), json!(true)),
            ],
            "https://127.0.0.1:6443",
        ),
        // Data wins over a file, which is then not read.
        (
            vec![
                (cluster("certificate-authority"), json!("none")),
                (cluster("certificate-authority-data"), authority),
            ],
            "https://127.0.0.1:6443",
        ),
        // The kubelet's own file holds both.
        (
            vec![(user("client-certificate"), json!("both.pem")), (user("client-key"), json!("both.pem"))],
            "https://127.0.0.1:6443",
        ),
        // A token stands in for a file that can not be read.
        (vec![(user("token"), json!("t")), (user("tokenFile"), json!("none"))], "https://127.0.0.1:6443"),
        (
            vec![
                (cluster("disable-compression"), json!(true)),
                (cluster("tls-server-name"), json!("kubernetes")),
            ],
            "https://127.0.0.1:6443",
        ),
        (vec![("/contexts/0/context/user".into(), json!(""))], "https://127.0.0.1:6443"),
    ];
    for (changes, endpoint) in cases {
        let changes: Vec<_> = changes.iter().map(|(path, value)| (path.as_str(), value.clone())).collect();
        let access = files.load(&with(&changes)).unwrap_or_else(|error| panic!("{changes:?}: {error}"));
        assert_eq!(&**access.endpoint(), endpoint);
    }
    let plain = with(&[
        ("/clusters/0/cluster/server", json!("127.0.0.1:8080")),
        ("/clusters/0/cluster/certificate-authority", Value::Null),
        ("/users/0/user", json!({})),
    ]);
    assert_eq!(&**files.load(&plain).unwrap().endpoint(), "http://127.0.0.1:8080");
}

#[tokio::test]
async fn a_file_that_is_no_kubeconfig_is_told_without_its_content() {
    let files = Files::new();
    let path = files.0.path().join("kubeconfig");
    let load = || Access::load(&path, "test/1").unwrap_err();
    assert!(matches!(load(), Error::Read { path: named, .. } if named == path));
    let text = "users:\n- name: u\n  user:\n    token: very-secret\n    exec: {command: [1\n";
    std::fs::write(&path, text).unwrap();
    let error = load().to_string();
    assert!(error.contains("kubeconfig") && !error.contains("very-secret"), "{error}");
    std::fs::write(&path, "users:\n- name: u\n  user:\n    token: {a: very-secret}\n").unwrap();
    let error = load().to_string();
    assert!(!error.contains("very-secret"), "{error}");
}

#[tokio::test]
async fn nothing_secret_is_shown() {
    let files = Files::new();
    let access = files.load(&with(&[("/users/0/user/token", json!("very-secret"))])).unwrap();
    let shown = format!("{access:?} {:?}", access.0.identities);
    assert!(!shown.contains("very-secret") && !shown.contains("PRIVATE"), "{shown}");
}

#[test]
fn the_user_agent_has_the_form_of_the_kubelets() {
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    assert_eq!(
        user_agent("node-agent", "0.1.0", "v1.36"),
        format!("node-agent/0.1.0 (linux/{arch}) kubernetes/v1.36")
    );
}

#[tokio::test(start_paused = true)]
async fn files_are_looked_at_again_after_a_while() {
    let files = Files::new();
    let user = json!({"client-certificate": "node1.crt", "client-key": "node1.key", "tokenFile": "token"});
    let kubeconfig = files.kubeconfig(&with(&[("/users/0/user", user)]));
    let identities = IdentityCache::load(Target::load(&kubeconfig).unwrap(), None).unwrap();
    let before = identities.current().await.unwrap();
    assert_eq!(before.authorization.as_ref().unwrap(), "Bearer secret");

    let renewed = rcgen::generate_simple_self_signed(vec!["renewed".to_owned()]).unwrap();
    files.write("node1.crt", &renewed.cert.pem());
    files.write("node1.key", &renewed.signing_key.serialize_pem());
    files.write("token", "another one");
    tokio::time::advance(Duration::from_secs(9)).await;
    let soon = identities.current().await.unwrap();
    assert!(Arc::ptr_eq(&soon.tls, &before.tls), "not with each request");
    assert_eq!(soon.authorization, before.authorization);
    tokio::time::advance(Duration::from_secs(1)).await;
    let after = identities.current().await.unwrap();
    assert_eq!(after.authorization.as_ref().unwrap(), "Bearer another one");
    assert!(!Arc::ptr_eq(&after.tls, &before.tls));

    files.write("node1.crt", &renewed.cert.pem());
    identities.doubt();
    assert!(
        Arc::ptr_eq(&identities.current().await.unwrap().tls, &after.tls),
        "the same once more is no change"
    );
}

#[tokio::test]
async fn a_certificate_that_is_renewed_counts_from_when_it_comes() {
    let files = Files::new();
    let path = |name: &str| files.0.path().join(name);
    let (why, waits) = watch::channel(Some("nobody has signed it".to_owned()));
    let places = vec![(path("current.pem"), path("current.pem")), (path("old.crt"), path("old.key"))];
    let ignored = |is: bool| Arc::new(AtomicBool::new(is));
    let renewed =
        |alone| Renewed { places: places.clone(), alone, ignored: ignored(false), waits: waits.clone() };
    let user = json!({"token": "of-the-kubeconfig"});
    let kubeconfig = files.kubeconfig(&with(&[("/users/0/user", user)]));
    let load = |alone| Access::load_renewed(&kubeconfig, renewed(alone), "test/1").unwrap();

    // Without it: nobody asks, or the user of the kubeconfig.
    let alone = load(true);
    let client = alone.client(RestConfig::heartbeat(Duration::from_secs(1)));
    let ask = || client.request_text(Request::get("/version").body(Vec::new()).unwrap());
    let error = ask().await.unwrap_err();
    assert!(util::causes(&error).contains("nobody has signed it"), "{error}");
    why.send_replace(None);
    assert!(util::causes(&ask().await.unwrap_err()).contains("no client certificate yet"));
    let user = load(false);
    let identity = user.0.identities.current().await.unwrap();
    assert!(identity.authorization.is_some() && identity.exec);

    // Half a file changes nothing.
    let (mut told, both) = (alone.reached(), std::fs::read_to_string(path("both.pem")).unwrap());
    files.write("current.pem", &both[..40]);
    for access in [&alone, &user] {
        access.renewed();
    }
    assert!(told.has_changed().unwrap());
    told.mark_unchanged();
    assert!(alone.0.identities.current().await.is_err());
    assert!(user.0.identities.current().await.unwrap().authorization.is_some());
    assert!(load(true).0.identities.current().await.is_err(), "nor does it keep the agent from starting");

    files.write("current.pem", &both);
    for access in [&alone, &user, &load(true)] {
        access.renewed();
        let identity = access.0.identities.current().await.unwrap();
        assert!(identity.authorization.is_none() && !identity.exec, "one identity at a time");
        assert!(identity.tls.client_auth_cert_resolver.has_certs());
    }
    // What an earlier login left does not count before it is renewed.
    let stale = Renewed { ignored: ignored(true), ..renewed(false) };
    let stale = Access::load_renewed(&kubeconfig, stale, "test/1").unwrap();
    assert!(stale.0.identities.current().await.unwrap().authorization.is_some());
    stale.renewed();
    // What is to be read anew is the same file.
    files.write("current.pem", &both);
    stale.renewed();
    assert!(stale.0.identities.current().await.unwrap().authorization.is_none());
}

#[tokio::test]
async fn what_a_kubeconfig_logs_in_with_is_told() {
    let files = Files::new();
    let login = |changes: &[(&str, Value)]| super::login(&files.kubeconfig(&with(changes)));
    let path = |name: &str| files.0.path().join(name);
    let of_files = login(&[]).unwrap();
    assert_eq!(of_files.server.address, "https://127.0.0.1:6443");
    assert_eq!(of_files.server.authority, Some(path("node1.crt")), "not relative to anything");
    assert_eq!(of_files.files, Some((path("node1.crt"), path("node1.key"))));
    assert_eq!(of_files.chain.len(), 1);
    let ca = BASE64_STANDARD.encode(std::fs::read(path("node1.crt")).unwrap());
    let token = login(&[
        ("/users/0/user", json!({"token": "t"})),
        ("/clusters/0/cluster/certificate-authority-data", json!(ca)),
    ]);
    let token = token.unwrap();
    assert!(token.files.is_none() && token.chain.is_empty() && token.server.authority.is_none());
    assert_eq!(token.server.authority_data, Some(std::fs::read(path("node1.crt")).unwrap()));
    let error = login(&[("/users/0/user/client-key", json!("other.key"))]).unwrap_err().to_string();
    assert!(error.contains("does not go with"), "{error}");
}

#[tokio::test]
async fn that_the_server_is_there_again_is_told_once() {
    let files = Files::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let server = json!({"server": format!("http://{address}")});
    let access = files.load(&with(&[("/clusters/0/cluster", server)])).unwrap();
    let client = access.client(RestConfig::heartbeat(Duration::from_secs(10)));
    let ask = || client.request_text(Request::get("/version").body(Vec::new()).unwrap());
    let mut reached = access.reached();
    assert!(ask().await.is_err());
    assert!(!reached.has_changed().unwrap());

    let answer = || async { "{}" };
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let router = axum::Router::new().route("/version", axum::routing::get(answer));
    let _server = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        axum::serve(listener, router).await.unwrap();
    }));
    assert_eq!(ask().await.unwrap(), "{}");
    assert!(reached.has_changed().unwrap());
    reached.mark_unchanged();
    ask().await.unwrap();
    assert!(!reached.has_changed().unwrap());
}
