//! Who may use the API.
//!
//! A client needs a bearer token of the token file or a certificate of the client CA, if there is either. Browsers
//! may not use it in any case: a page of somebody else must not reach a server that trusts who can connect.

use std::net::IpAddr;

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};
use subtle::{Choice, ConstantTimeEq as _};

use super::Settings;
use super::error::ApiError;
use super::files::{self, BadFile, OfFiles};

/// The rule of one server.
pub(super) struct Access {
    tokens: Option<OfFiles<Tokens>>,
    certificates: bool,
    /// Plain TCP: the only place that a page whose name was bound to this machine's address can reach. TLS protects
    /// itself, because the name is checked, and no browser opens unix sockets.
    plain_tcp: bool,
}

/// What is known of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// It showed a certificate of the client CA.
    pub(super) certified: bool,
}

impl Access {
    pub(super) fn new(settings: &Settings) -> Result<Self, BadFile> {
        let tokens = settings.token_file.clone().map(|path| {
            files::open("tokens of the push API", vec![path.clone()], move |texts| {
                let none = || BadFile::Content { path: path.clone(), why: "holds no token".to_owned() };
                Tokens::read(&texts[0]).ok_or_else(none)
            })
        });
        Ok(Self {
            tokens: tokens.transpose()?,
            certificates: settings.client_ca.is_some(),
            plain_tcp: settings.tls.is_none() && matches!(settings.listen, super::Listen::Tcp(_)),
        })
    }

    /// Whether a client has to say who it is.
    pub(super) fn asks(&self) -> bool {
        self.tokens.is_some() || self.certificates
    }

    /// Lets a request pass, or says why not.
    pub(super) async fn check(&self, peer: Peer, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        not_a_browser(headers)?;
        if self.plain_tcp {
            addressed_to_this_machine(uri, headers)?;
        }
        if !self.asks() || peer.certified {
            return Ok(());
        }
        let token = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        // A token file that can not be read holds no token: it may have been removed to lock somebody out.
        if let (Some(tokens), Some(token)) = (&self.tokens, token)
            && tokens.only_current().await.is_some_and(|known| known.has(token))
        {
            return Ok(());
        }
        Err(ApiError::new(401, "Unauthorized", "Unauthorized"))
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token.trim_ascii())
}

/// Browsers say where a request comes from on everything that a page can send elsewhere.
fn not_a_browser(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.contains_key(ORIGIN) {
        return Err(refused("requests with the header Origin, which browsers send, are not served"));
    }
    // `none` is what a person typed into the address bar.
    if headers.get_all("sec-fetch-site").iter().any(|site| site != "none") {
        return Err(refused("requests with the header Sec-Fetch-Site, which browsers send, are not served"));
    }
    Ok(())
}

