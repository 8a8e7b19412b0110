//! Each answer that was recorded of the kubelet, as far as the endpoint is there.

use kube_model::observed::{Container, ContainerState};

use super::*;

/// The recordings: request, code, content type, beginning of the body.
fn recorded() -> Vec<(&'static str, u16, &'static str, &'static str)> {
    include_str!("../../../../../tests/fixtures/server/http-answers.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            (fields[0], fields[1].parse().unwrap(), fields[2], fields.get(3).copied().unwrap_or_default())
        })
        .collect()
}

/// The pods that the recordings speak of.
fn pods(server: &Server) {
    let waiting = |reason: &str| json!({ "waiting": { "reason": reason } });
    server.log("crash", "");
    server.view.set(snapshot(vec![
        running_pod("guaranteed-node1", "g"),
        pod("crashloop-node1", "crash", waiting("CrashLoopBackOff"), ended("crash")),
        pod("image-missing-node1", "", waiting("ImagePullBackOff"), json!({})),
    ]));
}

#[tokio::test]
async fn odd_requests_are_answered_as_the_kubelet_answers_them() {
    let (secure, read_only) = (Server::start(), Server::start_read_only());
    for server in [&secure, &read_only] {
        pods(server);
    }
    let mut compared = 0;
    for (request, code, kind, body) in recorded() {
        let (server, path) = match request.split_once(' ').unwrap() {
            ("GET", path) => (&secure, path),
            ("GET(10255)", path) => (&read_only, path),
            other => panic!("{other:?}"),
        };
        // The log of a container that the runtime has forgotten.
        let forgotten = path.contains("previous=true");
        if forgotten {
            server.agent.logs.lock().unwrap().clear();
        }
        let reply = server.get(path).await;
        assert_eq!(reply.status, code, "{request}: {}", reply.body);
        assert_eq!(reply.header("content-type"), kind, "{request}");
        // In the recordings ends of lines are blanks.
        let ours = reply.body.replace('\n', " ").replace("containerd://crash", "containerd://$CONTAINER");
        match path {
            "/logs/" => assert!(ours.starts_with(body.split_once("<a").unwrap().0), "{ours}"),
            "/pods" | "/pods/" => {
                let (list, _) = body.split_once("\"name\"").unwrap();
                assert!(ours.starts_with(list), "{ours}");
            }
            "/metrics" => assert!(ours.contains("# HELP kubelet_http_requests_total [ALPHA] ")),
            path if path.starts_with("/stats/summary") => {
                let (node, _) = body.split_once("\"systemContainers\"").unwrap();
                assert!(ours.starts_with(node), "{ours}");
            }
            _ => assert_eq!(ours, body, "{request}"),
        }
        compared += 1;
    }
    assert_eq!(compared, 25);
}

