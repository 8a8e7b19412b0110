//! TLS towards containers: encrypted, never verified, because a probe asks whether a server works and the kubelet
//! has no trust anchor for it (upstream `pkg/probe/http`).

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::ring;
use util::TrustAny;

/// The protocol name of HTTP/2, which the kubelet offers too.
pub(crate) const HTTP2: &[u8] = b"h2";

/// A configuration that trusts any server. The crypto provider is passed explicitly, so that no process-wide
/// default is needed.
pub(crate) fn trust_any() -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    #[expect(clippy::expect_used, reason = "ring has cipher suites for both of rustls' default versions")]
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3");
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAny::new(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
    // Each probe is a connection of its own: a session cache would only hold memory.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}