/// A page can bind its own name to 127.0.0.1; then its requests name that name.
fn addressed_to_this_machine(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(ApiError::bad_request("a request needs the header Host, once"));
    };
    let named = Authority::try_from(host.as_bytes()).ok();
    match [named.as_ref(), Some(uri.authority().or(named.as_ref())).flatten()] {
        [Some(a), Some(b)] if is_loopback(a.host()) && is_loopback(b.host()) => Ok(()),
        _ => Err(refused(format!(
            "{host:?} is not an address of this machine: use 127.0.0.1, [::1] or localhost"
        ))),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || bare.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

fn refused(why: impl Into<String>) -> ApiError {
    ApiError::new(403, "Forbidden", why)
}

/// The tokens of a file: one a line; empty lines and lines that begin with `#` do not count.
struct Tokens(Vec<Vec<u8>>);

impl Tokens {
    fn read(text: &[u8]) -> Option<Self> {
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let tokens: Vec<_> =
            lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).map(<[u8]>::to_vec).collect();
        (!tokens.is_empty()).then_some(Self(tokens))
    }

    /// Takes the same time whichever token is tried, but for its length.
    fn has(&self, token: &[u8]) -> bool {
        self.0.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(token)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn access(tokens: Option<&str>, certificates: bool, plain_tcp: bool) -> (Access, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let mut settings = Settings::new("unix:/s".parse().unwrap(), "node1", dir.path());
        if let Some(tokens) = tokens {
            std::fs::write(&path, tokens).unwrap();
            settings.token_file = Some(path);
        }
        (Access { certificates, plain_tcp, ..Access::new(&settings).unwrap() }, dir)
    }

    async fn code(access: &Access, certified: bool, uri: &str, list: &[(&'static str, &str)]) -> u16 {
        let uri: Uri = uri.parse().unwrap();
        access.check(Peer { certified }, &uri, &headers(list)).await.map_or_else(|error| error.code, |()| 200)
    }

    #[tokio::test]
    async fn browsers_are_refused_whatever_they_ask_for() {
        let (access, _dir) = access(None, false, true);
        let host = ("host", "127.0.0.1:8080");
        for (list, expected) in [
            (&[host][..], 200),
            (&[host, ("sec-fetch-site", "none")], 200),
            (&[host, ("sec-fetch-site", "cross-site")], 403),
            (&[host, ("sec-fetch-site", "same-origin")], 403),
            (&[host, ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], 403),
            (&[host, ("origin", "http://127.0.0.1:8080")], 403),
            (&[host, ("origin", "null")], 403),
        ] {
            assert_eq!(code(&access, false, "/api", list).await, expected, "{list:?}");
        }
    }

    #[tokio::test]
    async fn plain_tcp_answers_to_names_of_this_machine_only() {
        let (plain, _dir) = access(None, false, true);
        for (host, expected) in [
            ("127.0.0.1", 200),
            ("127.0.0.1:8080", 200),
            ("127.1.2.3:1", 200),
            ("[::1]:8080", 200),
            ("LOCALHOST:8080", 200),
            ("attacker.example:8080", 403),
            ("127.0.0.1.attacker.example", 403),
            ("localhost.attacker.example", 403),
            ("10.0.0.1:8080", 403),
            ("attacker@127.0.0.1:80 ", 403),
            ("", 403),
        ] {
            assert_eq!(code(&plain, false, "/api", &[("host", host)]).await, expected, "{host}");
        }
        assert_eq!(code(&plain, false, "/api", &[]).await, 400);
        assert_eq!(
            code(&plain, false, "/api", &[("host", "localhost"), ("host", "attacker.example")]).await,
            400
        );
        assert_eq!(code(&plain, false, "http://attacker.example/api", &[("host", "localhost")]).await, 403);
        assert_eq!(code(&plain, false, "http://localhost/api", &[("host", "attacker.example")]).await, 403);
        let (other, _dir) = access(None, false, false);
        assert_eq!(code(&other, false, "/api", &[("host", "node1.example")]).await, 200);
    }

    #[tokio::test]
    async fn a_token_or_a_certificate_is_needed_where_there_is_either() {
        let none = &[][..];
        let right = &[("authorization", "Bearer old")][..];
        let (tokens, _dir) = access(Some("# two\n\n old \nnew\n"), false, false);
        for (list, expected) in [
            (none, 401),
            (right, 200),
            (&[("authorization", "bearer new")], 200),
            (&[("authorization", "Bearer ol")], 401),
            (&[("authorization", "Bearer older")], 401),
            (&[("authorization", "Bearer ")], 401),
            (&[("authorization", "Bearer # two")], 401),
            (&[("authorization", "Basic old")], 401),
            (&[("authorization", "old")], 401),
        ] {
            assert_eq!(code(&tokens, false, "/api", list).await, expected, "{list:?}");
        }
        let (certificates, _dir) = access(None, true, false);
        assert_eq!(code(&certificates, true, "/api", none).await, 200);
        assert_eq!(code(&certificates, false, "/api", none).await, 401);
        assert_eq!(code(&certificates, false, "/api", right).await, 401);
        let (both, _dir) = access(Some("old"), true, false);
        assert_eq!(code(&both, true, "/api", none).await, 200);
        assert_eq!(code(&both, false, "/api", right).await, 200);
        assert_eq!(code(&both, false, "/api", none).await, 401);
    }

    #[tokio::test]
    async fn tokens_change_with_their_file_and_are_gone_with_it() {
        let (access, dir) = access(Some("old"), false, false);
        let path = dir.path().join("tokens");
        let token = async |token: &str| {
            code(&access, false, "/api", &[("authorization", &format!("Bearer {token}"))]).await
        };
        assert_eq!(token("old").await, 200);
        std::fs::write(&path, "newer").unwrap();
        assert_eq!((token("old").await, token("newer").await), (401, 200));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(token("newer").await, 401);
        std::fs::write(&path, "newest").unwrap();
        assert_eq!(token("newest").await, 200);
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(token("newest").await, 401);
    }
}