#[tokio::test]
async fn running_pods_have_the_recorded_shape() {
    let server = Server::start();
    let mut with_container = observed("emptydir-kinds-node1", "80eff7c625332a40fe288a7c874193bb");
    let created = "2026-11-23T11:55:00Z".parse().unwrap();
    let running = Container {
        id: "1".into(),
        sandbox_id: "s".into(),
        name: "app".into(),
        restart_count: 0,
        hash: None,
        state: ContainerState::Running,
        created_at: created,
        started_at: Some(created),
        finished_at: None,
        exit_code: 0,
        reason: String::new(),
        message: String::new(),
        image: "busybox:1".into(),
        image_id: "sha256:fd0cfe588fabb657478ba0c7ea2816be7532c93e860198e14cb63baf3d5ad0a3".into(),
        image_ref: "docker.io/library/busybox@sha256:1".into(),
        log_path: String::new(),
        user: None,
        resources: None,
    };
    let exited = Container { name: "old".into(), state: ContainerState::Exited, ..running.clone() };
    with_container.containers = vec![running, exited];
    let without = observed("image-missing-node1", "4c96357b69521f1e40bc3791e45b4542");
    *server.agent.running.lock().unwrap() = vec![Arc::new(with_container), Arc::new(without)];

    let ours: Value = serde_json::from_str(&server.get("/runningpods/").await.body).unwrap();
    let recorded: Value =
        serde_json::from_str(include_str!("../../../../../tests/fixtures/server/runningpods.json")).unwrap();
    let theirs = |name: &str| {
        let items = recorded["items"].as_array().unwrap();
        items.iter().find(|item| item["metadata"]["name"] == name).unwrap().clone()
    };
    assert_eq!(ours["items"], json!([theirs("emptydir-kinds-node1"), theirs("image-missing-node1")]));
    assert_eq!((&ours["kind"], &ours["metadata"]), (&recorded["kind"], &recorded["metadata"]));

    let metrics = server.get("/metrics").await.body;
    for line in [
        "kubelet_running_pods 2\n",
        "kubelet_running_containers{container_state=\"running\"} 1\n",
        "kubelet_running_containers{container_state=\"exited\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn pods_are_shown_with_their_status_as_long_as_they_are_wanted() {
    let server = Server::start();
    let none = server.get("/pods").await;
    assert_eq!(none.body, r#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":null}"#);

    let mut orphan = running_pod("orphan", "o");
    orphan.removing = true;
    let mut deleted = running_pod("deleted", "d");
    deleted.removing = true;
    Arc::make_mut(&mut deleted.pod).metadata.deletion_timestamp =
        Some(kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(crate::testing::now()));
    server.view.set(snapshot(vec![running_pod("web", "w"), orphan, deleted]));
    let list: Value = serde_json::from_str(&server.get("/pods/").await.body).unwrap();
    let names: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|pod| &pod["metadata"]["name"]).collect();
    assert_eq!(names, ["web", "deleted"]);
    assert_eq!(list["items"][0]["status"]["containerStatuses"][0]["containerID"], "containerd://w");
    assert_eq!(list["items"][0].get("kind"), None);
}

#[tokio::test]
async fn health_names_what_is_stuck_only_where_it_is_asked_for() {
    let server = Server::start();
    assert_eq!(server.get("/healthz").await.answer(), (200, "ok"));
    assert_eq!(server.get("/healthz/syncloop").await.answer(), (200, "ok"));
    assert_eq!(server.get("/healthz/device-plugin").await.answer(), (200, "ok"));
    assert_eq!(server.get("/healthz/blocking-work").await.answer(), (200, "ok"));
    assert_eq!(
        server.get("/healthz?verbose&exclude=log&exclude=x").await.answer(),
        (
            200,
            "[+]ping ok\n[+]log excluded: ok\n[+]syncloop ok\n[+]device-plugin ok\n[+]blocking-work ok\nwarn: \
             some health checks cannot be excluded: no matches for \"x\"\nhealthz check passed\n"
        )
    );
    *server.agent.stuck.lock().unwrap() = Some("the runtime does not answer".into());
    assert_eq!(
        server.get("/healthz").await.answer(),
        (
            500,
            "[+]ping ok\n[+]log ok\n[-]syncloop failed: reason withheld\n[+]device-plugin ok\n\
             [+]blocking-work ok\nhealthz check failed\n"
        )
    );
    assert_eq!(
        server.get("/healthz/syncloop").await.answer(),
        (500, "internal server error: the runtime does not answer\n")
    );
    assert_eq!(server.get("/healthz?exclude=syncloop").await.answer(), (200, "ok"));
    assert_eq!(server.get("/healthz/ping").await.answer(), (200, "ok"));
}

#[tokio::test]
async fn metrics_have_the_names_types_and_labels_of_the_kubelet() {
    let server = Server::start();
    server.view.set(snapshot(vec![running_pod("web", "w"), crate::testing::pod("static", json!({}))]));
    server.get("/pods").await;
    for (page, recorded) in [
        ("/metrics", include_str!("../../../../../tests/fixtures/server/metrics.tsv")),
        ("/metrics/resource", include_str!("../../../../../tests/fixtures/server/metrics_resource.tsv")),
    ] {
        let reply = server.get(page).await;
        let mut kinds = BTreeMap::new();
        let mut names = 0;
        for line in reply.body.lines() {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
                kinds.insert(name, kind);
                continue;
            }
            let series = line.split([' ', '{']).next().unwrap();
            let known = kinds.keys().rev().find(|name| series.starts_with(**name));
            let Some(known) = known.filter(|_| !line.starts_with('#') && !line.starts_with("process_"))
            else {
                continue;
            };
            let theirs = recorded.lines().find(|line| line.split('\t').next() == Some(*known));
            // The only one that the recording does not have: no request had ended yet.
            let Some(theirs) = theirs else {
                assert_eq!(*known, "kubelet_http_requests_duration_seconds");
                continue;
            };
            let theirs: Vec<_> = theirs.split('\t').collect();
            assert_eq!(kinds[known], theirs[1], "{known}");
            let labels = line.split_once('{').map_or(vec![], |(_, rest)| {
                rest.split_once('}')
                    .unwrap()
                    .0
                    .split("\",")
                    .map(|pair| pair.split('=').next().unwrap())
                    .collect()
            });
            let expected: Vec<_> =
                theirs[2].split(',').filter(|label| !label.is_empty() && *label != "(timestamped)").collect();
            assert_eq!(labels, expected, "{line}");
            names += 1;
        }
        assert!(names > 5, "{page}: {}", reply.body);
    }
    let resource = server.get("/metrics/resource").await.body;
    assert!(resource.contains("node_cpu_usage_seconds_total 7825.055040636 1795440656000\n"), "{resource}");
    let main = server.get("/metrics").await.body;
    for line in [
        "kubelet_desired_pods{static=\"true\"} 1\n",
        "kubelet_active_pods{static=\"\"} 1\n",
        "kubelet_node_name{node=\"node1\"} 1\n",
        "kubelet_http_requests_total{long_running=\"false\",method=\"GET\",path=\"pods\",server_type=\"readwrite\"} 1\n",
        "agents_own 1\n",
        "process_open_fds ",
    ] {
        assert!(main.contains(line), "{line}{main}");
    }
    let probes = server.get("/metrics/probes").await.body;
    assert!(
        probes.contains("agents_probes 1\n") && probes.contains("process_start_time_seconds "),
        "{probes}"
    );
}

