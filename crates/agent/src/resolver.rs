//! The node's resolver configuration, `resolvConf`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use cri_config::dns::{ResolvConf, ResolvConfError};

/// Most that is read of it. Upstream `pkg/kubelet/network/dns/dns.go`.
const MOST_BYTES: u64 = 10 << 20;

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolverError {
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
pub(crate) fn read(path: &Path) -> Result<ResolvConf, ResolverError> {
    let open = |source| ResolverError::Open { path: path.to_owned(), source };
    let mut text = Vec::new();
    File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut text)).map_err(open)?;
    ResolvConf::parse(&String::from_utf8_lossy(&text))
        .map_err(|source| ResolverError::Parse { path: path.to_owned(), source })
}

/// What it says at the start. Without it the node still runs what needs no names, and looks again for each pod.
pub(crate) fn at_start(path: &Path) -> ResolvConf {
    read(path).unwrap_or_else(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        tracing::warn!(%error, source, "pods that resolve names as the node does have to wait for --resolv-conf");
        ResolvConf::default()
    })
}
