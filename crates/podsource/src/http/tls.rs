//! Connections, and which certificates are trusted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use kube_model::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::net::TcpStream;
use tower::ServiceExt;

/// A connection to a server.
pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the CA file {path} can not be read")]
    CaFile { path: PathBuf, source: io::Error },
    #[error("the CA file {path} is not in PEM format")]
    Pem { path: PathBuf, source: pem::Error },
    #[error("the CA file {0} has no usable certificate")]
    NoCa(PathBuf),
    #[error("this system has no root certificates: install them or set a CA file")]
    NoRoots,
    #[error("can not set up TLS")]
    Config(#[from] rustls::Error),
    #[error("can not connect to {server}")]
    Connect { server: String, source: Box<dyn std::error::Error + Send + Sync> },
}

/// Opens connections: straight to the server, whatever the environment says of proxies.
#[derive(Debug)]
pub(super) struct Connector {
    plain: HttpConnector,
    ca_file: Option<PathBuf>,
    /// For https, made when it is first needed: what stood in the CA file (nothing for the roots of the system),
    /// and what came of it.
    encrypted: Option<(Vec<u8>, HttpsConnector<HttpConnector>)>,
}

impl Connector {
    pub(super) fn new(ca_file: Option<PathBuf>, timeout: Duration) -> Self {
        let mut plain = HttpConnector::new();
        plain.enforce_http(false);
        // Shared by all addresses of the server, so that one that does not answer leaves time for the next.
        plain.set_connect_timeout(Some(timeout));
        Self { plain, ca_file, encrypted: None }
    }

    /// Connects to the server of an absolute `http` or `https` URL.
    pub(super) async fn connect(&mut self, uri: &Uri) -> Result<Stream, Error> {
        let server = uri.authority().map(ToString::to_string).unwrap_or_default();
        let failed = |source| Error::Connect { server, source };
        if uri.scheme_str() == Some("https") {
            return self.encrypted().await?.oneshot(uri.clone()).await.map_err(failed);
        }
        let stream = self.plain.clone().oneshot(uri.clone()).await;
        stream.map(MaybeHttpsStream::Http).map_err(|error| failed(error.into()))
    }

    async fn encrypted(&mut self) -> Result<HttpsConnector<HttpConnector>, Error> {
        let text = match &self.ca_file {
            Some(path) => {
                tokio::fs::read(path).await.map_err(|source| Error::CaFile { path: path.clone(), source })?
            }
            None => Vec::new(),
        };
        if let Some((same, connector)) = &self.encrypted
            && *same == text
        {
            return Ok(connector.clone());
        }
        let roots = match &self.ca_file {
            Some(path) => ca_file(path, &text)?,
            None => system_roots().await?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .wrap_connector(self.plain.clone());
        self.encrypted = Some((text, connector.clone()));
        Ok(connector)
    }
}

fn ca_file(path: &Path, text: &[u8]) -> Result<RootCertStore, Error> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let certificates = certificates.map_err(|source| Error::Pem { path: path.to_owned(), source })?;
    let mut roots = RootCertStore::empty();
    match roots.add_parsable_certificates(certificates) {
        (0, _) => Err(Error::NoCa(path.to_owned())),
        _ => Ok(roots),
    }
}

async fn system_roots() -> Result<RootCertStore, Error> {
    let loading = tokio::task::spawn_blocking(|| rustls_native_certs::load_native_certs().certs);
    let mut roots = RootCertStore::empty();
    // The task fails only when the runtime shuts down.
    match roots.add_parsable_certificates(loading.await.unwrap_or_default()) {
        (0, _) => Err(Error::NoRoots),
        _ => Ok(roots),
    }
}

/// What to say of a certificate's time: rustls' own words have the time of the check in them, and so are others
/// with each check.
pub(super) fn expiry(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    use rustls::CertificateError::{ExpiredContext, NotValidYetContext};
    let rustls::Error::InvalidCertificate(why) = of_rustls(error)? else { return None };
    let (what, time) = match why {
        ExpiredContext { not_after, .. } => ("expired at", not_after),
        NotValidYetContext { not_before, .. } => ("is not valid before", not_before),
        _ => return None,
    };
    let time = Timestamp::from_second(i64::try_from(time.as_secs()).ok()?).ok()?;
    Some(format!("the server's certificate {what} {time}"))
}

/// What is in errors of I/O, and in those in them: their chains of sources pass over it.
fn of_rustls<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    error.downcast_ref().or_else(|| of_rustls(error.downcast_ref::<io::Error>()?.get_ref()?))
}