#[tokio::test]
async fn health_checks_are_counted() {
    let server = Server::start();
    let slis = server.get("/metrics/slis").await.body;
    assert!(slis.contains("process_start_time_seconds ") && !slis.contains("kubernetes_"), "{slis}");
    *server.agent.stuck.lock().unwrap() = Some("the runtime does not answer".into());
    server.get("/healthz?exclude=log").await;
    server.get("/healthz/ping").await;
    let slis = server.get("/metrics/slis").await.body;
    for line in [
        "kubernetes_healthcheck{name=\"ping\",type=\"healthz\"} 1",
        "kubernetes_healthcheck{name=\"syncloop\",type=\"healthz\"} 0",
        "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"healthz\"} 1",
        "kubernetes_healthchecks_total{name=\"syncloop\",status=\"error\",type=\"healthz\"} 1",
    ] {
        assert!(slis.contains(&format!("{line}\n")), "{line}: {slis}");
    }
    assert!(!slis.contains("\"log\"") && !slis.contains("agents_"), "{slis}");
}

#[tokio::test]
async fn the_rest_of_the_endpoints_answer() {
    let server = Server::start();
    let configz = server.get("/configz").await;
    assert_eq!(configz.answer(), (200, r#"{"kubeletconfig":{"kind":"KubeletConfiguration","port":10250}}"#));

    let wrong = server.client().send("POST", "/pods", &[]).await;
    assert_eq!((wrong.answer(), wrong.header("allow")), ((405, "405: Method Not Allowed"), "GET"));

    let moved = server.get("/pods/../healthz?verbose=1").await;
    assert_eq!((moved.status, moved.header("location")), (307, "/healthz?verbose=1"));
    assert_eq!(server.get("/%ff").await.status, 400);

    let all: Value = serde_json::from_str(&server.get("/stats/summary").await.body).unwrap();
    assert!(all["node"]["network"].is_object());
    let fewer: Value =
        serde_json::from_str(&server.get("/stats/summary?only_cpu_and_memory=true").await.body).unwrap();
    assert!(fewer["node"]["network"].is_null());
}

#[tokio::test]
async fn run_gives_what_a_command_wrote() {
    let server = Server::start();
    server.view.set(snapshot(vec![running_pod("web", "w"), pod("ended", "e", ended("e"), json!({}))]));
    *server.agent.output.lock().unwrap() =
        Output { stdout: b"out".into(), stderr: b"err".into(), exit_code: 0 };
    let client = server.client();
    let run = async |path: &str| client.send("POST", path, &[]).await;
    assert_eq!(run("/run/default/web/app?cmd=echo%20%20a").await.answer(), (200, "outerr"));
    assert_eq!(server.agent.calls(), [r#"exec-sync w ["echo", "", "a"]"#]);
    assert_eq!(run("/run/default/web/web-uid/app?cmd=id").await.status, 200);
    assert_eq!(
        run("/run/default/web/other/app?cmd=id").await.answer(),
        (500, "container not found (\"app\")")
    );
    server.view.set(snapshot(vec![running_pod("web", "w"), running_pod("static", "s")]));
    assert_eq!(run("/run/default/static/mirror-uid/app?cmd=id").await.status, 200);
    assert_eq!(run("/run/default/static/static-uid/app?cmd=id").await.status, 200);
    assert_eq!(run("/run/default/web/mirror-uid/app?cmd=id").await.status, 500);
    server.view.set(snapshot(vec![running_pod("web", "w"), pod("ended", "e", ended("e"), json!({}))]));
    assert_eq!(run("/run/default/nope/app?cmd=id").await.answer(), (404, "pod does not exist"));
    assert_eq!(run("/run/default/ended/app?cmd=id").await.answer(), (500, "container not found (\"app\")"));
    server.agent.output.lock().unwrap().exit_code = 3;
    assert_eq!(
        run("/run/default/web/app?cmd=ls+-l").await.answer(),
        (500, "command 'ls -l' exited with 3: err")
    );
}
