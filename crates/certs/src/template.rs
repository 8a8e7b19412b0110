//! What is asked for: whose certificate, for what, by which signer (upstream `pkg/kubelet/certificate/kubelet.go`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use kube_model::core::NodeAddress;
use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, SanType};
use ring::digest::{Context, SHA512_256};

use crate::key::Key;
use crate::pair::Leaf;

/// The group of all nodes.
const NODES: &str = "system:nodes";

/// Who signs, and so what the certificate is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signer {
    /// Of a node's identity at the API server.
    Client,
    /// Of what a node's server shows.
    Serving,
}

impl Signer {
    /// `signerName` of a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Self::Serving => "kubernetes.io/kubelet-serving",
        }
    }

    /// `usages` of a request with an ECDSA key, which enciphers no keys.
    pub fn usages(self) -> [&'static str; 2] {
        match self {
            Self::Client => ["digital signature", "client auth"],
            Self::Serving => ["digital signature", "server auth"],
        }
    }

    /// What its files begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Client => "kubelet-client",
            Self::Serving => "kubelet-server",
        }
    }

    /// What people call the certificate.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Client => "client certificate",
            Self::Serving => "serving certificate",
        }
    }
}

/// What the certificate is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// `system:node:NAME`
    pub common_name: String,
    /// Sorted.
    pub dns_names: Vec<String>,
    /// Sorted by their text, as Go sorts them.
    pub ips: Vec<IpAddr>,
}

impl Template {
    /// Who a node is at the API server.
    pub fn client(node: &str) -> Self {
        Self { common_name: format!("system:node:{node}"), dns_names: Vec::new(), ips: Vec::new() }
    }

    /// Where a node is found, by the addresses of its status. `None`: there is nothing yet to ask for. A name alone
    /// is enough with `dns_alone` (the gate `AllowDNSOnlyNodeCSR`).
    pub fn serving(node: &str, addresses: &[NodeAddress], dns_alone: bool) -> Option<Self> {
        let (mut names, mut ips) = (BTreeSet::new(), BTreeSet::new());
        for NodeAddress { address, type_ } in addresses.iter().filter(|address| !address.address.is_empty()) {
            match (type_.as_str(), address.parse::<IpAddr>()) {
                ("Hostname" | "ExternalIP" | "InternalIP", Ok(ip)) => drop(ips.insert((ip.to_string(), ip))),
                ("Hostname" | "ExternalDNS" | "InternalDNS", _) => drop(names.insert(address.clone())),
                _ => {}
            }
        }
        let enough = !ips.is_empty() || (dns_alone && !names.is_empty());
        enough.then(|| Self {
            common_name: format!("system:node:{node}"),
            dns_names: names.into_iter().collect(),
            ips: ips.into_iter().map(|(_, ip)| ip).collect(),
        })
    }

    /// What a certificate lacks of it; more than that does not matter.
    pub fn lacking(&self, leaf: &Leaf) -> Option<String> {
        if leaf.common_name != self.common_name {
            return Some(format!("it is for {:?}, not for {:?}", leaf.common_name, self.common_name));
        }
        if !leaf.organizations.contains(NODES) {
            return Some(format!("it is not for the group {NODES}"));
        }
        let names = self.dns_names.iter().filter(|name| !leaf.dns_names.contains(*name)).cloned();
        let ips = self.ips.iter().filter(|ip| !leaf.ips.contains(ip)).map(IpAddr::to_string);
        let missing: Vec<_> = names.chain(ips).collect();
        (!missing.is_empty()).then(|| format!("it is not for {}", missing.join(", ")))
    }

    /// The request, in PEM.
    ///
    /// # Errors
    /// Where a name can not stand in a certificate.
    pub fn request(&self, key: &Key) -> Result<String, rcgen::Error> {
        self.params()?.serialize_request(&key.0)?.pem()
    }

    pub(crate) fn params(&self) -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        // In Go's order.
        subject.push(DnType::OrganizationName, text(NODES));
        subject.push(DnType::CommonName, text(&self.common_name));
        params.distinguished_name = subject;
        for name in &self.dns_names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.subject_alt_names.extend(self.ips.iter().copied().map(SanType::IpAddress));
        Ok(params)
    }

    /// The name of a request that is found again after a restart: who asks with this key has this name (upstream
    /// `digestedName`).
    pub fn digested_name(&self, key: &Key, signer: Signer) -> String {
        let mut hash = Context::new(&SHA512_256);
        let mut add = |bytes: &[u8]| {
            hash.update(BASE64_URL_SAFE_NO_PAD.encode(bytes).as_bytes());
            hash.update(b"|");
        };
        add(&key.public());
        add(self.common_name.as_bytes());
        add(NODES.as_bytes());
        for usage in signer.usages() {
            add(usage.as_bytes());
        }
        format!("node-csr-{}", BASE64_URL_SAFE_NO_PAD.encode(hash.finish()))
    }
}

