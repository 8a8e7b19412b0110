//! A certificate and its key from the text of their files, as Go's `tls.X509KeyPair` takes them: any text around and
//! between the blocks, blocks of other kinds before the one that is looked for, and a key in whichever of its three
//! encodings, whatever its block is called.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::SignatureAlgorithm;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Why a certificate and a key are no pair; Go's words.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The certificate's text has no block at all.
    #[error("tls: failed to find any PEM data in certificate input")]
    NoCertificateData,
    /// The two may have been taken for each other.
    #[error(
        "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have \
         been switched"
    )]
    KeyForCertificate,
    /// There are only other blocks.
    #[error(
        "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following \
         types: [{0}]"
    )]
    NoCertificate(String),
    /// The key's text has no block at all.
    #[error("tls: failed to find any PEM data in key input")]
    NoKeyData,
    /// The two may have been taken for each other.
    #[error("tls: found a certificate rather than a key in the PEM for the private key")]
    CertificateForKey,
    /// There are only other blocks.
    #[error(
        "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the \
         following types: [{0}]"
    )]
    NoKey(String),
    /// The first certificate is none.
    #[error("x509: malformed certificate")]
    Malformed,
    /// The key is in no encoding that is known; it may be encrypted.
    #[error("tls: failed to parse private key")]
    Unreadable,
    /// The one is for another kind of signature than the other.
    #[error("tls: private key type does not match public key type")]
    OtherKind,
    /// They are of one kind and different.
    #[error("tls: private key does not match public key")]
    Mismatch,
    /// Not a kind of key that Go knows.
    #[error("tls: unknown public key algorithm")]
    UnknownKind,
    /// A kind of key that Go would serve with.
    #[error(
        "{0} is not spoken here: keys are RSA of 2048 to 4096 bits, ECDSA with P-256 or P-384, or Ed25519"
    )]
    NotSpoken(String),
}

/// The pair that `certificates`, the server's own first, and `key` are.
pub(super) fn pair(certificates: &[u8], key: &[u8]) -> Result<CertifiedKey, PairError> {
    let (chain, skipped): (Vec<_>, Vec<_>) =
        blocks(certificates).into_iter().partition(|(label, _)| label == "CERTIFICATE");
    let Some((_, own)) = chain.first() else {
        return Err(match &labels(&skipped)[..] {
            [] => PairError::NoCertificateData,
            [label] if label.ends_with("PRIVATE KEY") => PairError::KeyForCertificate,
            labels => PairError::NoCertificate(labels.join(" ")),
        });
    };
    let of_key = blocks(key);
    let is_key = |label: &str| label == "PRIVATE KEY" || label.ends_with(" PRIVATE KEY");
    let Some((_, der)) = of_key.iter().find(|(label, _)| is_key(label)) else {
        return Err(match &labels(&of_key)[..] {
            [] => PairError::NoKeyData,
            ["CERTIFICATE"] => PairError::CertificateForKey,
            labels => PairError::NoKey(labels.join(" ")),
        });
    };
    let (_, certificate) = X509Certificate::from_der(own).map_err(|_| PairError::Malformed)?;
    let public = certificate.public_key();
    let kind = kind(public)?;
    let key = load(der).ok_or(PairError::Unreadable)?;
    if key.algorithm() != kind {
        return Err(PairError::OtherKind);
    }
    let of_key = key.public_key();
    let of_key = of_key.as_ref().and_then(|spki| SubjectPublicKeyInfo::from_der(spki.as_ref()).ok());
    if of_key.is_none_or(|(_, of_key)| of_key.subject_public_key != public.subject_public_key) {
        return Err(PairError::Mismatch);
    }
    Ok(CertifiedKey::new(chain.into_iter().map(|(_, der)| CertificateDer::from(der)).collect(), key))
}

/// What the holder of a certificate signs with.
fn kind(public: &SubjectPublicKeyInfo<'_>) -> Result<SignatureAlgorithm, PairError> {
    const ED25519: &str = "1.3.101.112";
    let not_spoken = |what: String| Err(PairError::NotSpoken(what));
    match public.parsed() {
        Ok(PublicKey::RSA(key)) => match key.key_size() {
            2048..=4096 => Ok(SignatureAlgorithm::RSA),
            bits => not_spoken(format!("RSA of {bits} bits")),
        },
        Ok(PublicKey::EC(key)) => match key.key_size() {
            256 | 384 => Ok(SignatureAlgorithm::ECDSA),
            528 => not_spoken("ECDSA with P-521".to_owned()),
            bits => not_spoken(format!("ECDSA with a curve of {bits} bits")),
        },
        _ if public.algorithm.algorithm.to_id_string() == ED25519 => Ok(SignatureAlgorithm::ED25519),
        _ => Err(PairError::UnknownKind),
    }
}

/// Tries PKCS#1, PKCS#8 and SEC 1, as Go does.
fn load(der: &[u8]) -> Option<Arc<dyn SigningKey>> {
    let encodings: [PrivateKeyDer<'static>; 3] = [
        PrivateKeyDer::Pkcs1(der.to_vec().into()),
        PrivateKeyDer::Pkcs8(der.to_vec().into()),
        PrivateKeyDer::Sec1(der.to_vec().into()),
    ];
    encodings.iter().find_map(|key| ring::sign::any_supported_type(key).ok())
}

fn labels(blocks: &[(String, Vec<u8>)]) -> Vec<&str> {
    blocks.iter().map(|(label, _)| label.as_str()).collect()
}

/// All PEM blocks: label and contents. What is none is passed over. Go's `encoding/pem`.
fn blocks(text: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (mut blocks, mut open) = (Vec::new(), None);
    for line in String::from_utf8_lossy(text).lines().map(str::trim_end) {
        let label = |edge: &str| line.strip_prefix(edge)?.strip_suffix("-----");
        if let Some(label) = label("-----BEGIN ") {
            open = Some((label.to_owned(), String::new()));
        } else if let Some(end) = label("-----END ") {
            let ended = open.take().filter(|(label, _)| label == end);
            blocks.extend(ended.and_then(|(label, body)| Some((label, STANDARD.decode(body).ok()?))));
        } else if let Some((_, body)) = &mut open
            // Others are headers.
            && !line.contains(':')
        {
            body.extend(line.chars().filter(|c| !c.is_ascii_whitespace()));
        }
    }
    blocks
}
