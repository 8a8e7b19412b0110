//! Private keys: ECDSA with P-256, written as Go writes them (`EC PRIVATE KEY`, SEC 1), read in that form or as PKCS #8.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// What stands before the private scalar in PKCS #8 for P-256, up to the length of the scalar.
const PKCS8_HEAD: &[u8] = &[
    0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01,
    0x04, 0x20,
];

/// The same in SEC 1.
const SEC1_HEAD: &[u8] = &[0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20];

/// In SEC 1, between the scalar and the public key: the name of the curve, and what the public key is.
const SEC1_CURVE: &[u8] = &[0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const PUBLIC_HEAD: &[u8] = &[0xa1, 0x44, 0x03, 0x42, 0x00];

/// The version of both, and that a scalar of 32 bytes follows.
const SCALAR: &[u8] = &[0x02, 0x01, 0x01, 0x04, 0x20];
const SCALAR_SIZE: usize = 32;
/// A point that is not compressed.
const POINT_SIZE: usize = 65;

/// Why a text is no key that a request can be made with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It holds none.
    #[error("holds no private key in PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// It is of another kind.
    #[error("holds a key that is not ECDSA with P-256")]
    Kind,
    /// The key is not sound, or none could be made.
    #[error("holds no sound key")]
    Sound(#[source] rcgen::Error),
}

/// A private key.
pub struct Key(pub(crate) KeyPair);

/// Keys are secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// A new one.
    ///
    /// # Errors
    /// Without random numbers.
    pub fn generate() -> Result<Self, rcgen::Error> {
        KeyPair::generate().map(Self)
    }

    /// The first key of a PEM text.
    ///
    /// # Errors
    /// Where there is none, or one of another kind.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let pkcs8 = match PrivateKeyDer::from_pem_slice(text).map_err(KeyError::Pem)? {
            PrivateKeyDer::Pkcs8(der) => der.secret_pkcs8_der().to_vec(),
            PrivateKeyDer::Sec1(der) => pkcs8(der.secret_sec1_der()).ok_or(KeyError::Kind)?,
            _ => return Err(KeyError::Kind),
        };
        let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8)).map_err(KeyError::Sound)?;
        if pair.is_compatible(&PKCS_ECDSA_P256_SHA256) { Ok(Self(pair)) } else { Err(KeyError::Kind) }
    }

    /// As Go's `x509.MarshalECPrivateKey` and `pem.Encode` write it.
    pub fn to_pem(&self) -> String {
        let pkcs8 = self.0.serialized_der();
        let at = pkcs8.windows(SCALAR.len()).position(|part| part == SCALAR).unwrap_or(0) + SCALAR.len();
        let scalar = pkcs8.get(at..at + SCALAR_SIZE).unwrap_or_default();
        let der = [SEC1_HEAD, scalar, SEC1_CURVE, PUBLIC_HEAD, self.0.public_key_raw()].concat();
        pem("EC PRIVATE KEY", &der)
    }

    /// The public key as certificates and requests hold it (SubjectPublicKeyInfo, DER).
    pub fn public(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }
}

/// From SEC 1, with or without the name of the curve, but with the public key. `None`: it is for no curve of that size.
fn pkcs8(sec1: &[u8]) -> Option<Vec<u8>> {
    let scalar = sec1.get(2..)?.strip_prefix(SCALAR)?.get(..SCALAR_SIZE)?;
    let (head, point) = sec1.split_at_checked(sec1.len().checked_sub(POINT_SIZE)?)?;
    let curve = &head[2 + SCALAR.len() + SCALAR_SIZE..];
    (curve == PUBLIC_HEAD || curve == [SEC1_CURVE, PUBLIC_HEAD].concat())
        .then(|| [PKCS8_HEAD, scalar, PUBLIC_HEAD, point].concat())
}

/// A block as Go's `encoding/pem` writes it.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_in_both_forms() {
        let key = Key::generate().unwrap();
        let text = key.to_pem();
        assert!(text.starts_with("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEI"), "as any of Go's begins");
        assert_eq!(text.lines().map(str::len).max(), Some(64));
        for form in [text.clone(), key.0.serialize_pem()] {
            let read = Key::from_pem(form.as_bytes()).unwrap();
            assert_eq!((read.public(), read.to_pem()), (key.public(), text.clone()));
        }
        let secret = format!("{key:?}");
        assert_eq!(secret, "Key(..)");
    }

    #[test]
    fn what_is_no_key_says_so() {
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
        let half = Key::generate().unwrap().to_pem().split_at(90).0.to_owned();
        let short = pem("EC PRIVATE KEY", &[0x30, 0x03, 0x02, 0x01, 0x01]);
        for (text, said) in [
            ("", "no private key in PEM"),
            (half.as_str(), "no private key in PEM"),
            (p384.as_str(), "not ECDSA with P-256"),
            (short.as_str(), "not ECDSA with P-256"),
        ] {
            let error = Key::from_pem(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }
}
