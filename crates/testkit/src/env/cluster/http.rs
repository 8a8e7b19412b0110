//! One HTTP request at a time, blocking, each on a connection of its own: enough to look at a server from a test.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::env::Identity;

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks one server over TLS, as the holder of a token.
#[derive(Debug)]
pub(super) struct Client {
    address: SocketAddr,
    token: String,
    config: Arc<ClientConfig>,
}

impl Client {
    /// Trusts this authority (a PEM file) and no other.
    pub(super) fn new(address: SocketAddr, token: String, ca: &Path) -> Result<Self> {
        Ok(Self { address, token, config: Arc::new(config(ca, None)?) })
    }

    /// Sends one request, with a body of this media type; returns the code and the body of the answer.
    pub(super) fn send(&self, method: &str, path: &str, body: Option<(&str, &str)>) -> Result<(u16, String)> {
        let stream = encrypt(&self.config, connect(self.address)?)?;
        Request { method, path, token: Some(&self.token), body }.send(stream)
    }

    /// Asks for a watch; returns its lines as they come, however long that takes.
    pub(super) fn watch(&self, path: &str) -> Result<impl Iterator<Item = Result<String>> + Send + use<>> {
        let stream = connect(self.address)?;
        stream.set_read_timeout(None)?;
        let mut stream = encrypt(&self.config, stream)?;
        Request { method: "GET", path, token: Some(&self.token), body: None }.write(&mut stream)?;
        let mut lines = BufReader::new(stream).lines();
        let first = lines.next().ok_or(ErrorKind::UnexpectedEof)??;
        // The headers end with an empty line.
        lines.by_ref().take_while(|line| line.as_ref().is_ok_and(|l| !l.is_empty())).for_each(drop);
        match first.split(' ').nth(1) {
            Some("200") => Ok(lines),
            _ => Err(Error::other(format!("the answer is {first}"))),
        }
    }
}

/// A TLS connection.
pub(super) type Encrypted = StreamOwned<ClientConnection, TcpStream>;

fn encrypt(config: &Arc<ClientConfig>, stream: TcpStream) -> Result<Encrypted> {
    let name = ServerName::IpAddress(stream.peer_addr()?.ip().into());
    let tls = ClientConnection::new(Arc::clone(config), name).map_err(Error::other)?;
    Ok(StreamOwned::new(tls, stream))
}

/// Connects over TLS as the holder of this certificate, trusting this authority (a PEM file), with a handshake as
/// though for the first time.
pub(super) fn dial(address: SocketAddr, ca: &Path, identity: &Identity) -> Result<Encrypted> {
    let mut config = config(ca, Some(identity))?;
    config.resumption = Resumption::disabled();
    let mut stream = encrypt(&Arc::new(config), connect(address)?)?;
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

fn config(ca: &Path, identity: Option<&Identity>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).map_err(Error::other)?).map_err(Error::other)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::other)?
        .with_root_certificates(roots);
    let Some(identity) = identity else { return Ok(builder.with_no_client_auth()) };
    let certificate = CertificateDer::from_pem_file(&identity.certificate).map_err(Error::other)?;
    let key = PrivateKeyDer::from_pem_file(&identity.key).map_err(Error::other)?;
    builder.with_client_auth_cert(vec![certificate], key).map_err(Error::other)
}

/// What is asked.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) token: Option<&'a str>,
    /// Media type and content.
    pub(super) body: Option<(&'a str, &'a str)>,
}

impl Request<'_> {
    /// Sends it over a plain connection; returns the code and the body of the answer.
    pub(super) fn plain(&self, address: SocketAddr) -> Result<(u16, String)> {
        self.send(connect(address)?)
    }

    fn write(&self, stream: &mut impl Write) -> Result<()> {
        // After HTTP/1.0 a server sends the body unchunked and closes.
        let mut head = format!("{} {} HTTP/1.0\r\nAccept: application/json\r\n", self.method, self.path);
        if let Some(token) = self.token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        let (kind, body) = self.body.unwrap_or_default();
        if !body.is_empty() {
            head += &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        }
        write!(stream, "{head}\r\n{body}")?;
        stream.flush()
    }

    fn send(&self, mut stream: impl Read + Write) -> Result<(u16, String)> {
        self.write(&mut stream)?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            // Go closes the connection without TLS' word of parting.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof && !answer.is_empty() => {}
            done => drop(done?),
        }
        parse(&String::from_utf8_lossy(&answer))
            .ok_or_else(|| Error::new(ErrorKind::InvalidData, "the answer is not HTTP"))
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    // As Go's clients: what is written in pieces does not wait for the answer to the first.
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let code = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((code, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_code_and_what_follows_the_headers() {
        assert_eq!(parse("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}\r\n\r\n"), Some((200, "{}\r\n\r\n".to_owned())));
        assert_eq!(parse("HTTP/1.0 404 Not Found\r\n\r\n"), Some((404, String::new())));
        assert_eq!(parse("HTTP/1.0 200 OK\r\n"), None);
        assert_eq!(parse("\x15\x03\x01\r\n\r\n"), None);
    }
}
