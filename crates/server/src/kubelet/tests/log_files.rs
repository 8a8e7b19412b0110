//! Logs over sockets, with real files.

use std::fs;
use std::io::Write as _;
use std::time::Instant;

use super::*;

fn row(text: &str) -> String {
    format!("2026-11-23T11:55:00.5Z stdout F {text}\n")
}

fn append(path: &Path, text: &str) {
    fs::File::options().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// What a follower has received so far.
struct Follower {
    received: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
    connection: JoinHandle<()>,
}

impl Follower {
    async fn start(client: &Client, path: &str) -> Self {
        let (response, connection) = client.open("GET", path, &[]).await;
        assert_eq!(response.status(), 200);
        let received = Arc::<Mutex<Vec<u8>>>::default();
        let (mut body, into) = (response.into_body(), Arc::clone(&received));
        let task = tokio::spawn(async move {
            while let Some(Ok(frame)) = body.frame().await {
                into.lock().unwrap().extend_from_slice(frame.data_ref().unwrap());
            }
        });
        Self { received, task, connection }
    }

    fn text(&self) -> String {
        String::from_utf8(self.received.lock().unwrap().clone()).unwrap()
    }

    async fn has(&self, expected: &str) {
        until(&format!("{expected:?} in the log"), || self.text() == expected).await;
    }
}

#[tokio::test]
async fn a_follower_may_wait_for_hours() {
    let server = Server::start();
    server.view.set(snapshot(vec![running_pod("web", "w")]));
    let path = server.log("w", &row("one"));
    let follower = Follower::start(&server.client(), "/containerLogs/default/web/app?follow=true").await;
    follower.has("one\n").await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(10 * 60 * 60)).await;
    tokio::time::resume();
    append(&path, &row("two"));
    follower.has("one\ntwo\n").await;
}