/// As Go writes a name: the narrow kind of text where it is enough.
fn text(value: &str) -> DnValue {
    match value.try_into() {
        Ok(printable) => DnValue::PrintableString(printable),
        Err(_) => DnValue::Utf8String(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::extensions::ParsedExtension;
    use x509_parser::prelude::FromDer as _;

    use super::*;

    fn address(type_: &str, address: &str) -> NodeAddress {
        NodeAddress { type_: type_.to_owned(), address: address.to_owned() }
    }

    #[test]
    fn a_serving_certificate_is_for_the_addresses_and_names_of_the_node() {
        let all = [
            address("Hostname", "node1"),
            address("InternalIP", "10.0.0.9"),
            address("InternalIP", "fd00::1"),
            address("ExternalIP", "10.0.0.10"),
            address("ExternalIP", "not an address"),
            address("InternalDNS", "node1.local"),
            address("ExternalDNS", ""),
            address("Other", "10.0.0.3"),
        ];
        let template = Template::serving("node1", &all, false).unwrap();
        assert_eq!(template.dns_names, ["node1", "node1.local"]);
        let ips: Vec<String> = template.ips.iter().map(IpAddr::to_string).collect();
        assert_eq!(ips, ["10.0.0.10", "10.0.0.9", "fd00::1"]);
        // A host name that is an address is one.
        let template = Template::serving("10.1.1.1", &[address("Hostname", "10.1.1.1")], false).unwrap();
        assert_eq!((template.dns_names.len(), template.ips.len()), (0, 1));
        let only_name = [address("Hostname", "node1")];
        assert_eq!(Template::serving("node1", &only_name, false), None);
        assert!(Template::serving("node1", &only_name, true).is_some());
        assert_eq!(Template::serving("node1", &[], true), None);
    }

    #[test]
    fn a_request_says_what_the_template_says() {
        let key = Key::generate().unwrap();
        let addresses = [address("Hostname", "node1"), address("InternalIP", "10.0.0.9")];
        let template = Template::serving("node1", &addresses, false).unwrap();
        let pem = template.request(&key).unwrap();
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let (_, request) = X509CertificationRequest::from_der(&block.contents).unwrap();
        let info = &request.certification_request_info;
        assert_eq!(info.subject.to_string(), "O=system:nodes, CN=system:node:node1");
        assert_eq!(info.subject_pki.raw, key.public());
        let names: Vec<String> = request
            .requested_extensions()
            .unwrap()
            .filter_map(|extension| match extension {
                ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
                _ => None,
            })
            .flatten()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn the_name_of_a_request_depends_on_key_name_and_use() {
        let (key, other) = (Key::generate().unwrap(), Key::generate().unwrap());
        let template = Template::client("node1");
        let name = template.digested_name(&key, Signer::Client);
        // 32 bytes.
        assert_eq!(name.len(), "node-csr-".len() + 43, "{name}");
        assert_eq!(name, Template::client("node1").digested_name(&key, Signer::Client));
        assert_ne!(name, template.digested_name(&other, Signer::Client));
        assert_ne!(name, Template::client("node2").digested_name(&key, Signer::Client));
        assert_ne!(name, template.digested_name(&key, Signer::Serving));
    }

    #[test]
    fn the_name_of_a_request_is_upstreams() {
        // Computed with openssl: SHA-512/256 over the parts in base64, each ended with a bar.
        let pem = "-----BEGIN EC PRIVATE KEY-----\n\
                   MHcCAQEEILf4xFB3BonWLTIYofdz6HAGWu1Pvak+xiH+J28JhMwloAoGCCqGSM49\n\
                   AwEHoUQDQgAEF4+8DPsGLXfqD9KxNN3XyKp9+MTSyg7y3CDgkO+A4uL21gDzR7WF\n\
                   zA9FLhRdz/JLHWdBgbSo6/gYKvN69MtgcA==\n\
                   -----END EC PRIVATE KEY-----\n";
        let key = Key::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(
            Template::client("node1").digested_name(&key, Signer::Client),
            "node-csr-o3vKIhAvprw5stv-mhK-bMnBxJgO_bHMn-7N9UsJSm0"
        );
        assert_eq!(key.to_pem(), pem, "openssl and Go write the same");
    }
}
