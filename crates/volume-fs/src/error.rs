//! What failed, and where.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// A call of the kernel that failed: `mounting tmpfs at /var/lib/kubelet/...`.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}", .path.display())]
pub struct Error {
    /// What was being done.
    pub action: &'static str,
    /// To which path.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl Error {
    pub(crate) fn new(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self { action, path: path.to_owned(), source: source.into() }
    }

    /// Whether there is nothing at the path.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether the kernel answered with this.
    pub fn is(&self, errno: Errno) -> bool {
        match Errno::from_io_error(&self.source) {
            Some(answer) => answer == errno,
            // It is told with more than the kernel says.
            None => self.source.kind() == errno.kind(),
        }
    }
}

/// Adds what was done to which path.
pub(crate) trait During<T> {
    fn during(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::new(action, path, source))
    }
}
