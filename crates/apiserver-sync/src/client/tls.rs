//! The TLS side of an identity: roots, certificate and key as rustls wants them.

use std::fmt;
use std::sync::Arc;

use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier, sign};
use util::TrustAny;

use super::Problem;
use super::kubeconfig::Target;

/// The bytes of everything that goes into a configuration; equal bytes make the same one.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Material {
    ca: Option<Vec<u8>>,
    certificate: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
}

/// Keys are secret.
impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Material(..)")
    }
}

impl Material {
    pub(super) fn read(target: &Target) -> Result<Self, Problem> {
        let read = |source: &Option<super::kubeconfig::Source>| source.as_ref().map(|s| s.read()).transpose();
        Ok(Self { ca: read(&target.ca)?, certificate: read(&target.certificate)?, key: read(&target.key)? })
    }

    /// The client's certificates, its own first; none where there are none.
    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.certificate.as_deref().and_then(|pem| certificates(pem).ok()).unwrap_or_default()
    }

    /// Resumption is off: a resumed session would keep the identity of an earlier certificate.
    pub(super) fn config(&self, target: &Target) -> Result<ClientConfig, Problem> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Problem::new("TLS", error.to_string()))?;
        let builder = self.verifier(target, builder, &provider)?;
        let mut config = match (&target.certificate, &self.certificate, &target.key, &self.key) {
            (Some(certificate_source), Some(certificate), Some(key_source), Some(key)) => {
                let chain =
                    certificates(certificate).map_err(|message| Problem::new(certificate_source, message))?;
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|error| Problem::new(key_source, format!("holds no PEM key: {error}")))?;
                // Says whether the two belong together.
                sign::CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider).map_err(|error| {
                    Problem::new(key_source, format!("does not go with {certificate_source}: {error}"))
                })?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| Problem::new(key_source, error.to_string()))?
            }
            _ => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn verifier(
        &self,
        target: &Target,
        builder: ConfigBuilder<ClientConfig, WantsVerifier>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Problem> {
        if target.insecure {
            let verifier = Arc::new(TrustAny::new(Arc::clone(provider)));
            return Ok(builder.dangerous().with_custom_certificate_verifier(verifier));
        }
        let mut roots = RootCertStore::empty();
        match (&target.ca, &self.ca) {
            (Some(source), Some(pem)) => {
                for certificate in certificates(pem).map_err(|message| Problem::new(source, message))? {
                    roots
                        .add(certificate)
                        .map_err(|error| Problem::new(source, format!("is no usable authority: {error}")))?;
                }
            }
            // As Go: those of the system. Without any the handshake says that the issuer is unknown.
            _ => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        Ok(builder.with_root_certificates(roots))
    }
}

/// All certificates of a PEM text; it may hold keys beside them, as the kubelet's own files do.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("is not PEM: {error}"))?;
    if all.is_empty() { Err("holds no PEM certificate".to_owned()) } else { Ok(all) }
}
