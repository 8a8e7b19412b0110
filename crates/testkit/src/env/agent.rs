//! The agent as a process: started on private folders, watched, killed and started again.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::cleanup::make_cgroup;
use super::command::{both_streams, output};
use super::error::{At, tail};
use super::{BINARY_VARIABLE, Error, Run, say, target_dir, until};

/// How long the agent may take until it is healthy.
const START: Duration = Duration::from_secs(60);
/// How many lines of the agent's log go into an error.
const TAIL: usize = 60;
/// The agent's binary for tests: what [`BINARY_VARIABLE`] names, else cargo's debug build.
///
/// # Errors
/// When there is no such file; the message says how to build it.
pub fn binary() -> Result<PathBuf, Error> {
    let path = std::env::var_os(BINARY_VARIABLE)
        .map_or_else(|| target_dir().join("debug/node-agent"), PathBuf::from);
    path.canonicalize().map_err(|error| {
        Error::Machine(format!(
            "no agent at {} ({error}): `cargo build -p node-agent` builds it, and `cargo xtask test` does so itself",
            path.display()
        ))
    })
}

/// What to start.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    binary: PathBuf,
    endpoint: String,
    args: Vec<String>,
    name: String,
    own_flags: bool,
}

impl AgentOptions {
    /// This binary against this runtime, with the folders of the run.
    pub fn new(binary: impl Into<PathBuf>, endpoint: &str) -> Self {
        Self {
            binary: binary.into(),
            endpoint: endpoint.to_owned(),
            args: Vec::new(),
            name: "agent".to_owned(),
            own_flags: true,
        }
    }

    /// More arguments, after those that the harness gives.
    #[must_use]
    pub fn args<I: IntoIterator<Item: Into<String>>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Gives only flags that every kubelet has, to run another one.
    #[must_use]
    pub fn kubelet_flags_only(mut self) -> Self {
        self.own_flags = false;
        self
    }

    /// The name of its folder in the run, where several agents share one; default `agent`.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }
}

/// An agent. Dropping it kills the process; its pods go when the [`Run`] goes.
#[derive(Debug)]
pub struct Agent {
    run: Arc<Run>,
    options: AgentOptions,
    dir: PathBuf,
    healthz: u16,
    child: Option<Child>,
}

impl Agent {
    /// Starts the agent and waits until it is healthy.
    ///
    /// # Errors
    /// When it ends or is not healthy within a minute; the message has the end of its log.
    pub fn start(run: &Arc<Run>, options: AgentOptions) -> Result<Self, Error> {
        let mut agent = Self::spawn(run, options)?;
        agent.wait_healthy()?;
        Ok(agent)
    }

