//! One boot of the guest: user-mode Linux in namespaces of its own. It ends with this process, however that ends: the
//! kernel kills the first process of its PID namespace with us, and all others with that one.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use testkit::tools::{lock, until};

use super::image::{Image, remove};
use super::wire::{self, Ended};

/// From the start until systemd says that all is up: 10 s where nothing else runs.
const UP: Duration = Duration::from_secs(180);
/// The guest's memory in MiB; of the host's it takes what it uses.
const MEMORY: u32 = 2048;
/// How many lines of the console go into an error.
const TAIL: usize = 30;

/// What is booted.
pub(super) struct Options {
    /// The kernel.
    pub(super) kernel: PathBuf,
    /// How many CPUs it can have.
    pub(super) cpus: u32,
    /// Folders of the host that the guest has at the same paths.
    pub(super) shares: Vec<PathBuf>,
}

/// A guest that runs. Dropping it ends it.
pub(super) struct Machine {
    child: Child,
    /// The disk's changes and the console; locked as long as we live.
    dir: TempDir,
    _lock: File,
}

impl Machine {
    /// Boots the guest and waits until it is up.
    pub(super) fn boot(image: &Image, options: &Options) -> Result<Self> {
        let boots = image.boots();
        fs::create_dir_all(&boots).with_context(|| format!("cannot create {}", boots.display()))?;
        clean_up(&boots)?;
        let dir = tempfile::tempdir_in(&boots).context("cannot make a folder for the boot")?;
        let lock = lock(dir.path(), "a boot")?;
        let console = File::create(dir.path().join("console"))?;
        let script = dir.path().join("boot.sh");
        fs::write(&script, include_str!("../../guest/boot.sh"))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child=KILL", "sh"])
            .arg(script)
            .args([&image.tree(), dir.path(), &options.kernel])
            .args([options.cpus, MEMORY].map(|number| number.to_string()))
            .args(&options.shares)
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            // A Ctrl-C at the terminal is for us; we then take everything down in order.
            .process_group(0)
            .spawn()
            .context("cannot run setpriv")?;
        let mut machine = Self { child, dir, _lock: lock };
        let up = machine.wait_up().and_then(|()| machine.mount(&options.shares));
        up.with_context(|| format!("the guest did not come up; its console ends:\n{}", machine.console()))?;
        Ok(machine)
    }

    fn wait_up(&mut self) -> Result<()> {
        let mut ended = None;
        until("systemd in the guest is up", UP, || {
            ended = self.child.try_wait().ok().flatten();
            if ended.is_some() {
                return Ok(());
            }
            let state = self.capture("systemctl is-system-running --wait");
            let (_, state) = state.map_err(|error| format!("{error:#}"))?;
            match state.trim() {
                "running" | "degraded" => Ok(()),
                other => Err(other.to_owned()),
            }
        })?;
        match ended {
            Some(status) => bail!("it ended with {status}"),
            None => Ok(()),
        }
    }

    fn mount(&self, shares: &[PathBuf]) -> Result<()> {
        for (number, share) in shares.iter().enumerate() {
            let at = quote(&share.display().to_string());
            let script = format!("mkdir -p {at} && mount -t hostfs -o hostfs=/mnt/share/{number} none {at}");
            let (ended, said) = self.capture(&script)?;
            if ended != Ended::With(0) {
                bail!("cannot mount {} in the guest: {ended}: {said}", share.display());
            }
        }
        Ok(())
    }

    /// Runs a script in the guest's bash and passes on what it prints.
    pub(super) fn run(&self, script: &str, limit: Duration, print: &mut dyn FnMut(&[u8])) -> Result<Ended> {
        wire::run(self.child.id(), script, Instant::now() + limit, print)
    }

    /// As [`Machine::run`], for a short script: what it printed.
    fn capture(&self, script: &str) -> Result<(Ended, String)> {
        let mut text = Vec::new();
        let ended = self.run(script, Duration::from_secs(30), &mut |bytes| text.extend_from_slice(bytes))?;
        Ok((ended, String::from_utf8_lossy(&text).into_owned()))
    }

    /// The end of what kernel and systemd said.
    pub(super) fn console(&self) -> String {
        let bytes = fs::read(self.dir.path().join("console")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The first process of the PID namespace: unshare waits for it, and it ends when all others have.
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for first in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            if let Some(first) = rustix::process::Pid::from_raw(first) {
                let _ = rustix::process::kill_process(first, rustix::process::Signal::KILL);
            }
        }
        if children.is_empty() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Removes the folders of boots whose process was killed.
fn clean_up(boots: &Path) -> Result<()> {
    for boot in fs::read_dir(boots)? {
        let dir = boot?.path();
        let Ok(lock) = File::open(dir.join("lock")) else { continue };
        if lock.try_lock().is_ok() {
            remove(&dir)?;
        }
    }
    Ok(())
}

/// As one word of a shell.
pub(super) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
