//! What can go wrong while a test node is set up, used or taken down.

use std::path::PathBuf;
use std::time::Duration;

/// Why the environment could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// The verb: `read`, `create`, ...
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("cannot run {program}")]
    Spawn {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program ended without success.
    #[error("`{command}` failed with {status}:\n{output}")]
    Failed {
        /// The whole command line.
        command: String,
        /// How it ended.
        status: String,
        /// What it printed, both streams.
        output: String,
    },
    /// A program ended without success; what it printed went to the terminal.
    #[error("`{command}` failed with {status}")]
    Status {
        /// The whole command line.
        command: String,
        /// How it ended.
        status: String,
    },
    /// A condition did not come true in time.
    #[error("waited {limit:?} in vain for: {what}; last seen: {last}")]
    Timeout {
        /// The condition, as a sentence.
        what: String,
        /// How long it was waited for.
        limit: Duration,
        /// Why it did not hold at the last look.
        last: String,
    },
    /// A key or certificate could not be made.
    #[cfg(feature = "nodes")]
    #[error("cannot make {what}")]
    Certificate {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// SIGINT or SIGTERM came while waiting.
    #[error("interrupted")]
    Interrupted,
    /// The machine lacks something that cannot be had.
    #[error("{0}")]
    Machine(String),
    /// Something that was created could not be taken away.
    #[error("left behind after cleaning {}: {}", run.display(), rest.join(", "))]
    Residue {
        /// The folder of the run.
        run: PathBuf,
        /// Each thing that is still there.
        rest: Vec<String>,
    },
    /// A process that was to go on failed; carries the end of its log.
    #[error("{what}\n--- end of {} ---\n{tail}", log.display())]
    Process {
        /// What happened.
        what: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
}

/// Adds the verb and the path to an I/O error.
pub(crate) trait At<T> {
    /// `fs::read(p).at("read", p)`
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error> {
        self.map_err(|source| Error::File { action, path: path.into(), source })
    }
}

/// The last `lines` lines of a log file, or why it cannot be read.
#[cfg(feature = "nodes")]
pub(crate) fn tail(path: &std::path::Path, lines: usize) -> String {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({error})"),
    }
}
