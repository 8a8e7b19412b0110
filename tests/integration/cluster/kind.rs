//! `examples/kind`: what of it needs no Docker.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::env::{
    Agent, AgentOptions, Cluster, ClusterOptions, Containerd, Line, Run, binary, output, until,
};

use super::{ClusterNode, SOON, is_ready, pod_path};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn example(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/kind").join(file)
}

/// Signs requests as the controller manager does: approved ones, for this one signer.
fn sign(cluster: &Cluster, over: &AtomicBool) {
    let signed = until("the request is signed", SOON, || {
        let (_, list) = cluster.request("GET", REQUESTS, None).map_err(|e| e.to_string())?;
        for request in list["items"].as_array().into_iter().flatten() {
            let approved = request["status"]["conditions"][0]["type"] == "Approved";
            if !approved || request["spec"]["signerName"] != "kubernetes.io/kube-apiserver-client-kubelet" {
                continue;
            }
            let pem = STANDARD.decode(request["spec"]["request"].as_str().unwrap()).unwrap();
            let certificate = cluster.ca().sign(&String::from_utf8(pem).unwrap()).unwrap();
            let path = format!("{REQUESTS}/{}/status", request["metadata"]["name"].as_str().unwrap());
            let mut answer = request.clone();
            answer["status"]["certificate"] = json!(STANDARD.encode(certificate));
            let (code, said) = cluster.request("PUT", &path, Some(&answer)).map_err(|e| e.to_string())?;
            return if code == 200 { Ok(()) } else { Err(said.to_string()) };
        }
        if over.load(Ordering::Relaxed) { Ok(()) } else { Err(list.to_string()) }
    });
    signed.unwrap();
}

#[test]
fn the_login_and_the_configuration_of_the_kind_example_make_a_node() {
    let run = Run::new().unwrap();
    // As in kind, the server takes kubelets as they are.
    let cluster = Cluster::start_with(&run, &ClusterOptions::default().any_kubelet_certificate()).unwrap();
    let containerd = Containerd::start(&run, Line::V2_1).unwrap();

    let folder = cluster.dir().join("login");
    let mut login = Command::new(example("login.sh"));
    login.args(["extra".as_ref(), folder.as_os_str()]).env("KUBECONFIG", cluster.admin_kubeconfig());
    let over = AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        scope.spawn(|| sign(&cluster, &over));
        let said = output(login.env("HOME", cluster.dir()));
        over.store(true, Ordering::Relaxed);
        said
    });
    assert!(said.unwrap().contains("kubelet.conf for extra at https://127.0.0.1:"));
    let kubeconfig = folder.join("kubelet.conf");
    assert_eq!(fs::read(folder.join("pki/ca.crt")).unwrap(), fs::read(cluster.ca().certificate()).unwrap());
    assert!(!folder.join("node.key").exists(), "the key is in the kubeconfig and nowhere else");
    assert_eq!(cluster.request("GET", REQUESTS, None).unwrap().1["items"], json!([]));

    let config = fs::read_to_string(example("config.yaml")).unwrap();
    let own = cluster.dir().join("config.yaml");
    let config = config.replace("/etc/kubernetes/pki", &folder.join("pki").display().to_string());
    // The example's own is made by the unit of kind's nodes; the agent below has that of its run.
    assert!(config.contains("cgroupRoot: /kubelet\n"));
    fs::write(&own, config.replace("cgroupRoot: /kubelet", "cgroupRoot: /")).unwrap();
    let program = binary().unwrap();
    output(Command::new(&program).arg("validate").arg(&own)).unwrap();
    output(Command::new(&program).arg("validate").arg(example("pod.yaml"))).unwrap();

    let port = run.free_port().unwrap();
    let options = AgentOptions::new(program, &containerd.endpoint()).args([
        format!("--config={}", own.display()),
        format!("--kubeconfig={}", kubeconfig.display()),
        "--hostname-override=extra".to_owned(),
        "--node-ip=127.0.0.1".to_owned(),
        format!("--port={port}"),
    ]);
    let agent = Agent::start(&run, options).unwrap();
    let node = ClusterNode { agent, containerd, cluster, run };
    let object = node.until("the node is ready", "/api/v1/nodes/extra", is_ready);
    let taints = object["spec"]["taints"].as_array().unwrap();
    assert!(taints.iter().any(|taint| taint["key"] == "node-agent"), "{taints:?}");

    // The example's pod; a scheduler would bind it.
    let text = node.kubectl(&[
        "create",
        "--dry-run=client",
        "--output=json",
        "--filename",
        &example("pod.yaml").display().to_string(),
    ]);
    let mut pod: Value = serde_json::from_str(&text).unwrap();
    pod["spec"]["nodeName"] = json!("extra");
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "extra"});
    pod["spec"]["containers"][0]["image"] = json!(testkit::env::BUSYBOX);
    node.cluster.apply(&pod).unwrap();
    node.until_pod("hello", "is ready", is_ready);
    node.until_kubectl(&["logs", "hello"], |log| log == "hello from hello\n");
    assert_eq!(node.kubectl(&["exec", "hello", "--", "hostname"]), "hello\n");
    node.kubectl(&["delete", "pod", "hello", "--grace-period=1", "--wait=false"]);
    node.until_gone("hello");
    assert_eq!(node.cluster.request("GET", &pod_path("hello"), None).unwrap().0, 404);
    let denied: Vec<_> =
        node.cluster.audit().unwrap().into_iter().filter(|r| r.code == 403 || r.code == 401).collect();
    assert!(denied.is_empty(), "{denied:?}");
}
