//! The URL that is read: apart from its credentials, and where a redirect leads.

use ::http::header::HeaderValue;
use ::http::uri::{Scheme, Uri};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use iri_string::format::ToDedicatedString;
use iri_string::types::{UriAbsoluteStr, UriReferenceStr};
use percent_encoding::percent_decode_str;

use super::{Error, Redirects};

/// An absolute `http` or `https` URL.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    /// Without credentials.
    pub(super) uri: Uri,
    /// The `Authorization` that the credentials make.
    pub(super) authorization: Option<HeaderValue>,
}

impl Target {
    /// No error shows any of the text: it may hold a password.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let uri: Uri = text.parse().map_err(Error::Url)?;
        let mut parts = uri.into_parts();
        if parts.scheme != Some(Scheme::HTTP) && parts.scheme != Some(Scheme::HTTPS) {
            return Err(Error::Scheme);
        }
        let mut authorization = None;
        if let Some((credentials, server)) =
            parts.authority.as_ref().and_then(|authority| authority.as_str().rsplit_once('@'))
        {
            authorization = Some(basic(credentials));
            parts.authority = Some(server.parse().map_err(Error::Url)?);
        }
        let uri = Uri::from_parts(parts).map_err(|_| Error::Scheme)?;
        let (host, server) = (uri.host().unwrap_or_default(), uri.authority().map_or("", |a| a.as_str()));
        // Whatever follows the host must be a port.
        if host.is_empty() || (server != host && uri.port_u16().is_none()) {
            return Err(Error::Scheme);
        }
        Ok(Self { uri, authorization })
    }

    /// For people: without the query, which may be a signature or token.
    pub(super) fn shown(&self) -> String {
        let text = self.uri.to_string();
        match text.split_once('?') {
            Some((before, _)) => format!("{before}?…"),
            None => text,
        }
    }

    pub(super) fn is_https(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }

    /// Whether `other` is the same server: the same host and port. A server's plain and its encrypted port are
    /// one when it leads from the plain to the encrypted.
    pub(super) fn is_server_of(&self, other: &Self) -> bool {
        let host = |target: &Self| target.uri.host().unwrap_or_default().to_ascii_lowercase();
        host(self) == host(other) && (self.port() == other.port() || (!self.is_https() && other.is_https()))
    }

    fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.is_https() { 443 } else { 80 })
    }

    /// Follows a `Location`, if that is allowed.
    pub(super) fn redirected(&self, location: &str, allowed: Redirects) -> Result<Self, RedirectError> {
        let next = self.join(location).ok_or(RedirectError::Location)?;
        if self.is_https() && !next.is_https() {
            return Err(RedirectError::Downgrade(next.shown()));
        }
        if allowed == Redirects::SameHost && !self.is_server_of(&next) {
            return Err(RedirectError::OtherHost(next.shown()));
        }
        Ok(next)
    }

    fn join(&self, location: &str) -> Option<Self> {
        let own = self.uri.to_string();
        let own = UriAbsoluteStr::new(&own).ok()?;
        let joined = UriReferenceStr::new(location).ok()?.resolve_against(own).to_dedicated_string();
        Self::parse(joined.to_absolute().as_str()).ok()
    }
}

/// Why a redirect is not followed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RedirectError {
    #[error("the redirect leads to no http or https URL")]
    Location,
    #[error("the redirect leads from https to {0}, which is not encrypted")]
    Downgrade(String),
    #[error("the redirect leads to another server, {0}, and only those within the same one are followed")]
    OtherHost(String),
}

/// Basic authentication, as Go makes it of a URL.
fn basic(credentials: &str) -> HeaderValue {
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let mut pair: Vec<u8> = percent_decode_str(user).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(password));
    #[expect(clippy::expect_used, reason = "base64 is letters, digits, '+', '/' and '='")]
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).expect("plain ASCII");
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        Target::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn credentials_are_taken_out_and_queries_are_not_shown() {
        let with = target("https://us%20er:p%40ss@Host:8443/pods?token=x");
        assert_eq!(with.uri.to_string(), "https://Host:8443/pods?token=x");
        assert_eq!(with.shown(), "https://Host:8443/pods?…");
        assert_eq!(with.authorization.as_ref().unwrap(), "Basic dXMgZXI6cEBzcw==");
        assert!(!format!("{with:?}").contains("dXMg"));
        assert_eq!(target("http://user@h").authorization.unwrap(), "Basic dXNlcjo=");
        let plain = target("http://h");
        assert_eq!((plain.shown().as_str(), plain.authorization), ("http://h/", None));
    }

    #[test]
    fn what_is_no_url_of_a_server_is_refused_without_showing_it() {
        for text in [
            "",
            "/pods",
            "h:80/x",
            "ftp://secret@h/x",
            "file:///etc/secret",
            "http://",
            "http://secret:x@/",
            "http://h secret",
            "http://secret@h:port/",
        ] {
            let error = Target::parse(text).unwrap_err();
            let shown = super::super::chain(&error);
            assert!(!shown.contains("secret"), "{text}: {shown}");
        }
    }

    #[test]
    fn redirects_lead_where_a_browser_would_go() {
        let from = target("http://u:p@h:8080/a/b?q=1");
        for (location, expected) in [
            ("/c", Some("http://h:8080/c")),
            ("c?x#y", Some("http://h:8080/a/c?x")),
            ("./c/./d", Some("http://h:8080/a/c/d")),
            ("../../..", Some("http://h:8080/")),
            ("/x/../y/.", Some("http://h:8080/y/")),
            ("?z", Some("http://h:8080/a/b?z")),
            ("", Some("http://h:8080/a/b?q=1")),
            ("/c?u=http://x/", Some("http://h:8080/c?u=http://x/")),
            ("//other/c", Some("http://other/c")),
            ("HTTPS://other:99?q", Some("https://other:99/?q")),
            ("http://u:p@[::1]:9/c", Some("http://[::1]:9/c")),
            ("ftp://h/c", None),
            ("mailto:x", None),
            ("http:///c", None),
        ] {
            let next = from.join(location).map(|next| next.uri.to_string());
            assert_eq!(next.as_deref(), expected, "{location:?}");
        }
        assert_eq!(from.join("/c").unwrap().authorization, None);
    }

    #[test]
    fn only_redirects_within_a_server_are_followed_and_none_to_plain_http() {
        for (from, to, same_host, any) in [
            ("http://h/a", "/b", true, true),
            ("http://h/a", "http://H:80/b", true, true),
            ("http://h/a", "https://h/b", true, true),
            ("http://h:8080/a", "https://h:8443/b", true, true),
            ("https://h/a", "https://h:443/b", true, true),
            ("http://h/a", "http://h:81/b", false, true),
            ("http://h/a", "http://other/b", false, true),
            ("http://h/a", "http://h.other/b", false, true),
            ("https://h/a", "https://other/b", false, true),
            ("https://h/a", "http://h/b", false, false),
            ("https://h:80/a", "http://h:80/b", false, false),
        ] {
            let allowed = |redirects| target(from).redirected(to, redirects).is_ok();
            let found = (allowed(Redirects::SameHost), allowed(Redirects::Any));
            assert_eq!(found, (same_host, any), "{from} {to}");
        }
    }
}
