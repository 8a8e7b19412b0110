//! The server's side of TLS: certificate, key and client CA from files that may change while it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::TlsFiles;
use super::files::{self, BadFile, OfFiles};

/// Reads the files and follows their changes: what connects later sees the new ones.
///
/// With a client CA a client may show a certificate of it; whether it must is decided for each request, so that it
/// gets an answer that says so. A new configuration forgets the sessions of the old one, so none outlives the CA that
/// let it in.
pub(super) fn configuration(
    files: &TlsFiles,
    client_ca: Option<&Path>,
) -> Result<OfFiles<ServerConfig>, BadFile> {
    let (tls, client_ca) = (files.clone(), client_ca.map(Path::to_owned));
    let paths = [&files.cert, &files.key].into_iter().chain(&client_ca).cloned().collect();
    files::open("TLS files of the push API", paths, move |texts| make(texts, &tls, client_ca.as_deref()))
}

fn make(texts: &[Vec<u8>], files: &TlsFiles, client_ca: Option<&Path>) -> Result<ServerConfig, BadFile> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let bad = |path: &Path, why: String| BadFile::Content { path: path.to_owned(), why };
    let key = PrivateKeyDer::from_pem_slice(&texts[1])
        .map_err(|error| bad(&files.key, format!("holds no private key in PEM form: {error}")))?;
    let certificates = certificates(&texts[0], &files.cert)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&files.cert, format!("can not be served: {error}")))?;
    let builder = match (client_ca, texts.get(2)) {
        (Some(path), Some(text)) => {
            let mut roots = RootCertStore::empty();
            for certificate in self::certificates(text, path)? {
                roots
                    .add(certificate)
                    .map_err(|error| bad(path, format!("holds a bad certificate: {error}")))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| bad(path, format!("is no CA: {error}")))?;
            builder.with_client_cert_verifier(verifier)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(certificates, key)
        .map_err(|error| bad(&files.cert, format!("does not fit {}: {error}", files.key.display())))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(text: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, BadFile> {
    let bad = |why: String| BadFile::Content { path: PathBuf::from(path), why };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(bad("holds no certificate in PEM form".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(bad(format!("holds a broken certificate: {error}"))),
    }
}
