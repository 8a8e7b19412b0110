//! What the demo's steps act on: an agent with the example manifests on a containerd of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use testkit::env::{Agent, AgentOptions, Containerd, Line, Run, container_status, pod, until};

use super::screen::Screen;
use crate::{cargo, ui};

/// How long any one thing may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Stage {
    // In this order they go: the agent, then containerd, then everything else of the run.
    pub(super) agent: Agent,
    pub(super) containerd: Containerd,
    pub(super) run: Arc<Run>,
    pub(super) screen: Screen,
}

impl Stage {
    /// Starts everything, with the examples in place.
    pub(super) fn set(line: Line, binary: &Path) -> Result<Self> {
        ui::step("a private containerd, two images and a pod network");
        let run = Run::new()?;
        let containerd = Containerd::start(&run, line)?;
        ui::say(format!("    containerd {} serves on {}", line.name(), containerd.socket().display()));
        ui::step("the agent on a copy of examples/manifests");
        let options = AgentOptions::new(binary, &containerd.endpoint()).args(["--file-check-frequency=1s"]);
        let agent = Agent::start(&run, options)?;
        for name in ["web", "job", "crash-loop", "with-init"] {
            agent.write_manifest(&format!("{name}.yaml"), &example(name)?)?;
        }
        ui::say(format!("    manifests in {}", agent.manifests().display()));
        Ok(Self { agent, containerd, run, screen: Screen::new() })
    }

    /// Waits for something in the agent's view, with the table live.
    pub(super) fn wait<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&Value) -> Result<T, String>,
    ) -> Result<T> {
        let (agent, screen) = (&self.agent, &mut self.screen);
        Ok(agent.wait_for(what, PATIENCE, |view| {
            screen.refresh(agent);
            look(view)
        })?)
    }

    /// Waits for something that is not in the view.
    pub(super) fn poll<T>(&mut self, what: &str, look: impl Fn(&Self) -> Result<T>) -> Result<T> {
        Ok(until(what, PATIENCE, || look(self).map_err(|error| format!("{error:#}")))?)
    }

    /// Looks again and again for this long; the first `Err` says what changed.
    pub(super) fn hold(
        &mut self,
        what: &str,
        time: Duration,
        look: impl Fn(&Value) -> Result<(), String>,
    ) -> Result<()> {
        let end = Instant::now() + time;
        self.wait(what, |view| {
            if let Err(change) = look(view) {
                return Ok(Err(anyhow!("not so: {what}: {change}")));
            }
            if Instant::now() >= end { Ok(Ok(())) } else { Err("so far it does".to_owned()) }
        })?
    }

    /// Waits for something in one pod's part of the view.
    pub(super) fn wait_pod<T>(
        &mut self,
        name: &str,
        what: &str,
        mut look: impl FnMut(&Value) -> Result<T, String>,
    ) -> Result<T> {
        self.wait(&format!("pod {name} {what}"), |view| match pod(view, name) {
            Some(pod) => look(pod).map_err(|why| format!("{why}; its status is {}", pod["status"])),
            None => Err("the agent does not know it".to_owned()),
        })
    }

    /// The page that the web pod serves now.
    pub(super) fn page(&self) -> Result<String> {
        let view = self.agent.pods()?;
        let ip =
            pod(&view, "web").and_then(|p| p["status"]["podIP"].as_str()).context("web has no address")?;
        get(ip).with_context(|| format!("cannot get http://{ip}:8080/"))
    }

    /// Runs a command in the web server's container, as an operator at the node would.
    pub(super) fn exec_in_web(&self, command: &[&str]) -> Result<String> {
        let view = self.agent.pods()?;
        let id = container_status(&view, "web", "httpd").map(container_id).context("web has no container")?;
        let args = [&["tasks", "exec", "--exec-id", "demo", id.as_str()], command].concat();
        Ok(self.containerd.ctr(&args)?)
    }

    /// Leaves everything running and says how to go on.
    pub(super) fn keep(self) -> Result<()> {
        self.run.keep()?;
        let (binary, root) = (self.agent.binary().display().to_string(), self.agent.root());
        ui::say(format!(
            "\nstill running, in {dir}\n  its pods:       {binary} pods --root-dir {root} -w\n  why one waits:  {binary} explain crash-loop --root-dir {root}\n  its manifests:  {manifests}\n  its log:        {log}\n  the runtime:    {endpoint}\n  to end it:      cargo xtask demo --end {dir}",
            dir = self.run.dir().display(),
            root = root.display(),
            manifests = self.agent.manifests().display(),
            log = self.agent.log().display(),
            endpoint = self.containerd.endpoint(),
        ));
        Ok(())
    }

    /// Takes everything down and tells when something could not be.
    pub(super) fn strike(self) -> Result<()> {
        let Self { agent, containerd, run, .. } = self;
        drop(agent);
        drop(containerd);
        let run = Arc::into_inner(run).ok_or_else(|| anyhow!("something of the demo still runs"))?;
        run.close()?;
        ui::say("everything was taken down");
        Ok(())
    }
}

/// The text of an example manifest.
pub(super) fn example(name: &str) -> Result<String> {
    let path: PathBuf = cargo::root().join("examples/manifests").join(format!("{name}.yaml"));
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The id without the runtime's name before it.
pub(super) fn container_id(status: &Value) -> String {
    let id = status["containerID"].as_str().unwrap_or_default();
    id.rsplit("://").next().unwrap_or_default().to_owned()
}

fn get(ip: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((ip, 8080))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.lines().last().unwrap_or_default().trim().to_owned())
}
