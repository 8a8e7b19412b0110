//! A private containerd: own root, state, socket and network, on one of two lines.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::command::output;
use super::error::{At, tail};
use super::{BUSYBOX, Error, Line, PAUSE, Run, Tools, cri, images, network, until};

/// How long containerd may take until it serves.
const START: Duration = Duration::from_secs(60);

/// A running containerd. Dropping it kills containerd alone; its pods go when the [`Run`] goes.
#[derive(Debug)]
pub struct Containerd {
    run: Arc<Run>,
    tools: Tools,
    line: Line,
    child: Option<Child>,
}

impl Containerd {
    /// Sets up and starts containerd for this run, with the two test images, and waits until pods can start.
    ///
    /// # Errors
    /// When the tools cannot be had, or containerd does not serve within 30 s; the message has its log's end.
    pub fn start(run: &Arc<Run>, line: Line) -> Result<Self, Error> {
        let tools = Tools::ensure()?;
        let archive = images::archive(&tools)?;
        let dir = containerd_in(run.dir());
        fs::create_dir_all(&dir).at("create", &dir)?;
        let cni = network::ensure(run, &tools)?;
        fs::write(dir.join("config.toml"), configuration(run.dir(), &tools, line, &cni)).at("write", &dir)?;
        let mut containerd = Self { run: Arc::clone(run), tools, line, child: None };
        containerd.spawn()?;
        containerd.serves(&[])?;
        containerd.ctr(&["images", "import", &archive.display().to_string()])?;
        // The CRI service learns of an import by an event.
        containerd.serves(&[PAUSE, BUSYBOX])?;
        Ok(containerd)
    }

    /// Its line.
    #[must_use]
    pub fn line(&self) -> Line {
        self.line
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket_in(self.run.dir())
    }

    /// Its socket as `--container-runtime-endpoint` takes it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        containerd_in(self.run.dir()).join("log")
    }

    /// Its pid, when it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Runs containerd's own client in the namespace of Kubernetes and returns what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn ctr(&self, args: &[&str]) -> Result<String, Error> {
        let ctr = self.tools.containerd_bin(self.line).join("ctr");
        output(
            Command::new(ctr).arg("--address").arg(self.socket()).args(["--namespace", "k8s.io"]).args(args),
        )
    }

    /// Kills containerd with SIGKILL; its shims and pods go on.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the same folders and waits until it serves.
    ///
    /// # Errors
    /// As for [`Containerd::start`].
    pub fn start_again(&mut self) -> Result<(), Error> {
        self.kill9();
        self.spawn()?;
        self.serves(&[PAUSE, BUSYBOX])
    }

    fn spawn(&mut self) -> Result<(), Error> {
        let bin = self.tools.containerd_bin(self.line);
        let log = fs::File::options().create(true).append(true).open(self.log()).at("open", self.log())?;
        let errors = log.try_clone().at("open", self.log())?;
        let path = std::env::var("PATH").unwrap_or_default();
        let program = bin.join("containerd");
        let child = Command::new(&program)
            .arg("--config")
            .arg(containerd_in(self.run.dir()).join("config.toml"))
            // containerd looks for its shim in PATH.
            .env("PATH", format!("{}:{path}", bin.display()))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // A Ctrl-C at the terminal is for us; we then take everything down in order.
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Spawn { program: program.display().to_string(), source })?;
        self.run.record("containerd", child.id())?;
        self.child = Some(child);
        Ok(())
    }

    fn serves(&mut self, images: &[&str]) -> Result<(), Error> {
        let (socket, log) = (self.socket(), self.log());
        let what = format!("containerd {} serves on {}", self.line.name(), socket.display());
        let child = &mut self.child;
        let ended = until(&what, START, || match child.as_mut().and_then(|c| c.try_wait().ok().flatten()) {
            Some(status) => Ok(Some(status)),
            None => cri::ready(&socket, images)
                .map(|()| None)
                .map_err(|why| format!("{why}\n--- end of its log ---\n{}", tail(&log, 8))),
        })?;
        match ended {
            None => Ok(()),
            Some(status) => Err(Error::Failed {
                command: format!("containerd {}", self.line.name()),
                status: status.to_string(),
                output: tail(&log, 8),
            }),
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if !self.run.kept() {
            self.kill9();
        }
    }
}

fn containerd_in(run: &Path) -> PathBuf {
    run.join("containerd")
}

/// Where the containerd of a run listens.
pub(crate) fn socket_in(run: &Path) -> PathBuf {
    containerd_in(run).join("containerd.sock")
}

/// Where the containerd of a run keeps what does not outlive a boot.
pub(crate) fn state_in(run: &Path) -> PathBuf {
    containerd_in(run).join("state")
}

/// The configuration: version 2 for 1.6, version 3 for 2.1. Everything that containerd would otherwise put at a
/// fixed place of the machine is moved into the run's folder or turned off.
fn configuration(run: &Path, tools: &Tools, line: Line, cni_conf: &Path) -> String {
    let dir = containerd_in(run);
    let text = |path: &Path| toml_string(&path.display().to_string());
    let common = format!(
        "root = {root}
state = {state}
disabled_plugins = [{disabled}]

[grpc]
address = {socket}

[plugins.'io.containerd.internal.v1.opt']
path = {opt}
",
        root = text(&dir.join("root")),
        state = text(&state_in(run)),
        disabled = DISABLED.map(toml_string).join(", "),
        socket = text(&socket_in(run)),
        opt = text(&dir.join("opt")),
    );
    let (cni_bin, cni_conf) = (text(&tools.cni_bin()), text(cni_conf));
    let runc = format!(
        "BinaryName = {}\nRoot = {}\nSystemdCgroup = false",
        text(&tools.runc()),
        text(&dir.join("runc")),
    );
    let snapshotter = snapshotter(run);
    match line {
        Line::V1_6 => format!(
            "version = 2
{common}
[plugins.'io.containerd.grpc.v1.cri']
sandbox_image = '{PAUSE}'
{SANDBOXED}
[plugins.'io.containerd.grpc.v1.cri'.cni]
bin_dir = {cni_bin}
conf_dir = {cni_conf}
[plugins.'io.containerd.grpc.v1.cri'.containerd]
snapshotter = '{snapshotter}'
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]
{runc}
"
        ),
        Line::V2_1 => format!(
            "version = 3
{common}
[plugins.'io.containerd.cri.v1.images']
snapshotter = '{snapshotter}'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{PAUSE}'
[plugins.'io.containerd.cri.v1.runtime']
{SANDBOXED}
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = [{cni_bin}]
conf_dir = {cni_conf}
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
{runc}
"
        ),
    }
}

/// Plugins that need kernel features of their own or listen at fixed places.
const DISABLED: [&str; 7] = [
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.nri.v1.nri",
    "io.containerd.tracing.processor.v1.otlp",
];

/// Root inside a virtual machine or container may lack the right to lower a score; network namespaces stand
/// under the run's folder, where the clean-up finds them.
const SANDBOXED: &str = "restrict_oom_score_adj = true\nnetns_mounts_under_state_dir = true";

/// overlayfs cannot stand on overlayfs, as `/tmp` of a container is: there the layers are copied.
fn snapshotter(run: &Path) -> &'static str {
    // OVERLAYFS_SUPER_MAGIC; the type of the field differs between processors.
    match rustix::fs::statfs(run) {
        Ok(found) if found.f_type == 0x794c_7630 => "native",
        _ => "overlayfs",
    }
}

fn toml_string(text: &str) -> String {
    format!("'{text}'")
}
