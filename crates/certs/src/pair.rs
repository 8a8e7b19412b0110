//! A certificate and its key, as text, and what the certificate says.

use std::collections::BTreeSet;
use std::net::IpAddr;

use kube_model::Timestamp;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Why texts are no certificate with its key.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The one is missing, perhaps because the file was not written to its end.
    #[error("holds no whole certificate in PEM")]
    NoCertificate,
    /// The other is.
    #[error("holds no whole private key in PEM: the certificate is without its key")]
    NoKey,
    /// The certificate can not be read.
    #[error("holds a certificate that can not be read: {0}")]
    Malformed(String),
    /// They do not belong together.
    #[error("holds a key that does not go with its certificate")]
    Mismatch(#[source] rustls::Error),
}

/// What a certificate says of its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// CN of the subject.
    pub common_name: String,
    /// O of the subject.
    pub organizations: BTreeSet<String>,
    /// DNS names.
    pub dns_names: BTreeSet<String>,
    /// Addresses.
    pub ips: BTreeSet<IpAddr>,
    /// From when on it is valid.
    pub not_before: Timestamp,
    /// How long.
    pub not_after: Timestamp,
}

impl Leaf {
    /// Of a certificate in DER.
    ///
    /// # Errors
    /// Where it is none.
    pub fn of(der: &[u8]) -> Result<Self, PairError> {
        let malformed = |what: String| PairError::Malformed(what);
        let (_, certificate) = X509Certificate::from_der(der).map_err(|e| malformed(e.to_string()))?;
        let subject = certificate.subject();
        let text =
            |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().ok().map(str::to_owned);
        let names = certificate.subject_alternative_name().map_err(|e| malformed(e.to_string()))?;
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        let time = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_second(time.timestamp()).map_err(|e| malformed(e.to_string()))
        };
        Ok(Self {
            common_name: subject.iter_common_name().next().and_then(text).unwrap_or_default(),
            organizations: subject.iter_organization().filter_map(text).collect(),
            dns_names: names
                .iter()
                .filter_map(|name| match name {
                    GeneralName::DNSName(name) => Some((*name).to_owned()),
                    _ => None,
                })
                .collect(),
            ips: names
                .iter()
                .filter_map(|name| match name {
                    GeneralName::IPAddress(bytes) => address(bytes),
                    _ => None,
                })
                .collect(),
            not_before: time(certificate.validity().not_before)?,
            not_after: time(certificate.validity().not_after)?,
        })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// A certificate, those of its issuers, and a key that was found to go with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// DER, the holder's own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// What it says.
    pub leaf: Leaf,
}

impl Pair {
    /// Reads both; they may stand in one text.
    ///
    /// # Errors
    /// Where one is missing or not whole, or they do not belong together.
    pub fn read(certificates: &[u8], key: &[u8]) -> Result<Self, PairError> {
        let chain = chain(certificates)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| PairError::NoKey)?;
        let leaf = Leaf::of(&chain[0])?;
        CertifiedKey::from_der(chain.clone(), key, &ring::default_provider()).map_err(PairError::Mismatch)?;
        Ok(Self { chain, leaf })
    }
}

/// All certificates of a PEM text, up to what is not whole; one at least.
pub(crate) fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PairError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(text).map_while(Result::ok).collect();
    if chain.is_empty() { Err(PairError::NoCertificate) } else { Ok(chain) }
}
