//! Commands in containers and followed logs, through the node's server and, for comparison, through the runtime's.
//!
//! Both speak WebSocket. Of that protocol hardly anything is needed here: what a server sends stands in its frames
//! as it is, and a client's frame is as plain when its mask is zero.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use testkit::env::{Agent, BUSYBOX, Cluster, Usage};

use super::pods::Pods;
use crate::bench::agent;
use crate::bench::bare::Bare;
use crate::bench::report::Report;
use crate::bench::trace::percentile;
use crate::ui;

/// How many pods there are to ask.
const PODS: usize = 10;
/// How often a command is run each way.
const TURNS: usize = 50;
/// How much is open at once, how often.
const LOGS: usize = 100;
const SESSIONS: usize = 50;
const ROUNDS: usize = 3;
/// How long a server may be silent, and what was opened may take to go.
const PATIENCE: Duration = Duration::from_secs(30);
const MIB: f64 = 1024.0 * 1024.0;

pub(super) fn measure(
    cluster: &Cluster,
    bare: &Bare,
    agent: &Agent,
    pods: &Pods<'_>,
    report: &mut Report,
) -> Result<()> {
    ui::step(&format!("{PODS} pods that write a line each second"));
    for number in 0..PODS {
        let script = "while :; do echo tick; sleep 1; done";
        let container = json!({"name": "app", "image": BUSYBOX, "command": ["sh", "-c", script]});
        pods.create(&name(number), container)?;
    }
    pods.wait_ready(PODS)?;
    let (_, node) = cluster.request("GET", "/api/v1/nodes/node1", None)?;
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    let port = port.context("the node does not tell its server's port")?.try_into()?;
    let node = Node { cluster, address: (Ipv4Addr::LOCALHOST, port).into() };
    round_trips(&node, bare, pods, report)?;
    let mut rounds = Vec::new();
    for round in 1..=ROUNDS {
        ui::step(&format!("{LOGS} followed logs and {SESSIONS} sessions at once, {round}. time"));
        rounds.push(many(&node, agent)?);
    }
    let [first, .., last] = rounds.as_slice() else { return Ok(()) };
    // What the first time needed, the others use again.
    let ends = (first, last);
    growth(report, ("Rss", "resident", "MiB", 1.0), ends, |usage| usage.resident as f64 / MIB);
    growth(report, ("Files", "open files", "", 0.0), ends, |usage| usage.files as f64);
    growth(report, ("Threads", "threads", "", 0.0), ends, |usage| threads(usage) as f64);
    Ok(())
}

fn name(number: usize) -> String {
    format!("stream-{}", number % PODS)
}

/// The node's server.
struct Node<'a> {
    cluster: &'a Cluster,
    address: SocketAddr,
}

impl Node<'_> {
    fn dial(&self) -> Result<Stream> {
        Ok(Stream { stream: Box::new(self.cluster.dial_node(self.address)?), seen: Vec::new() })
    }
}

