//! The little of URLs that probes need: one from a handler, and the one that a redirect leads to.

use std::fmt;

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
        let location = location.split('#').next().unwrap_or_default();
        if let Some(rest) = strip_scheme(location, "https:") {
            return Self::parse(true, rest.strip_prefix("//")?);
        }
        if let Some(rest) = strip_scheme(location, "http:") {
            return Self::parse(false, rest.strip_prefix("//")?);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(self.tls, rest);
        }
        if has_scheme(location) {
            return None;
        }
        let (path, query) = split_query(location);
        let (own_path, own_query) = split_query(&self.target);
        let joined = match (path, query) {
            ("", None) => format!("{own_path}{}", own_query.unwrap_or_default()),
            ("", Some(query)) => format!("{own_path}{query}"),
            (path, query) => {
                let base =
                    if path.starts_with('/') { "" } else { &own_path[..own_path.rfind('/').unwrap_or(0)] };
                let absolute = format!("{base}/{}", path.trim_start_matches('/'));
                without_dots(&absolute) + query.unwrap_or_default()
            }
        };
        Some(Self::new(self.tls, self.host.clone(), self.port, &joined))
    }

    /// What follows `scheme://`.
    fn parse(tls: bool, rest: &str) -> Option<Self> {
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, rest) = v6.split_once(']')?;
                (host, rest.strip_prefix(':').or(rest.is_empty().then_some(""))?)
            }
            None => authority.rsplit_once(':').unwrap_or((authority, "")),
        };
        let default = if tls { 443 } else { 80 };
        let port = if port.is_empty() { default } else { port.parse().ok()? };
        (!host.is_empty()).then(|| Self::new(tls, host.to_owned(), port, path))
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

/// A request target of a path as somebody wrote it: no fragment, a leading slash, and no byte that a request line may
/// not have. Escapes that are already there stay.
fn target(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut target = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        target.push('/');
    }
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && !br#""<>\^`{|}"#.contains(&byte) {
            target.push(byte.into());
        } else {
            target.push_str(&format!("%{byte:02X}"));
        }
    }
    target
}

fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let head = text.get(..scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then(|| &text[scheme.len()..])
}

/// Whether a `Location` is an absolute URL.
pub(super) fn has_scheme(text: &str) -> bool {
    let end = text.find([':', '/', '?']).unwrap_or(0);
    end > 0 && text.as_bytes()[end] == b':' && text.as_bytes()[0].is_ascii_alphabetic()
}

/// The query keeps its question mark.
fn split_query(text: &str) -> (&str, Option<&str>) {
    match text.find('?') {
        Some(at) => (&text[..at], Some(&text[at..])),
        None => (text, None),
    }
}

/// RFC 3986, 5.2.4, of a path that begins with a slash.
fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if segments.peek().is_none() {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
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