    /// Starts the agent and returns at once.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(run: &Arc<Run>, options: AgentOptions) -> Result<Self, Error> {
        let dir = run.dir().join(&options.name);
        for sub in ["manifests", "root"] {
            fs::create_dir_all(dir.join(sub)).at("create", dir.join(sub))?;
        }
        make_cgroup(run.name())?;
        let mut agent = Self { run: Arc::clone(run), options, dir, healthz: run.free_port()?, child: None };
        agent.start_again()?;
        Ok(agent)
    }

    /// Starts it again on the same folders, when it does not run, and returns at once.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_again(&mut self) -> Result<(), Error> {
        let log = fs::File::options().create(true).append(true).open(self.log()).at("open", self.log())?;
        let errors = log.try_clone().at("open", self.log())?;
        let binary = &self.options.binary;
        let child = Command::new(binary)
            .arg(format!("--pod-manifest-path={}", self.manifests().display()))
            .arg(format!("--container-runtime-endpoint={}", self.options.endpoint))
            .arg(format!("--root-dir={}", self.root().display()))
            .arg(format!("--cgroup-root=/{}", self.run.name()))
            .arg("--cgroup-driver=cgroupfs")
            .arg("--fail-cgroupv1=false")
            .arg("--hostname-override=node1")
            .arg(format!("--healthz-port={}", self.healthz))
            .args(&self.options.args)
            .args(
                self.options
                    .own_flags
                    .then(|| format!("--pod-logs-dir={}", self.dir.join("pod-logs").display())),
            )
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Spawn { program: binary.display().to_string(), source })?;
        self.run.record(&self.options.name, child.id())?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until `/healthz` answers 200.
    ///
    /// # Errors
    /// When it ends or is not healthy within a minute.
    pub fn wait_healthy(&mut self) -> Result<(), Error> {
        let mut ended = None;
        let (port, child) = (self.healthz, &mut self.child);
        let healthy = until("the agent is healthy", START, || {
            ended = child.as_mut().and_then(|c| c.try_wait().ok().flatten());
            if ended.is_some() { Ok(()) } else { healthz(port) }
        });
        match (healthy, ended) {
            (_, Some(status)) => {
                self.child = None;
                Err(self.failed(format!("the agent ended with {status} instead of becoming healthy")))
            }
            (Err(Error::Interrupted), None) => Err(Error::Interrupted),
            (Err(error), None) => Err(self.failed(error.to_string())),
            (Ok(()), None) => Ok(()),
        }
    }

    /// Its pid, when it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Where its manifests are.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.dir.join("manifests")
    }

    /// Its root folder.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The program.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.options.binary
    }

    /// The port of `/healthz` on 127.0.0.1.
    #[must_use]
    pub fn healthz_port(&self) -> u16 {
        self.healthz
    }

    /// Writes a manifest whole: beside the folder first, then renamed into it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_manifest(&self, file: &str, text: &str) -> Result<(), Error> {
        let (temporary, path) = (self.dir.join(file), self.manifests().join(file));
        fs::write(&temporary, text).at("write", &temporary)?;
        fs::rename(&temporary, &path).at("write", &path)
    }

    /// A sub-command of the agent against this agent, for example `["explain", "web"]`; returns its stdout.
    ///
    /// # Errors
    /// When it fails.
    pub fn ask(&self, args: &[&str]) -> Result<String, Error> {
        output(Command::new(&self.options.binary).args(args).arg("--root-dir").arg(self.root()))
    }

    /// What `node-agent pods` shows a person: the table, then what is wrong with manifests or the runtime.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn table(&self) -> Result<String, Error> {
        both_streams(Command::new(&self.options.binary).arg("pods").arg("--root-dir").arg(self.root()))
    }

    /// The agent's view: what `node-agent pods -o json` prints.
    ///
    /// # Errors
    /// When the agent does not answer, or not in JSON.
    pub fn pods(&self) -> Result<Value, Error> {
        let text = self.ask(&["pods", "-o", "json"])?;
        serde_json::from_str(&text)
            .map_err(|error| self.failed(format!("`pods -o json` is not JSON ({error}):\n{text}")))
    }

    /// Looks at the agent's view until `look` returns a value; its `Err` says why not yet.
    ///
    /// # Errors
    /// When the time is up; the message has the last reason and the end of the agent's log.
    pub fn wait_for<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(&Value) -> Result<T, String>,
    ) -> Result<T, Error> {
        let found = until(what, limit, || match self.pods() {
            Ok(pods) => look(&pods),
            Err(error) => Err(error.to_string()),
        });
        found.map_err(|error| match error {
            Error::Interrupted => error,
            other => self.failed(other.to_string()),
        })
    }

    /// Ends it with SIGKILL.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end with SIGTERM and returns how it ended.
    ///
    /// # Errors
    /// When it does not run, or goes on for `limit`.
    pub fn sigterm(&mut self, limit: Duration) -> Result<ExitStatus, Error> {
        let Some(mut child) = self.child.take() else {
            return Err(self.failed("the agent does not run".to_owned()));
        };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let ended = until("the agent ends after SIGTERM", limit, || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it runs".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        if ended.is_err() {
            self.child = Some(child);
        }
        ended.map_err(|error| self.failed(error.to_string()))
    }

    fn failed(&self, what: String) -> Error {
        Error::Process { what, log: self.log(), tail: tail(&self.log(), TAIL) }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.run.kept() {
            return;
        }
        if std::thread::panicking() {
            say(&format!("--- end of {} ---\n{}", self.log().display(), tail(&self.log(), TAIL)));
        }
        self.kill9();
    }
}

/// Whether `/healthz` answers 200.
fn healthz(port: u16) -> Result<(), String> {
    let answer = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    match answer() {
        Ok(text) if text.starts_with("HTTP/1.1 200") => Ok(()),
        Ok(text) => Err(format!("/healthz says {text:?}")),
        Err(error) => Err(format!("/healthz does not answer: {error}")),
    }
}
