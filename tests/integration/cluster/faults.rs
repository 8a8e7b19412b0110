//! What survives the death of the agent, of the API server, and of the way between them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::env::{BUSYBOX, Line, Login, until};
use testkit::proxy::{Exchange, Fault, HttpProxy, Link, TcpProxy};

use super::{ClusterNode, LEASE, PODS, SOON, is_ready};

/// The containers of each pod: ID and restarts.
type Containers = BTreeMap<String, Vec<(String, u64)>>;

fn containers<'a>(pods: impl IntoIterator<Item = &'a Value>) -> Containers {
    let of = |pod: &Value| {
        let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        let id = |c: &Value| (c["containerID"].to_string(), c["restartCount"].as_u64().unwrap_or(u64::MAX));
        (pod["metadata"]["name"].as_str().unwrap().to_owned(), statuses.map(id).collect())
    };
    pods.into_iter().map(of).collect()
}

/// For how long an API server is away at least where the time matters.
const AWAY: Duration = Duration::from_secs(120);

fn restarts(pod: &Value) -> u64 {
    pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0)
}

fn renewed(lease: &Value) -> String {
    lease["spec"]["renewTime"].as_str().unwrap_or_default().to_owned()
}

impl ClusterNode {
    /// The list at this path.
    fn list(&self, path: &str) -> Value {
        let (code, list) = self.cluster.request("GET", path, None).unwrap();
        assert_eq!(code, 200, "{list}");
        list
    }

    fn until_ready(&self, name: &str) -> Value {
        self.until_pod(name, "is ready", is_ready)
    }

    fn until_renewed(&self, since: &str) {
        // Both are UTC and have as many digits.
        self.until("the lease is renewed", LEASE, |lease| renewed(lease).as_str() > since);
    }
}

