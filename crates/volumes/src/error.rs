//! What went wrong with a volume.

use std::io;
use std::path::Path;
use std::time::Duration;

use volume_plan::plan;

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

/// What was being done for a volume, as the event about its failure has it (upstream
/// `pkg/volume/util/operationexecutor/operation_generator.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Finding out what it is.
    Process,
    /// Whether this node can have it.
    NodeAffinity,
    /// The same, as a device.
    MapNodeAffinity,
    /// Waiting until it is attached to the node.
    WaitForAttach,
    /// Looking at what the volume says.
    NewMounter,
    /// Mounting it once for the node.
    MountDevice,
    /// Mounting it for the pod.
    SetUp,
    /// Making use of all of it, as it has grown.
    Expand,
    /// The same, as a device.
    ExpandDevice,
    /// Whether the pod may have it as a device.
    SetUpDevice,
    /// Making it a device of the pod's.
    MapDevice,
}

/// A claim that is not there, or not bound, or a volume that is not attached, is asked for again after this time at most: nothing tells that it came. (The
/// kubelet asks every 12 s or so.)
const CLAIM: Duration = Duration::from_secs(8);

impl Step {
    /// The longest pause before the next attempt.
    pub(crate) fn patience(self) -> Duration {
        if matches!(self, Self::Process | Self::WaitForAttach) { CLAIM } else { plan::LONGEST }
    }

    /// Who misses a CSI driver, in upstream's words.
    pub(crate) fn caller(self) -> &'static str {
        match self {
            Self::MountDevice => "attacher.MountDevice failed to create newCsiDriverClient",
            Self::SetUpDevice => "blockMapper.SetUpDevice failed to get CSI client",
            _ => "mounter.SetUpAt failed to get CSI client",
        }
    }

    /// Whether the event is one of a device.
    pub(crate) fn maps(self) -> bool {
        matches!(self, Self::SetUpDevice | Self::MapDevice | Self::ExpandDevice)
    }

    /// What the event says, for a volume of this name; `unmounted` are all of the pod's that are not there.
    pub(crate) fn in_words(self, volume: &str, unmounted: &str, why: &SetUpError) -> String {
        let operation = match self {
            Self::Process => {
                return format!(
                    "Unable to attach or mount volumes: unmounted volumes=[{unmounted}], unattached volumes=[], failed \
                     to process volumes=[{volume}]: {why}"
                );
            }
            Self::NodeAffinity => "MountVolume.NodeAffinity check failed",
            Self::MapNodeAffinity => "MapVolume.NodeAffinity check failed",
            Self::WaitForAttach => "MountVolume.WaitForAttach failed",
            Self::NewMounter => "MountVolume.NewMounter initialization failed",
            Self::MountDevice => "MountVolume.MountDevice failed",
            Self::SetUp => "MountVolume.SetUp failed",
            Self::Expand => "MountVolume.Setup failed while expanding volume",
            Self::ExpandDevice => "MapVolume.MarkVolumeAsMounted failed while expanding volume",
            Self::SetUpDevice => "MapVolume.SetUpDevice failed",
            Self::MapDevice => "MapVolume.MapBlockVolume failed",
        };
        format!("{operation} for volume {volume:?} : {why}")
    }
}

/// What failed, and at which step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) step: Step,
    pub(crate) error: SetUpError,
}

impl From<SetUpError> for Failed {
    fn from(error: SetUpError) -> Self {
        Self { step: Step::SetUp, error }
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
    /// A program of the system failed.
    #[error("the volumes of the pod are left")]
    Program(#[source] volume_fs::helper::Error),
    /// The volume's CSI driver is not there, or has not undone it. In upstream's words.
    #[error("{0}")]
    Driver(String),
    /// A volume of a kind that this agent did not make and cannot take down.
    #[error("{0} is of a plugin that this agent does not have; it is left as it is")]
    Foreign(String),
    /// Something that is no volume is mounted there.
    #[error("{0} is still a mount point; what is mounted there is left as it is")]
    Mounted(String),
    /// Something is being done for them yet, as at a server that does not answer.
    #[error("the volumes of the pod are left, as this has not ended: {0}")]
    Held(String),
    /// What is done for a volume of the node takes as many seconds, and goes on.
    #[error("what is being done for it has not ended within {0} s")]
    Late(u64),
    /// The agent is going down, or the operation panicked.
    #[error("the volumes of the pod are left: {0}")]
    CutOff(String),
}
