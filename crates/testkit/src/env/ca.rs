//! A certificate authority and what it signs, as PEM files in one folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use super::Error;
use super::error::At;

/// A certificate authority of its own, known to nobody else.
#[derive(Debug)]
pub struct Ca {
    dir: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM (PKCS #8).
    pub key: PathBuf,
}

/// How a request is answered.
#[derive(Debug, Clone)]
pub struct Signing {
    /// For a server; else for a client.
    pub server: bool,
    /// From now on.
    pub lifetime: Duration,
    /// For another key than the request's.
    pub other_key: bool,
}

impl Signing {
    /// As it should be.
    #[must_use]
    pub fn client(lifetime: Duration) -> Self {
        Self { server: false, lifetime, other_key: false }
    }
}

impl Ca {
    /// Makes an authority of this name, with its certificate in `DIR/ca.crt`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(dir: &Path, name: &str) -> Result<Self, Error> {
        let failed = |source| Error::Certificate { what: format!("the authority {name}"), source };
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(failed)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(failed)?;
        let ca = Self { dir: dir.to_owned(), issuer };
        fs::write(ca.certificate(), ca.issuer.pem()).at("write", ca.certificate())?;
        Ok(ca)
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// A certificate for a server at these names and addresses; files are called `NAME.crt` and `NAME.key`.
    ///
    /// # Errors
    /// When a host is no DNS name or the files cannot be written.
    pub fn server(&self, name: &str, hosts: &[&str]) -> Result<Identity, Error> {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts)
            .map_err(|source| Error::Certificate { what: format!("the certificate {name}"), source })?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(name, params)
    }

    /// A certificate for a client that is this user in this group; files are called `NAME.crt` and `NAME.key`.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn client(&self, name: &str, user: &str, group: &str) -> Result<Identity, Error> {
        self.issue(name, client(user, group))
    }

    /// The same, but it expired long ago.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn expired_client(&self, name: &str, user: &str, group: &str) -> Result<Identity, Error> {
        let mut params = client(user, group);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 1, 2));
        self.issue(name, params)
    }

    /// Signs a request (PEM) of somebody who wants to be a client, as a cluster's signer does; returns the certificate
    /// (PEM).
    ///
    /// # Errors
    /// When it is no request, or not signed by its own key.
    pub fn sign(&self, request: &str) -> Result<String, Error> {
        let failed = |source| Error::Certificate { what: "a request".to_owned(), source };
        let mut request = CertificateSigningRequestParams::from_pem(request).map_err(failed)?;
        request.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.signed_by(&self.issuer).map(|certificate| certificate.pem()).map_err(failed)
    }

    /// Answers a request (PEM) as a signer that does as it is told; returns the certificate (PEM).
    ///
    /// # Errors
    /// When it is no request, or not signed by its own key.
    pub fn answer(&self, request: &str, signing: &Signing) -> Result<String, Error> {
        let failed = |source| Error::Certificate { what: "a request".to_owned(), source };
        let mut request = CertificateSigningRequestParams::from_pem(request).map_err(failed)?;
        let params = &mut request.params;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match signing.server {
            true => ExtendedKeyUsagePurpose::ServerAuth,
            false => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        let now = SystemTime::now();
        (params.not_before, params.not_after) = (now.into(), (now + signing.lifetime).into());
        if signing.other_key {
            let key = KeyPair::generate().map_err(failed)?;
            let certificate = request.params.signed_by(&key, &self.issuer);
            return certificate.map(|certificate| certificate.pem()).map_err(failed);
        }
        request.signed_by(&self.issuer).map(|certificate| certificate.pem()).map_err(failed)
    }

    /// Signs anything, an expired certificate for example, with a new key; files are called `NAME.crt` and
    /// `NAME.key`.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn issue(&self, name: &str, mut params: CertificateParams) -> Result<Identity, Error> {
        let failed = |source| Error::Certificate { what: format!("the certificate {name}"), source };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let identity = Identity {
            certificate: self.dir.join(format!("{name}.crt")),
            key: self.dir.join(format!("{name}.key")),
        };
        fs::write(&identity.certificate, certificate.pem()).at("write", &identity.certificate)?;
        fs::write(&identity.key, key.serialize_pem()).at("write", &identity.key)?;
        Ok(identity)
    }
}

fn client(user: &str, group: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, user);
    params.distinguished_name.push(DnType::OrganizationName, group);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}