#[test]
fn the_cluster_does_not_notice_that_the_agent_was_killed() {
    let mut node = ClusterNode::start(Line::V2_1);
    // Probed so seldom that an outcome that was forgotten would be missing for the rest of the test.
    let probed = json!({"containers": [{
        "name": "app", "image": BUSYBOX, "command": ["sleep", "3600"],
        "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 3600},
        "livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
    }]});
    let names: Vec<String> = (0..30).map(|n| format!("pod-{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        node.create(name, if n % 2 == 0 { probed.clone() } else { json!({}) });
    }
    for name in ["leaves", "forced"] {
        node.create(name, json!({}));
    }
    node.write_static("fixed");
    // Three dozen pods at once take a slow machine long, and the last one is ready hardly after the first.
    let all = node.cluster.wait_for("all pods are ready", PODS, 3 * SOON, |list| {
        let ready = list["items"].as_array().into_iter().flatten().filter(|pod| is_ready(pod)).count();
        if ready == names.len() + 3 { Ok(()) } else { Err(format!("{ready} are")) }
    });
    all.unwrap();
    for name in names.iter().map(String::as_str).chain(["leaves", "forced", "fixed-node1"]) {
        node.until_ready(name);
    }
    let settled = until("all statuses have come", SOON, || {
        let at = node.list(PODS)["metadata"]["resourceVersion"].clone();
        std::thread::sleep(Duration::from_secs(1));
        let changes = node.cluster.changes_since(PODS, at.as_str().unwrap()).map_err(|e| e.to_string())?;
        if changes.is_empty() { Ok(()) } else { Err(format!("{} changes a second", changes.len())) }
    });
    settled.unwrap();
    let (pods, nodes) = (node.list(PODS), node.list("/api/v1/nodes"));
    let before = containers(pods["items"].as_array().unwrap());
    let lease = renewed(&node.list(LEASE));

    node.agent.kill9();
    // What comes and goes meanwhile is found afterwards.
    node.create("late", json!({}));
    node.delete("leaves");
    node.kubectl(&["delete", "pod", "forced", "--force", "--grace-period=0"]);
    node.agent.start_again().unwrap();
    node.agent.wait_healthy().unwrap();
    node.until_ready("late");
    node.until_gone("leaves");
    let view = node.agent.wait_for("pod forced is gone here, too", SOON, |view| {
        if testkit::env::pod(view, "forced").is_none() { Ok(view.clone()) } else { Err(view.to_string()) }
    });
    view.unwrap();
    node.until_renewed(&lease);

    let since = |list: &Value, path: &str| {
        let version = list["metadata"]["resourceVersion"].as_str().unwrap();
        node.cluster.changes_since(path, version).unwrap()
    };
    for change in since(&pods, PODS) {
        let name = change["object"]["metadata"]["name"].as_str().unwrap();
        assert!(["late", "leaves", "forced"].contains(&name), "nothing has happened to {name}: {change:#}");
    }
    for change in since(&nodes, "/api/v1/nodes") {
        assert!(is_ready(&change["object"]), "{change:#}");
    }
    let mut after = containers(node.list(PODS)["items"].as_array().unwrap());
    after.remove("late");
    for name in ["leaves", "forced"] {
        after.insert(name.to_owned(), before[name].clone());
    }
    assert_eq!(after, before);
}

#[test]
fn ended_pods_keep_address_and_containers_when_the_agent_starts_anew() {
    let mut node = ClusterNode::start(Line::V2_1);
    let ends = |command: &[&str]| json!({"restartPolicy": "Never", "containers": [{"name": "app", "image": BUSYBOX, "command": command}]});
    node.create("well", ends(&["true"]));
    node.create("badly", ends(&["false"]));
    // The last word comes when the sandbox is down.
    let is_down = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array();
        let sandbox =
            conditions.and_then(|all| all.iter().find(|c| c["type"] == "PodReadyToStartContainers"));
        sandbox.is_some_and(|sandbox| sandbox["status"] == "False")
    };
    let before = [("well", "Succeeded"), ("badly", "Failed")].map(|(name, phase)| {
        let ended = node.until_pod(name, "has ended", |pod| pod["status"]["phase"] == phase && is_down(pod));
        assert!(ended["status"]["podIP"].is_string(), "{ended}");
        (name, ended)
    });
    node.agent.kill9();
    node.agent.start_again().unwrap();
    node.agent.wait_healthy().unwrap();
    // Its status has been told when that of a newcomer has.
    node.create("late", json!({}));
    node.until_ready("late");
    for (name, ended) in before {
        let here =
            node.until_here(name, "has ended", |pod| pod["status"]["phase"] == ended["status"]["phase"]);
        let there = node.until_pod(name, "is there", |_| true);
        for field in ["/podIP", "/podIPs", "/startTime", "/containerStatuses/0/containerID"] {
            let value = |pod: &Value| pod["status"].pointer(field).cloned();
            assert_eq!(value(&here), value(&ended), "{name}: {field} here");
        }
        assert_eq!(there["status"], ended["status"], "{name}");
    }
}

#[test]
fn without_its_api_server_a_node_goes_on_and_afterwards_the_server_catches_up() {
    let mut node = ClusterNode::start(Line::V1_6);
    node.create("steady", json!({}));
    node.create(
        "crashes",
        json!({"containers": [{"name": "app", "image": BUSYBOX, "command": ["sh", "-c", "sleep 1; exit 1"]}]}),
    );
    node.create(
        "sick",
        json!({"containers": [{
            "name": "app", "image": BUSYBOX,
            "command": ["sh", "-c", "touch /alive; sleep 8; rm /alive; sleep 3600"],
            "livenessProbe": {"exec": {"command": ["test", "-f", "/alive"]}, "periodSeconds": 1,
                              "initialDelaySeconds": 1, "failureThreshold": 1},
        }]}),
    );
    node.create("leaves", json!({"terminationGracePeriodSeconds": 3}));
    for name in ["steady", "leaves", "sick"] {
        node.until_ready(name);
    }
    node.until_pod("crashes", "has crashed", |pod| restarts(pod) >= 1);
    let before = containers([&node.until_ready("steady")]);

    node.delete("leaves");
    node.cluster.stop();
    let away = Instant::now();
    node.write_static("fixed");
    node.until_here("fixed", "is ready", is_ready);
    assert!(away.elapsed() < SOON / 2, "a local pod waits for nobody: {:?}", away.elapsed());
    let counts = |name: &str| restarts(&node.until_here(name, "is there", |_| true));
    let (crashed, sick) = (counts("crashes"), counts("sick"));
    // Each waits twice as long as the time before.
    let limit = AWAY + SOON;
    node.until_here_within(limit, "crashes", "crashes again", |pod| restarts(pod) > crashed);
    let sick = restarts(&node.until_here_within(limit, "sick", "is restarted", |pod| restarts(pod) > sick));

    // Not a wait for anything: the time for which the server is away.
    std::thread::sleep(AWAY.saturating_sub(away.elapsed()));
    let pod_here = |name: &str| node.until_here(name, "is there", |_| true);
    assert!(is_ready(&pod_here("steady")) && is_ready(&pod_here("fixed")));
    let later = counts("crashes");
    assert!(later > crashed, "it goes on crashing: {later} restarts after {crashed}");
    let (crashed, sick) = (later, counts("sick").max(sick));
    node.cluster.start_again().unwrap();
    let back = Instant::now();
    node.create("late", json!({}));
    node.until_ready("late");
    node.until_ready("fixed-node1");
    node.until_gone("leaves");
    node.until_pod("crashes", "shows its restarts", |pod| restarts(pod) >= crashed);
    node.until_pod("sick", "shows its restarts", |pod| restarts(pod) >= sick);
    node.until_renewed(&renewed(&node.list(LEASE)));
    node.until_node("is ready", is_ready);
    assert!(back.elapsed() < 2 * SOON, "caught up after {:?}", back.elapsed());
    assert_eq!(containers([&node.until_ready("steady")]), before, "it was not touched");
}

