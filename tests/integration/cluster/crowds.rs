//! Many clients of 10250 that mean no good: they hold neither memory nor others up.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::env::{BUSYBOX, Line};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::direct::{Direct, block_on, held, until_let_go};
use super::{ClusterNode, SOON, is_ready, listens_on};

const MI: u64 = 1 << 20;

/// The agent's resident bytes, once they stay what they are: it has taken all that it takes.
async fn settled(node: &ClusterNode) -> u64 {
    let mut last = held(node).resident;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = held(node).resident;
        if now.abs_diff(last) < MI / 16 {
            break;
        }
        last = now;
    }
    last
}

/// Checks that a crowd costs at most `most`, keeps nobody out, and has it all given back when it goes.
async fn prove_cheap<S>(node: &ClusterNode, direct: &Direct, most: u64, crowd: impl AsyncFnOnce() -> Vec<S>) {
    let before = held(node);
    let crowd = crowd().await;
    let during = settled(node).await;
    assert!(during <= before.resident + most, "{before:?}, then {during} with the crowd");
    let answer = direct.ask("GET", "/healthz", &direct.token, "").await;
    assert_eq!(answer, (200, "ok".to_owned()));
    drop(crowd);
    until_let_go(node, before).await;
    let given_back = async {
        while held(node).resident > before.resident + 4 * MI {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let given_back = tokio::time::timeout(2 * SOON, given_back).await;
    assert!(given_back.is_ok(), "{before:?}, then {during} with the crowd, and after it {:?}", held(node));
}

async fn read<const N: usize>(stream: &mut (impl AsyncRead + Unpin)) -> [u8; N] {
    let mut bytes = [0; N];
    tokio::time::timeout(SOON, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
    bytes
}

#[test]
fn strangers_and_clients_that_do_not_read_hold_little_memory() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // One end of each connection is here.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let node = ClusterNode::start(Line::V2_1);
    // A log that is longer than what the sockets on the way take.
    let command =
        "yes 0123456789012345678901234567890123456789 | head -c 20000000; nc -ll -p 7000 -e cat & sleep 3600";
    node.create(
        "box",
        json!({"containers": [{"name": "app", "image": BUSYBOX, "command": ["sh", "-c", command],
            "startupProbe": listens_on(7000)}]}),
    );
    node.until_pod("box", "has written its log", is_ready);
    let direct = Direct::new(&node);
    block_on(async {
        // What the first requests need stays.
        prove_cheap(&node, &direct, 16 * MI, async || vec![direct.connect().await]).await;
        // More than there are places.
        let idle = async || {
            let mut idle = vec![];
            for _ in 0..1100 {
                idle.push(tokio::time::timeout(SOON, direct.connect_plainly()).await.unwrap());
            }
            let began = Instant::now();
            assert_eq!(direct.ask("GET", "/healthz", &direct.token, "").await.0, 200);
            assert!(began.elapsed() < SOON / 4, "they were waited for: {:?}", began.elapsed());
            idle
        };
        prove_cheap(&node, &direct, 48 * MI, idle).await;
        // 560 KiB each before there was a limit.
        let followers = async || {
            let mut followers = vec![];
            for _ in 0..200 {
                let path = "/containerLogs/default/box/app?follow=true";
                let mut stream = direct.open("GET", path, &direct.token, "").await;
                assert_eq!(&read::<12>(&mut stream).await, b"HTTP/1.1 200");
                followers.push(stream);
            }
            followers
        };
        prove_cheap(&node, &direct, 24 * MI, followers).await;
        // 900 KiB each; what goes beyond a little is shared by all.
        for long in [15, 600] {
            let strangers = async || {
                let head = format!("GET /pods HTTP/1.1\r\nHost: n\r\nX: {}", "x".repeat(long << 10));
                let mut strangers = vec![];
                for _ in 0..400 {
                    let mut stream = direct.connect().await;
                    let sent = stream.write_all(head.as_bytes());
                    // It may be cut off, or not taken.
                    let _sent = tokio::time::timeout(Duration::from_millis(100), sent).await;
                    strangers.push(stream);
                }
                strangers
            };
            prove_cheap(&node, &direct, 48 * MI, strangers).await;
        }
    });
}