/// A connection and what has come over it.
struct Stream {
    stream: Box<dyn ReadWrite>,
    seen: Vec<u8>,
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

impl Stream {
    /// Connects to the runtime's streaming server; returns the path to ask for.
    fn to_runtime(url: &str) -> Result<(Self, &str)> {
        let (host, path) = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .with_context(|| format!("the runtime's URL {url}"))?;
        let stream = TcpStream::connect(host).with_context(|| format!("cannot connect to {host}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok((Self { stream: Box::new(stream), seen: Vec::new() }, path))
    }

    fn get(&mut self, path: &str, headers: &str) -> Result<()> {
        let request = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        Ok(self.stream.write_all(request.as_bytes()).and_then(|()| self.stream.flush())?)
    }

    fn upgrade(&mut self, path: &str) -> Result<()> {
        self.get(
            path,
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: bm9kZS1hZ2VudCBiZW5jaA==\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n",
        )
    }

    /// Sends text to the command's standard input.
    fn send(&mut self, text: &str) -> Result<()> {
        let length =
            u8::try_from(text.len() + 1).ok().filter(|&length| length < 126).context("a long text")?;
        // A binary frame, its length, the mask, the channel.
        let mut frame = vec![0x82, 0x80 | length, 0, 0, 0, 0, 0];
        frame.extend(text.as_bytes());
        Ok(self.stream.write_all(&frame).and_then(|()| self.stream.flush())?)
    }

    /// Reads until these bytes have come.
    fn read_until(&mut self, text: &str) -> Result<()> {
        let mut buffer = [0; 4096];
        while !self.seen.windows(text.len()).any(|part| part == text.as_bytes()) {
            match self.stream.read(&mut buffer) {
                Ok(count) if count > 0 => self.seen.extend(&buffer[..count]),
                end => {
                    bail!("{text:?} did not come ({end:?}), only {:?}", String::from_utf8_lossy(&self.seen))
                }
            }
        }
        Ok(())
    }

    /// Reads what a command has to say until it has ended well.
    fn finish(&mut self) -> Result<()> {
        self.read_until(r#""status":"Success""#)?;
        ensure!(self.seen.windows(3).any(|part| part == b"ok\n"), "the command's output has not come");
        Ok(())
    }
}

/// The same command through the node's server and straight from the runtime, in turns for both to see the same
/// machine, each over a connection of its own. That to the node stands before the clock runs, for a TLS handshake
/// takes a debug build of this program longer than it takes a server.
fn round_trips(node: &Node<'_>, bare: &Bare, pods: &Pods<'_>, report: &mut Report) -> Result<()> {
    ui::step(&format!("{TURNS} commands, one after the other, each way"));
    let container = pods.container(&name(0))?;
    let path = format!("exec/default/{}/app?command=echo&command=ok&output=1&error=1", name(0));
    let (mut connects, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    // The first asks the API server who it is.
    for turn in 0..=TURNS {
        let begin = Instant::now();
        let mut stream = node.dial()?;
        let connected = begin.elapsed();
        let begin = Instant::now();
        stream.upgrade(&path)?;
        stream.finish()?;
        let through = begin.elapsed();
        let begin = Instant::now();
        let url = bare.exec_url(&container, &["echo", "ok"])?;
        let (mut stream, path) = Stream::to_runtime(&url)?;
        stream.upgrade(path)?;
        stream.finish()?;
        if turn > 0 {
            connects.push(connected);
            ours.push(through);
            theirs.push(begin.elapsed());
        }
    }
    let connect = percentile(connects.iter().copied(), 50);
    report.add("execConnect", "exec: connecting to the node's server, p50", connect, "ms");
    for percent in [50, 99] {
        let (through, direct) =
            (percentile(ours.iter().copied(), percent), percentile(theirs.iter().copied(), percent));
        let key = |kind: &str| format!("exec{kind}P{percent}");
        report.add(&key("Runtime"), &format!("exec: straight from the runtime, p{percent}"), direct, "ms");
        report.add(&key(""), &format!("exec: through the node's server, p{percent}"), through, "ms");
        let more = through - direct;
        report
            .add(&key("More"), &format!("exec: more than the runtime's, p{percent}"), more, "ms")
            .budget(5.0);
    }
    Ok(())
}

/// What the agent used before, while everything was open, and after.
struct Round {
    before: Usage,
    during: Usage,
    after: Usage,
}

/// Opens everything, looks, closes everything, looks again.
fn many(node: &Node<'_>, agent: &Agent) -> Result<Round> {
    let before = agent::use_of(agent)?;
    let mut open = Vec::new();
    for number in 0..LOGS {
        let mut stream = node.dial()?;
        stream.get(&format!("containerLogs/default/{}/app?follow=true&tailLines=0", name(number)), "")?;
        open.push(stream);
    }
    for stream in &mut open {
        stream.read_until("tick\n").context("a followed log")?;
    }
    for number in 0..SESSIONS {
        let mut stream = node.dial()?;
        stream.upgrade(&format!("exec/default/{}/app?command=cat&input=1&output=1", name(number)))?;
        stream.send("are you there?")?;
        stream.read_until("are you there?").context("a session")?;
        open.push(stream);
    }
    let during = agent::use_of(agent)?;
    drop(open);
    let gone = Instant::now() + PATIENCE;
    let mut after = agent::use_of(agent)?;
    while Instant::now() < gone && (after.files > before.files || threads(&after) > threads(&before)) {
        agent::watch(agent, Duration::from_millis(500))?;
        after = agent::use_of(agent)?;
    }
    Ok(Round { before, during, after })
}

/// Tells of one thing that was used, and bounds by how much it may have grown.
fn growth(
    report: &mut Report,
    (key, what, unit, most): (&str, &str, &str, f64),
    (first, last): (&Round, &Round),
    of: impl Fn(&Usage) -> f64,
) {
    for (when, usage) in [
        ("before", &first.before),
        ("while open", &last.during),
        ("after the first time", &first.after),
        ("after the last time", &last.after),
    ] {
        report.add(&format!("streams{key} {when}"), &format!("streams: {what} {when}"), of(usage), unit);
    }
    let grown = of(&last.after) - of(&first.after);
    report.add(&format!("streams{key}Grown"), &format!("streams: {what}, growth"), grown, unit).budget(most);
}

fn threads(usage: &Usage) -> usize {
    usage.context_switches.len()
}
