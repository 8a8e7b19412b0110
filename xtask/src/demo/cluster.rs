//! What the cluster demo's steps act on: etcd, kube-apiserver, a containerd and the agent as its only node.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use testkit::env::{
    Agent, AgentOptions, Cluster, Containerd, Line, Run, build_kube_apiserver, kube_apiserver,
};

use crate::ui;

/// How long any one thing may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines of a command's output that are shown.
const MOST_LINES: usize = 14;

pub(super) struct ClusterStage {
    // In this order they go: the agent, then the runtime, then the cluster, then everything else of the run.
    agent: Agent,
    containerd: Containerd,
    pub(super) cluster: Cluster,
    run: Arc<Run>,
}

impl ClusterStage {
    /// Starts everything; there are no pods yet.
    pub(super) fn set(line: Line, binary: &Path) -> Result<Self> {
        if kube_apiserver().is_err() {
            ui::step("kube-apiserver, built once from Debian's source (a few minutes)");
            build_kube_apiserver()?;
        }
        ui::step("etcd and kube-apiserver, and nothing that schedules or controls");
        let run = Run::new()?;
        let cluster = Cluster::start(&run)?;
        ui::say(format!("    kube-apiserver serves on {}", cluster.url()));
        ui::step("a private containerd, two images and a pod network");
        let containerd = Containerd::start(&run, line)?;
        ui::say(format!("    containerd {} serves on {}", line.name(), containerd.socket().display()));
        ui::step("the agent, with the rights of a node and no more");
        let kubeconfig = cluster.node_kubeconfig("node1")?;
        let args = cluster.node_args("node1", &kubeconfig)?;
        let agent = Agent::start(&run, AgentOptions::new(binary, &containerd.endpoint()).args(args))?;
        ui::say(format!("    node-agent --kubeconfig={} ...", kubeconfig.display()));
        Ok(Self { agent, containerd, cluster, run })
    }

    /// A folder for files of the demo.
    pub(super) fn dir(&self) -> PathBuf {
        self.run.dir().to_owned()
    }

    /// Runs `kubectl` with these words and this input, showing the command line and what it printed, and returns that.
    pub(super) fn kubectl_with(&self, line: &str, input: &str) -> Result<String> {
        self.kubectl_words(&line.split_whitespace().collect::<Vec<_>>(), input)
    }

    /// As [`Self::kubectl_with`], without input.
    pub(super) fn kubectl(&self, line: &str) -> Result<String> {
        self.kubectl_with(line, "")
    }

    pub(super) fn kubectl_words(&self, words: &[&str], input: &str) -> Result<String> {
        let (code, text) = self.kubectl_any(words, input)?;
        ensure!(code == 0, "kubectl {} ended with {code}: {text}{}", words.join(" "), self.agent_says());
        Ok(text)
    }

    /// As [`Self::kubectl_words`], whatever it ends with: its code and all that it printed.
    pub(super) fn kubectl_any(&self, words: &[&str], input: &str) -> Result<(i32, String)> {
        let shown: Vec<_> = words.iter().map(|word| quoted(word)).collect();
        ui::say(format!("    $ kubectl {}", shown.join(" ")));
        let mut command = self.cluster.kubectl_command();
        command.arg("--request-timeout=60s").args(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that does not read it has its own reasons.
            let _unread = stdin.write_all(input.as_bytes());
        }
        let done = child.wait_with_output().context("cannot read what kubectl prints")?;
        let text =
            [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        show(&text);
        Ok((done.status.code().unwrap_or(-1), text))
    }

    /// Starts `kubectl port-forward` and returns it with the port that it listens on. Dropping it ends it.
    pub(super) fn port_forward(&self, pod: &str, port: u16) -> Result<(Forwarding, u16)> {
        ui::say(format!("    $ kubectl port-forward {pod} :{port}"));
        let mut command = self.cluster.kubectl_command();
        command.args(["port-forward", pod, &format!(":{port}")]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.context("cannot start kubectl")?;
        let stdout = child.stdout.take().map(BufReader::new);
        let mut forwarding = Forwarding { child, stdout };
        let mut line = String::new();
        if let Some(stdout) = &mut forwarding.stdout {
            stdout.read_line(&mut line)?;
        }
        show(&line);
        let told = line.rsplit_once(" -> ").and_then(|(from, _)| from.rsplit(':').next()?.parse().ok());
        Ok((forwarding, told.with_context(|| format!("kubectl says {line:?} instead of where it listens"))?))
    }

    /// Looks at the object at `path` until it is so.
    pub(super) fn wait_for(&self, what: &str, path: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
        let look =
            |object: &Value| if is(object) { Ok(object.clone()) } else { Err(object["status"].to_string()) };
        self.cluster
            .wait_for(what, path, PATIENCE, look)
            .with_context(|| format!("the agent's log ends with:{}", self.agent_says()))
    }

    /// The end of the agent's log.
    fn agent_says(&self) -> String {
        let log = std::fs::read_to_string(self.agent.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(MOST_LINES)..].iter().map(|line| format!("\n    {line}")).collect()
    }

    /// Leaves everything running and says how to go on.
    pub(super) fn keep(self) -> Result<()> {
        self.run.keep()?;
        ui::say(format!(
            "\nstill running, in {dir}\n  to look at it:  export KUBECONFIG={kubeconfig}\n  the agent's log: {log}\n  \
             the runtime:    {endpoint}\n  to end it:      cargo xtask demo --end {dir}",
            dir = self.run.dir().display(),
            kubeconfig = self.cluster.admin_kubeconfig().display(),
            log = self.agent.log().display(),
            endpoint = self.containerd.endpoint(),
        ));
        Ok(())
    }

    /// Takes everything down and tells when something could not be.
    pub(super) fn strike(self) -> Result<()> {
        let Self { agent, containerd, cluster, run } = self;
        drop(agent);
        drop(containerd);
        drop(cluster);
        let run = Arc::into_inner(run).ok_or_else(|| anyhow!("something of the demo still runs"))?;
        run.close()?;
        ui::say("everything was taken down");
        Ok(())
    }
}

/// A `kubectl port-forward` that is ended with this.
pub(super) struct Forwarding {
    child: Child,
    /// Open for as long as it runs: it would end when it cannot tell of a connection.
    stdout: Option<BufReader<ChildStdout>>,
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// As one would type it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

/// Output, indented, and the end of it only when it is long.
fn show(text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    let left_out = lines.len().saturating_sub(MOST_LINES);
    if left_out > 0 {
        ui::say(format!("      ({left_out} lines before)"));
    }
    for line in &lines[left_out..] {
        ui::say(format!("      {line}"));
    }
}
