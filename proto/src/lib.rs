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

/// The container storage interface: what the node asks of the drivers of its volumes.
pub mod csi {
    /// The services Identity and Node of CSI v1, as of 1.12.
    #[allow(
        missing_docs,
        clippy::all,
        clippy::allow_attributes_without_reason,
        rustdoc::all,
        reason = "generated code: docs are what the .proto says, lints are prost's and tonic's"
    )]
    pub mod v1 {
        tonic::include_proto!("csi.v1");

        /// Which volume and where, never the secrets, nor the context, in which tokens may be.
        impl std::fmt::Debug for NodeStageVolumeRequest {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct("NodeStageVolumeRequest")
                    .field("volume_id", &self.volume_id)
                    .field("staging_target_path", &self.staging_target_path)
                    .finish_non_exhaustive()
            }
        }

        /// Which volume and where, never the secrets, nor the context, in which tokens may be.
        impl std::fmt::Debug for NodePublishVolumeRequest {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct("NodePublishVolumeRequest")
                    .field("volume_id", &self.volume_id)
                    .field("target_path", &self.target_path)
                    .finish_non_exhaustive()
            }
        }

        /// Which volume and where, never the secrets.
        impl std::fmt::Debug for NodeExpandVolumeRequest {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct("NodeExpandVolumeRequest")
                    .field("volume_id", &self.volume_id)
                    .field("volume_path", &self.volume_path)
                    .field("capacity_range", &self.capacity_range)
                    .finish_non_exhaustive()
            }
        }
    }
}

/// How plugins make themselves known to the node.
pub mod pluginregistration {
    /// Plugin registration v1 as of Kubernetes 1.36.
    #[allow(
        missing_docs,
        clippy::all,
        clippy::allow_attributes_without_reason,
        rustdoc::all,
        reason = "generated code: docs are what the .proto says, lints are prost's and tonic's"
    )]
    pub mod v1 {
        tonic::include_proto!("pluginregistration");
    }
}

#[cfg(test)]
mod tests {
    use super::cri::v1::{AuthConfig, PullImageRequest};
    use super::csi::v1::{NodeExpandVolumeRequest, NodePublishVolumeRequest, NodeStageVolumeRequest};

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

    #[test]
    fn what_drivers_log_in_with_is_not_printed() {
        let secrets: std::collections::BTreeMap<_, _> = [("key".to_owned(), "secret-1".to_owned())].into();
        let (volume_id, path) = ("vol".to_owned(), "/at".to_owned());
        let stage = NodeStageVolumeRequest {
            volume_id: volume_id.clone(),
            staging_target_path: path.clone(),
            secrets: secrets.clone(),
            volume_context: secrets.clone(),
            ..Default::default()
        };
        let publish = NodePublishVolumeRequest {
            volume_id: volume_id.clone(),
            target_path: path.clone(),
            secrets: secrets.clone(),
            volume_context: secrets.clone(),
            ..Default::default()
        };
        let expand = NodeExpandVolumeRequest { volume_id, volume_path: path, secrets, ..Default::default() };
        for printed in [format!("{stage:?}"), format!("{publish:?}"), format!("{expand:?}")] {
            assert!(printed.contains("vol") && printed.contains("/at"), "{printed}");
            assert!(!printed.contains("secret-1"), "{printed}");
        }
    }
}
