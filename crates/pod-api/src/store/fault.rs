//! Where tests make the disk fail, or kill the process. Outside of tests there is nothing here.

#[cfg(test)]
use std::sync::Arc;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The temporary file is made.
    Create,
    /// The text is written to it.
    Write,
    /// The text is brought to the disk.
    SyncFile,
    /// The file takes the place of the one before.
    Rename,
    /// The file goes.
    Unlink,
    /// The folder is brought to the disk.
    SyncFolder,
    /// All is on the disk, and nobody has been told.
    Done,
}

/// Decides what happens at each step.
#[derive(Clone, Default)]
pub(super) struct Fault {
    #[cfg(test)]
    pub(super) hook: Option<Arc<dyn Fn(Step) -> std::io::Result<()> + Send + Sync>>,
}

impl Fault {
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests use it")]
    pub(super) fn at(&self, _: Step) -> std::io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn at(&self, step: Step) -> std::io::Result<()> {
        self.hook.as_ref().map_or(Ok(()), |hook| hook(step))
    }
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fault")
    }
}
