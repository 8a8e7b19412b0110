//! The server's side of TLS: its certificate, given or made, read again when the files change; versions and
//! cipher suites. Client certificates are asked for and not required; whether one is any good is found out with
//! each request ([`crate::auth`]), so that a new client CA counts at once.

mod any_client;
mod pair;
mod self_signed;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kube_model::Timestamp;
use reload::Reloaded;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

pub use pair::PairError;

/// What the log calls them.
pub(crate) const FILES: &str = "TLS files";

/// Where the serving certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificate {
    /// PEM files: certificates, the server's own first, and its key.
    Files {
        /// `tlsCertFile`
        certificates: PathBuf,
        /// `tlsPrivateKeyFile`
        key: PathBuf,
    },
    /// `kubelet.crt` and `kubelet.key` in a folder: used if they can be read, else made for this host name.
    SelfSigned {
        /// `--cert-dir`
        folder: PathBuf,
        /// The name of the node, or its address.
        host_name: String,
        /// From when on one that is made is valid.
        now: Timestamp,
    },
    /// PEM files that come, and are renewed, while the server runs: certificates and key, the first pair that is there
    /// counts. Until then handshakes fail.
    Issued {
        /// Which files.
        places: Vec<(PathBuf, PathBuf)>,
    },
}

/// The settings of the server's TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The serving certificate.
    pub certificate: Certificate,
    /// `tlsMinVersion`: `VersionTLS12` or `VersionTLS13`; empty, and the older ones, mean `VersionTLS12`.
    pub min_version: String,
    /// `tlsCipherSuites`, by Go's names; empty: all of them. Those of TLS 1.3 are always there.
    pub cipher_suites: Vec<String>,
    /// `tlsCurvePreferences`, by Go's numbers; empty: all of them.
    pub curves: Vec<i32>,
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file.
    #[error("reading the serving certificate {}", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key file.
    #[error("reading the key of the serving certificate {}", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The two do not belong together, or the key is of a kind that is not spoken.
    #[error("the key {} cannot be used with the certificate {}", key.display(), certificates.display())]
    Pair {
        /// The certificate file.
        certificates: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What is wrong.
        source: PairError,
    },
    /// Only one of the two files of a self-signed pair can be read.
    #[error("{} cannot be read but its other half can: give both or remove both", path.display())]
    HalfAPair {
        /// The file that cannot be read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate of our own cannot be made.
    #[error("making a self-signed certificate for {host_name}")]
    Make {
        /// For whom.
        host_name: String,
        /// What is wrong.
        source: rcgen::Error,
    },
    /// A file of our own certificate cannot be written.
    #[error("writing {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The client CA.
    #[error("reading the client CA {}", path.display())]
    ClientCa {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// `tlsMinVersion` is not one of Go's names.
    #[error("tlsMinVersion {0:?} is not known: use VersionTLS12 or VersionTLS13")]
    Version(String),
    /// Nothing is left to speak with.
    #[error("the settings leave no {0}")]
    Nothing(&'static str),
    /// rustls does not take the settings.
    #[error("setting up TLS")]
    Setup(#[source] rustls::Error),
}

/// The one cryptography that is built in; never taken from process-wide state.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What connections are accepted with, the serving certificate as it stands in its files when a client comes; blocks for
/// files.
pub(crate) fn server_config(settings: TlsSettings) -> Result<Reloaded<ServerConfig, TlsError>, TlsError> {
    let (places, must_be) = match &settings.certificate {
        Certificate::Files { certificates, key } => (vec![(certificates.clone(), key.clone())], true),
        Certificate::SelfSigned { folder, host_name, now } => {
            (vec![self_signed::pair(folder, host_name, *now)?], true)
        }
        Certificate::Issued { places } => (places.clone(), false),
    };
    let files = places.iter().flat_map(|(certificates, key)| [certificates.clone(), key.clone()]).collect();
    Reloaded::open(FILES, files, Duration::ZERO, move |last| {
        let there =
            places.iter().find(|(certificates, key)| must_be || (certificates.exists() && key.exists()));
        let pair = there.map(|(certificates, key)| read_pair(certificates, key)).transpose();
        // Whoever gets the certificate says what is wrong with what there was at start, and puts another in its place.
        let pair = if last.is_none() && !must_be { pair.unwrap_or(None) } else { pair? };
        with_pair(&settings, pair)
    })
}

/// Without a certificate no handshake comes about.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        tracing::debug!("no serving certificate available for the kubelet");
        None
    }
}

fn with_pair(settings: &TlsSettings, pair: Option<CertifiedKey>) -> Result<ServerConfig, TlsError> {
    let versions: &[_] = match settings.min_version.as_str() {
        "" | "VersionTLS10" | "VersionTLS11" | "VersionTLS12" => {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        }
        "VersionTLS13" => &[&rustls::version::TLS13],
        other => return Err(TlsError::Version(other.to_owned())),
    };
    let provider = Arc::new(restricted(ring::default_provider(), settings, versions.len() > 1)?);
    let resolver: Arc<dyn ResolvesServerCert> = match pair {
        Some(pair) => Arc::new(SingleCertAndKey::from(pair)),
        None => Arc::new(NoCertificate),
    };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(TlsError::Setup)?
        .with_client_cert_verifier(Arc::new(any_client::AnyClient::new(&provider)))
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A resumed session would go on with the certificate that the client showed first.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn restricted(
    mut provider: CryptoProvider,
    settings: &TlsSettings,
    with_tls12: bool,
) -> Result<CryptoProvider, TlsError> {
    if !settings.cipher_suites.is_empty() {
        provider.cipher_suites.retain(|suite| {
            suite.tls13().is_some() || settings.cipher_suites.iter().any(|name| is_suite(name, suite.suite()))
        });
        if with_tls12 && provider.cipher_suites.iter().all(|suite| suite.tls13().is_some()) {
            return Err(TlsError::Nothing("cipher suite for TLS 1.2 (tlsCipherSuites)"));
        }
    }
    if !settings.curves.is_empty() {
        provider.kx_groups.retain(|group| settings.curves.contains(&u16::from(group.name()).into()));
        if provider.kx_groups.is_empty() {
            return Err(TlsError::Nothing("key exchange (tlsCurvePreferences)"));
        }
    }
    Ok(provider)
}

/// Whether Go's name means this suite; component-base also knows two by a shorter name.
fn is_suite(name: &str, suite: rustls::CipherSuite) -> bool {
    suite.as_str().is_some_and(|ours| {
        ours == name
            || ours
                .strip_suffix("_SHA256")
                .is_some_and(|short| short.ends_with("CHACHA20_POLY1305") && short == name)
    })
}

fn read_pair(certificates: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = fs::read(certificates)
        .map_err(|source| TlsError::Certificate { path: certificates.to_owned(), source })?;
    let of_key = fs::read(key).map_err(|source| TlsError::Key { path: key.to_owned(), source })?;
    pair::pair(&chain, &of_key).map_err(|source| TlsError::Pair {
        certificates: certificates.to_owned(),
        key: key.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