/// A node that reaches its API server only through this proxy.
fn through_a_proxy(line: Line) -> (ClusterNode, TcpProxy) {
    let mut proxy = None;
    let node = ClusterNode::start_with(line, |cluster| {
        let identity = cluster.ca().client("node1", "system:node:node1", "system:nodes").unwrap();
        let proxy = proxy.insert(TcpProxy::start(cluster.address()).unwrap());
        cluster.kubeconfig("node1", &proxy.url(), &Login::Certificate(identity)).unwrap()
    });
    node.until_node("is ready", is_ready);
    (node, proxy.unwrap())
}

#[test]
fn whatever_breaks_the_way_to_the_server_pods_that_are_bound_later_run() {
    let (mut node, mut proxy) = through_a_proxy(Line::V2_1);
    for name in ["steady", "unheard"] {
        node.create(name, json!({}));
    }
    node.until_ready("unheard");
    let before = containers([&node.until_ready("steady")]);

    proxy.cut();
    node.create("cut", json!({}));
    node.until_ready("cut");

    // In the middle of what the watch says.
    proxy.reset_after(100);
    node.create("reset", json!({}));
    node.until_ready("reset");

    proxy.set(Link::Down).unwrap();
    node.create("down", json!({}));
    node.delete("unheard");
    let sources = until("the agent says that the server is away", SOON, || {
        let sources = node.agent.ask(&["sources"]).map_err(|e| e.to_string())?;
        if sources.contains("can not be watched") { Ok(()) } else { Err(sources) }
    });
    sources.unwrap();
    proxy.set(Link::Open).unwrap();
    node.until_ready("down");
    node.until_gone("unheard");

    // No watch can go on where it stood.
    let lists = |node: &ClusterNode| {
        let audit = node.cluster.audit().unwrap();
        audit.iter().filter(|r| r.verb == "list" && r.uri.starts_with("/api/v1/pods?")).count()
    };
    let listed = lists(&node);
    proxy.set(Link::Down).unwrap();
    node.create("compacted", json!({}));
    node.delete("cut");
    node.cluster.stop();
    node.cluster.compact().unwrap();
    node.cluster.start_again().unwrap();
    proxy.set(Link::Open).unwrap();
    node.until_ready("compacted");
    node.until_gone("cut");
    assert!(lists(&node) > listed, "the pods were listed anew");

    // A watch that is dead without a word: the node must not be given up before that is found out, and it is
    // found out by pings, 45 seconds after the last word.
    let lease = renewed(&node.list(LEASE));
    proxy.freeze();
    let frozen = Instant::now();
    node.create("silent", json!({}));
    node.until_renewed(&lease);
    assert!(frozen.elapsed() < Duration::from_secs(40), "the lease was late: {:?}", frozen.elapsed());
    until("the frozen watch is given up", 2 * SOON, || {
        let (_, pod) =
            node.cluster.request("GET", &super::pod_path("silent"), None).map_err(|e| e.to_string())?;
        if is_ready(&pod) { Ok(()) } else { Err(pod["status"].to_string()) }
    })
    .unwrap();
    assert!(frozen.elapsed() < Duration::from_secs(150), "the watch was dead for {:?}", frozen.elapsed());
    node.until_node("is ready", is_ready);
    assert_eq!(containers([&node.until_ready("steady")]), before, "it was not touched");
}

