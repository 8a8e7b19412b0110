//! What went wrong with a volume.

use std::io;
use std::path::Path;

/// Why a volume could not be made what it is to be, in upstream's words where it has some.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct SetUpError(pub(crate) String);

impl From<volume_fs::Error> for SetUpError {
    fn from(error: volume_fs::Error) -> Self {
        Self(util::causes(&error))
    }
}

impl SetUpError {
    /// The pod ends meanwhile.
    pub(crate) fn ending() -> Self {
        Self("the volumes of the pod are being taken down".to_owned())
    }
}

/// A failed call as Go writes it: `open /a/b: no such file or directory`. Users search for that.
pub(crate) fn go_words(call: &str, path: &Path, error: &io::Error) -> SetUpError {
    let what = error.to_string();
    let what = what.split_once(" (os error").map_or(what.as_str(), |(text, _)| text);
    SetUpError(format!("{call} {}: {}", path.display(), lower(what)))
}

/// Go begins them with a small letter.
fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// Why the volumes of a pod could not be taken down: something of them is left on the node.
#[derive(Debug, thiserror::Error)]
pub enum TearDownError {
    /// A call of the kernel failed.
    #[error("volumes of the pod are left")]
    Fs(#[from] volume_fs::Error),
    /// A file or folder could not be worked with.
    #[error("{action} {}", .path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// With which.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A volume of a kind that this agent did not make and cannot take down.
    #[error("{0} is of a plugin that this agent does not have; it is left as it is")]
    Foreign(String),
    /// Something that is no volume is mounted there.
    #[error("{0} is still a mount point; what is mounted there is left as it is")]
    Mounted(String),
    /// Something is being done for them yet, as at a server that does not answer.
    #[error("the volumes of the pod are left, as this has not ended: {0}")]
    Held(String),
    /// The agent is going down, or the operation panicked.
    #[error("the volumes of the pod are left: {0}")]
    CutOff(String),
}
