#![doc = include_str!("../README.md")]
//!
//! Owns the wire facts: names, numbers, services. Knows nothing of connections, deadlines or
//! policy; clients of a contract live in their own crates.

/// The container runtime interface: what the node asks of containerd, CRI-O and their like.
pub mod cri {
    /// CRI v1 as of Kubernetes 1.36.
    #[allow(
        missing_docs,
        clippy::all,
        clippy::allow_attributes_without_reason,
        rustdoc::all,
        reason = "generated code: docs are what the .proto says, lints are prost's and tonic's"
    )]
    pub mod v1 {
        tonic::include_proto!("runtime.v1");

        /// Prints whose credentials these are, never what they are.
        impl std::fmt::Debug for AuthConfig {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct("AuthConfig")
                    .field("username", &self.username)
                    .field("server_address", &self.server_address)
                    .finish_non_exhaustive()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::cri::v1::{AuthConfig, PullImageRequest};

    #[test]
    fn credentials_do_not_print_their_secrets() {
        let auth = AuthConfig {
            username: "me".into(),
            password: "secret-1".into(),
            auth: "secret-2".into(),
            server_address: "registry.example".into(),
            identity_token: "secret-3".into(),
            registry_token: "secret-4".into(),
        };
        let printed = format!("{:?}", PullImageRequest { auth: Some(auth), ..Default::default() });
        assert!(printed.contains("me") && printed.contains("registry.example"), "{printed}");
        assert!(!printed.contains("secret"), "{printed}");
    }
}