#[tokio::test]
async fn a_log_is_read_as_it_was_asked_for() {
    let server = Server::start();
    server.view.set(snapshot(vec![pod("web", "now", json!({ "running": {} }), ended("old"))]));
    server.log("now", &(row("one") + &row("two") + &row("three")));
    server.log("old", &row("before"));
    for (query, expected) in [
        ("", "one\ntwo\nthree\n"),
        ("?tailLines=2", "two\nthree\n"),
        ("?tailLines=0", ""),
        ("?tail=1", "three\n"),
        ("?limitBytes=5", "one\nt"),
        ("?tailLines=2&limitBytes=2", "tw"),
        ("?timestamps=true&tailLines=1", "2026-11-23T11:55:00.500000000Z three\n"),
        ("?sinceTime=2026-11-23T11%3A55%3A01Z", ""),
        ("?sinceTime=2026-11-23T11%3A55%3A00Z", "one\ntwo\nthree\n"),
        ("?previous=true", "before\n"),
    ] {
        let reply = server.get(&format!("/containerLogs/default/web/app{query}")).await;
        assert_eq!(reply.answer(), (200, expected), "{query}");
    }
    for (query, code, text) in [
        ("?limitBytes=0", 422, r#"{"message": "Invalid request."}"#),
        ("?sinceTime=now", 400, r#"{"message": "Unable to decode query."}"#),
        (
            "?stream=Stdout",
            400,
            "unable to return the given log stream: \"Stdout\". Please enable PodLogsQuerySplitStreams feature gate in \
             kubelet",
        ),
    ] {
        let reply = server.get(&format!("/containerLogs/default/web/app{query}")).await;
        assert_eq!(reply.answer(), (code, text), "{query}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_said_in_the_body() {
    let server = Server::start();
    server.view.set(snapshot(vec![running_pod("web", "w")]));
    let path = server.log("w", "{\"log\":\"docker\"}\n");
    let log = "/containerLogs/default/web/app";
    let reply = server.get(log).await;
    assert_eq!(
        reply.answer(),
        (200, "failed to get parse function: unsupported log format: \"{\\\"log\\\":\\\"docker\\\"}\\n\"")
    );
    fs::remove_file(path).unwrap();
    let reply = server.get(log).await;
    assert!(reply.body.starts_with("failed to open log file"), "{}", reply.body);
    server.agent.logs.lock().unwrap().clear();
    let reply = server.get(log).await;
    assert_eq!(reply.answer(), (200, "unable to retrieve container logs for containerd://w"));
}

/// A pod that mounts the logs' folder may put anything there.
#[test]
fn a_log_that_is_no_file_holds_no_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build();
    runtime.unwrap().block_on(async {
        let server = Server::start();
        server.view.set(snapshot(vec![running_pod("web", "w"), running_pod("good", "g")]));
        server.log("g", &row("good"));
        let path = server.log("w", "");
        let secret = server.folder.path().join("secret");
        fs::write(&secret, row("secret")).unwrap();
        let log = "/containerLogs/default/web/app";
        let refused = |why: &str| (200, format!("failed to open log file {path:?}: {why}"));
        let ask = async || {
            // More than there are threads, and some that their clients leave.
            for query in ["", "?follow=true", "?tailLines=1"] {
                let (_response, connection) =
                    server.client().open("GET", &format!("{log}{query}"), &[]).await;
                connection.abort();
            }
            let mut answers = vec![];
            for query in ["", "?follow=true", "?tailLines=1"] {
                let reply = server.get(&format!("{log}{query}")).await;
                answers.push((reply.status, reply.body));
            }
            assert_eq!(server.get("/containerLogs/default/good/app").await.answer(), (200, "good\n"));
            answers.dedup();
            assert_eq!(answers.len(), 1, "{answers:?}");
            answers.remove(0)
        };
        fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        assert_eq!(ask().await, refused("it is a named pipe, and only regular files are read"));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&secret, &path).unwrap();
        let folder = server.folder.path().parent().unwrap();
        let link = format!("there is a link on the way, and none is followed below {folder:?}");
        assert_eq!(ask().await, refused(&link));
    });
}

#[tokio::test]
async fn a_follower_goes_on_over_rotation_until_the_container_has_ended() {
    let server = Server::start();
    server.view.set(snapshot(vec![running_pod("web", "w")]));
    let path = server.log("w", &row("first"));
    let follower = Follower::start(&server.client(), "/containerLogs/default/web/app?follow=true").await;
    follower.has("first\n").await;
    append(&path, &row("second"));
    follower.has("first\nsecond\n").await;

    // As the kubelet rotates: renamed, still written to, then opened anew by the runtime.
    let rotated = path.with_file_name("0.log.20261123-115500");
    fs::rename(&path, &rotated).unwrap();
    append(&rotated, &row("third"));
    follower.has("first\nsecond\nthird\n").await;
    // It writes to the old one even when the new one is there already.
    fs::write(&path, "").unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    append(&rotated, &row("fourth"));
    follower.has("first\nsecond\nthird\nfourth\n").await;
    append(&path, &row("fifth"));
    follower.has("first\nsecond\nthird\nfourth\nfifth\n").await;

    // Emptied in place. What comes then is shorter than what was there, or nobody could tell.
    fs::write(&path, "").unwrap();
    append(&path, &row("x"));
    follower.has("first\nsecond\nthird\nfourth\nfifth\nx\n").await;

    // A runtime may tell of the end of a container before it has written the last of its output.
    let before = follower.text();
    server.view.set(snapshot(vec![pod("web", "w", ended("w"), json!({}))]));
    tokio::time::sleep(Duration::from_millis(50)).await;
    append(&path, &row("last"));
    tokio::time::timeout(DEADLINE, follower.task).await.unwrap().unwrap();
    let after = String::from_utf8(follower.received.lock().unwrap().clone()).unwrap();
    assert!(after.starts_with(&before) && after.ends_with("x\nlast\n"), "{after}");
}

#[tokio::test]
async fn a_follower_that_was_held_up_over_several_rotations_has_them_all() {
    let server = Server::start();
    server.view.set(snapshot(vec![running_pod("web", "w")]));
    // More than what fits into sockets between the server and a client that does not read.
    let long = |name: &str| (0..20_000).map(|n| row(&format!("{name}{n:0>1000}"))).collect::<String>();
    let path = server.log("w", &long("a"));
    let (response, _connection) =
        server.client().open("GET", "/containerLogs/default/web/app?follow=true", &[]).await;
    // Of the oldest there was more than one before; one is compressed, and not the follower's.
    fs::write(path.with_file_name("0.log.20261122-000000.gz"), "").unwrap();
    for (time, next) in [("20261123-000000", "b"), ("20261124-000000", "c"), ("20261125-000000", "d")] {
        fs::rename(&path, path.with_file_name(format!("0.log.{time}"))).unwrap();
        fs::write(&path, row(next)).unwrap();
    }
    fs::remove_file(path.with_file_name("0.log.20261123-000000")).unwrap();
    server.view.set(snapshot(vec![pod("web", "w", ended("w"), json!({}))]));
    let body = tokio::time::timeout(DEADLINE, response.into_body().collect()).await.unwrap().unwrap();
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    let mut lines = text.lines();
    assert!((0..20_000).all(|n| lines.next() == Some(&format!("a{n:0>1000}"))), "all of the first");
    assert_eq!(lines.collect::<Vec<_>>(), ["b", "c", "d"]);
}

#[tokio::test]
async fn following_what_has_ended_ends_at_once() {
    let server = Server::start();
    let path = server.log("w", &row("all"));
    server.view.set(snapshot(vec![pod("web", "w", ended("w"), json!({}))]));
    let reply = server.get("/containerLogs/default/web/app?follow=true").await;
    assert_eq!(reply.answer(), (200, "all\n"));
    // Also when the pod goes away together with its files.
    server.view.set(snapshot(vec![running_pod("web", "w")]));
    let follower = Follower::start(&server.client(), "/containerLogs/default/web/app?follow=true").await;
    follower.has("all\n").await;
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    server.view.set(snapshot(vec![]));
    tokio::time::timeout(DEADLINE, follower.task).await.unwrap().unwrap();
}

/// Whether the process runs this test alone, as with nextest; else it is run in a process of its own. What others open
/// and hold meanwhile must not count.
fn is_alone(test: &str) -> bool {
    const CHILD: &str = "NODE_AGENT_TEST_ALONE";
    #[expect(clippy::disallowed_methods, reason = "how a child is told what to do")]
    let alone = ["NEXTEST", CHILD].iter().any(|variable| std::env::var_os(variable).is_some());
    if !alone {
        let test = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        assert!(child.args(["--exact", "--nocapture", &test]).env(CHILD, "1").status().unwrap().success());
    }
    alone
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_hundred_followers_share_one_watch_and_no_thread_and_go_with_their_clients() {
    if !is_alone("a_hundred_followers_share_one_watch_and_no_thread_and_go_with_their_clients") {
        return;
    }
    // With two threads for reading files nobody could keep one.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(2).build().unwrap().block_on(a_hundred_followers());
}

async fn a_hundred_followers() {
    let server = Server::start();
    server
        .view
        .set(snapshot((0..10).map(|pod| running_pod(&format!("web{pod}"), &format!("w{pod}"))).collect()));
    let paths: Vec<_> = (0..10).map(|pod| server.log(&format!("w{pod}"), &row("hello"))).collect();
    let client = server.client();
    let before = open_files();
    let mut followers = vec![];
    for index in 0..100 {
        let path = format!("/containerLogs/default/web{}/app?follow=true", index % 10);
        followers.push(Follower::start(&client, &path).await);
    }
    for follower in &followers {
        follower.has("hello\n").await;
    }
    // Two ends of a socket and a log file each, and one inotify for all.
    let during = open_files();
    assert!(during <= before + 3 * 100 + 5, "{before} {during}");
    for path in &paths {
        append(path, &row("more"));
    }
    for follower in &followers {
        follower.has("hello\nmore\n").await;
    }
    assert_eq!(server.view.watches(), 1, "the end of all containers is looked for once");
    for follower in &followers {
        follower.task.abort();
        follower.connection.abort();
    }
    until("the files are closed", || open_files() <= before + 5).await;
    until("nobody looks for the end of containers", || server.view.watches() == 0).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_and_costs_no_memory() {
    if !is_alone("a_client_that_does_not_read_holds_up_nobody_and_costs_no_memory") {
        return;
    }
    let server = Server::start();
    server.view.set(snapshot(vec![running_pod("web", "w")]));
    let big = row(&"x".repeat(1000)).repeat(64 * 1024);
    server.log("w", &big);
    let path = "/containerLogs/default/web/app?follow=true";
    // The head of the answer is read, nothing else.
    let (silent, _connection) = server.client().open("GET", path, &[]).await;
    let began = Instant::now();
    let quick = server.get("/containerLogs/default/web/app?tailLines=1").await;
    assert_eq!(quick.body.len(), 1001);
    assert!(began.elapsed() < DEADLINE);
    let resident = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().to_owned();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
    };
    let before = resident();
    for _ in 0..10 {
        assert_eq!(server.get("/healthz").await.status, 200);
    }
    assert!(resident() < before + 16 * 1024, "{before} kB grew to {} kB", resident());
    drop(silent);
}
