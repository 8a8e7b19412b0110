//! The commands `node-agent logs`, `node-agent exec` and `node-agent port-forward`: what kubectl does under these
//! names, over the local socket and without an API server. They block, on a small runtime of their own.

mod exec;
mod logs;
mod port_forward;
mod target;
mod terminal;

use std::io;
use std::path::Path;

use tokio::runtime::Builder;

use crate::client::ClientError;
use crate::show::ShowError;

pub use exec::{ExecRequest, exec};
pub use logs::logs;
pub use port_forward::{Forward, LocalPort, PortForwardRequest, RemotePort, port_forward};
pub use server::LogOptions;

/// Which pod of which agent.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The agent's root folder.
    pub root_dir: &'a Path,
    /// The pod's namespace; `None` looks in all of them.
    pub namespace: Option<&'a str>,
    /// The pod: its name, with or without the node's name that static pods have at their end, `NAMESPACE/NAME`, or the
    /// start of its UID.
    pub pod: &'a str,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no agent, no such pod, or the output cannot be written.
    #[error(transparent)]
    Show(#[from] ShowError),
    /// The agent said no.
    #[error("{0}")]
    Refused(String),
    /// The pod has no such container.
    #[error("container {container:?} is not in pod {pod}, whose containers are: {}", .valid.join(", "))]
    NoContainer {
        /// What was asked for.
        container: String,
        /// The pod.
        pod: String,
        /// What could have been.
        valid: Vec<String>,
    },
    /// The container does not run, so nothing can be run in it.
    #[error("container {container:?} in pod {pod} does not run: {state}")]
    NotRunning {
        /// The container.
        container: String,
        /// Its pod.
        pod: String,
        /// What it does instead.
        state: String,
    },
    /// The pod does not run.
    #[error("unable to forward ports because pod {pod} is not running. Current status={phase}")]
    NoPorts {
        /// The pod.
        pod: String,
        /// Its phase.
        phase: String,
    },
    /// No container of the pod has a port with this name.
    #[error("pod {pod} has no port named {port:?}")]
    NoPort {
        /// The pod.
        pod: String,
        /// The port.
        port: String,
    },
    /// An address that is none of this machine's, or a port that is taken.
    #[error("listening on {address}")]
    Listen {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The connection ended before the command did.
    #[error("lost the connection to the container")]
    Lost,
    /// The runtime could not run the command.
    #[error("{0}")]
    Failed(String),
    /// The terminal cannot be read or set.
    #[error("using the terminal")]
    Terminal(#[source] io::Error),
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        match error {
            // Its words are about the pod; who said them does not matter.
            ClientError::Refused { message, .. } if !message.is_empty() => Self::Refused(message),
            other => Self::Show(ShowError::Client(other)),
        }
    }
}

impl From<io::Error> for CommandError {
    fn from(source: io::Error) -> Self {
        Self::Show(ShowError::Write(source))
    }
}

impl CommandError {
    /// Whether only the reader of our output went away, as with `| head`.
    fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Show(ShowError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Runs `work` to its end. What still reads from a terminal then is left behind.
fn block_on<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(ShowError::Start)?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}
