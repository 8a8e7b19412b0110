//! Who the agent is to the API server: logins that do not work, a server that is not there yet, and two agents that
//! are the same node.

use std::fs;
use std::path::Path;

use serde_json::json;
use testkit::env::{
    Agent, AgentOptions, Ca, Cluster, Containerd, Line, Login, Run, binary, is_ready as is_ready_here, pod,
    until,
};
use testkit::proxy::HttpProxy;

use super::{ClusterNode, LEASE, SOON, is_ready, node_args, write_static};

fn options(cluster: &Cluster, containerd: &Containerd, kubeconfig: &Path) -> AgentOptions {
    AgentOptions::new(binary().unwrap(), &containerd.endpoint()).args(node_args(cluster, "node1", kubeconfig))
}

/// Waits until a static pod of this agent is ready.
fn until_local(agent: &Agent, name: &str) {
    let ready = agent.wait_for(&format!("static pod {name} is ready"), SOON, |view| {
        if is_ready_here(view, name) { Ok(()) } else { Err(format!("{:?}", pod(view, name))) }
    });
    ready.unwrap();
}

/// Waits until `node-agent sources` has this text.
fn until_said(agent: &Agent, text: &str) {
    let said = until(&format!("the sources say {text:?}"), SOON, || {
        let said = agent.ask(&["sources"]).map_err(|e| e.to_string())?;
        if said.contains(text) { Ok(()) } else { Err(said) }
    });
    said.unwrap();
}

#[test]
fn a_login_that_does_not_work_is_told_and_local_pods_run_without_the_cluster() {
    let run = Run::new().unwrap();
    let mut cluster = Cluster::start(&run).unwrap();
    let containerd = Containerd::start(&run, Line::V2_1).unwrap();
    let stranger_dir = cluster.dir().join("stranger");
    fs::create_dir(&stranger_dir).unwrap();
    let stranger = Ca::new(&stranger_dir, "nobody's authority").unwrap();
    let (user, group) = ("system:node:node1", "system:nodes");
    let good = cluster.node_kubeconfig("node1").unwrap();
    let with = |name: &str, login: Login| cluster.kubeconfig(name, &cluster.url(), &login).unwrap();
    let changed = |name: &str, from: &str, to: &str| {
        let (text, path) = (fs::read_to_string(&good).unwrap(), cluster.dir().join(name));
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replace(from, to)).unwrap();
        path
    };
    let [own_ca, other_ca] = [cluster.ca(), &stranger].map(|ca| ca.certificate().display().to_string());

    // What cannot become right without another kubeconfig ends the agent, with the field's name.
    let broken = [
        (cluster.dir().join("none"), "No such file"),
        (changed("context", "\"current-context\": \"test\"", "\"current-context\": \"toast\""), "toast"),
        (changed("no-ca", &own_ca, "/nowhere/ca.crt"), "clusters[test].cluster.certificate-authority"),
    ];
    for (kubeconfig, said) in broken {
        let failed = Agent::start(&run, options(&cluster, &containerd, &kubeconfig)).unwrap_err().to_string();
        assert!(failed.contains(said) && failed.contains(&kubeconfig.display().to_string()), "{failed}");
    }

    // The rest may become right at the other end.
    let foreign = stranger.client("node1", user, group).unwrap();
    let expired = cluster.ca().expired_client("expired", user, group).unwrap();
    let refused = [
        ("wrong-ca", changed("wrong-ca", &own_ca, &other_ca), "certificate"),
        ("foreign", with("foreign", Login::Certificate(foreign)), "Unauthorized"),
        ("expired", with("expired", Login::Certificate(expired)), "Unauthorized"),
        ("liar", with("liar", Login::Token("wrong".to_owned())), "Unauthorized"),
    ];
    for (name, kubeconfig, said) in refused {
        let agent = Agent::start(&run, options(&cluster, &containerd, &kubeconfig)).unwrap();
        write_static(&agent, name);
        until_local(&agent, name);
        until_said(&agent, said);
    }

    // Nor does it need a server that is there.
    cluster.stop();
    let agent = Agent::start(&run, options(&cluster, &containerd, &good)).unwrap();
    write_static(&agent, "early");
    until_local(&agent, "early");
    until_said(&agent, "can not be watched");
    cluster.start_again().unwrap();
    let node = ClusterNode { agent, containerd, cluster, run };
    node.until_node("is ready", is_ready);
    for name in ["early", "liar"] {
        node.until_pod(&format!("{name}-node1"), "has a mirror that is ready", is_ready);
    }
}

#[test]
fn the_second_agent_of_a_node_name_says_so_and_writes_nothing_while_the_first_is_there() {
    let mut node = ClusterNode::start(Line::V2_1);
    node.create("shared", json!({}));
    let first = node.until_pod("shared", "is ready", is_ready);
    let id = |pod: &serde_json::Value| pod["status"]["containerStatuses"][0]["containerID"].clone();

    let other_machine = Run::new().unwrap();
    let containerd = Containerd::start(&other_machine, Line::V2_1).unwrap();
    let proxy = HttpProxy::start(node.cluster.ca(), node.cluster.address()).unwrap();
    let login = node.cluster.token_login("system:node:node1").unwrap();
    let kubeconfig = node.cluster.kubeconfig("second", &proxy.url(), &login).unwrap();
    let second = Agent::start(&other_machine, options(&node.cluster, &containerd, &kubeconfig)).unwrap();
    write_static(&second, "own");
    until_local(&second, "own");
    until_said(&second, "another agent");
    let logged = until("it is logged", SOON, || {
        let log = fs::read_to_string(second.log()).unwrap();
        if log.contains("holds the node lease") { Ok(()) } else { Err(log) }
    });
    logged.unwrap();
    node.create("more", json!({}));
    node.until_pod("more", "is ready", is_ready);
    let view = second.pods().unwrap();
    assert!(pod(&view, "shared").is_none() && pod(&view, "more").is_none(), "{view}");
    let written: Vec<_> = proxy.exchanges().into_iter().filter(|e| e.method != "GET").collect();
    assert!(written.is_empty(), "{written:?}");
    assert_eq!(id(&node.until_pod("shared", "is ready", is_ready)), id(&first));

    // The first one's machine dies, and its lease runs out.
    node.agent.kill9();
    let long_ago = json!({"spec": {"renewTime": "2020-01-01T00:00:00.000000Z"}});
    assert_eq!(node.cluster.request("PATCH", LEASE, Some(&long_ago)).unwrap().0, 200);
    node.until_pod("shared", "runs at the second", |pod| is_ready(pod) && id(pod) != id(&first));
    node.until_pod("own-node1", "is ready", is_ready);
    node.agent.start_again().unwrap();
    node.agent.wait_healthy().unwrap();
    until_said(&node.agent, "another agent");
}
