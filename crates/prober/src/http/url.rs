//! The little of URLs that probes need: one from a handler, and the one that a redirect leads to.

use std::fmt;

use iri_string::format::ToDedicatedString;
use iri_string::types::{UriAbsoluteStr, UriReferenceStr};
use percent_encoding::{AsciiSet, CONTROLS};

const NOT_IN_URLS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// An absolute `http` or `https` URL. The port is always explicit, as in the kubelet's requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) tls: bool,
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query, escaped, beginning with `/`.
    pub(super) target: String,
}

impl Url {
    pub(super) fn new(tls: bool, host: String, port: u16, path: &str) -> Self {
        Self { tls, host, port, target: target(path) }
    }

    pub(super) fn authority(&self) -> String {
        authority(&self.host, self.port)
    }

    /// Where a `Location` header leads, seen from this URL; `None` if that is no http or https URL.
    pub(super) fn join(&self, location: &str) -> Option<Self> {
        let own = self.to_string();
        let own = UriAbsoluteStr::new(&own).ok()?;
        let location = escaped(location.split('#').next().unwrap_or_default());
        let joined = UriReferenceStr::new(&location).ok()?.resolve_against(own).to_dedicated_string();
        let tls = match joined.scheme_str() {
            scheme if scheme.eq_ignore_ascii_case("https") => true,
            scheme if scheme.eq_ignore_ascii_case("http") => false,
            _ => return None,
        };
        let server = joined.authority_components()?;
        let host = server.host().trim_start_matches('[').trim_end_matches(']');
        let port = match server.port().filter(|port| !port.is_empty()) {
            Some(port) => port.parse().ok()?,
            None if tls => 443,
            None => 80,
        };
        let query = joined.query().map(|query| format!("?{}", query.as_str())).unwrap_or_default();
        (!host.is_empty())
            .then(|| Self::new(tls, host.to_owned(), port, &format!("{}{query}", joined.path_str())))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.target)
    }
}

/// `host:port`, IPv6 addresses in brackets.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A request target of a path as somebody wrote it: without fragment, with a leading slash.
fn target(path: &str) -> String {
    let path = escaped(path.split('#').next().unwrap_or_default());
    if path.starts_with('/') { path } else { format!("/{path}") }
}

/// No byte that a request line may not have. Escapes that are already there stay.
fn escaped(text: &str) -> String {
    percent_encoding::percent_encode(text.as_bytes(), NOT_IN_URLS).to_string()
}

/// Whether a `Location` is an absolute URL.
pub(super) fn has_scheme(text: &str) -> bool {
    let end = text.find([':', '/', '?']).unwrap_or(0);
    end > 0 && text.as_bytes()[end] == b':' && text.as_bytes()[0].is_ascii_alphabetic()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn handler_paths_become_request_targets() {
        let cases = [
            ("", "/"),
            ("healthz", "/healthz"),
            ("/healthz", "/healthz"),
            ("/a?b=c&d=e", "/a?b=c&d=e"),
            ("?b", "/?b"),
            ("/a#b", "/a"),
            ("/a b", "/a%20b"),
            ("/a%20b", "/a%20b"),
            ("/é", "/%C3%A9"),
            ("/a\r\nX: y", "/a%0D%0AX:%20y"),
        ];
        for (path, expected) in cases {
            assert_eq!(target(path), expected, "{path:?}");
        }
        let v6 = Url::new(true, "fd00::1".into(), 8443, "x");
        assert_eq!(v6.to_string(), "https://[fd00::1]:8443/x");
    }

    #[test]
    fn redirects_resolve() {
        let from = Url::new(false, "10.0.0.1".into(), 8080, "/a/b?q=1");
        let cases = [
            ("/c", Some("http://10.0.0.1:8080/c")),
            ("c?x#y", Some("http://10.0.0.1:8080/a/c?x")),
            ("./c/./d", Some("http://10.0.0.1:8080/a/c/d")),
            ("../../..", Some("http://10.0.0.1:8080/")),
            ("/x/../y/.", Some("http://10.0.0.1:8080/y/")),
            ("?z", Some("http://10.0.0.1:8080/a/b?z")),
            ("", Some("http://10.0.0.1:8080/a/b?q=1")),
            ("//10.0.0.1/c", Some("http://10.0.0.1:80/c")),
            ("https://10.0.0.1/c", Some("https://10.0.0.1:443/c")),
            ("HTTP://10.0.0.1:99?q", Some("http://10.0.0.1:99/?q")),
            ("http://u:p@[::1]:9/c", Some("http://[::1]:9/c")),
            ("http://[::1]/c", Some("http://[::1]:80/c")),
            ("/c:d", Some("http://10.0.0.1:8080/c:d")),
            ("ftp://10.0.0.1/c", None),
            ("mailto:x", None),
            ("http:///c", None),
            ("http://10.0.0.1:port/", None),
            ("http://[::1/", None),
            ("http://[::1]9/", None),
        ];
        for (location, expected) in cases {
            assert_eq!(from.join(location).map(|u| u.to_string()).as_deref(), expected, "{location:?}");
        }
    }

    proptest! {
        #[test]
        fn any_location_yields_a_valid_target_or_nothing(location in ".*") {
            let from = Url::new(false, "10.0.0.1".into(), 80, "/a");
            if let Some(url) = from.join(&location) {
                prop_assert!(url.target.parse::<http::uri::PathAndQuery>().is_ok(), "{:?}", url.target);
                prop_assert!(url.target.starts_with('/'));
            }
        }
    }
}
