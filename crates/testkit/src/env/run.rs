//! One private node: a folder, a cgroup, a bridge, all of the same unique name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::cleanup::{clean, clean_up_after_killed_runs};
use super::error::At;
use super::port::FreePort;
use super::proc::process;
use super::{Error, say};

/// The file that marks a folder as a run's; its owner holds a lock on it for as long as it lives.
pub(crate) const MARK: &str = "node-agent-run";
/// The mark of a run that was left running on purpose.
pub(crate) const KEPT: &str = "node-agent-run-kept";
/// How the folders begin.
pub(crate) const PREFIX: &str = "na-";
/// Sub-folder with one file for each process that was started: its pid and start time.
pub(crate) const PROCESSES: &str = "processes";

/// A private node. Dropping the last reference ends every process that was started for it and takes away its
/// mounts, network, cgroups and folder.
#[derive(Debug)]
pub struct Run {
    dir: PathBuf,
    name: String,
    kept: AtomicBool,
    ports: Mutex<Vec<FreePort>>,
    /// Closed, and so released, only after everything is cleaned.
    _lock: File,
}

impl Run {
    /// Makes a new private node, after cleaning what killed runs left behind.
    ///
    /// # Errors
    /// Without root, which containers need, or when the folder cannot be made.
    pub fn new() -> Result<Arc<Self>, Error> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::Machine("a container runtime needs root: start this as root".to_owned()));
        }
        clean_up_after_killed_runs();
        // Not under `target`: a path to a unix socket has room for 107 characters only.
        let base = std::env::temp_dir();
        let dir =
            tempfile::Builder::new().prefix(PREFIX).tempdir_in(&base).at("create a folder in", &base)?.keep();
        fs::create_dir(dir.join(PROCESSES)).at("create", dir.join(PROCESSES))?;
        // Locked before it gets its name, so that nobody takes this run for one whose owner is dead.
        let unnamed = dir.join("lock.new");
        let lock = File::create(&unnamed).at("create", &unnamed)?;
        lock.try_lock().map_err(std::io::Error::from).at("lock", &unnamed)?;
        fs::rename(&unnamed, dir.join(MARK)).at("create", dir.join(MARK))?;
        let name = name_of(&dir);
        Ok(Arc::new(Self { dir, name, kept: AtomicBool::new(false), ports: Mutex::default(), _lock: lock }))
    }

    /// The folder that holds everything.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The name of the folder, the bridge and the top cgroup: at most 15 characters, unique on this machine.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A port for a program of this run, on any address: nobody else gets it while the run lasts.
    ///
    /// # Errors
    /// When there is none.
    pub fn free_port(&self) -> Result<u16, Error> {
        let free = FreePort::new()?;
        let port = free.port();
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).push(free);
        Ok(port)
    }

    /// Leaves everything running when this process ends; [`clean`] with the folder takes it away.
    ///
    /// # Errors
    /// When the mark cannot be renamed.
    pub fn keep(&self) -> Result<(), Error> {
        fs::rename(self.dir.join(MARK), self.dir.join(KEPT)).at("rename", self.dir.join(MARK))?;
        self.kept.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Takes everything away now, and tells when something could not be.
    ///
    /// # Errors
    /// As for [`clean`].
    pub fn close(self) -> Result<(), Error> {
        // Dropping does nothing more.
        self.kept.store(true, Ordering::Relaxed);
        clean(&self.dir)
    }

    /// Whether [`Run::keep`] was called.
    pub(crate) fn kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    /// Remembers a started process on disk, so that a later run can end it when this one is killed.
    pub(crate) fn record(&self, name: &str, pid: u32) -> Result<(), Error> {
        let started = i32::try_from(pid).ok().and_then(process).map_or(0, |p| p.started);
        let file = self.dir.join(PROCESSES).join(name);
        fs::write(&file, format!("{pid} {started}\n")).at("write", file)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.kept() {
            return;
        }
        if let Err(error) = clean(&self.dir) {
            say(&format!("{error}"));
        }
    }
}

/// The name of a run, from its folder.
pub(crate) fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
