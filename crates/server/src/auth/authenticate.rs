//! Who sends a request: the client certificate, else the bearer token, else the anonymous user if allowed. A
//! certificate or token that is wrong is refused even where nobody has to show one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, header};
use reload::Reloaded;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::User;
use super::tokens::Tokens;
use crate::host::{HostError, TokenReviewer};
use crate::tls::{FILES, TlsError, provider};

/// How users are recognised. Without anything in it nobody is.
#[derive(Default)]
pub struct Authentication {
    anonymous: bool,
    client_ca: Option<ClientCa>,
    tokens: Option<Tokens>,
}

/// Why a request is nobody's. For the log; the client only hears `Unauthorized`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unauthenticated {
    #[error("neither a client certificate nor a token was shown")]
    Nothing,
    #[error("the client certificate is not signed by the client CA, or not valid now")]
    Certificate(#[source] rustls::Error),
    #[error("the client certificate's subject cannot be read: {0}")]
    Subject(&'static str),
    #[error("the token is nobody's")]
    Token,
    #[error("reviewing the token")]
    Review(#[source] HostError),
}

impl Authentication {
    /// Lets requests without certificate and token through as `system:anonymous`.
    #[must_use]
    pub fn anonymous(mut self, allowed: bool) -> Self {
        self.anonymous = allowed;
        self
    }

    /// Recognises client certificates.
    #[must_use]
    pub fn client_ca(mut self, ca: ClientCa) -> Self {
        self.client_ca = Some(ca);
        self
    }

    /// Recognises bearer tokens; an answer of the reviewer holds for `ttl`.
    #[must_use]
    pub fn tokens(mut self, reviewer: Arc<dyn TokenReviewer>, ttl: Duration) -> Self {
        self.tokens = Some(Tokens::new(reviewer, ttl));
        self
    }

    pub(crate) async fn authenticate(
        &self,
        certificates: &[CertificateDer<'static>],
        headers: &HeaderMap,
    ) -> Result<User, Unauthenticated> {
        let mut wrong = None;
        if let (Some(ca), [own, intermediates @ ..]) = (&self.client_ca, certificates) {
            match ca.user(own, intermediates).await {
                Ok(user) => return Ok(user.authenticated()),
                Err(error) => wrong = Some(error),
            }
        }
        if let (Some(tokens), Some(token)) = (&self.tokens, bearer(headers)) {
            match tokens.owner(token).await {
                Ok(user) => return Ok(user.authenticated()),
                Err(error) => wrong = Some(error),
            }
        }
        match wrong {
            Some(error) => Err(error),
            None if self.anonymous => Ok(User::anonymous()),
            None => Err(Unauthenticated::Nothing),
        }
    }
}

impl std::fmt::Debug for Authentication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authentication").field("anonymous", &self.anonymous).finish_non_exhaustive()
    }
}

/// The token of `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut words = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim().split(' ');
    let scheme = words.next()?;
    words.next().filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

/// The certificates that client certificates must be signed by; read again when the file changes.
#[derive(Debug)]
pub struct ClientCa(Reloaded<Arc<dyn ClientCertVerifier>, TlsError>);

impl ClientCa {
    /// Reads `path`, a file of PEM certificates; blocks.
    ///
    /// # Errors
    /// When it cannot be read or holds no certificate.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let path = path.into();
        Reloaded::open(FILES, vec![path.clone()], Duration::ZERO, move |_| verifier(&path)).map(Self)
    }

    /// Common name and organisations of a valid certificate.
    async fn user(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<User, Unauthenticated> {
        self.0
            .current()
            .await
            .verify_client_cert(own, intermediates, UnixTime::now())
            .map_err(Unauthenticated::Certificate)?;
        let (_, parsed) = X509Certificate::from_der(own)
            .map_err(|_| Unauthenticated::Subject("it is no X.509 certificate"))?;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().map(str::to_owned);
        // As Go does, the last one counts.
        let name = parsed.subject().iter_common_name().last().map(text);
        let name = name.transpose().ok().flatten().filter(|name| !name.is_empty());
        let groups: Result<_, _> = parsed.subject().iter_organization().map(text).collect();
        Ok(User {
            name: name.ok_or(Unauthenticated::Subject("it has no common name"))?,
            groups: groups.map_err(|_| Unauthenticated::Subject("an organisation is no text"))?,
            ..User::default()
        })
    }
}

fn verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| TlsError::ClientCa {
        path: path.to_owned(),
        source,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(error.into()))? {
        roots
            .add(certificate.map_err(|error| failed(error.into()))?)
            .map_err(|error| failed(error.into()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| failed(error.into()))
}