#[test]
fn whatever_the_server_answers_the_pods_come_to_what_is_wanted() {
    let is_lease = |e: &Exchange| e.path.contains("/leases");
    let is_pods = |e: &Exchange| e.path == "/api/v1/pods";
    let mut proxy = None;
    let node = ClusterNode::start_with(Line::V2_1, |cluster| {
        let proxy = proxy.insert(HttpProxy::start(cluster.ca(), cluster.address()).unwrap());
        // From the very first request on.
        proxy.fault_times(2, Fault::Truncate(50), move |e| is_pods(e) && !e.is_watch());
        proxy.fault_times(2, Fault::Refuse(500, None), is_pods);
        proxy.fault_times(4, Fault::Refuse(429, Some(1)), move |e| !is_pods(e));
        let login = cluster.token_login("system:node:node1").unwrap();
        cluster.kubeconfig("node1", &proxy.url(), &login).unwrap()
    });
    let proxy = proxy.unwrap();
    node.until_node("is ready", is_ready);
    node.create("steady", json!({}));
    node.create("before", json!({}));
    node.until_ready("before");
    let before = containers([&node.until_ready("steady")]);
    let nodes = node.list("/api/v1/nodes")["metadata"]["resourceVersion"].clone();

    let watch = move |e: &Exchange| is_pods(e) && e.is_watch();
    let list = move |e: &Exchange| is_pods(e) && !e.is_watch();
    let all_but_leases = move |e: &Exchange| !is_lease(e);
    // So many in a row hold up one path for less than [`SOON`], as it waits twice as long each time.
    const REFUSALS: u32 = 4;
    type Stage<'a> = (&'a str, &'a dyn Fn(&HttpProxy));
    let stages: &[Stage<'_>] = &[
        ("busy", &|p| p.fault_times(REFUSALS, Fault::Refuse(429, Some(1)), all_but_leases)),
        ("broken", &|p| p.fault_times(REFUSALS, Fault::Refuse(500, None), all_but_leases)),
        ("truncated-watch", &|p| p.fault_times(3, Fault::Truncate(1500), watch)),
        ("broken-watch", &|p| p.fault_times(3, Fault::Break(1500), watch)),
        ("truncated-list", &|p| {
            p.fault_times(1, Fault::Refuse(410, None), watch);
            p.fault_times(2, Fault::Truncate(700), list);
            p.fault_times(1, Fault::Break(700), list);
        }),
        ("slow", &|p| p.fault_times(30, Fault::Slow(Duration::from_secs(1)), all_but_leases)),
        ("refused-writes", &|p| {
            p.fault_times(REFUSALS, Fault::Refuse(503, None), |e| {
                matches!(e.method.as_str(), "PATCH" | "DELETE")
            });
        }),
    ];
    let mut last = "before";
    for (name, spoil) in stages {
        let answered = proxy.exchanges().len();
        spoil(&proxy);
        proxy.cut();
        node.create(name, json!({}));
        node.delete(last);
        node.until_ready(name);
        node.until_gone(last);
        node.agent
            .wait_for(&format!("pod {last} is gone here, too"), SOON, |view| {
                if testkit::env::pod(view, last).is_none() { Ok(()) } else { Err(view.to_string()) }
            })
            .unwrap();
        proxy.clear_faults();
        assert!(proxy.exchanges().len() > answered);
        last = name;
    }
    node.until_renewed(&renewed(&node.list(LEASE)));
    for change in node.cluster.changes_since("/api/v1/nodes", nodes.as_str().unwrap()).unwrap() {
        assert!(is_ready(&change["object"]), "{change:#}");
    }
    assert_eq!(containers([&node.until_ready("steady")]), before, "it was not touched");
}
