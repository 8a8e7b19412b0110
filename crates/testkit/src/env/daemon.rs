//! A program that goes on until it is killed, with its log in a file.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::error::{At, tail};
use super::{Error, Run, say, until};

/// How many lines of its log go into an error.
const TAIL: usize = 12;

/// A program of a run. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Daemon {
    run: Arc<Run>,
    /// Unique in its run.
    name: String,
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    /// Starts it and returns at once.
    pub(super) fn start(
        run: &Arc<Run>,
        name: String,
        program: PathBuf,
        args: Vec<String>,
        log: PathBuf,
    ) -> Result<Self, Error> {
        let mut daemon = Self { run: Arc::clone(run), name, program, args, log, child: None };
        daemon.start_again()?;
        Ok(daemon)
    }

    /// Starts it with the same arguments, after killing it if it runs.
    pub(super) fn start_again(&mut self) -> Result<(), Error> {
        self.kill9();
        let log = File::options().create(true).append(true).open(&self.log).at("open", &self.log)?;
        let errors = log.try_clone().at("open", &self.log)?;
        let child = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // A Ctrl-C at the terminal is for us; we then take everything down in order.
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Spawn { program: self.program.display().to_string(), source })?;
        self.run.record(&self.name, child.id())?;
        self.child = Some(child);
        Ok(())
    }

    /// Looks until `look` succeeds; fails at once when the process ends.
    pub(super) fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Result<(), String>,
    ) -> Result<(), Error> {
        let child = &mut self.child;
        let mut ended = None;
        let done = until(what, limit, || {
            ended = child.as_mut().and_then(|c| c.try_wait().ok().flatten());
            if ended.is_some() { Ok(()) } else { look() }
        });
        match (done, ended) {
            (_, Some(status)) => {
                self.child = None;
                Err(self.failed(format!("{} ended with {status}; waited for: {what}", self.name)))
            }
            (Err(Error::Interrupted), None) => Err(Error::Interrupted),
            (Err(error), None) => Err(self.failed(error.to_string())),
            (Ok(()), None) => Ok(()),
        }
    }

    /// Its pid, when it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Ends it with SIGKILL.
    pub(super) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(super) fn failed(&self, what: String) -> Error {
        Error::Process { what, log: self.log.clone(), tail: tail(&self.log, TAIL) }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.run.kept() {
            return;
        }
        if std::thread::panicking() {
            say(&format!("--- end of {} ---\n{}", self.log.display(), tail(&self.log, TAIL)));
        }
        self.kill9();
    }
}
