//! The node's resolver configuration, `resolvConf`.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use cri_config::dns::{ResolvConf, ResolvConfError};
use rustix::fs::OFlags;

/// Most that is read of it. Upstream `pkg/kubelet/network/dns/dns.go`.
const MOST_BYTES: u64 = 10 << 20;

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// It is not there, or may not be read.
    #[error("open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of it says nothing.
    #[error("parsing {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ResolvConfError,
    },
}

/// What it says now.
///
/// # Errors
/// When it cannot be read, or says nothing that can be used.
pub fn read(path: &Path) -> Result<ResolvConf, ResolverError> {
    let open = |source| ResolverError::Open { path: path.to_owned(), source };
    let text = contents(path).map_err(open)?;
    ResolvConf::parse(&String::from_utf8_lossy(&text))
        .map_err(|source| ResolverError::Parse { path: path.to_owned(), source })
}

/// The bytes of a regular file: opening anything else may wait for ever.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let nonblock = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

/// What it says at the start. Without it the node still runs what needs no names, and looks again for each pod.
pub fn at_start(path: &Path) -> ResolvConf {
    read(path).unwrap_or_else(|error| {
        let err = &error as &dyn std::error::Error;
        tracing::warn!(err, "pods that resolve names as the node does have to wait for --resolv-conf");
        ResolvConf::default()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn only_a_regular_file_is_read_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let [fifo, socket, file] = ["fifo", "socket", "file"].map(|name| dir.path().join(name));
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        std::fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
        for path in [&fifo, &socket, &dir.path().to_owned(), &dir.path().join("none")] {
            let error = read(path).unwrap_err();
            assert_eq!(error.to_string(), format!("open {}", path.display()));
        }
        assert_eq!(read(&file).unwrap().servers, ["192.0.2.1"]);
    }
}
