//! Where a runtime listens: text in, socket path out. Touches no file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Linux's `sun_path` has 108 bytes and ends with a NUL.
const MAX_SOCKET_PATH: usize = 107;

/// The address of a container runtime: a unix socket, or whatever a connector of the caller's goes to.
///
/// Parses `unix:///path` and, as the kubelet does, a bare `/path`; prints as `unix:///path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint(Kind);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    Unix(PathBuf),
    Named(String),
}

impl Endpoint {
    /// The socket's absolute path; none of a connector.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Unix(path) => Some(path),
            Kind::Named(_) => None,
        }
    }

    /// What a connector goes to.
    pub(crate) fn named(name: String) -> Self {
        Self(Kind::Named(name))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Unix(path) => write!(f, "unix://{}", path.display()),
            Kind::Named(name) => f.write_str(name),
        }
    }
}

/// Why a text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "container runtime endpoint {given:?} {problem}; expected unix:///path/to/socket, such as \
     unix:///run/containerd/containerd.sock"
)]
pub struct EndpointError {
    given: String,
    problem: String,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(given: &str) -> Result<Self, EndpointError> {
        let fail = |problem: String| Err(EndpointError { given: given.to_owned(), problem });
        let path = match given.split_once("://") {
            Some(("unix", path)) => path,
            Some((scheme, _)) => return fail(format!("has the scheme {scheme:?}")),
            None => given,
        };
        if given.is_empty() {
            fail("is empty".into())
        } else if !path.starts_with('/') {
            fail("has no absolute path".into())
        } else if path.ends_with('/') {
            fail("names a folder".into())
        } else if path.contains('\0') {
            fail("has a NUL in it".into())
        } else if path.len() > MAX_SOCKET_PATH {
            fail(format!("has a path of {} bytes, more than the {MAX_SOCKET_PATH} of a socket", path.len()))
        } else {
            Ok(Self(Kind::Unix(path.into())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_url_and_a_bare_path_are_the_same_endpoint() {
        for given in ["unix:///run/containerd/containerd.sock", "/run/containerd/containerd.sock"] {
            let endpoint: Endpoint = given.parse().unwrap();
            assert_eq!(endpoint.path(), Some(Path::new("/run/containerd/containerd.sock")));
            assert_eq!(endpoint.to_string(), "unix:///run/containerd/containerd.sock");
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_is_expected() {
        let long = format!("unix:///{}", "x".repeat(107));
        for (given, problem) in [
            ("", "is empty"),
            ("tcp://127.0.0.1:2375", "has the scheme \"tcp\""),
            ("npipe:////./pipe/containerd", "has the scheme \"npipe\""),
            ("unix://run/x.sock", "has no absolute path"),
            ("unix:/run/x.sock", "has no absolute path"),
            ("unix://", "has no absolute path"),
            ("containerd.sock", "has no absolute path"),
            ("unix:///", "names a folder"),
            ("/run/\0", "has a NUL in it"),
            (&long, "has a path of 108 bytes"),
        ] {
            let message = given.parse::<Endpoint>().unwrap_err().to_string();
            assert!(message.contains(problem), "{given}: {message}");
            assert!(message.contains(&format!("{given:?}")), "{given}: {message}");
            assert!(message.contains("unix:///run/containerd/containerd.sock"), "{given}: {message}");
        }
    }
}
