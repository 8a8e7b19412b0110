//! A signer for tests.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};

use crate::key::Key;
use crate::template::Template;

/// What `template` asks for with `key`, signed.
pub(crate) fn signed(template: &Template, key: &Key) -> String {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    template.params().unwrap().signed_by(&key.0, &issuer).unwrap().pem()
}
